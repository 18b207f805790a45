"""Copies users, products and events from PostgreSQL into Parquet files: only the months that changed, in parallel."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import psycopg
import pyarrow as pa
from psycopg import sql
from pyarrow import csv
from pyarrow import parquet as pq

from shop_platform.changes import event_state
from shop_platform.engines.lake import Lake, Manifest, Partition
from shop_platform.errors import DataError
from shop_platform.progress import track
from shop_platform.resources.locks import be_the_only_one
from shop_platform.resources.postgres import WRITER, Connection, PostgresResource

Job = TypeVar("Job")

#: Months that are copied at the same time, by a connection each.
CONNECTIONS = 2

#: Key of the lock that one run at a time holds.
EXPORT_LOCK = 7_301_015

#: Seconds for which another run that copies is waited for.
_PATIENCE = 600

_BLOCK = 8 * 2**20


@dataclass(frozen=True)
class Table:
    """What of a table is copied: its columns with their Arrow types, and the query for them."""

    columns: Mapping[str, pa.DataType]
    query: sql.Composable


#: In a CSV file as microseconds since 1970: exact, and both sides agree on it.
_TIME = pa.timestamp("us", "UTC")

#: Names and addresses stay in PostgreSQL: nothing that Spark computes asks for them.
USERS = Table(
    {"user_id": pa.string(), "signup_date": _TIME, "attributes": pa.string()},
    sql.SQL(
        "SELECT user_id, CASE WHEN isfinite(signup_date) THEN (extract(epoch FROM signup_date) * 1000000)::bigint END,"
        " to_jsonb(users) - '{user_id,signup_date,name,email}'::text[] FROM public.users ORDER BY user_id"
    ),
)
PRODUCTS = Table(
    {"product_id": pa.string(), "name": pa.string(), "category": pa.string(), "price": pa.decimal128(12, 2)},
    sql.SQL("SELECT product_id, name, category, price FROM public.products ORDER BY product_id"),
)
_EVENT_COLUMNS = {
    "event_id": pa.int64(),
    "user_id": pa.string(),
    "product_id": pa.string(),
    "event_type": pa.string(),
    "timestamp": _TIME,
}
SEGMENTS = Table(
    {"user_id": pa.string(), "segment": pa.string()}, sql.SQL("SELECT user_id, segment FROM analytics.user_segments")
)


@contextmanager
def exclusive(postgres: PostgresResource) -> Iterator[None]:
    """One run at a time copies and reads the copy.

    By a connection of its own: the transaction that reads what is copied may then take its snapshot after the wait.

    Raises:
        BusyError: another run has been at it for ten minutes.
    """
    with postgres.connect() as connection:
        be_the_only_one(connection, EXPORT_LOCK, "copying events for Spark", _PATIENCE)
        yield


def prepare(postgres: PostgresResource, lake: Lake) -> None:
    """Let changes to the events be noted by month from now on, where they are not yet for this copy.

    Waits for transactions that write events: what they wrote before is then in what is copied first.
    """
    manifest = lake.manifest()
    with postgres.connect() as connection:
        row = connection.execute("SELECT id::text, location FROM ops.exports").fetchone()
        if row is not None and manifest is not None and row == (manifest.id, lake.location):
            return
        connection.execute("LOCK TABLE public.events IN SHARE ROW EXCLUSIVE MODE")
        connection.execute(
            "DELETE FROM ops.exports; DELETE FROM ops.export_log; INSERT INTO ops.export_log VALUES (NULL)"
        )
        connection.execute("INSERT INTO ops.exports VALUES (%s, %s)", [uuid.uuid4(), lake.location])


def forget_copy(postgres: PostgresResource) -> None:
    """Remove the copy, wherever it was made, and note nothing for it any more; the next one is made from the start."""
    with exclusive(postgres), postgres.connect() as connection:
        for (location,) in connection.execute("SELECT location FROM ops.exports").fetchall():
            Lake(location).remove()
        connection.execute("DELETE FROM ops.exports; DELETE FROM ops.export_log")


def bring_up(postgres: PostgresResource, connection: Connection, lake: Lake) -> Manifest:
    """Bring the copy to what the caller's transaction sees, and publish its manifest.

    Whole months are written into files of new names; the manifest then names these instead of the ones before. A run
    that dies leaves the manifest of before and all its files, and the months stay noted for the next one.

    Args:
        postgres: for more connections, which see the same snapshot.
        connection: in a REPEATABLE READ transaction, within `exclusive`, after `prepare`.
        lake: where to.

    Raises:
        DataError: an event is at infinity, or the copy is damaged.
    """
    before = new_manifest(connection, lake)
    kept = before.partitions
    changed = {row[0] for row in connection.execute("SELECT DISTINCT month FROM ops.export_log")}
    months = _months(connection) if None in changed or "events" not in kept else {f"{month:%Y-%m}" for month in changed}
    state = event_state(connection)
    run = uuid.uuid4().hex
    jobs = {("users", "all"): USERS, ("products", "all"): PRODUCTS}
    jobs |= {("events", month): _events_of(month) for month in sorted(months)}
    written = _copy_all(postgres, connection, lake, jobs, run)
    events = {} if None in changed else dict(kept.get("events", {}))
    events |= {key: part for (table, key), part in written.items() if table == "events"}
    partitions = {
        **kept,
        "users": {"all": written["users", "all"]},
        "products": {"all": written["products", "all"]},
        "events": {key: part for key, part in sorted(events.items()) if part.rows},
    }
    manifest = Manifest(before.id, state.changes, state.last_change, before.logs, partitions)
    lake.publish(manifest)
    connection.execute("DELETE FROM ops.export_log")
    return manifest


def new_manifest(connection: Connection, lake: Lake) -> Manifest:
    """The manifest that there is, to be changed; an empty one where there is none of this copy.

    Raises:
        DataError: the copy is damaged.
    """
    found = lake.manifest()
    ((identity,),) = connection.execute("SELECT id::text FROM ops.exports").fetchall()
    return found if found is not None and found.id == identity else Manifest(identity, 0, 0)


def copy_one(connection: Connection, lake: Lake, file: str, table: Table) -> Partition:
    """Copy the rows of a query into one file, in bounded memory."""
    rows = 0
    types = {name: pa.int64() if pa.types.is_timestamp(kind) else kind for name, kind in table.columns.items()}
    schema = pa.schema(list(table.columns.items()))
    lake.files.create_dir(lake.path(file).rpartition("/")[0], recursive=True)
    statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(table.query)
    with (
        connection.cursor() as cursor,
        cursor.copy(statement) as copy,
        lake.files.open_output_stream(lake.path(file)) as stream,
        pq.ParquetWriter(stream, schema, compression="zstd") as writer,
    ):
        for batch in _batches(copy, types):
            writer.write_table(pa.Table.from_batches([batch]).cast(schema))
            rows += batch.num_rows
    return Partition(file, rows, *size_and_hash(lake, file))


def _copy_all(
    postgres: PostgresResource, connection: Connection, lake: Lake, jobs: Mapping[tuple[str, str], Table], run: str
) -> dict[tuple[str, str], Partition]:
    ((snapshot,),) = connection.execute("SELECT pg_export_snapshot()").fetchall()

    def copy(job: tuple[tuple[str, str], Table]) -> Partition:
        (table, key), what = job
        with postgres.connect(role=WRITER) as other:
            other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            other.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
            return copy_one(other, lake, f"{table}/{'' if key == 'all' else 'month='}{key}/{run}.parquet", what)

    return dict(zip(jobs, copy_together(copy, list(jobs.items()), "copying months"), strict=True))


def copy_together(copy: Callable[[Job], Partition], jobs: Sequence[Job], what: str) -> list[Partition]:
    """Copy a few files at a time, and tell how far it is; what was written, in the order of the jobs."""
    written = []
    with ThreadPoolExecutor(CONNECTIONS) as threads, track(what, len(jobs), "files") as advance:
        for part in threads.map(copy, jobs):
            written.append(part)
            advance(1)
    return written


def _events_of(month: str) -> Table:
    first = dt.datetime.strptime(f"{month} +0000", "%Y-%m %z")
    following = (first + dt.timedelta(days=31)).replace(day=1)
    query = sql.SQL(
        "SELECT event_id, user_id, product_id, event_type, (extract(epoch FROM timestamp) * 1000000)::bigint"
        " FROM public.events WHERE timestamp >= {} AND timestamp < {}"
    ).format(sql.Literal(first), sql.Literal(following))
    return Table(_EVENT_COLUMNS, query)


def _months(connection: Connection) -> set[str]:
    """Months in UTC that have events.

    Raises:
        DataError: an event is at infinity.
    """
    rows = connection.execute(
        "SELECT DISTINCT to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM'), isfinite(timestamp) FROM public.events"
    ).fetchall()
    if not all(finite for _, finite in rows):
        raise DataError("An event's timestamp is infinity, which Spark does not know: give it a time, or remove it.")
    return {month for month, _ in rows}


class _Copied(io.RawIOBase):
    """What COPY sends, as a file."""

    def __init__(self, copy: psycopg.Copy) -> None:
        self._parts = iter(copy)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            part = next(self._parts, None)
            if part is None:
                return 0
            self._rest = memoryview(part)
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)


def _batches(copy: psycopg.Copy, types: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    source = io.BufferedReader(_Copied(copy), _BLOCK)
    if not source.peek(1):
        return
    yield from csv.open_csv(
        source,
        read_options=csv.ReadOptions(column_names=list(types), block_size=_BLOCK, use_threads=False),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=dict(types), null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )


def size_and_hash(lake: Lake, file: str) -> tuple[int, str]:
    """Of a file: its bytes, how many and their SHA-256."""
    digest, size = hashlib.sha256(), 0
    with lake.files.open_input_stream(lake.path(file)) as stream:
        while part := stream.read(_BLOCK):
            digest.update(part)
            size += len(part)
    return size, digest.hexdigest()
