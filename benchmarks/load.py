"""Loading 5 million events, against binary COPY into a bare table and against executemany; memory at 50 million."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import psycopg
import pyarrow as pa
from psycopg import sql

from benchmarks.harness import Row, compare, in_turns, out
from benchmarks.shops import LABELS, database, drop, load_in_a_process, settings_of
from shop_platform.commerce.loading import TABLES, load_shop_tables
from shop_platform.resources.copying import copy_batches
from shop_platform.resources.postgres import PostgresResource
from shop_platform.sources.base import EVENT_COLUMNS, Extract, Shop, Source, Truth
from shop_platform.sources.synthetic import synthetic_shop

#: Rows of one executemany: its time is scaled to all rows, which it is proportional to.
PART = 200_000

_BARE = (
    'CREATE TABLE bare (event_id bigint, user_id text COLLATE "C", product_id text COLLATE "C",'
    ' event_type text COLLATE "C", timestamp timestamptz)'
)


@dataclass
class Held(Source):
    """A source whose batches are in memory, so that drawing them is not measured."""

    batches: dict[str, list[pa.RecordBatch]]

    def fingerprint(self) -> str:
        """The same for all."""
        return "held"

    def users(self) -> Extract:
        """From memory."""
        return self._extract("users")

    def products(self) -> Extract:
        """From memory."""
        return self._extract("products")

    def events(self) -> Extract:
        """From memory."""
        return self._extract("events")

    def searches(self) -> Extract:
        """None: they are not loaded into PostgreSQL."""
        return Extract(iter(()), 0)

    def truth(self) -> Truth | None:
        """None."""
        return None

    def _extract(self, kind: str) -> Extract:
        def batches() -> Iterator[pa.RecordBatch]:
            yield from self.batches[kind]

        return Extract(batches(), sum(batch.num_rows for batch in self.batches[kind]))


def load_rows(size: str = "5m", rounds: int = 10) -> list[Row]:
    """The whole load, to constraints and statistics, against the bare COPY of its events and against executemany."""
    made = synthetic_shop(settings_of(size))
    batches = {kind: list(getattr(made.source, kind)().batches) for kind in TABLES}
    shop = replace(made, source=Held(batches))
    events = sum(batch.num_rows for batch in batches["events"])
    part = pa.Table.from_batches(batches["events"]).slice(0, PART)
    rows = list(zip(*(part.column(name).to_pylist() for name in EVENT_COLUMNS), strict=True))

    # A new database for each execution: made in turn by the party before it, outside of what is timed.
    resources = {name: _fresh(name, 0) for name in ("load", "bare COPY", "executemany")}
    done: dict[str, int] = dict.fromkeys(resources, 0)

    def again(name: str, _result: object) -> None:
        done[name] += 1
        resources[name] = _fresh(name, done[name])

    times = in_turns(
        {
            "load": lambda: _load(resources["load"], shop),
            "bare COPY": lambda: _copy(resources["bare COPY"], batches["events"]),
            "executemany": lambda: _insert(resources["executemany"], rows),
        },
        rounds,
        again,
    )
    for name, number in done.items():
        drop(_name(name, number))
    times["executemany"] = [seconds * events / len(rows) for seconds in times["executemany"]]
    at = LABELS[size]
    return [
        compare(at, "load against binary COPY into a bare table", times, "load", "bare COPY", at_most=3.5),
        compare(
            at, f"load against executemany of {len(rows):,} rows, scaled", times, "executemany", "load", at_least=5
        ),
    ]


def memory_row(size: str = "50m") -> Row:
    """Peak memory of the process that draws and loads the shop."""
    seconds, gib = load_in_a_process(size)
    out.print(f"Loaded {LABELS[size]} events in {seconds:.0f} s.")
    measure = f"peak memory of the process that loads, in {seconds:.0f} s"
    return Row(LABELS[size], measure, gib, gib, gib, 1, 1.0, at_least=False, unit="GiB")


def _name(party: str, number: int) -> str:
    return f"bench_{party.replace(' ', '_').lower()}_{number}"


def _fresh(party: str, number: int) -> str:
    """URL of a new database, and the one before removed."""
    if number:
        drop(_name(party, number - 1))
    resource: PostgresResource = database(_name(party, number))
    url = resource.url()
    if party == "load":
        resource.migrate()
    else:
        with psycopg.connect(url) as connection:
            connection.execute(_BARE)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    return url


def _load(url: str, shop: Shop) -> None:
    with psycopg.connect(url, autocommit=True) as connection, connection.transaction():
        load_shop_tables(connection, shop)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE) users, products, events")


def _copy(url: str, batches: list[pa.RecordBatch]) -> None:
    with psycopg.connect(url) as connection:
        copy_batches(connection, sql.Identifier("bare"), EVENT_COLUMNS, batches)


def _insert(url: str, rows: list[tuple[object, ...]]) -> None:
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO bare VALUES (%s, %s, %s, %s, %s)", rows)
