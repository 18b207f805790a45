"""Measures queries on the laboratory's copy: times, plans, answers, and the conditions under which."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping, Sequence

from psycopg import sql

from shop_platform.errors import MeasurementError
from shop_platform.performance.indexes import index_files, index_state
from shop_platform.performance.laboratory import (
    COPY,
    SUMMARISED,
    TABLES,
    LabIndex,
    build_indexes,
    copy_live,
    copy_with_summaries,
    drop_copies,
    fingerprint_table,
    reuse_copy,
    set_search_path,
)
from shop_platform.performance.plans import Plan
from shop_platform.performance.queries import Query, expected_rows, rows_fingerprint
from shop_platform.performance.records import (
    FORMAT,
    SERVER_SETTINGS,
    Baseline,
    BaselineQuery,
    Indexed,
    IndexedQuery,
    LabSummary,
    Measured,
    Provenance,
    Without,
    require_same_conditions,
)
from shop_platform.performance.records import LabIndex as IndexRecord
from shop_platform.performance.rounds import ALONE, INTERLEAVED, Rule
from shop_platform.performance.statistics import median, ratio_of_medians, verdict
from shop_platform.performance.summaries import SUMMARIES
from shop_platform.performance.trials import SEED, Trials, Variant, milliseconds
from shop_platform.performance.writes import write_costs
from shop_platform.resources.postgres import Connection, PostgresResource


def measure_baseline(
    postgres: PostgresResource, queries: Sequence[Query], time_limit: int, rule: Rule = ALONE
) -> Baseline:
    """Copy the live tables and measure queries on the copy, without indexes. Call it holding the `laboratory`.

    The copy stays for `measure_indexed`.

    Args:
        postgres: the shop's database.
        queries: what to measure.
        time_limit: seconds that one execution may take.
        rule: how many times to execute each.

    Raises:
        MeasurementError: there is nothing to measure, or a query can't be executed, takes too long, or changes its
            answer from one execution to the next.
    """
    one_user_in = copy_live(postgres)
    with postgres.connect(autocommit=True) as connection:
        provenance = provenance_of(connection, queries, one_user_in)
        set_search_path(connection, COPY)
        expected = expected_rows(connection)
        trials = Trials(connection, frozenset(), time_limit)
        measured = [_measure_alone(trials, query, expected.get(query.name), rule) for query in queries]
    return Baseline(provenance=provenance, queries=measured)


def measure_indexed(
    postgres: PostgresResource,
    queries: Sequence[Query],
    baseline: Baseline,
    time_limit: int,
    rule: Rule = INTERLEAVED,
) -> Indexed:
    """Measure each query as written, with the indexes, all and one by one, rewritten, and from summaries, in turns.

    Works on the copy that `measure_baseline` left, else on a new one. Removes the copy at the end: it takes as much
    room as the tables themselves, and the times, plans and fingerprints are kept. Call it holding the `laboratory`.

    Args:
        postgres: the shop's database.
        queries: those of the baseline.
        baseline: what `measure_baseline` gave.
        time_limit: seconds that one execution may take.
        rule: how many rounds.

    Raises:
        MeasurementError: rows or conditions are not those of the baseline, the variants' answers differ, or a query
            takes too long.
    """
    try:
        one_user_in = baseline["provenance"]["one_user_in"] if reuse_copy(postgres) else copy_live(postgres)
        with postgres.connect() as connection:
            provenance = provenance_of(connection, queries, one_user_in)
        require_same_conditions(baseline["provenance"], provenance)
        built = build_indexes(postgres, {file.name: file.statement for file in index_files()})
        filled = copy_with_summaries(postgres)
        with postgres.connect(autocommit=True) as connection:
            trials = Trials(connection, frozenset(built), time_limit)
            return Indexed(
                provenance=provenance,
                queries=[_measure_variants(trials, query, rule) for query in queries],
                summaries=[_lab_summary(connection, table, filled[table]) for table in SUMMARIES],
                indexes=_index_records(connection, built),
            )
    finally:
        drop_copies(postgres)


def _measure_alone(trials: Trials, query: Query, expected: int | None, rule: Rule) -> BaselineQuery:
    variant = Variant(query.text, parameters=query.parameters)
    times, rows = trials.interleave(query.name, {"as_written": variant}, rule)
    return BaselineQuery(
        name=query.name,
        rounds=len(times["as_written"]),
        rows=len(rows),
        expected_rows=expected,
        answer=rows_fingerprint(rows),
        measured=measured(times["as_written"], trials.explain(query.name, variant)),
    )


def variants_of(query: Query, indexes: frozenset[str]) -> dict[str, Variant]:
    """The ways to answer a query, by name, as `IndexedQuery.variants` has them."""
    ways = {
        "as_written": Variant(query.text, parameters=query.parameters),
        "with_indexes": Variant(query.text, indexes, parameters=query.parameters),
    }
    if query.rewritten is not None:
        ways["rewritten"] = Variant(query.rewritten, indexes, parameters=query.parameters)
    if query.from_summary is not None:
        ways["from_summaries"] = Variant(query.from_summary, schema=SUMMARISED)
    return ways | {
        f"only {index}": Variant(query.text, frozenset({index}), parameters=query.parameters)
        for index in sorted(indexes)
    }


def _measure_variants(trials: Trials, query: Query, rule: Rule) -> IndexedQuery:
    variants = variants_of(query, trials.built)
    times, rows = trials.interleave(query.name, variants, rule)
    first = {way: variants[way] for way in ("as_written", "with_indexes")}
    cold = trials.cold(query.name, first)
    return IndexedQuery(
        name=query.name,
        question=query.question,
        rounds=len(times["as_written"]),
        rows=len(rows),
        # Equal, or `interleave` had raised.
        answers=dict.fromkeys(variants, rows_fingerprint(rows)),
        variants={name: measured(times[name], trials.explain(query.name, way)) for name, way in variants.items()},
        times_ms={name: milliseconds(seconds) for name, seconds in times.items()},
        without=_leave_one_out(trials, query, times, rule),
        cold=None if cold is None else {way: 1000 * median(seconds) for way, seconds in cold.items()},
    )


def _leave_one_out(trials: Trials, query: Query, times: Mapping[str, list[float]], rule: Rule) -> dict[str, Without]:
    """What is lost when one of the indexes that help goes: asked only where others could take its place."""
    helping = [
        index
        for index in sorted(trials.built)
        if verdict(ratio_of_medians(times["as_written"], times[f"only {index}"])) == "helps"
    ]
    if not helping or len(trials.built) < 2:
        return {}
    variants = {"": Variant(query.text, trials.built, parameters=query.parameters)} | {
        index: Variant(query.text, trials.built - {index}, parameters=query.parameters) for index in helping
    }
    taken, _ = trials.interleave(query.name, variants, rule)
    return {index: Without(with_all=milliseconds(taken[""]), without=milliseconds(taken[index])) for index in helping}


def measured(seconds: Sequence[float], plan: Plan) -> Measured:
    """A variant's record."""
    return Measured(
        median_ms=1000 * median(seconds),
        nodes=list(plan.nodes),
        indexes=list(plan.indexes),
        buffers_hit=plan.buffers_hit,
        buffers_read=plan.buffers_read,
    )


