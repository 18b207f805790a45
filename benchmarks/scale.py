"""Spark on two cores against PostgreSQL's queries and its summaries: python -m benchmarks.scale --size 5m."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg import IsolationLevel

from benchmarks.engines import Answer, plain
from benchmarks.harness import Row, compare, in_turns, out, show, write
from benchmarks.shops import LABELS, loaded
from shop_platform.engines.export import bring_up, exclusive, prepare
from shop_platform.engines.lake import Lake
from shop_platform.engines.session import open_session
from shop_platform.engines.summaries import rows_of
from shop_platform.engines.tables import read_table
from shop_platform.engines.translation import translate
from shop_platform.performance.queries import DashboardQuery, answer, dashboard_queries
from shop_platform.resources.postgres import Connection, PostgresResource

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def scale_rows(spark: SparkSession, shop: PostgresResource, lake: Lake, size: str, rounds: int) -> list[Row]:
    """The dashboard's queries, as written, from summaries and on Spark from Parquet files; answers are compared."""
    prepare(shop, lake)
    with exclusive(shop), shop.connect() as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        manifest = bring_up(shop, connection, lake)
    for table in ("events", "products"):
        read_table(spark, lake, manifest, table)
    rows = []
    with shop.connect(autocommit=True) as connection:
        for query in dashboard_queries():
            ways = _ways(connection, spark, query)
            expected = ways["as written"]()
            times = in_turns(ways, rounds, partial(_same, expected))
            against = partial(compare, LABELS[size])
            rows.append(against(f"{query.name}: as written against Spark", times, "as written", "Spark", at_least=1))
            rows.append(against(f"{query.name}: Spark against summaries", times, "Spark", "summaries", at_least=1))
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


def main() -> None:
    """Measure, print the table, write every time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--size", choices=LABELS, default="5m", help="events of the synthetic shop")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each party")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "scale.json")
    arguments = parser.parse_args()
    from benchmarks import harness
    from benchmarks.__main__ import server_settings, stop_servers

    with tempfile.TemporaryDirectory(prefix="shop_platform_bench_") as folder:
        for name in [name for name in os.environ if name.startswith(("SHOP_", "DATABASE_URL"))]:
            del os.environ[name]
        os.environ["SHOP_HOME"] = folder
        try:
            found = harness.conditions(server_settings())
            shop = loaded(arguments.size)
            spark = open_session("local[2]", "UTC")
            rows = scale_rows(spark, shop, Lake(f"{folder}/lake"), arguments.size, arguments.rounds)
            spark.stop()
        finally:
            stop_servers()
    show(rows)
    write(arguments.json, rows, found)
    out.print(f"Every time is in {arguments.json.name}.")


if __name__ == "__main__":
    main()
