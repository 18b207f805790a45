"""The checks of the advice, as Dagster wants them."""

from __future__ import annotations

import dagster as dg

from shop_platform.performance.advice.records import Advice
from shop_platform.performance.effects import times_as_fast

WITHIN_BUDGET = dg.AssetCheckSpec(
    "within_budget", asset="index_advice", description="The advised indexes take no more room than SHOP_INDEX_BUDGET."
)
NOT_SLOWER = dg.AssetCheckSpec(
    "advised_not_slower",
    asset="index_advice",
    description="With the advised indexes together no query is shown to be slower than as written.",
)


def within_budget(advice: Advice) -> dg.AssetCheckResult:
    """Result of `WITHIN_BUDGET`."""
    taken, budget = advice["advised_bytes"], advice["budget_bytes"]
    return dg.AssetCheckResult(
        check_name=WITHIN_BUDGET.name,
        passed=taken <= budget,
        description=f"The advised indexes take {taken / 1024:,.0f} of {budget / 1024:,.0f} KiB.",
        metadata={"advised_bytes": taken, "budget_bytes": budget},
    )


def not_slower(advice: Advice) -> dg.AssetCheckResult:
    """Result of `NOT_SLOWER`: a WARN, since nothing was changed by it."""
    slower = [query["name"] for query in advice["queries"] if query["verdict"] == "hurts"]
    gains = "; ".join(f"{query['name']}: {times_as_fast(query['advised_speedup'])}" for query in advice["queries"])
    return dg.AssetCheckResult(
        check_name=NOT_SLOWER.name,
        passed=not slower,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"With the advised indexes, against as written: {gains}."
        + (f" Slower: {', '.join(slower)}." if slower else ""),
    )