def provenance_of(connection: Connection, queries: Sequence[Query], one_user_in: int) -> Provenance:
    """The conditions, and the rows of the copy."""
    counted = {table: fingerprint_table(connection, COPY, table) for table in TABLES}
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
        load=round(os.getloadavg()[0], 2),
        processors=os.cpu_count() or 1,
        seed=SEED,
        measured_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )


def _index_records(connection: Connection, built: Mapping[str, LabIndex]) -> list[IndexRecord]:
    files = [file for file in index_files() if file.name in built]
    states = {file.name: index_state(connection, COPY, file.name) for file in files}
    broken = [name for name, state in states.items() if state is None or not state.valid]
    if broken:
        raise MeasurementError(f"No longer valid on the copy after measuring: {', '.join(broken)}. Run this again.")
    costs = write_costs(connection, {file.name: file.table for file in files})
    return [
        IndexRecord(
            name=file.name,
            table=file.table,
            columns=file.columns,
            size_bytes=built[file.name].size_bytes,
            build_ms=1000 * built[file.name].seconds,
            write=costs[file.name],
        )
        for file in files
    ]


def _lab_summary(connection: Connection, table: str, seconds: float) -> LabSummary:
    row = connection.execute(
        sql.SQL("SELECT count(*), pg_total_relation_size({}) FROM {}").format(
            sql.Literal(f"{SUMMARISED}.{table}"), sql.Identifier(SUMMARISED, table)
        )
    ).fetchone()
    if row is None:
        raise AssertionError("an aggregate without GROUP BY returns one row")
    return LabSummary(name=table, rows=row[0], size_bytes=row[1], build_ms=1000 * seconds)
