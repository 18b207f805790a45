"""Spark against PostgreSQL, one worker against two, more data against less: `make bench-scale`.

Or python -m benchmarks.scale --size 5m --only workers. Needs Java (docs/scale.md) and two cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg import IsolationLevel

from benchmarks.__main__ import server_settings, stop_servers
from benchmarks.engines import Answer, plain
from benchmarks.harness import Row, compare, conditions, in_turns, out, show, write
from benchmarks.parties import cluster_in
from benchmarks.shops import LABELS, loaded
from benchmarks.workers import Counting, counting_rows, embedding_row, memory_rows
from shop_platform.engines.export import bring_up, exclusive, prepare
from shop_platform.engines.java import require_java
from shop_platform.engines.lake import Lake, Manifest
from shop_platform.engines.session import open_session
from shop_platform.engines.summaries import rows_of
from shop_platform.engines.tables import read_table
from shop_platform.engines.translation import translate
from shop_platform.performance.queries import DashboardQuery, answer, dashboard_queries
from shop_platform.resources.postgres import Connection, PostgresResource

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


#: Parts, in their order; all but the last are about the shop of the size.
PARTS = ("postgres", "workers", "data", "memory", "embedding")


def postgres_rows(shop: PostgresResource, counting: Counting, rounds: int) -> list[Row]:
    """The dashboard's queries, as written, from summaries and on Spark from Parquet files; answers are compared."""
    spark = open_session("local[2]", "UTC")
    for table in ("events", "products"):
        read_table(spark, counting.lake, counting.manifest, table)
    rows = []
    with shop.connect(autocommit=True) as connection:
        for query in dashboard_queries():
            ways = _ways(connection, spark, query)
            expected = ways["as written"]()
            times = in_turns(ways, rounds, partial(_same, expected))
            against = partial(compare, counting.at)
            rows.append(against(f"{query.name}: as written against Spark", times, "as written", "Spark", at_least=1))
            rows.append(against(f"{query.name}: Spark against summaries", times, "Spark", "summaries", at_least=1))
    spark.stop()
    return rows


def _ways(connection: Connection, spark: SparkSession, query: DashboardQuery) -> Mapping[str, Callable[[], Answer]]:
    def by_postgres(path: str, text: str) -> Answer:
        connection.execute("SELECT set_config('search_path', %s, false)", [path])
        return plain(answer(connection, text))

    translated = translate(query.text)
    return {
        "as written": partial(by_postgres, "public", query.text),
        "summaries": partial(by_postgres, "analytics", query.from_summary),
        "Spark": lambda: plain(rows_of(spark, translated, "UTC")),
    }


def _same(expected: Answer, name: str, found: Answer) -> None:
    if found != expected:
        raise AssertionError(f"{name} answers otherwise")


def copied(shop: PostgresResource, lake: Lake) -> Manifest:
    """The copy of the shop that Spark reads."""
    prepare(shop, lake)
    with exclusive(shop), shop.connect() as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        return bring_up(shop, connection, lake)


def measured(only: set[str], size: str, rounds: int, folder: Path) -> Iterator[list[Row]]:
    """Rows of each part. The shop is loaded and copied once; each part has a cluster, or a session, of its own."""
    lake = Lake(str(folder / "lake"))
    if only - {"embedding"}:
        shop = loaded(size)
        counting = Counting(shop, lake, copied(shop, lake), LABELS[size])
        if "postgres" in only:
            yield postgres_rows(shop, counting, rounds)
        if only & {"workers", "data"}:
            with cluster_in(folder) as cluster:
                yield counting_rows(counting, cluster, rounds, strong="workers" in only, sizes="data" in only)
        if "memory" in only:
            with cluster_in(folder) as cluster:
                yield memory_rows(counting, cluster)
    if "embedding" in only:
        with cluster_in(folder) as cluster:
            yield [embedding_row(lake, cluster, rounds)]


def main() -> int:
    """Measure, print the tables, write every time; returns 1 where a bound is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--size", choices=LABELS, default="5m", help="events of the synthetic shop")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each party")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}; the order is fixed")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "scale.json")
    arguments = parser.parse_args()
    only = set(arguments.only.split(","))
    if unknown := only - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="shop_platform_bench_") as folder:
        for name in [name for name in os.environ if name.startswith(("SHOP_", "DATABASE_URL"))]:
            del os.environ[name]
        os.environ["SHOP_HOME"] = folder
        rows: list[Row] = []
        try:
            found = conditions(server_settings()) | {"spark": version("pyspark"), "java": java_version()}
            for new in measured(only, arguments.size, arguments.rounds, Path(folder)):
                show(new)
                rows += new
                write(arguments.json, rows, found)
        finally:
            stop_servers()
    out.print(f"Every time is in {arguments.json.name}.")
    return 0 if all(row.met for row in rows) else 1


def java_version() -> str:
    """Of the Java that Spark runs on."""
    done = subprocess.run(  # noqa: S603  the user's own Java
        [str(require_java()), "-version"], capture_output=True, text=True, check=True
    )
    return done.stderr.partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
