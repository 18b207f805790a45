"""Builds every candidate on the copy, measures it, and says which set to take: by trial, never by estimate."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from shop_platform.performance.advice.candidates import Candidate, index_candidates
from shop_platform.performance.advice.catalog import Table, read_catalog
from shop_platform.performance.advice.choice import Trial, choose, lock_note
from shop_platform.performance.advice.records import (
    Advice,
    CandidateEffect,
    CandidateTried,
    OtherAdvice,
    QueryAdvice,
)
from shop_platform.performance.advice.rewriting import Summary, rewrite, summary
from shop_platform.performance.effects import as_interval, index_verdict, insert_slowdown
from shop_platform.performance.indexes import LIVE, index_files, index_state
from shop_platform.performance.laboratory import (
    COPY,
    SUMMARISED,
    TABLES,
    LabIndex,
    build_indexes,
    copy_live,
    create_schema,
    drop_copies,
    set_search_path,
)
from shop_platform.performance.measuring import measured, provenance_of
from shop_platform.performance.queries import Query
from shop_platform.performance.records import WriteCost
from shop_platform.performance.rounds import INTERLEAVED, Rule
from shop_platform.performance.statistics import Ratio, median, ratio_of_medians, verdict
from shop_platform.performance.trials import Trials, Variant
from shop_platform.performance.writes import write_costs
from shop_platform.resources.postgres import Connection, PostgresResource

#: Candidates that one query may bring; the most promising come first.
MOST = 6

#: By query, then by candidate: the ratio of the query as written over the same with it alone; None where the planner
#: does not use it, so that its plan, and its time, are those of the query as written.
Effects = dict[str, dict[str, Ratio | None]]


@dataclass(frozen=True)
class _Candidates:
    """Candidates by name, which came with the platform, what building each took, and which are live by what name."""

    candidates: dict[str, Candidate]
    given: frozenset[str]
    built: dict[str, LabIndex]
    unbuilt: dict[str, str]
    live: dict[str, str]


def measure_advice(
    postgres: PostgresResource,
    queries: Sequence[Query],
    *,
    time_limit: int,
    budget_share: float,
    rule: Rule = INTERLEAVED,
) -> Advice:
    """Build every candidate index for the queries on a copy, measure each alone, then the best set together.

    Changes nothing on the live tables. Call it holding the `laboratory`.

    Args:
        postgres: the shop's database.
        queries: what to advise on.
        time_limit: seconds that one execution may take.
        budget_share: room that the advised indexes may take together, as a share of the tables' size.
        rule: how many rounds.

    Raises:
        MeasurementError: there is nothing to measure, or a query can't be executed, takes too long, or changes its
            answer from one execution to the next.
    """
    try:
        one_user_in = copy_live(postgres)
        with postgres.connect(autocommit=True) as connection:
            provenance = provenance_of(connection, queries, one_user_in)
            catalog = read_catalog(connection, COPY, TABLES)
        found = _build(postgres, queries, catalog)
        with postgres.connect(autocommit=True) as connection:
            create_schema(connection, SUMMARISED)
            trials = Trials(connection, frozenset(found.built), time_limit)
            effects = {query.name: _try_each(trials, query, rule) for query in queries}
            tables_bytes = sum(table.size_bytes for table in catalog.values())
            budget = int(budget_share * tables_bytes)
            chosen = choose([_trial(name, found, effects) for name in found.built], budget)
            advised = [_try_set(trials, query, found, frozenset(chosen), catalog, rule) for query in queries]
            # Read again, not taken from what they were chosen by: the check is to see what they take now. Before the
            # trial inserts, whose pages stay although they are rolled back.
            taken = [index_state(connection, COPY, name) for name in chosen]
            costs = write_costs(connection, {name: found.candidates[name].table for name in chosen})
        chosen_first = sorted(found.built, key=lambda name: (name not in chosen, name))
        tried = [_tried(name, found, effects, chosen, costs) for name in chosen_first]
        return Advice(
            provenance=provenance,
            tables_bytes=tables_bytes,
            budget_bytes=budget,
            advised_bytes=sum(state.size_bytes for state in taken if state is not None),
            candidates=tried,
            unbuilt=found.unbuilt,
            queries=advised,
        )
    finally:
        drop_copies(postgres)


def _build(postgres: PostgresResource, queries: Sequence[Query], catalog: Mapping[str, Table]) -> _Candidates:
    """Build the given indexes and the queries' candidates; one that is the same as a given one is left out."""
    given = [
        Candidate(
            file.name, file.table, "composite", f"USING btree ({file.columns})", "One of the shop's three indexes."
        )
        for file in index_files()
    ]
    candidates = {candidate.name: candidate for candidate in given}
    known = {_same(candidate) for candidate in given}
    for query in queries:
        for candidate in index_candidates(query.text, catalog, MOST):
            if _same(candidate) not in known:
                candidates.setdefault(candidate.name, candidate)
    unbuilt: dict[str, str] = {}
    built = build_indexes(postgres, {name: candidate.create() for name, candidate in candidates.items()}, unbuilt)
    return _Candidates(candidates, frozenset(c.name for c in given) & built.keys(), built, unbuilt, _live(postgres))


