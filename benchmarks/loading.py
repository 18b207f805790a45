"""What loading events costs over a bare binary COPY of the same batches, and against `executemany`.

    SHOP_EVENTS=5000000 SHOP_USERS=100000 .venv/bin/python benchmarks/loading.py [rounds]

Runs in databases of its own on the server of `SHOP_HOME`, which it drops afterwards. Each round measures, one after the
other: (a) the platform's load of users, products and events, with every constraint back and VACUUM (ANALYZE) done;
(b) the events alone by COPY into a table without any constraint. Batches are held in memory for both.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import pyarrow as pa
from psycopg import sql

from shop_platform.commerce.loading import TABLES, load_shop_tables
from shop_platform.resources.copying import copy_batches
from shop_platform.resources.postgres import Connection
from shop_platform.services import postgres
from shop_platform.settings import load_settings
from shop_platform.sources.base import EVENT_COLUMNS, Extract, Shop, Truth
from shop_platform.sources.synthetic import synthetic_shop

_SAMPLE = 200_000


@dataclass
class Held:
    """A source whose batches are in memory."""

    batches: dict[str, list[pa.RecordBatch]]

    def fingerprint(self) -> str:
        return "held"

    def _extract(self, kind: str) -> Extract:
        return Extract(iter(self.batches[kind]), sum(batch.num_rows for batch in self.batches[kind]))

    def users(self) -> Extract:
        return self._extract("users")

    def products(self) -> Extract:
        return self._extract("products")

    def events(self) -> Extract:
        return self._extract("events")

    def searches(self) -> Extract:
        raise NotImplementedError

    def truth(self) -> Truth | None:
        return None


@contextmanager
def database(name: str) -> Iterator[str]:
    """URL of a new, migrated database; dropped at the end."""
    settings = load_settings()
    admin = postgres.url(settings, "shop")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
    url = postgres.url(settings, name)
    try:
        yield url
    finally:
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def seconds(action: Callable[[], object]) -> float:
    """How long an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def migrated(url: str) -> None:
    """Make the platform's schema."""
    from shop_platform import sqlfiles

    with psycopg.connect(url) as connection:
        for file in sqlfiles.list_sql("schema"):
            connection.execute(file.text)


def load(url: str, shop: Shop) -> None:
    """What the asset does: one transaction, then VACUUM."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.autocommit = False
        started = time.perf_counter()
        load_shop_tables(connection, shop)
        connection.commit()
        print(f"  transaction {time.perf_counter() - started:.2f} s", end="")
    with psycopg.connect(url, autocommit=True) as connection:
        started = time.perf_counter()
        connection.execute(f"VACUUM (ANALYZE) {', '.join(TABLES)}")
        print(f", vacuum {time.perf_counter() - started:.2f} s")


def bare_table(connection: Connection) -> None:
    """A table with the columns of events and nothing else."""
    connection.execute(
        'CREATE TABLE bare (event_id bigint, user_id text COLLATE "C", product_id text COLLATE "C",'
        ' event_type text COLLATE "C", timestamp timestamptz)'
    )
    connection.commit()


def copy_bare(url: str, batches: list[pa.RecordBatch]) -> None:
    """COPY the events into the bare table."""
    with psycopg.connect(url) as connection:
        copy_batches(connection, sql.Identifier("bare"), EVENT_COLUMNS, batches)


def insert_bare(url: str, rows: list[tuple[object, ...]]) -> None:
    """INSERT rows into the bare table with psycopg's executemany, which pipelines."""
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO bare VALUES (%s, %s, %s, %s, %s)", rows)


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    settings = load_settings()
    if settings.database_url is not None:
        sys.exit("Unset DATABASE_URL: this makes and drops databases of its own, on the embedded server.")
    shop = synthetic_shop(settings)
    held = {kind: list(getattr(shop.source, kind)().batches) for kind in TABLES}
    events = sum(batch.num_rows for batch in held["events"])
    whole = Shop(shop.name, shop.title, shop.time_zone, shop.currency, Held(held))
    loads, bares = [], []
    for _ in range(rounds):
        with database("benchmark_load") as url:
            migrated(url)
            loads.append(seconds(lambda url=url: load(url, whole)))
        with database("benchmark_load") as url:
            with psycopg.connect(url) as connection:
                bare_table(connection)
            bares.append(seconds(lambda url=url: copy_bare(url, held["events"])))
        print(f"load {loads[-1]:.2f} s, bare COPY {bares[-1]:.2f} s", flush=True)
    a, b = statistics.median(loads), statistics.median(bares)
    print(f"{events:,} events, medians of {rounds}: load {a:.2f} s, bare COPY {b:.2f} s, ratio {a / b:.2f}")
    sample = pa.Table.from_batches(held["events"]).slice(0, _SAMPLE)
    rows = list(zip(*(sample.column(name).to_pylist() for name in EVENT_COLUMNS), strict=True))
    with database("benchmark_load") as url:
        with psycopg.connect(url) as connection:
            bare_table(connection)
        took = seconds(lambda: insert_bare(url, rows)) * events / len(rows)
    print(f"executemany into the bare table, {len(rows):,} rows scaled: {took:.1f} s, {took / a:.1f} times the load")


if __name__ == "__main__":
    main()
