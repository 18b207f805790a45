"""Refreshes a small shop again and again, with new events and search logs each time, and says what grows.

`python -m benchmarks.long_run --cycles 200` takes about half an hour. Every bound below is stated in
docs/operations.md, "What grows".
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psutil
from psycopg import sql
from rich import box
from rich.console import Console
from rich.table import Table

from shop_platform import automation
from shop_platform.definitions import build_defs, default_resources
from shop_platform.demo import all_assets, conclude, materialise, run_refresh
from shop_platform.resources.elasticsearch import ElasticsearchResource, write_bulk
from shop_platform.resources.postgres import Connection, PostgresResource
from shop_platform.services import elasticsearch as elasticsearch_service
from shop_platform.services import postgres as postgres_service
from shop_platform.settings import load_settings

#: What is measured after each cycle: figures by name.
Figures = dict[str, float]

#: The shop, and what its Elasticsearch may take.
SHOP = {
    "SHOP_USERS": "200",
    "SHOP_PRODUCTS": "20",
    "SHOP_EVENTS": "5000",
    "SHOP_SEARCHES": "2000",
    "SHOP_ELASTICSEARCH_HEAP": "512m",
}

#: New rows of each cycle, which come by statements of this many.
EVENTS, SEARCHES, STATEMENT = 100, 20, 10

_EVENTS = """
INSERT INTO events (user_id, product_id, event_type, timestamp)
SELECT user_id, product_id, (ARRAY['viewed', 'add_to_cart', 'purchased'])[1 + n %% 3],
    '2025-12-01'::timestamptz + (%(cycle)s * 1000 + %(part)s * 10 + n) * interval '1 second'
FROM generate_series(1, %(rows)s) AS n
JOIN (SELECT user_id, row_number() OVER (ORDER BY user_id) AS u FROM users) AS who
    ON u = 1 + (n * 7 + %(cycle)s * 11 + %(part)s) %% (SELECT count(*) FROM users)
JOIN (SELECT product_id, row_number() OVER (ORDER BY product_id) AS p FROM products) AS what
    ON p = 1 + (n + %(cycle)s) %% (SELECT count(*) FROM products)
