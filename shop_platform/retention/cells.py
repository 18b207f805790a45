"""Cells of the retention matrix: rates with their intervals, and the matrix as a frame. Pure: no Dagster, no I/O."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

#: Two-sided 95 % quantile of the normal distribution.
_Z = 1.959963984540054


@dataclass(frozen=True)
class Cell:
    """One cohort in one period.

    Attributes:
        cohort: first day of the signup month.
        period: weeks since the signup, from 0.
        cohort_size: users of the cohort.
        users_observed: those whose whole period lies within the data.
        active_users: those of them with an event in the period; None where nobody has been observed.
        rate: active_users / users_observed; None where nobody has been observed.
        rate_low, rate_high: Wilson 95 % interval of the rate.
    """

    cohort: dt.date
    period: int
    cohort_size: int
    users_observed: int
    active_users: int | None
    rate: float | None
    rate_low: float | None
    rate_high: float | None


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % score interval of a proportion (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927).

    Raises:
        ValueError: `trials` is not positive, or `successes` not among them.
    """
    if trials <= 0 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is no proportion")
    rate = successes / trials
    spread = _Z * _Z / trials
    centre = (rate + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(rate * (1 - rate) / trials + spread / (4 * trials)) / (1 + spread)
    # At the ends the interval reaches the end; rounding must not push it past.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == trials else centre + half)


def make_cell(cohort: dt.date, period: int, size: int, observed: int, active: int) -> Cell:
    """A cell from counts; one that nobody has lived through has neither count nor rate."""
    if observed == 0:
        return Cell(cohort, period, size, 0, None, None, None, None)
    low, high = wilson(active, observed)
    return Cell(cohort, period, size, observed, active, active / observed, low, high)


def definition(time_zone: str, days: int) -> str:
    """How the matrix is counted, in two sentences that stand on every chart."""
    return (
        f"Active: any event. Week n runs from {days}n days after each user's own signup, {time_zone} time, for {days} "
        "days; a cell counts only users whose whole week lies within the data."
    )


def problems(cells: Sequence[Cell], users: int, periods: int) -> list[str]:
    """What contradicts the definition in a matrix made from `users` users; empty when nothing does."""
    by_cohort: dict[dt.date, list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: (cell.cohort, cell.period)):
        by_cohort.setdefault(cell.cohort, []).append(cell)
    found = []
    total = sum(row[0].cohort_size for row in by_cohort.values())
    if total != users:
        found.append(f"The cohorts hold {total:,} users, the shop {users:,}.")
    for cohort, row in by_cohort.items():
        if [cell.period for cell in row] != list(range(periods)) or len({cell.cohort_size for cell in row}) != 1:
            found.append(f"Cohort {cohort} has not one cell of the same size for each week.")
        found += [complaint for cell in row if (complaint := _contradiction(cell))]
        found += [
            f"Cohort {cohort}: more users have lived through week {later.period} than the week before."
            for earlier, later in pairwise(row)
            if later.users_observed > earlier.users_observed
        ]
    return found


def _contradiction(cell: Cell) -> str | None:
    """What is wrong with a cell by itself."""
    name = f"Cohort {cell.cohort}, week {cell.period}"
    numbers = (cell.active_users, cell.rate, cell.rate_low, cell.rate_high)
    if cell.users_observed == 0:
        return f"{name} is not yet known but has a number." if numbers != (None,) * 4 else None
    if cell.active_users is None or not 0 <= cell.active_users <= cell.users_observed <= cell.cohort_size:
        return f"{name}: active <= observed <= size does not hold."
    return None


def matrix(cells: Iterable[Cell], value: str) -> pd.DataFrame:
    """The cells pivoted: cohorts down, periods across.

    Args:
        cells: any order.
        value: "rate", or "active_users", or another attribute of `Cell`.

    Returns:
        Float frame of shape (cohorts, periods), sorted, NaN where nothing is known yet.
    """
    import pandas as pd

    frame = pd.DataFrame([(cell.cohort, cell.period, getattr(cell, value)) for cell in cells])
    frame.columns = pd.Index(["cohort", "period", value])
    pivoted: pd.DataFrame = frame.pivot_table(
        index="cohort", columns="period", values=value, aggfunc="first", dropna=False
    )
    return pivoted.astype(float)
