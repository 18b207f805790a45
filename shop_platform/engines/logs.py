"""Copies the search logs from Elasticsearch into Parquet files: only the months that changed, in parallel."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa
from pyarrow import parquet as pq

from shop_platform.engines.export import copy_together, new_manifest, size_and_hash
from shop_platform.engines.lake import Lake, Manifest, Partition
from shop_platform.resources.postgres import Connection
from shop_platform.resources.snapshots import Hit, Snapshot
from shop_platform.segmentation.marks import Mark, Position, mark_of
from shop_platform.segmentation.queries import query_of, searcher_of

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

TABLE = "search_logs"

_FIELDS = ("user_id", "search_query", "clicked_product_ids", "timestamp")

#: `query` is the normalised one; empty where it says nothing. A time that is no full date is left empty.
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("user_id", pa.string()),
        ("search_query", pa.string()),
        ("query", pa.string()),
        ("clicked_product_ids", pa.list_(pa.string())),
        ("timestamp", pa.timestamp("us", "UTC")),
    ]
)

#: Key of the documents without a time.
_NO_MONTH = "none"

_ROWS = 20_000


def bring_up_logs(
    connection: Connection, client: Elasticsearch, lake: Lake, taken: Snapshot, at: Position | None
) -> Manifest:
    """Bring the copy of the search logs to a snapshot, and publish its manifest.

    Operations on documents are numbered, on each shard by itself: months with later ones than those that the copy
    holds are written again, whole. A document that was deleted, or got the time of another month, leaves a row too
    many behind; then there are more rows than documents, and all months are written anew.

    Args:
        connection: within `export.exclusive`, after `export.prepare`.
        client: that the snapshot was taken by.
        lake: where to.
        taken: of the search logs.
        at: their `history`, from before the snapshot.

    Raises:
        DataError: the copy is damaged.
        LostSnapshotError: a part of the snapshot is gone.
    """
    before = new_manifest(connection, lake)
    mark = mark_of({"read_to": before.logs})
    known = before.partitions.get(TABLE, {})
    total, parts = taken.count(), dict[str, Partition]()
    touched: set[str | None] = {None}
    if mark is not None and at is not None and at[0] == mark.index:
        touched = {_month(hit) for hit in taken.since(mark.seq_nos, ("timestamp",))}
        months = sorted(month for month in touched if month is not None)
        parts = {month: part for month, part in known.items() if month not in touched}
        parts |= {} if None in touched else _copy_months(client, lake, taken, months)
    if None in touched or sum(part.rows for part in parts.values()) != total:
        parts = _copy_months(client, lake, taken, list(taken.by_month("timestamp")))
    manifest = replace(
        before,
        logs=None if at is None else Mark(*at, total).as_record(),
        partitions={**before.partitions, TABLE: dict(sorted(parts.items()))},
    )
    lake.publish(manifest)
    return manifest


def _copy_months(client: Elasticsearch, lake: Lake, taken: Snapshot, months: Sequence[str]) -> dict[str, Partition]:
    run = uuid4().hex

    def copy(month: str) -> Partition:
        hits = Snapshot(client, taken.point, taken.shards).hits(_FIELDS, query=_within(month))
        return _write(lake, f"{TABLE}/month={month}/{run}.parquet", hits)

    return dict(zip(months, copy_together(copy, months, "copying search logs"), strict=True))


def _month(hit: Hit) -> str | None:
    """Of a document; None where its time is no full date, so that only Elasticsearch knows it."""
    given = hit.source.get("timestamp")
    if given is None:
        return _NO_MONTH
    moment = _moment(given)
    return None if moment is None else f"{moment.astimezone(dt.UTC):%Y-%m}"


def _within(month: str) -> dict[str, Any]:
    if month == _NO_MONTH:
        return {"bool": {"must_not": {"exists": {"field": "timestamp"}}}}
    return {"range": {"timestamp": {"gte": f"{month}||/M", "lt": f"{month}||+1M/M", "format": "uuuu-MM"}}}


def _write(lake: Lake, file: str, hits: Iterator[Hit]) -> Partition:
    rows = 0
    lake.files.create_dir(lake.path(file).rpartition("/")[0], recursive=True)
    with (
        lake.files.open_output_stream(lake.path(file)) as stream,
        pq.ParquetWriter(stream, _SCHEMA, compression="zstd") as writer,
    ):
        while part := list(islice(hits, _ROWS)):
            writer.write_table(pa.Table.from_pylist(list(map(_row, part)), _SCHEMA))
            rows += len(part)
    return Partition(file, rows, *size_and_hash(lake, file))


def _row(hit: Hit) -> dict[str, Any]:
    return {
        "id": hit.id,
        "user_id": searcher_of(hit.source),
        "search_query": _storable(hit.source.get("search_query")),
        "query": query_of(hit.source),
        "clicked_product_ids": [_storable(each) for each in _listed(hit.source.get("clicked_product_ids"))],
        "timestamp": _moment(hit.source.get("timestamp")),
    }


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _storable(value: object) -> str | None:
    """As text, without what no file could hold: halves of characters."""
    return None if value is None else str(value).encode("utf-8", "replace").decode()


def _moment(value: object) -> dt.datetime | None:
    """A time as Elasticsearch takes it: a full date, or milliseconds."""
    try:
        if isinstance(value, int) or str(value).lstrip("-").isdecimal():
            return dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(milliseconds=int(str(value)))
        found = dt.datetime.fromisoformat(str(value))
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)
