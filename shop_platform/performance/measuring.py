"""Measures queries on the laboratory's copies: times, plans, answers, and the conditions under which."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from psycopg import sql

from shop_platform.errors import MeasurementError
from shop_platform.performance.indexes import IndexFile, index_files, index_state
from shop_platform.performance.laboratory import (
    BASELINE,
    INDEXED,
    SUMMARISED,
    TABLES,
    copy_live,
    copy_with_indexes,
    copy_with_summaries,
    drop_copies,
    fingerprint_table,
    reuse_baseline,
    set_search_path,
)
from shop_platform.performance.plans import Plan, parse_plan
from shop_platform.performance.queries import (
    DashboardQuery,
    Rows,
    answer,
    dashboard_queries,
    expected_rows,
    rows_fingerprint,
)
from shop_platform.performance.records import (
    FORMAT,
    SERVER_SETTINGS,
    Baseline,
    BaselineQuery,
    Indexed,
    IndexedQuery,
    LabIndex,
    LabSummary,
    Measured,
    Provenance,
    require_same_conditions,
)
from shop_platform.performance.rounds import ALONE, INTERLEAVED, Rule, take_rounds
from shop_platform.performance.statistics import median
from shop_platform.performance.summaries import SUMMARIES
from shop_platform.resources.postgres import Connection, PostgresResource

#: Variants of a query: where its unqualified names lead, and whether the text is the one that reads summaries.
VARIANTS = {"as_written": (BASELINE, False), "with_indexes": (INDEXED, False), "from_summaries": (SUMMARISED, True)}

_SEED = 1


def measure_baseline(postgres: PostgresResource, rule: Rule = ALONE) -> Baseline:
    """Copy the live tables and measure the dashboard's queries on the copy. Call it holding the `laboratory`.

    The copy stays for `measure_indexed`.

    Raises:
        MeasurementError: there is nothing to measure, or a query's answer changes from one execution to the next.
    """
    one_user_in = copy_live(postgres)
    queries = dashboard_queries()
    with measuring_session(postgres) as connection:
        provenance = _provenance(connection, queries, one_user_in)
        set_search_path(connection, BASELINE)
        expected = expected_rows(connection)
        measured = [_measure_alone(connection, query, expected[query.name], rule) for query in queries]
    return Baseline(provenance=provenance, queries=measured)


def measure_indexed(postgres: PostgresResource, baseline: Baseline, rule: Rule = INTERLEAVED) -> Indexed:
    """Measure each query as written, with the three indexes, and from summaries, interleaved, on equal rows.

    Works on the copy that `measure_baseline` left, else on a new one. Removes all copies at the end: they take as
    much room as the tables themselves, and the times, plans and fingerprints are kept. Call it holding the
    `laboratory`.

    Raises:
        MeasurementError: rows or conditions are not those of the baseline, or the variants' answers differ.
    """
    try:
        one_user_in = baseline["provenance"]["one_user_in"] if reuse_baseline(postgres) else copy_live(postgres)
        queries, files = dashboard_queries(), index_files()
        with measuring_session(postgres) as connection:
            provenance = _provenance(connection, queries, one_user_in)
        require_same_conditions(baseline["provenance"], provenance)
        index_seconds = copy_with_indexes(postgres, files)
        summary_seconds = copy_with_summaries(postgres)
        with measuring_session(postgres) as connection:
            return Indexed(
                provenance=provenance,
                queries=[_measure_variants(connection, query, rule) for query in queries],
                indexes=[_lab_index(connection, file, index_seconds[file.name]) for file in files],
                summaries=[_lab_summary(connection, table, summary_seconds[table]) for table in SUMMARIES],
            )
    finally:
        drop_copies(postgres)


def _measure_alone(connection: Connection, query: DashboardQuery, expected: int, rule: Rule) -> BaselineQuery:
    times, rows = _interleave(connection, {"as_written": (BASELINE, query.text)}, query.name, rule)
    return BaselineQuery(
        name=query.name,
        rounds=len(times["as_written"]),
        rows=len(rows),
        expected_rows=expected,
        answer=rows_fingerprint(rows),
        measured=_measured(times["as_written"], _explain(connection, BASELINE, query.text)),
    )


def _measure_variants(connection: Connection, query: DashboardQuery, rule: Rule) -> IndexedQuery:
    variants = {
        name: (schema, query.from_summary if summarised else query.text)
        for name, (schema, summarised) in VARIANTS.items()
    }
    times, rows = _interleave(connection, variants, query.name, rule)
    return IndexedQuery(
        name=query.name,
        question=query.question,
        rounds=len(times["as_written"]),
        rows=len(rows),
        # Equal, or `_interleave` had raised.
        answers=dict.fromkeys(variants, rows_fingerprint(rows)),
        variants={
            name: _measured(times[name], _explain(connection, schema, text))
            for name, (schema, text) in variants.items()
        },
        times_ms={name: [round(1000 * second, 4) for second in seconds] for name, seconds in times.items()},
    )


def _interleave(
    connection: Connection, variants: Mapping[str, tuple[str, str]], name: str, rule: Rule
) -> tuple[dict[str, list[float]], Rows]:
    """Seconds by variant, and the answer that every execution of every variant gave.

    All variants run in one session, so that none has a warmer process than another.
    """
    answers: list[tuple[str, Rows]] = []

    def check(variant: str, rows: Rows) -> None:
        answers.append((variant, rows))
        first, expected = answers[0]
        if rows != expected:
            raise MeasurementError(
                f"The query {name} gives different answers {first.replace('_', ' ')} and {variant.replace('_', ' ')}: "
                "times of different answers can't be compared. Materialise the benchmarks again; if this comes back, "
                "the SQL files in sql/ do not fit each other."
            )
        del answers[1:]

    def preparer(schema: str, text: str) -> Callable[[], Callable[[], Rows]]:
        def prepare() -> Callable[[], Rows]:
            set_search_path(connection, schema)
            return lambda: answer(connection, text)

        return prepare

    seconds = take_rounds({key: preparer(*variant) for key, variant in variants.items()}, check, rule, _SEED)
    return seconds, answers[0][1]


@contextmanager
def measuring_session(postgres: PostgresResource) -> Iterator[Connection]:
    """A session that can only read."""
    with postgres.connect(autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = on")
        yield connection


def _explain(connection: Connection, schema: str, text: str) -> Plan:
    set_search_path(connection, schema)
    row = connection.execute(
        sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ") + sql.SQL(text), prepare=False
    ).fetchone()
    return parse_plan(None if row is None else row[0])


def _measured(seconds: list[float], plan: Plan) -> Measured:
    return Measured(
        median_ms=1000 * median(seconds),
        nodes=list(plan.nodes),
        indexes=list(plan.indexes),
        buffers_hit=plan.buffers_hit,
        buffers_read=plan.buffers_read,
    )


def _provenance(connection: Connection, queries: list[DashboardQuery], one_user_in: int) -> Provenance:
    """The conditions, and the rows of `lab_baseline`."""
    counted = {table: fingerprint_table(connection, BASELINE, table) for table in TABLES}
    settings = connection.execute(
        "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s)", [list(SERVER_SETTINGS)]
    ).fetchall()
    row = connection.execute(
        "SELECT current_setting('server_version'), current_setting('TimeZone'),"
        " (SELECT fingerprint FROM ops.loads WHERE table_name = 'events'),"
        " (SELECT count(*) FROM pg_stat_activity"
        "  WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid()),"
        " (SELECT count(*) FROM public.events)"
    ).fetchone()
    if row is None:
        raise AssertionError("a query without FROM returns one row")
    return Provenance(
        format=FORMAT,
        server_version=str(row[0]).split()[0],
        settings=dict(sorted(settings)),
        time_zone=row[1],
        rows={table: rows for table, (rows, _) in counted.items()},
        fingerprints={table: fingerprint for table, (_, fingerprint) in counted.items()},
        live_events=row[4],
        one_user_in=one_user_in,
        queries={query.name: query.fingerprint for query in queries},
        source=row[2],
        other_sessions=row[3],
        measured_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )


def _lab_index(connection: Connection, file: IndexFile, seconds: float) -> LabIndex:
    state = index_state(connection, INDEXED, file.name)
    if state is None or not state.valid:
        raise MeasurementError(f"The index {file.name} was not valid on the copy after measuring: run this again.")
    return LabIndex(
        name=file.name,
        table=file.table,
        columns=file.columns,
        size_bytes=state.size_bytes,
        build_ms=1000 * seconds,
    )


def _lab_summary(connection: Connection, table: str, seconds: float) -> LabSummary:
    row = connection.execute(
        sql.SQL("SELECT count(*), pg_total_relation_size({}) FROM {}").format(
            sql.Literal(f"{SUMMARISED}.{table}"), sql.Identifier(SUMMARISED, table)
        )
    ).fetchone()
    if row is None:
        raise AssertionError("an aggregate without GROUP BY returns one row")
    return LabSummary(name=table, rows=row[0], size_bytes=row[1], build_ms=1000 * seconds)
