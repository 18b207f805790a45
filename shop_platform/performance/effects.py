"""Compares what the benchmarks stored: what the indexes and the summaries buy for each query, and what does nothing."""

from __future__ import annotations

from typing import Literal, TypedDict

from shop_platform.errors import MeasurementError
from shop_platform.performance.records import (
    Baseline,
    BaselineQuery,
    Indexed,
    IndexedQuery,
    LabIndex,
    LabSummary,
    Measured,
    Provenance,
    WriteCost,
    require_same_conditions,
)
from shop_platform.performance.statistics import (
    CONFIDENCE,
    NEGLIGIBLE,
    RESAMPLES,
    Ratio,
    Verdict,
    median,
    ratio_of_medians,
    verdict,
)


class Interval(TypedDict):
    """A ratio of medians, time before over time after, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class IndexUse(TypedDict):
    """What one index does for a query.

    Attributes:
        name: of the index.
        used: whether the planner reads it where all measured indexes are there.
        used_alone: whether the planner reads it where it is the only one.
        speedup: as_written over the time with this index alone.
        verdict: on this index alone.
        buffers_before: blocks of 8 kB that the query touches as written.
        buffers_after: the same with this index alone.
        missed: for an index that helps, whether the query is slower when it alone goes and the others stay:
            `missed`, `not missed`, `unsure`; None for other indexes.
        missed_slowdown: time without it over time with all, where that was measured.
    """

    name: str
    used: bool
    used_alone: bool
    speedup: Interval
    verdict: Verdict
    buffers_before: int
    buffers_after: int
    missed: Literal["missed", "not missed", "unsure"] | None
    missed_slowdown: Interval | None


class QueryEffects(TypedDict):
    """What the indexes, the rewriting and the summaries do for one query.

    Attributes:
        name: of the query.
        question: what it answers.
        rows: rows of its answer.
        expected_rows: rows that it must have, counted in another way; None for queries of the user's.
        rounds: pairs of times that each interval is made from.
        baseline_median_ms: median in `baseline_benchmark`, which ran alone; no ratio is made from it.
        as_written: on tables with primary keys only.
        with_indexes: the same text on the same rows with the three indexes.
        rewritten: another text with the same answer, with the three indexes; None where there is none.
        from_summaries: the same answer from the summary tables; None where they do not give it.
        indexes_speedup: as_written over with_indexes.
        rewritten_speedup: as_written over rewritten.
        summaries_speedup: as_written over from_summaries.
        indexes_verdict: `helps`, `no effect`, `hurts` or `unsure` for the three indexes together.
        rewritten_verdict: the same for the rewriting.
        summaries_verdict: the same for the summaries.
        indexes: what each index does for this query.
        cold: medians in ms `as_written` and `with_indexes` with cold buffers; None where the server can't evict.
        equal_answers: whether all variants and the baseline gave the same answer.
    """

    name: str
    question: str
    rows: int
    expected_rows: int | None
    rounds: int
    baseline_median_ms: float
    as_written: Measured
    with_indexes: Measured
    rewritten: Measured | None
    from_summaries: Measured | None
    indexes_speedup: Interval
    rewritten_speedup: Interval | None
    summaries_speedup: Interval | None
    indexes_verdict: Verdict
    rewritten_verdict: Verdict | None
    summaries_verdict: Verdict | None
    indexes: list[IndexUse]
    cold: dict[str, float] | None
    equal_answers: bool


class IndexCost(TypedDict):
    """What an index costs.

    Attributes:
        name: of the index.
        table: that it is on.
        columns: as SQL.
        size_bytes: on the measured rows.
        build_ms: time that a plain build took.
        insert_slowdown: time of an insert with this index alone over the time without any.
        rows_per_second: of inserts: `without` the index and `with` it, from medians.
    """

    name: str
    table: str
    columns: str
    size_bytes: int
    build_ms: float
    insert_slowdown: Interval
    rows_per_second: dict[str, float]


class Effects(TypedDict):
    """The record of `index_effects`, which `shop-platform results --json` publishes.

    Attributes:
        provenance: conditions of the measurement.
        confidence: of the intervals, 0.95.
        resamples: bootstrap resamples that an interval is made from.
        queries: what was found, by query.
        indexes: what each index costs on the measured rows.
        summaries: rows, size and time to fill of each summary table on the measured rows.
        findings: the same in sentences.
    """

    provenance: Provenance
    confidence: float
    resamples: int
    queries: list[QueryEffects]
    indexes: list[IndexCost]
    summaries: list[LabSummary]
    findings: list[str]


def compare(baseline: Baseline, indexed: Indexed) -> Effects:
    """What the indexes, the rewritings and the summaries buy.

    Raises:
        MeasurementError: the records were measured under different conditions, or hold different queries.
    """
    require_same_conditions(baseline["provenance"], indexed["provenance"])
    before = {query["name"]: query for query in baseline["queries"]}
    if before.keys() != {query["name"] for query in indexed["queries"]}:
        raise MeasurementError("The benchmarks hold different queries: materialise both again, one after the other.")
    names = [index["name"] for index in indexed["indexes"]]
    queries = [_query_effects(before[query["name"]], query, names) for query in indexed["queries"]]
    return Effects(
        provenance=indexed["provenance"],
        confidence=CONFIDENCE,
        resamples=RESAMPLES,
        queries=queries,
        indexes=[_cost(index) for index in indexed["indexes"]],
        summaries=indexed["summaries"],
        findings=findings(queries),
    )


def _query_effects(baseline: BaselineQuery, indexed: IndexedQuery, index_names: list[str]) -> QueryEffects:
    times, variants = indexed["times_ms"], indexed["variants"]
    gains = {
        way: ratio_of_medians(times["as_written"], times[way])
        for way in ("with_indexes", "rewritten", "from_summaries")
        if way in times
    }
    rewritten, summaries = gains.get("rewritten"), gains.get("from_summaries")
    return QueryEffects(
        name=indexed["name"],
        question=indexed["question"],
        rows=indexed["rows"],
        expected_rows=baseline["expected_rows"],
        rounds=indexed["rounds"],
        baseline_median_ms=baseline["measured"]["median_ms"],
        as_written=variants["as_written"],
        with_indexes=variants["with_indexes"],
        rewritten=variants.get("rewritten"),
        from_summaries=variants.get("from_summaries"),
        indexes_speedup=as_interval(gains["with_indexes"]),
        rewritten_speedup=None if rewritten is None else as_interval(rewritten),
        summaries_speedup=None if summaries is None else as_interval(summaries),
        indexes_verdict=verdict(gains["with_indexes"]),
        rewritten_verdict=None if rewritten is None else verdict(rewritten),
        summaries_verdict=None if summaries is None else verdict(summaries),
        indexes=[_index_use(indexed, name) for name in index_names],
        cold=indexed["cold"],
        equal_answers={baseline["answer"]} == set(indexed["answers"].values()),
    )


def _index_use(query: IndexedQuery, name: str) -> IndexUse:
    before, alone = query["variants"]["as_written"], query["variants"][f"only {name}"]
    ratio = ratio_of_medians(query["times_ms"]["as_written"], query["times_ms"][f"only {name}"])
    used_alone = name in alone["indexes"]
    loss = None
    if name in query["without"]:
        loss = ratio_of_medians(query["without"][name]["without"], query["without"][name]["with_all"])
    return IndexUse(
        name=name,
        used=name in query["variants"]["with_indexes"]["indexes"],
        used_alone=used_alone,
        speedup=as_interval(ratio),
        verdict=index_verdict(ratio, used=used_alone),
        buffers_before=before["buffers_hit"] + before["buffers_read"],
        buffers_after=alone["buffers_hit"] + alone["buffers_read"],
        missed=None if loss is None else _missed(verdict(loss)),
        missed_slowdown=None if loss is None else as_interval(loss),
    )


def index_verdict(ratio: Ratio, *, used: bool) -> Verdict:
    """The word for an index that was measured alone.

    One that the planner does not use leaves the plan as it was: it can't help, and hurts only where planning takes
    measurably longer with it, by more than 5 %. One that is used is judged by its times.
    """
    by_times = verdict(ratio)
    if used:
        return by_times
    return "hurts" if by_times == "hurts" and ratio.high < 1 / NEGLIGIBLE else "no effect"


def _missed(slower_without: Verdict) -> Literal["missed", "not missed", "unsure"]:
    if slower_without == "helps":
        return "missed"
    return "unsure" if slower_without == "unsure" else "not missed"


def _cost(index: LabIndex) -> IndexCost:
    write = index["write"]
    return IndexCost(
        name=index["name"],
        table=index["table"],
        columns=index["columns"],
        size_bytes=index["size_bytes"],
        build_ms=index["build_ms"],
        insert_slowdown=insert_slowdown(write),
        rows_per_second={
            "without": 1000 * write["rows"] / median(write["without_ms"]),
            "with": 1000 * write["rows"] / median(write["with_ms"]),
        },
    )


def insert_slowdown(write: WriteCost) -> Interval:
    """Time of an insert with an index over the time without it."""
    return as_interval(ratio_of_medians(write["with_ms"], write["without_ms"]))


def as_interval(ratio: Ratio) -> Interval:
    """The form in which a record holds a ratio."""
    return Interval(value=ratio.value, low=ratio.low, high=ratio.high)


def findings(queries: list[QueryEffects]) -> list[str]:
    """What was found, in sentences: for each query what it gained, then for each query what each index is to it."""
    return [_gain(query) for query in queries] + [
        f"{index['name']} is {'used' if index['used_alone'] else 'not used'} by {query['name']}: {index['verdict']}"
        + (f", {index['missed']} where the others stay." if index["missed"] else ".")
        for query in queries
        for index in query["indexes"]
    ]


def _gain(query: QueryEffects) -> str:
    ways = (
        ("with the three indexes", query["indexes_speedup"], query["indexes_verdict"], "they help", "they hurt"),
        ("rewritten", query["rewritten_speedup"], query["rewritten_verdict"], "it helps", "it hurts"),
        ("from summaries", query["summaries_speedup"], query["summaries_verdict"], "they help", "they hurt"),
    )
    return (
        f"{query['name']}: "
        + "; ".join(
            f"{way} {times_as_fast(speedup)}, {({'helps': helps, 'hurts': hurts}).get(word or '', word)}"
            for way, speedup, word, helps, hurts in ways
            if speedup is not None
        )
        + "."
    )


def times_as_fast(interval: Interval) -> str:
    """Such as `3.1 times as fast (95 % interval 3.0 to 3.2)`."""
    value, low, high = interval["value"], interval["low"], interval["high"]
    return f"{value:.3g} times as fast (95 % interval {low:.3g} to {high:.3g})"
