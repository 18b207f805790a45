"""The shops that are measured: synthetic ones, each in a database of its own on the embedded server of a folder."""

from __future__ import annotations

import os
import subprocess
import sys

import psycopg
from psycopg import sql

from shop_platform.commerce.loading import TABLES, load_shop_tables
from shop_platform.performance.indexes import ensure_index, index_files
from shop_platform.performance.summaries import refresh_summaries
from shop_platform.resources.postgres import PostgresResource
from shop_platform.services import postgres
from shop_platform.settings import Settings
from shop_platform.sources.synthetic import synthetic_shop

#: Sizes by name, as SHOP_SCALE has them.
LABELS = {"50k": "50,000", "500k": "500,000", "5m": "5 million", "50m": "50 million"}


def settings_of(size: str) -> Settings:
    """Settings of a synthetic shop of this size."""
    return Settings.model_validate({"scale": size})


def database(name: str) -> PostgresResource:
    """A database of the benchmarks', which DATABASE_URL names from now on."""
    os.environ.pop("DATABASE_URL", None)
    os.environ["DATABASE_URL"] = postgres.url(Settings(), name)
    return PostgresResource()


def drop(name: str) -> None:
    """Remove a database, if it is there."""
    os.environ.pop("DATABASE_URL", None)
    with psycopg.connect(postgres.url(Settings(), "shop"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def loaded(size: str) -> PostgresResource:
    """The shop of this size with its summaries, and up to 5 million events its three indexes; loaded where it is not.

    At 50 million nothing that is measured uses the indexes.
    """
    resource = database(f"bench_{size}")
    resource.migrate()
    load(resource, size)
    if size != "50m":
        with resource.connect(autocommit=True) as connection:
            for file in index_files():
                ensure_index(connection, file)
    refresh_summaries(resource)
    return resource


def load(resource: PostgresResource, size: str) -> None:
    """What the asset does: one transaction, then VACUUM (ANALYZE), which is left out where nothing was loaded."""
    with resource.connect() as connection:
        loads = load_shop_tables(connection, synthetic_shop(settings_of(size)))
    if any(load.changed for load in loads.values()):
        with resource.connect(autocommit=True) as connection:
            names = sql.SQL(", ").join(map(sql.Identifier, TABLES))
            connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(names))


def load_in_a_process(size: str) -> tuple[float, float]:
    """Load a shop into a new database by a process that does nothing else; seconds, and its peak memory in GiB."""
    drop(f"bench_{size}")
    database(f"bench_{size}").migrate()
    done = subprocess.run(  # noqa: S603  our own module
        [sys.executable, "-m", "benchmarks.shops", size], check=True, capture_output=True, text=True
    )
    seconds, gib = map(float, done.stdout.split())
    return seconds, gib


def _main() -> None:
    import time

    from benchmarks.harness import peak_gib

    started = time.perf_counter()
    load(PostgresResource(), sys.argv[1])
    print(time.perf_counter() - started, peak_gib())


if __name__ == "__main__":
    _main()
