"""Checks of the retention assets: what they are called, and what their results say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import dagster as dg

from shop_platform.retention.counting import Basis
from shop_platform.retention.summaries import Refreshed

KEEPS_ITS_DEFINITION = dg.AssetCheckSpec(
    "keeps_its_definition",
    asset="cohort_retention",
    blocking=True,
    description="Every user is in one cohort; active <= observed <= size; no number where nobody is observed.",
)
AGREES_WITH_EVENTS = dg.AssetCheckSpec(
    "agrees_with_events",
    asset="cohort_retention",
    description="The summaries that the matrix is counted from give what the events give: in every cell when they are "
    "built, for the users of some days, drawn anew each time, when they are refreshed.",
)
DATA_END_IS_PAST = dg.AssetCheckSpec(
    "data_end_is_past",
    asset="cohort_retention",
    description="No event lies in the future: it would make weeks count as observed that nobody has lived through.",
)
IS_A_PICTURE = dg.AssetCheckSpec(
    "is_a_picture",
    asset="retention_heatmap",
    description="The file is a whole PNG, drawn by this run, with a row for each cohort.",
)


def keeps_its_definition(problems: Sequence[str]) -> dg.AssetCheckResult:
    """Result of `KEEPS_ITS_DEFINITION`."""
    return dg.AssetCheckResult(
        check_name=KEEPS_ITS_DEFINITION.name,
        passed=not problems,
        description=f"{' '.join(problems)} The matrix before it stays." if problems else "Every cell does.",
        metadata={"problems": len(problems)},
    )


def agrees_with_events(refreshed: Refreshed, *, disagreed: bool) -> dg.AssetCheckResult:
    """Result of `AGREES_WITH_EVENTS`; a warning where building anew has mended it."""
    what = "users" if refreshed.rebuilt is None else "cells"
    return dg.AssetCheckResult(
        check_name=AGREES_WITH_EVENTS.name,
        passed=refreshed.equal and not disagreed,
        severity=dg.AssetCheckSeverity.WARN if refreshed.equal else dg.AssetCheckSeverity.ERROR,
        description=f"All of {refreshed.compared:,} {what} compared agree."
        if not disagreed
        else "The summaries had been changed by hand, or with triggers switched off; they were built anew."
        if refreshed.equal
        else "The summaries do not give what the events give although they were built anew; nothing was published.",
        metadata={"compared": refreshed.compared},
    )


def data_end_is_past(basis: Basis) -> dg.AssetCheckResult:
    """Result of `DATA_END_IS_PAST`; a warning, since a shop may be made up in the future on purpose."""
    return dg.AssetCheckResult(
        check_name=DATA_END_IS_PAST.name,
        passed=basis.in_future == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{basis.in_future:,} events lie in the future, so that weeks may count as observed too early. "
        "Correct or delete them."
        if basis.in_future
        else "The latest event has happened.",
        metadata={"events_in_future": basis.in_future},
    )


def is_a_picture(facts: Mapping[str, str], run_id: str, cohorts: int) -> dg.AssetCheckResult:
    """Result of `IS_A_PICTURE`, from the facts that the written file carries."""
    passed = (facts.get("run"), facts.get("cohorts")) == (run_id, str(cohorts))
    return dg.AssetCheckResult(
        check_name=IS_A_PICTURE.name,
        passed=passed,
        description=f"The file holds this run's picture of {cohorts:,} cohorts."
        if passed
        else f"The file is not this run's picture of {cohorts:,} cohorts: another run or program has written it, or "
        "the matrix has changed meanwhile. Materialise retention_heatmap again.",
    )
