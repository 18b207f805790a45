"""The dashboard's two answers from the summaries, against the queries as written and against engines in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.engines import ENGINES, Answer, Engine, plain
from benchmarks.harness import Row, compare, out, warm_in_turns
from benchmarks.shops import LABELS, database
from shop_platform.performance.queries import DashboardQuery, answer, dashboard_queries
from shop_platform.resources.postgres import Connection

#: Rounds by engine, and at 50 million: as many as a few minutes allow.
ROUNDS = {"DuckDB": 15, "Polars": 15, "pandas": 10}
ROUNDS_AT_50M = {"DuckDB": 10, "Polars": 10, "pandas": 3}


def as_written_rows(size: str = "5m", rounds: int = 12) -> list[Row]:
    """From summaries against the query as written, on the same live tables with their three indexes."""
    with database(f"bench_{size}").connect(autocommit=True) as connection:
        return [
            compare(
                LABELS[size],
                f"{query.name}: summaries against the query as written",
                warm_in_turns(_ways(connection, query), rounds, _same()),
                "as written",
                "summaries",
                at_least=500,
            )
            for query in dashboard_queries()
        ]


def engine_rows(size: str) -> list[Row]:
    """From summaries against each engine, one after the other in memory."""
    rows = []
    with database(f"bench_{size}").connect(autocommit=True) as connection:
        for name, engine in ENGINES.items():
            loaded = engine(size)
            rows += [_engine_row(connection, query, name, loaded, size) for query in dashboard_queries()]
            del loaded
            out.print(f"{LABELS[size]}: {name} done.")
    return rows


def _engine_row(connection: Connection, query: DashboardQuery, name: str, engine: Engine, size: str) -> Row:
    times = warm_in_turns(
        {"summaries": _ways(connection, query)["summaries"], name: partial(engine.answer, query.name)},
        (ROUNDS_AT_50M if size == "50m" else ROUNDS)[name],
        _same(),
    )
    return compare(
        LABELS[size],
        f"{query.name}: summaries against {name} in memory",
        times,
        name,
        "summaries",
        at_least=20,
    )


def _ways(connection: Connection, query: DashboardQuery) -> Mapping[str, Callable[[], Answer]]:
    connection.execute("SET search_path TO public, analytics")
    return {
        "as written": lambda: plain(answer(connection, query.text)),
        "summaries": lambda: plain(answer(connection, query.from_summary)),
    }


def _same() -> Callable[[str, Answer], None]:
    """A check that all answers are the same, to the last digit."""
    seen: list[tuple[str, Answer]] = []

    def check(name: str, rows: Answer) -> None:
        seen.append((name, rows))
        if rows != seen[0][1]:
            raise RuntimeError(f"{name} and {seen[0][0]} give different answers: {rows[:3]} and {seen[0][1][:3]}")
        del seen[1:]

    return check