"""

_QUERIES = ("wireless headphones {}", "yoga mat {}", "cheap rug {}", "running shoes size {}", "usb cable {} m")


@dataclass(frozen=True)
class Growth:
    """How a figure went.

    Attributes:
        figure: its name.
        first: after the first cycle that counts.
        middle: highest in the first half of those that count.
        last: highest in the second half.
        allowed: what `last` may be; None where it grows with the data, as is stated.
    """

    figure: str
    first: float
    middle: float
    last: float
    allowed: float | None

    @property
    def kept(self) -> bool:
        """Whether it grew no more than is stated."""
        return self.allowed is None or self.last <= self.allowed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cycles and print what grew; 1 where something grew beyond what is stated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--json", type=Path, help="where to write the figures of every cycle")
    chosen = parser.parse_args(arguments)
    out = Console(highlight=False, width=None if Console().is_terminal else 150)
    for name in [
        name for name in os.environ if name.startswith(("SHOP_", "DATABASE_URL", "ELASTICSEARCH_", "DAGSTER"))
    ]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="shop_platform_long_") as folder:
        os.environ |= SHOP | {"SHOP_HOME": f"{folder}/home", "SHOP_KEEP_RUNS": "100"}
        # Of this process's own, so that nobody else's files are counted.
        tempfile.tempdir = f"{folder}/temporary"
        Path(tempfile.tempdir).mkdir()
        try:
            found = run_cycles(chosen.cycles, out)
        finally:
            postgres_service.stop(load_settings())
            elasticsearch_service.stop(load_settings())
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    grown = [*growths(found)]
    show(grown, out)
    return 0 if all(each.kept for each in grown) else 1


def run_cycles(cycles: int, out: Console, *, measuring: bool = True) -> list[Figures]:
    """Load the shop, then refresh it after new events and searches; figures after the load and after each cycle.

    Args:
        cycles: how many.
        out: where the figures of each cycle go.
        measuring: whether the queries are measured, too, first and whenever the shop has grown by a tenth.

    Raises:
        RuntimeError: a refresh failed, or left new data out.
    """
    quiet, resources = Console(quiet=True), default_resources()
    postgres, logs = resources["postgres"], resources["elasticsearch"]
    postgres.migrate()
    defs = build_defs(resources)
    assets = [each for each in all_assets(defs) if measuring or each not in automation.LABORATORY]
    if conclude(out, materialise(quiet, defs, assets)):
        raise RuntimeError("The shop could not be loaded.")
    found = [figures(postgres, logs)]
    for cycle in range(1, cycles + 1):
        add_data(postgres, logs, cycle)
        if _refresh(out, defs, measuring=measuring):
            raise RuntimeError(f"The refresh of cycle {cycle} failed.")
        found.append(figures(postgres, logs))
        _require_complete(found[-1], cycle)
        out.print(f"{cycle}: {json.dumps(found[-1])}", markup=False)
    return found


def _refresh(out: Console, defs: dg.Definitions, *, measuring: bool) -> int:
    """What the sensors do; without measuring, which the sensor of the summaries asks for where it was never done."""
    quiet = Console(quiet=True)
    if measuring:
        return run_refresh(quiet, quiet, out, None)
    code = conclude(out, materialise(quiet, defs, automation.SUMMARIES))
    return max(code, *(run_refresh(quiet, quiet, out, part) for part in ("retention", "segmentation")))


def add_data(postgres: PostgresResource, logs: ElasticsearchResource, cycle: int) -> None:
    """New events by SQL, new search logs in bulk, half of them of queries that nobody made before."""
    with postgres.connect(autocommit=True) as connection:
        for part in range(EVENTS // STATEMENT):
            connection.execute(_EVENTS, {"cycle": cycle, "part": part, "rows": STATEMENT})
        users = [row[0] for row in connection.execute("SELECT user_id FROM users ORDER BY 1")]
    documents = [
        {
            "_op_type": "create",
            "user_id": users[(cycle * 7 + n) % len(users)],
            "search_query": _QUERIES[n % len(_QUERIES)].format(cycle if n % 2 else n),
            "timestamp": "2025-12-01T00:00:00Z",
        }
        for n in range(SEARCHES)
    ]
    with logs.client() as client:
        failed = [each for each in write_bulk(client, f"{logs.index_prefix}user_logs", documents) if each.error]
        if failed:
            raise RuntimeError(f"Elasticsearch refused {failed[0]}.")
        client.indices.refresh(index=f"{logs.index_prefix}user_logs")


def figures(postgres: PostgresResource, logs: ElasticsearchResource) -> Figures:
    """Everything that could grow."""
    process = psutil.Process()
    home = load_settings().home
    found: Figures = {
        "memory of the process, MiB": round(process.memory_info().rss / 2**20, 1),
        "open files of the process": len(os.listdir(f"/proc/{process.pid}/fd")),  # noqa: PTH208  links, not files
        "threads of the process": process.num_threads(),
    }
    with postgres.connect() as connection:
        found |= _of_postgres(connection)
    with logs.client() as client:
        names = list(client.indices.get(index="*", expand_wildcards="all").body)
        stats = client.indices.stats(index=f"{logs.index_prefix}*")
        found |= {
            "indexes": len(names),
            "aliases": sum(len(each["aliases"]) for each in client.indices.get_alias(index="*").body.values()),
            "segments": max(index["total"]["segments"]["count"] for index in stats["indices"].values()),
            "points in time that are open": stats["_all"]["total"]["search"]["open_contexts"],
            "search logs": client.count(index=f"{logs.index_prefix}user_logs")["count"],
            "embeddings": client.count(index=f"{logs.index_prefix}search_embeddings")["count"],
        }
    dagster = next(home.glob("shops/*/dagster"))
    shops = [path for path in (home / "shops").rglob("*") if path.is_file()]
    return found | {
        "Dagster's runs": len([*dagster.glob("history/runs/*.db")]) - 1,
        "Dagster's files": sum(path.is_relative_to(dagster) for path in shops),
        "other files of the shop": sum(not path.is_relative_to(dagster) for path in shops),
        "Dagster's files, MiB": round(sum(path.stat().st_size for path in shops) / 2**20, 1),
        "temporary files": len([*Path(tempfile.gettempdir()).glob("shop_platform_*")]),
    }


def _of_postgres(connection: Connection) -> Figures:
    """Connections, schemas, and rows by table of `ops` and `analytics`."""
    tables = connection.execute(
        "SELECT nspname, relname FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace"
        " WHERE relkind = 'r' AND nspname IN ('ops', 'analytics') ORDER BY 1, 2"
    ).fetchall()
    found: Figures = {"events": _one(connection, sql.SQL("SELECT count(*) FROM events"))}
    for schema, table in tables:
        query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
        found[f"rows of {schema}.{table}"] = _one(connection, query)
    found["connections"] = _one(
        connection, sql.SQL("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
    )
    found["schemas"] = _one(connection, sql.SQL("SELECT count(*) FROM pg_namespace WHERE nspname !~ '^pg_'"))
    found["counted in"] = _one(connection, sql.SQL("SELECT sum(events)::bigint FROM analytics.weekly_activity"))
    return found


def _one(connection: Connection, query: sql.SQL | sql.Composed) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0] or 0) if row else 0


def _require_complete(found: Mapping[str, float], cycle: int) -> None:
    if found["counted in"] != found["events"]:
        raise RuntimeError(f"In cycle {cycle}, {found['events'] - found['counted in']:.0f} events were not counted.")


#: Figures that grow with the data, by nature.
WITH_THE_DATA = frozenset(
    {
        "events",
        "counted in",
        "search logs",
        "embeddings",
        "rows of analytics.query_segments",
        "rows of analytics.user_queries",
        "rows of analytics.weekly_activity",
        "rows of analytics.weekly_active_users",
        "rows of analytics.product_sales",
        "rows of analytics.category_revenue",
        "rows of analytics.recorded_hours",
        "rows of analytics.retention_days",
    }
)

#: What a figure may be at most, where that is no count of before. Segments: ten in each of Lucene's tiers. Memory: a
#: quarter more than in the first half. Runs and their files: SHOP_KEEP_RUNS, and one for each asset and check at most.
_AT_MOST = {"segments": 50.0}
_A_QUARTER = frozenset({"memory of the process, MiB", "Dagster's files, MiB", "Dagster's files"})


def growths(found: Sequence[Figures]) -> list[Growth]:
    """How every figure went, with what is stated of it. The first tenth of the cycles is left out: caches fill."""
    counted = found[max(1, len(found) // 10) :]
    half = len(counted) // 2
    result = []
    for name in found[0]:
        values = [each[name] for each in counted]
        middle, last = max(values[:half] or values), max(values[half:])
        allowed: float | None = middle
        if name in WITH_THE_DATA:
            allowed = None
        elif name in _AT_MOST:
            allowed = _AT_MOST[name]
        elif name in _A_QUARTER:
            allowed = 1.25 * middle
        result.append(Growth(name, values[0], middle, last, allowed))
    return result


def show(grown: Sequence[Growth], out: Console) -> None:
    """Print how every figure went."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("figure", "first", "first half, most", "second half, most", "stated", ""):
        table.add_column(name, justify="left" if name in ("figure", "") else "right")
    for each in grown:
        allowed = "grows with the data" if each.allowed is None else f"{each.allowed:,.5g}"
        numbers = [f"{value:,.6g}" for value in (each.first, each.middle, each.last)]
        table.add_row(each.figure, *numbers, allowed, "" if each.kept else "GREW")
    out.print(table)


if __name__ == "__main__":
    sys.exit(main())
