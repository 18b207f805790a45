"""Sums of sums that are the sum, to the last digit and of the same type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from shop_platform.performance.advice.catalog import Table

if TYPE_CHECKING:
    from sqlglot import exp

# What sum() gives for each type that adds up exactly, whatever the order.
_SUMS = {"smallint": "bigint", "integer": "bigint", "bigint": "numeric", "numeric": "numeric"}


def column_type(select: exp.Select, tree: exp.Expr, catalog: Mapping[str, Table]) -> str | None:
    """Type of a column of a table that a SELECT reads, without precision; None for all else."""
    from sqlglot import exp

    if not isinstance(tree, exp.Column):
        return None
    table = catalog.get(source_tables(select).get(tree.table, ""))
    found = table.column(tree.name) if table is not None else None
    return found.type.split("(")[0] if found is not None else None


def source_tables(select: exp.Select) -> dict[str, str]:
    """Names of the tables, CTEs too, in a SELECT's own FROM and joins, by alias."""
    from sqlglot import exp

    sources = [select.args["from_"].this, *(join.this for join in select.args.get("joins") or [])]
    ctes = {cte.alias for cte in select.ctes}
    return {
        source.alias_or_name: source.name
        for source in sources
        if isinstance(source, exp.Table) and source.name not in ctes and source.db in ("", "public")
    }


def whole(total: exp.Expr, *, empty: bool) -> exp.Expr:
    """A sum of counts as the bigint that a count is; of no rows at all it is 0, not NULL.

    Args:
        total: the sum of counts, a numeric.
        empty: whether there may be no rows, as in a query without GROUP BY.
    """
    from sqlglot import exp

    if empty:
        total = exp.Coalesce(this=total, expressions=[exp.Literal.number(0)])
    return exp.cast(total, "bigint", dialect="postgres")


def exact_sum(total: exp.Expr, type_name: str | None) -> exp.Expr | None:
    """A sum of parts with the type that the sum of such a column has; None where digits could differ."""
    from sqlglot import exp

    result = _SUMS.get(type_name or "")
    if result is None:
        return None
    return exp.cast(total, "bigint", dialect="postgres") if result == "bigint" else total