def _live(postgres: PostgresResource) -> dict[str, str]:
    """By name of an index on the copy, the valid one on the live tables that is the same but for storage options."""
    with postgres.connect() as connection:
        rows = connection.execute(
            "SELECT n.nspname, c.relname, t.relname, pg_get_indexdef(c.oid) FROM pg_index AS i"
            " JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_class AS t ON t.oid = i.indrelid"
            " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE n.nspname = ANY(%s) AND i.indisvalid AND NOT i.indisunique ORDER BY c.relname",
            [[LIVE, COPY]],
        ).fetchall()
    keys = {
        (schema, name): (table, re.sub(r" WITH \([^)]*\)", "", definition.split(" USING ", 1)[1]))
        for schema, name, table, definition in rows
    }
    there = {key: name for (schema, name), key in keys.items() if schema == LIVE}
    return {name: there[key] for (schema, name), key in keys.items() if schema == COPY and key in there}


def _same(candidate: Candidate) -> tuple[str, str]:
    return candidate.table, "".join(candidate.definition.replace('"', "").split())


def _try_each(trials: Trials, query: Query, rule: Rule) -> dict[str, Ratio | None]:
    """Each index alone, in turns with the query as written; timed only where the planner uses it."""
    alone = {name: Variant(query.text, frozenset({name}), parameters=query.parameters) for name in sorted(trials.built)}
    used = {name: way for name, way in alone.items() if name in trials.explain(query.name, way).indexes}
    effects: dict[str, Ratio | None] = dict.fromkeys(alone)
    if used:
        times, _ = trials.interleave(query.name, {"": Variant(query.text, parameters=query.parameters)} | used, rule)
        effects |= {name: ratio_of_medians(times[""], times[name]) for name in used}
    return effects


def _trial(name: str, found: _Candidates, effects: Effects) -> Trial:
    return Trial(
        name=name,
        size_bytes=found.built[name].size_bytes,
        build_ms=1000 * found.built[name].seconds,
        speedups={query: ratio for query, alone in effects.items() if (ratio := alone[name]) is not None},
    )


def _try_set(
    trials: Trials,
    query: Query,
    found: _Candidates,
    chosen: frozenset[str],
    catalog: Mapping[str, Table],
    rule: Rule,
) -> QueryAdvice:
    """The query as written, with the given indexes and with the advised set, and its other texts, in turns."""
    ways = {
        "as_written": Variant(query.text, parameters=query.parameters),
        "given": Variant(query.text, found.given, parameters=query.parameters),
        "advised": Variant(query.text, chosen, parameters=query.parameters),
    }
    rewriting = rewrite(query.text, catalog)
    if rewriting is not None:
        ways["rewriting"] = Variant(rewriting.text, chosen, parameters=query.parameters)
    kept = summary(query.text, f"{query.name}_kept", catalog)
    if kept is not None:
        _keep(trials.connection, kept)
        ways["summary"] = Variant(kept.text, schema=SUMMARISED)
    times, _ = trials.interleave(query.name, ways, rule)
    plans = {way: trials.explain(query.name, ways[way]) for way in ("as_written", "given", "advised")}
    records = {way: measured(times[way], plan) for way, plan in plans.items()}
    advised = ratio_of_medians(times["as_written"], times["advised"])
    return QueryAdvice(
        name=query.name,
        rounds=len(times["as_written"]),
        as_written=records["as_written"],
        given=records["given"],
        advised=records["advised"],
        advised_speedup=as_interval(advised),
        against_given=as_interval(ratio_of_medians(times["given"], times["advised"])),
        verdict=verdict(advised),
        rewriting=None
        if rewriting is None
        else _other([rewriting.text], rewriting.reason, times["as_written"], times["rewriting"]),
        summary=None
        if kept is None
        else _other(
            [*_statements(kept), kept.text], f"{kept.reason} {kept.fresh}", times["as_written"], times["summary"]
        ),
    )


def _keep(connection: Connection, kept: Summary) -> None:
    """Make a table of a query's groups beside the copy, from the copy."""
    set_search_path(connection, SUMMARISED, COPY)
    for statement in _statements(kept):
        connection.execute(statement)
    connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(SUMMARISED, kept.table)))


def _statements(kept: Summary) -> list[str]:
    return [kept.create] if kept.key is None else [kept.create, kept.key]


def _other(statements: list[str], reason: str, as_written: Sequence[float], seconds: Sequence[float]) -> OtherAdvice:
    ratio = ratio_of_medians(as_written, seconds)
    return OtherAdvice(
        statements=statements,
        reason=reason,
        median_ms=1000 * median(seconds),
        speedup=as_interval(ratio),
        verdict=verdict(ratio),
    )


def _tried(
    name: str, found: _Candidates, effects: Effects, chosen: Sequence[str], costs: Mapping[str, WriteCost]
) -> CandidateTried:
    candidate, cost = found.candidates[name], costs.get(name)
    return CandidateTried(
        name=name,
        table=candidate.table,
        kind="given" if name in found.given else candidate.kind,
        statement=candidate.create(concurrently=True),
        reason=candidate.reason,
        size_bytes=found.built[name].size_bytes,
        build_ms=1000 * found.built[name].seconds,
        queries={query: _effect(alone[name]) for query, alone in effects.items()},
        chosen=name in chosen,
        live=found.live.get(name),
        lock=lock_note(candidate).splitlines()[0],
        insert_slowdown=None if cost is None else insert_slowdown(cost),
    )


def _effect(ratio: Ratio | None) -> CandidateEffect:
    if ratio is None:
        return CandidateEffect(used=False, speedup=None, verdict="no effect")
    return CandidateEffect(used=True, speedup=as_interval(ratio), verdict=index_verdict(ratio, used=True))
