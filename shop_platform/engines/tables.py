"""The copy as tables of Spark, and Spark's results on their way into PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
from psycopg import sql
from pyarrow import dataset

from shop_platform.engines.lake import Lake, Manifest
from shop_platform.resources.copying import copy_batches
from shop_platform.resources.postgres import Connection

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: What an empty table of Spark's is made with; the files of the others say it themselves.
_SCHEMAS = {
    "users": "user_id string, signup_date timestamp, attributes string",
    "products": "product_id string, name string, category string, price decimal(12, 2)",
    "events": "event_id bigint, user_id string, product_id string, event_type string, timestamp timestamp",
    "user_segments": "user_id string, segment string",
    "search_logs": "id string, user_id string, search_query string, query string, clicked_product_ids array<string>,"
    " timestamp timestamp",
}


def read_table(
    spark: SparkSession, lake: Lake, manifest: Manifest, table: str, months: Iterable[str] | None = None
) -> DataFrame:
    """A table of the copy, also under its own name in SQL.

    Args:
        spark: the session.
        lake: where the copy is.
        manifest: which files are valid.
        table: its name.
        months: those that are read; None for all.
    """
    parts = manifest.partitions.get(table, {})
    chosen = parts.keys() if months is None else parts.keys() & set(months)
    files = [lake.url(parts[key].file) for key in sorted(chosen)]
    frame = spark.read.schema(_SCHEMAS[table]).parquet(*files) if files else spark.createDataFrame([], _SCHEMAS[table])
    frame.createOrReplaceTempView(table)
    return frame


def bring_back(
    connection: Connection, lake: Lake, frame: DataFrame, table: sql.Identifier, columns: Sequence[str]
) -> int:
    """Copy Spark's rows into a table, in the caller's transaction; returns how many they are.

    Spark's tasks write files, and only those of a whole job count: a task that ran twice, or died, leaves nothing. No
    worker reaches PostgreSQL. The rows then stream from the files in bounded memory.
    """
    with lake.scratch() as folder:
        place = f"{folder}/rows"
        frame.toDF(*columns).write.parquet(lake.url(place))
        found = dataset.dataset(lake.path(place), filesystem=lake.files, format="parquet")
        return copy_batches(connection, table, columns, _batches(found))


def _batches(found: dataset.Dataset) -> Iterator[pa.RecordBatch]:
    for batch in found.to_batches():
        if batch.num_rows:
            yield batch
