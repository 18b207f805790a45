"""Cells of the retention matrix: rates with their intervals, pooled rows, the matrix as a frame. Pure, no I/O."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

#: Two-sided 95 % quantile of the normal distribution.
_Z = 1.959963984540054


class Counts(NamedTuple):
    """What was counted for one cohort and period.

    Attributes:
        breakdown: the group of users; None for all of them.
        cohort: first day of the cohort's calendar period.
        period: number of the period, from 0.
        cohort_size: users of the cohort.
        users_observed: those whose whole period lies within the data, where the shop recorded something in it.
        users_unrecorded: those whose period is over, but the shop recorded nothing in it.
        active_users: the active ones of those observed.
        revenue: of those observed; None where revenue is not counted.
    """

    breakdown: str | None
    cohort: dt.date
    period: int
    cohort_size: int
    users_observed: int
    users_unrecorded: int
    active_users: int
    revenue: Decimal | None


class _Earning:
    """Whoever has revenue from users who are observed."""

    users_observed: int
    revenue: Decimal | None

    @property
    def revenue_per_user(self) -> float | None:
        """Revenue of a user observed, on average; None where that is not known."""
        return None if self.revenue is None else float(self.revenue) / self.users_observed


@dataclass(frozen=True)
class Cell(_Earning):
    """One cohort in one period.

    Attributes:
        breakdown, cohort, period, cohort_size, users_observed, users_unrecorded: as in `Counts`.
        active_users: None where nobody has been observed.
        rate: active_users / users_observed; None where nobody has been observed.
        rate_low, rate_high: Wilson 95 % interval of the rate.
        revenue: sum over the users observed; None where nobody has been, and where revenue is not counted.
    """

    breakdown: str | None
    cohort: dt.date
    period: int
    cohort_size: int
    users_observed: int
    users_unrecorded: int
    active_users: int | None
    rate: float | None
    rate_low: float | None
    rate_high: float | None
    revenue: Decimal | None = None


@dataclass(frozen=True)
class Pooled(_Earning):
    """All cohorts together in one period, so each weighted by its observed users; attributes as in `Cell`."""

    breakdown: str | None
    period: int
    cohorts: int
    users_observed: int
    active_users: int | None
    rate: float | None
    rate_low: float | None
    rate_high: float | None
    revenue: Decimal | None = None


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


def make_cell(counts: Counts) -> Cell:
    """A cell from counts; one that nobody has lived through, or in which nothing was recorded, has no number."""
    observed, active = counts.users_observed, counts.active_users
    if observed == 0:
        return Cell(*counts[:6], None, None, None, None)
    return Cell(*counts[:6], active, active / observed, *wilson(active, observed), counts.revenue)


def pool(cells: Iterable[Cell]) -> list[Pooled]:
    """One row a break-down and period over all cohorts with somebody observed, ordered as the cells are.

    Args:
        cells: in any order.
    """
    groups: dict[tuple[str | None, int], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.breakdown, cell.period), []).append(cell)
    pooled = []
    for (breakdown, period), row in groups.items():
        known = [cell for cell in row if cell.active_users is not None]
        observed = sum(cell.users_observed for cell in known)
        if not observed:
            pooled.append(Pooled(breakdown, period, 0, 0, None, None, None, None))
            continue
        active = sum(cell.active_users or 0 for cell in known)
        money = [cell.revenue for cell in known if cell.revenue is not None]
        pooled.append(
            Pooled(
                breakdown,
                period,
                len(known),
                observed,
                active,
                active / observed,
                *wilson(active, observed),
                sum(money, Decimal(0)) if money else None,
            )
        )
    return pooled


def largest_groups(cells: Iterable[Cell], most: int) -> dict[str, int]:
    """The groups of a break-down with the most users, at most so many, largest first, with their users."""
    sizes: dict[str, dict[dt.date, int]] = {}
    for cell in cells:
        if cell.breakdown is not None:
            sizes.setdefault(cell.breakdown, {})[cell.cohort] = cell.cohort_size
    users = {group: sum(cohorts.values()) for group, cohorts in sizes.items()}
    return dict(sorted(users.items(), key=lambda item: (-item[1], item[0]))[:most])


def problems(cells: Sequence[Cell], users: int, periods: int) -> list[str]:
    """What contradicts the definition in a matrix made from `users` users; empty when nothing does."""
    found: list[str] = []
    order = sorted(cells, key=lambda cell: (cell.breakdown is not None, cell.breakdown or "", cell.cohort, cell.period))
    totals: dict[str | None, int] = {}
    for (breakdown, cohort), group in groupby(order, key=lambda cell: (cell.breakdown, cell.cohort)):
        row = list(group)
        totals[breakdown] = totals.get(breakdown, 0) + row[0].cohort_size
        name = f"Cohort {cohort}" + ("" if breakdown is None else f" of {breakdown}")
        if [cell.period for cell in row] != list(range(periods)) or len({cell.cohort_size for cell in row}) != 1:
            found.append(f"{name} has not one cell of the same size for each period.")
        found += [f"{name}, period {cell.period}, {said}" for cell in row if (said := _contradiction(cell))]
        found += [
            f"{name}: more users have lived through period {later.period} than the one before."
            for earlier, later in pairwise(row)
            if later.users_observed + later.users_unrecorded > earlier.users_observed + earlier.users_unrecorded
        ]
    if totals.pop(None, 0) != users:
        found.append(f"The cohorts do not hold the {users:,} users that belong into them.")
    if totals and sum(totals.values()) != users:
        found.append("The groups of the break-down do not make up the whole.")
    return found


def _contradiction(cell: Cell) -> str | None:
    """What is wrong with a cell by itself."""
    numbers = (cell.active_users, cell.rate, cell.rate_low, cell.rate_high, cell.revenue)
    if cell.users_observed == 0:
        return "is not known but has a number." if numbers != (None,) * 5 else None
    if cell.active_users is None or not 0 <= cell.active_users <= cell.users_observed <= cell.cohort_size:
        return "breaks active <= observed <= size."
    return None


def matrix(cells: Iterable[Cell], value: str) -> pd.DataFrame:
    """The cells pivoted: cohorts down, periods across.

    Args:
        cells: of one break-down, any order.
        value: "rate", or "active_users", or another attribute of `Cell`.

    Returns:
        Float frame of shape (cohorts, periods), sorted, NaN where nothing is known.
    """
    import pandas as pd

    frame = pd.DataFrame([(cell.cohort, cell.period, getattr(cell, value)) for cell in cells])
    frame.columns = pd.Index(["cohort", "period", value])
    pivoted: pd.DataFrame = frame.pivot_table(
        index="cohort", columns="period", values=value, aggfunc="first", dropna=False
    )
    return pivoted.astype(float)
