"""The checks of this room, as Dagster wants them: each says what it saw, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from shop_platform.performance.effects import Effects, QueryEffects, times_as_fast
from shop_platform.performance.indexes import BuiltIndex
from shop_platform.performance.records import Baseline, BaselineQuery, Indexed
from shop_platform.performance.sampling import WeekCompared
from shop_platform.performance.summaries import Refresh

#: Under this many events a query takes as long as asking for it does, and a missed speedup is only a warning.
ENOUGH_EVENTS = 10_000

BASELINE_COMPLETE = dg.AssetCheckSpec(
    "answers_complete",
    asset="baseline_benchmark",
    description="The answers have as many rows as counted from the data in another way.",
)
MEASURED_ALONE = dg.AssetCheckSpec(
    "measured_alone",
    asset="indexed_benchmark",
    description="No other session was at work on the server when measuring began.",
)
INDEXES_VALID = dg.AssetCheckSpec(
    "indexes_valid", asset="commerce_indexes", blocking=True, description="All three indexes are valid."
)
OPTIMISED_ANSWERS_FASTER = dg.AssetCheckSpec(
    "optimised_answers_faster",
    asset="index_effects",
    description="The summaries answer each query faster than it is as written: the 95 % interval lies above 1.",
)
RESULT_ROWS = dg.AssetCheckSpec(
    "result_rows",
    asset="index_effects",
    description="The answers have a row for each week with events and for each category with purchases.",
)
RESULTS_EQUAL = dg.AssetCheckSpec(
    "results_equal",
    asset="index_effects",
    description="As written, with indexes and from summaries, a query gives the same answer, to the last digit.",
)
ANSWERS_EQUAL = dg.AssetCheckSpec(
    "answers_equal_direct_queries",
    asset="activity_summaries",
    blocking=True,
    description="The summaries give the answers of the direct queries, to the last digit: as a whole when they were "
    "built anew, else in a sample of weeks.",
)
SUMS_ADD_UP = dg.AssetCheckSpec(
    "sums_add_up",
    asset="activity_summaries",
    blocking=True,
    description="What is counted in two summaries, or in a summary and in the events, is the same.",
)


def baseline_complete(baseline: Baseline) -> dg.AssetCheckResult:
    """Result of `BASELINE_COMPLETE`."""
    return _rows(BASELINE_COMPLETE, baseline["queries"])


def measured_alone(indexed: Indexed) -> dg.AssetCheckResult:
    """Result of `MEASURED_ALONE`: a WARN, since turns and intervals still tell the truth, less sharply."""
    others = indexed["provenance"]["other_sessions"]
    return dg.AssetCheckResult(
        check_name=MEASURED_ALONE.name,
        passed=others == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{others} other sessions were at work on the server." if others else "Nobody else was at work.",
        metadata={"other_sessions": others},
    )


def indexes_valid(built: Sequence[BuiltIndex]) -> dg.AssetCheckResult:
    """Result of `INDEXES_VALID`."""
    invalid = [index.name for index in built if not index.valid]
    return dg.AssetCheckResult(
        check_name=INDEXES_VALID.name,
        passed=not invalid,
        description=f"Invalid: {', '.join(invalid)}." if invalid else f"All {len(built)} indexes are valid.",
    )


def optimised_answers_faster(effects: Effects) -> dg.AssetCheckResult:
    """Result of `OPTIMISED_ANSWERS_FASTER`: an ERROR, in a shop of few events a WARN."""
    speedups = {q["name"]: q["summaries_speedup"] for q in effects["queries"] if q["summaries_speedup"] is not None}
    slow = [name for name, speedup in speedups.items() if speedup["low"] <= 1]
    gains = "; ".join(f"{name}: {times_as_fast(speedup)}" for name, speedup in speedups.items())
    few = effects["provenance"]["rows"]["events"] < ENOUGH_EVENTS
    return dg.AssetCheckResult(
        check_name=OPTIMISED_ANSWERS_FASTER.name,
        passed=not slow,
        severity=dg.AssetCheckSeverity.WARN if few else dg.AssetCheckSeverity.ERROR,
        description=f"From summaries, against as written: {gains}."
        + (f" Not shown to be faster: {', '.join(slow)}." if slow else "")
        + (" With so few events this tells little." if slow and few else ""),
        metadata={name: speedup["low"] for name, speedup in speedups.items()},
    )


def result_rows(effects: Effects) -> dg.AssetCheckResult:
    """Result of `RESULT_ROWS`."""
    return _rows(RESULT_ROWS, effects["queries"])


def _rows(spec: dg.AssetCheckSpec, queries: Sequence[BaselineQuery] | Sequence[QueryEffects]) -> dg.AssetCheckResult:
    """Compares rows with those expected; nobody knows how many rows a query of the user's should have."""
    known = [query for query in queries if query["expected_rows"] is not None]
    return dg.AssetCheckResult(
        check_name=spec.name,
        passed=all(query["rows"] == query["expected_rows"] and query["rows"] > 0 for query in known),
        description="; ".join(f"{q['name']}: {q['rows']} rows, expected {q['expected_rows']}" for q in known) + ".",
        metadata={query["name"]: query["rows"] for query in queries},
    )


def results_equal(effects: Effects) -> dg.AssetCheckResult:
    """Result of `RESULTS_EQUAL`."""
    differing = [query["name"] for query in effects["queries"] if not query["equal_answers"]]
    return dg.AssetCheckResult(
        check_name=RESULTS_EQUAL.name,
        passed=not differing,
        description=f"Answers differ: {', '.join(differing)}." if differing else "All variants give the same answers.",
    )


def answers_equal(done: Refresh, weeks: Sequence[WeekCompared]) -> dg.AssetCheckResult:
    """Result of `ANSWERS_EQUAL`: after a rebuild all answers count, after any refresh a sample of weeks."""
    differing = [name for name, equal in done.equal.items() if not equal]
    wrong = [
        f"{week.week:%Y-%m-%d} ({week.active_summed:,} active users in the summaries, {week.active:,} in the events; "
        f"revenue {'equal' if week.revenue_equal else 'differs'})"
        for week in weeks
        if not week.equal
    ]
    if differing:
        description = f"Answers differ: {', '.join(differing)}. The summaries of before were kept."
    elif wrong:
        description = f"Weeks that differ: {'; '.join(wrong)}. The next refresh builds the summaries anew."
    else:
        compared = ", ".join(f"{week.week:%Y-%m-%d}" for week in weeks)
        estimated = any(week.estimated for week in weeks)
        rebuilt = f"As the direct queries answer: {', '.join(done.equal)}. " if done.equal else ""
        description = rebuilt + (
            "Weeks compared with the direct queries, and equal"
            f"{', but for the error of an estimate' if estimated else ''}: {compared}."
            if weeks
            else "No week could be compared: changes wait for all of them."
        )
    return dg.AssetCheckResult(check_name=ANSWERS_EQUAL.name, passed=not (differing or wrong), description=description)


def sums_add_up(done: Refresh) -> dg.AssetCheckResult:
    """Result of `SUMS_ADD_UP`."""
    sums = [f"{name}: {one:,} and {other:,}" for name, (one, other) in done.counted.items()]
    return dg.AssetCheckResult(
        check_name=SUMS_ADD_UP.name,
        passed=done.adds_up,
        description="; ".join(sums)
        + "."
        + ("" if done.adds_up else " The summaries of before were kept; the next refresh builds them anew."),
    )
