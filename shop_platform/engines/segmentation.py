"""Part III on Spark: embeddings and write-back, by the workers straight into Elasticsearch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from shop_platform.engines.export import exclusive, prepare
from shop_platform.engines.lake import Lake
from shop_platform.engines.logs import TABLE, bring_up_logs
from shop_platform.engines.session import naming_failures
from shop_platform.engines.tables import read_table
from shop_platform.engines.workers import add_packed, embed, write_back
from shop_platform.resources.postgres import WRITER, PostgresResource
from shop_platform.resources.snapshots import Snapshot, snapshot
from shop_platform.segmentation.encoding import Engine
from shop_platform.segmentation.pairs import Scan
from shop_platform.segmentation.writeback import Choose, Labels, Pass, WriteOnce, all_documents, write_once
from shop_platform.services.elasticsearch import client_options
from shop_platform.settings import load_settings

if TYPE_CHECKING:
    import pandas as pd
    from elasticsearch import Elasticsearch
    from pyspark.sql import DataFrame, SparkSession

    from shop_platform.progress import Advance
    from shop_platform.segmentation.embeddings import Text
    from shop_platform.segmentation.marks import Position

#: Tasks of one job at least, and at most the slices that Elasticsearch cuts a snapshot into by default.
_TASKS, _SLICES = 8, 1_024

#: Texts and documents of one task, where there are many: a second or a few, which are lost with a worker that dies.
_TEXTS, _DOCUMENTS = 1_024, 20_000

_DISTINCT = "SELECT query, count(*) FROM search_logs GROUP BY query"


def encoding(spark: SparkSession, lake: Lake, postgres: PostgresResource, prefix: str, model: str) -> Engine:
    """What reads search logs from their copy, and encodes and stores texts on the workers."""

    @naming_failures()
    def scan(client: Elasticsearch, taken: Snapshot, at: Position | None) -> Scan:
        with exclusive(postgres):
            prepare(postgres, lake)
            with postgres.connect(role=WRITER) as connection:
                manifest = bring_up_logs(connection, client, lake, taken, at)
            read_table(spark, lake, manifest, TABLE)
            found = Scan(documents=manifest.rows(TABLE))
            for query, documents in spark.sql(_DISTINCT).collect():
                if query:
                    found.queries[query] = len(found.queries)
                else:
                    found.blank = documents
        return found

    return Engine(scan, partial(_store, spark, prefix, model))


@naming_failures()
def _store(
    spark: SparkSession,
    prefix: str,
    model: str,
    client: Elasticsearch,  # noqa: ARG001  the workers have their own
    texts: Sequence[Text],
    advance: Advance,
) -> None:
    """Encode and store texts on the workers. Each has a few tasks, so that one that dies leaves little to repeat."""
    options = client_options(load_settings())

    def task(parts: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        return embed(parts, options, prefix, model)

    done = in_tasks(spark, texts).mapInPandas(task, "texts bigint").collect()
    advance(sum(row.texts for row in done))


def in_tasks(spark: SparkSession, texts: Sequence[Text]) -> DataFrame:
    """Origin and text of each, in as many tasks as they are encoded in."""
    rows = [(text.origin, text.text) for text in texts]
    tasks = max(-(-len(rows) // _TEXTS), min(len(rows), _TASKS))
    return spark.createDataFrame(rows, "origin string, text string").repartition(tasks)


def writing(spark: SparkSession) -> WriteOnce:
    """What reads all documents and writes segments on the workers; some documents are written from here."""

    @naming_failures()
    def write(client: Elasticsearch, alias: str, read: Callable[[], Labels], choose: Choose = all_documents) -> Pass:
        if choose is not all_documents:
            return write_once(client, alias, read, choose)
        done = Pass()
        # As there: the snapshot is taken before the segments are read.
        with snapshot(client, alias) as taken:
            labels = read()
            done.total = taken.count()
            point, shards, options = taken.point, taken.shards, client_options(load_settings())
            count = min(max(done.total // _DOCUMENTS, _TASKS), _SLICES)

            def task(parts: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
                return write_back(parts, options, alias, (point, shards), count, labels)

            slices = spark.range(0, count, 1, count)
            for row in slices.mapInPandas(task, "done string").collect():
                add_packed(done, row.done)
        return done

    return write
