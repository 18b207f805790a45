"""Other texts for the same answer: duplicates removed before they are counted, rows counted before they are joined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shop_platform.performance.advice.catalog import Table
from shop_platform.performance.advice.grouping import read_grouped
from shop_platform.performance.advice.parsing import written
from shop_platform.performance.advice.preaggregation import preaggregate
from shop_platform.performance.advice.summarising import Summary, summary
from shop_platform.performance.advice.twolevels import two_levels

__all__ = ["Rewriting", "Summary", "rewrite", "summary"]


@dataclass(frozen=True)
class Rewriting:
    """A query that gives the same answer as another.

    Attributes:
        text: SQL, with the same named placeholders.
        reason: one sentence: why it might be faster.
        ordered: whether ORDER BY leaves no two rows equal. Where it does, or there is none, compare answers as sets.
    """

    text: str
    reason: str
    ordered: bool


def rewrite(text: str, catalog: Mapping[str, Table]) -> Rewriting | None:
    """Another text for the same answer, to the last digit, if one is known that might be faster.

    COUNT(DISTINCT x) of groups becomes a count over the different pairs, which PostgreSQL can find by hashing, and in
    parallel, instead of sorting each group. A sum over a joined dimension becomes a count of the facts by key, joined
    and multiplied afterwards.

    Args:
        text: one SELECT.
        catalog: all tables that it reads; where one is missing there is no rewriting.

    Returns:
        None where neither applies, or where it can't be shown that the answer would be the same: other aggregates that
        can't be taken apart, floating point, LIMIT on an order that leaves rows equal, `%s` placeholders, functions
        that nobody here knows.

    Raises:
        DataError: the text is not one SELECT.
    """
    grouped = read_grouped(text, catalog)
    if grouped is None:
        return None
    made = two_levels(grouped, catalog)
    if made is not None:
        reason = "Removes duplicates first, by hashing and in parallel if need be, instead of sorting every group."
        return Rewriting(written(made, pretty=True), reason, grouped.ordered)
    made = preaggregate(grouped, catalog)
    if made is not None:
        reason = "Counts the rows of the large table by key before it joins, so that few rows are joined."
        return Rewriting(written(made, pretty=True), reason, grouped.ordered)
    return None
