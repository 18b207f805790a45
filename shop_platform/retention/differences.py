"""Do cohorts, or groups of a break-down, differ at all? Pure: cells in, tests out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from shop_platform.retention.cells import Cell, pool
from shop_platform.retention.definition import Definition

#: Each expected count must reach this for the test to hold (W. G. Cochran, Ann. Math. Stat. 23, 1952).
_LEAST_EXPECTED = 5

#: What is called a difference.
LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """Pearson's chi-squared test that the same share is active in each of some rows, in one period.

    Attributes:
        among: what is compared, at the same age: cohorts, or groups of a break-down over all cohorts.
        period: number of the period.
        rows: how many cohorts or groups are compared.
        statistic: chi-squared.
        degrees: of freedom, `rows` - 1.
        p: probability of such a statistic or a larger one where all are the same.
        p_adjusted: after Holm's correction over the periods (S. Holm, Scand. J. Stat. 6, 1979).
    """

    among: Literal["cohorts", "groups"]
    period: int
    rows: int
    statistic: float
    degrees: int
    p: float
    p_adjusted: float

    def as_record(self) -> dict[str, Any]:
        """The same, JSON-able."""
        return asdict(self)


def differences(cells: Sequence[Cell], definition: Definition) -> list[Difference]:
    """A test for each period from 1 on, or for 0 where there is no other: among cohorts, then among groups.

    A period is left out where fewer than two rows have expected counts of active and of inactive users of 5 or more.
    Users are compared at the same age. "Active in the period or later" is not tested: older cohorts have had more time
    for it, so that they would differ where all users are alike.

    Args:
        cells: of all break-downs.
        definition: how they were counted.
    """
    if definition.measure == "unbounded":
        return []
    whole = [(cell.period, cell.active_users, cell.users_observed) for cell in cells if cell.breakdown is None]
    groups = [
        (row.period, row.active_users, row.users_observed)
        for row in pool(cell for cell in cells if cell.breakdown is not None)
    ]
    first = 0 if definition.periods == 1 else 1
    return [*_tests("cohorts", whole, first), *_tests("groups", groups, first)]


def sentence(
    found: Iterable[Mapping[str, Any]], among: Literal["cohorts", "groups"], unit: str, *, called: str = ""
) -> str | None:
    """What the tests say, in a sentence; None where there was nothing to test.

    Args:
        found: records of `Difference`.
        among: which of them.
        unit: of a period.
        called: what they are, for people; `among` where that is empty.
    """
    called = called or among
    mine = [each for each in found if each["among"] == among]
    if not mine:
        return None
    clearest = min(mine, key=lambda each: float(each["p_adjusted"]))
    p = clearest["p_adjusted"]
    told = f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"
    of = f" after Holm's correction over {len(mine)} {unit}s" if len(mine) > 1 else f", {clearest['rows']} compared"
    if p < LEVEL:
        return f"The {called} differ, most clearly in {unit} {clearest['period']} ({told}{of})."
    return f"That the {called} differ at all can't be shown ({told}{of})."


def _tests(
    among: Literal["cohorts", "groups"], rows: Sequence[tuple[int, int | None, int]], first: int
) -> list[Difference]:
    tested = []
    for period in sorted({period for period, _, _ in rows if period >= first}):
        counts = [(active, observed - active) for at, active, observed in rows if at == period and active is not None]
        result = _chi_squared(counts)
        if result is not None:
            tested.append((period, *result))
    adjusted = _holm([p for *_, p in tested])
    return [
        Difference(among, period, compared, statistic, compared - 1, p, p_adjusted)
        for (period, compared, statistic, p), p_adjusted in zip(tested, adjusted, strict=True)
    ]


def _chi_squared(counts: Sequence[tuple[int, int]]) -> tuple[int, float, float] | None:
    """Rows compared, statistic and p, over the rows that are large enough; None where fewer than two are."""
    from scipy.stats import chi2_contingency

    large = list(counts)
    while True:
        total = sum(map(sum, large))
        share = min(map(sum, zip(*large, strict=True)), default=0) / total if total else 0.0
        # What is left out changes the share that is expected of the others.
        still = [row for row in large if share * sum(row) >= _LEAST_EXPECTED]
        if len(still) < 2:
            return None
        if len(still) == len(large):
            break
        large = still
    result = chi2_contingency(large, correction=False)
    return len(large), float(result.statistic), float(result.pvalue)


def _holm(ps: Sequence[float]) -> list[float]:
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for place, number in enumerate(sorted(range(len(ps)), key=lambda number: ps[number])):
        highest = max(highest, min(1.0, (len(ps) - place) * ps[number]))
        adjusted[number] = highest
    return adjusted
