"""Checks of the retention assets: what they are called, and what their results say."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

import dagster as dg

from shop_platform.retention.counting import Basis
from shop_platform.retention.spreadsheet import FORMULAS
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
    "built, for the users of some days, drawn anew each time, when they are refreshed, of all in the nightly run.",
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
ARE_A_PICTURE = dg.AssetCheckSpec(
    "are_a_picture",
    asset="retention_curves",
    description="The file is a whole PNG, drawn by this run from each cohort.",
)
HOLDS_EVERY_CELL = dg.AssetCheckSpec(
    "holds_every_cell",
    asset="retention_export",
    description="The CSV file, read again, has a row for each published cell and no text that is a formula.",
)
SEGMENTS_ADD_UP = dg.AssetCheckSpec(
    "segments_add_up",
    asset="segment_retention",
    description="In each period the users of all segments are those of the published matrix, and as many are active.",
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


def is_a_picture(spec: dg.AssetCheckSpec, facts: Mapping[str, str], run_id: str, cohorts: int) -> dg.AssetCheckResult:
    """Result of `IS_A_PICTURE` or `ARE_A_PICTURE`, from the facts that the written file carries."""
    passed = (facts.get("run"), facts.get("cohorts")) == (run_id, str(cohorts))
    return dg.AssetCheckResult(
        check_name=spec.name,
        passed=passed,
        description=f"The file holds this run's picture of {cohorts:,} cohorts."
        if passed
        else f"The file is not this run's picture of {cohorts:,} cohorts: another run or program has written it, or "
        f"the matrix has changed meanwhile. Materialise {spec.asset_key.to_user_string()} again.",
    )


def holds_every_cell(content: bytes, cells: int) -> dg.AssetCheckResult:
    """Result of `HOLDS_EVERY_CELL`, from the file as it was written."""
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    formulas = sum(field.startswith(FORMULAS) for row in rows for field in row)
    return dg.AssetCheckResult(
        check_name=HOLDS_EVERY_CELL.name,
        passed=len(rows) == cells + 1 and not formulas,
        description=f"The file has {len(rows) - 1:,} rows for {cells:,} cells, and {formulas:,} formulas.",
    )


def segments_add_up(differing: Sequence[int]) -> dg.AssetCheckResult:
    """Result of `SEGMENTS_ADD_UP`, from the periods in which they do not."""
    return dg.AssetCheckResult(
        check_name=SEGMENTS_ADD_UP.name,
        passed=not differing,
        description=f"In the periods {', '.join(map(str, differing))} the segments together are not the users of the "
        "published matrix, which was changed by hand; what was stored before stays. Materialise cohort_retention, then "
        "this."
        if differing
        else "They do in every period.",
    )
