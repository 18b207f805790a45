"""Compares what the benchmarks stored: what the indexes and the summaries buy for each query, and what does nothing."""

from __future__ import annotations

from typing import TypedDict

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
    require_same_conditions,
)
from shop_platform.performance.statistics import CONFIDENCE, RESAMPLES, Ratio, Verdict, ratio_of_medians, verdict


class Interval(TypedDict):
    """A ratio of medians, time before over time after, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class IndexUse(TypedDict):
    """Whether the planner used an index for a query."""

    name: str
    used: bool


class QueryEffects(TypedDict):
    """What the indexes and the summaries do for one query.

    Attributes:
        name: of the query.
        question: what it answers.
        rows: rows of its answer.
        expected_rows: rows that it must have, counted in another way.
        rounds: pairs of times that each interval is made from.
        baseline_median_ms: median in `baseline_benchmark`, which ran alone; no ratio is made from it.
        as_written: on tables with primary keys only.
        with_indexes: the same text on the same rows with the three indexes.
        from_summaries: the same answer from the summary tables.
        indexes_speedup: as_written over with_indexes.
        summaries_speedup: as_written over from_summaries.
        indexes_verdict: `helps`, `no effect`, `hurts` or `unsure` for the three indexes together.
        summaries_verdict: the same for the summaries.
        indexes: which of the three the planner used for this query.
        equal_answers: whether all variants and the baseline gave the same answer.
    """

    name: str
    question: str
    rows: int
    expected_rows: int
    rounds: int
    baseline_median_ms: float
    as_written: Measured
    with_indexes: Measured
    from_summaries: Measured
    indexes_speedup: Interval
    summaries_speedup: Interval
    indexes_verdict: Verdict
    summaries_verdict: Verdict
    indexes: list[IndexUse]
    equal_answers: bool


class Effects(TypedDict):
    """The record of `index_effects`, which `shop-platform results --json` publishes.

    Attributes:
        provenance: conditions of the measurement.
        confidence: of the intervals, 0.95.
        resamples: bootstrap resamples that an interval is made from.
        queries: what was found, by query.
        indexes: size and build time of each index on the measured rows.
        summaries: rows, size and time to fill of each summary table on the measured rows.
        findings: the same in sentences.
    """

    provenance: Provenance
    confidence: float
    resamples: int
    queries: list[QueryEffects]
    indexes: list[LabIndex]
    summaries: list[LabSummary]
    findings: list[str]


def compare(baseline: Baseline, indexed: Indexed) -> Effects:
    """What the indexes and the summaries buy.

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
        indexes=indexed["indexes"],
        summaries=indexed["summaries"],
        findings=findings(queries),
    )


def _query_effects(baseline: BaselineQuery, indexed: IndexedQuery, index_names: list[str]) -> QueryEffects:
    times, variants = indexed["times_ms"], indexed["variants"]
    indexes = ratio_of_medians(times["as_written"], times["with_indexes"])
    summaries = ratio_of_medians(times["as_written"], times["from_summaries"])
    return QueryEffects(
        name=indexed["name"],
        question=indexed["question"],
        rows=indexed["rows"],
        expected_rows=baseline["expected_rows"],
        rounds=indexed["rounds"],
        baseline_median_ms=baseline["measured"]["median_ms"],
        as_written=variants["as_written"],
        with_indexes=variants["with_indexes"],
        from_summaries=variants["from_summaries"],
        indexes_speedup=_interval(indexes),
        summaries_speedup=_interval(summaries),
        indexes_verdict=verdict(indexes),
        summaries_verdict=verdict(summaries),
        indexes=[IndexUse(name=index, used=index in variants["with_indexes"]["indexes"]) for index in index_names],
        equal_answers={baseline["answer"]} == set(indexed["answers"].values()),
    )


def _interval(ratio: Ratio) -> Interval:
    return Interval(value=ratio.value, low=ratio.low, high=ratio.high)


def findings(queries: list[QueryEffects]) -> list[str]:
    """What was found, in sentences: for each query what it gained, then for each query what each index is to it."""
    return [_gain(query) for query in queries] + [
        f"{index['name']} is {'used' if index['used'] else 'not used'} by {query['name']}."
        for query in queries
        for index in query["indexes"]
    ]


def _gain(query: QueryEffects) -> str:
    words = {"helps": "they help", "no effect": "no effect", "hurts": "they hurt", "unsure": "unsure"}
    return (
        f"{query['name']}: with the three indexes {times_as_fast(query['indexes_speedup'])}, "
        f"{words[query['indexes_verdict']]}; from summaries {times_as_fast(query['summaries_speedup'])}, "
        f"{words[query['summaries_verdict']]}."
    )


def times_as_fast(interval: Interval) -> str:
    """Such as `3.1 times as fast (95 % interval 3.0 to 3.2)`."""
    value, low, high = interval["value"], interval["low"], interval["high"]
    return f"{value:.3g} times as fast (95 % interval {low:.3g} to {high:.3g})"


def ladder(effects: Effects) -> list[tuple[str, str, str, str]]:
    """Rows of (query, as written, with the three indexes, from summaries), each with its median and its speedup."""
    return [
        (
            query["name"],
            f"{query['as_written']['median_ms']:.3g} ms",
            _rung(query["with_indexes"], query["indexes_speedup"]),
            _rung(query["from_summaries"], query["summaries_speedup"]),
        )
        for query in effects["queries"]
    ]


def _rung(measured: Measured, speedup: Interval) -> str:
    return f"{measured['median_ms']:.3g} ms, {times_as_fast(speedup)}"
