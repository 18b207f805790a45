"""COUNT(DISTINCT x) in two levels: the different pairs of group and x, then how many of each group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from shop_platform.performance.advice.catalog import Table
from shop_platform.performance.advice.grouping import Grouped, replaced, take
from shop_platform.performance.advice.parsing import column_of
from shop_platform.performance.advice.sums import column_type, exact_sum, whole

if TYPE_CHECKING:
    from sqlglot import exp

#: Alias of the inner level.
INNER = "pairs"


def two_levels(grouped: Grouped, catalog: Mapping[str, Table]) -> exp.Select | None:
    """The query in two levels; None where it counts nothing distinct, or computes what two levels can't."""
    from sqlglot import exp

    counted = _counted(grouped)
    if counted is None:
        return None
    names = _names(grouped, counted)
    inner = [exp.alias_(value.copy(), name) for value, name in names.items()]
    outer: dict[exp.Expr, exp.Expr] = {value: column_of(INNER, name) for value, name in names.items()}
    others = [aggregate for aggregate in grouped.aggregates if not isinstance(aggregate.this, exp.Distinct)]
    for number, aggregate in enumerate(others, 1):
        part = f"part_{number}"
        again = _again(aggregate, column_of(INNER, part), grouped, catalog)
        if again is None:
            return None
        inner.append(exp.alias_(aggregate.copy(), part))
        outer[aggregate] = again
    for aggregate in grouped.aggregates:
        if aggregate not in outer:
            outer[aggregate] = exp.Count(this=column_of(INNER, names[counted]), big_int=True)
    made = _assembled(grouped, inner, list(names), outer, distinct=not others)
    return made if _reads_inner_only(made) else None


def _counted(grouped: Grouped) -> exp.Expr | None:
    """The one thing that is counted distinct."""
    from sqlglot import exp

    distinct = [aggregate for aggregate in grouped.aggregates if isinstance(aggregate.this, exp.Distinct)]
    if len(distinct) != 1 or not isinstance(distinct[0], exp.Count) or len(distinct[0].this.expressions) != 1:
        return None
    counted: exp.Expr = distinct[0].this.expressions[0].unnest()
    return None if isinstance(counted, exp.Tuple) or counted.find(exp.Column) is None else counted


def _names(grouped: Grouped, counted: exp.Expr) -> dict[exp.Expr, str]:
    """Column names of the inner level, by what they hold: the output's or the column's own where it is free."""
    outputs = {item.unalias(): item.alias_or_name for item in grouped.select.expressions}
    names: dict[exp.Expr, str] = {}
    for number, value in enumerate((*grouped.keys, counted), 1):
        name = outputs.get(value) or value.name or f"value_{number}"
        taken = name in names.values() or name == "?column?" or name.startswith("part_")
        names.setdefault(value, f"value_{number}" if taken else name)
    return names


def _again(aggregate: exp.AggFunc, part: exp.Column, grouped: Grouped, catalog: Mapping[str, Table]) -> exp.Expr | None:
    """How an aggregate over all rows follows from those over parts of them."""
    from sqlglot import exp

    if aggregate.find(exp.Distinct, exp.Order) is not None:
        return None
    if isinstance(aggregate, exp.Count):
        return whole(exp.Sum(this=part), empty=not grouped.keys)
    if type(aggregate) in (exp.Min, exp.Max) and not aggregate.expressions:
        return type(aggregate)(this=part)
    if isinstance(aggregate, exp.Sum):
        return exact_sum(exp.Sum(this=part), column_type(grouped.select, aggregate.this, catalog))
    return None


def _assembled(
    grouped: Grouped,
    inner: list[exp.Expr],
    values: list[exp.Expr],
    outer: Mapping[exp.Expr, exp.Expr],
    *,
    distinct: bool,
) -> exp.Select:
    from sqlglot import exp

    select = grouped.select
    rows = exp.Select(expressions=inner)
    take(rows, select, "from_", "joins", "where")
    if distinct:
        rows.set("distinct", exp.Distinct())
    else:
        rows.set("group", exp.Group(expressions=[value.copy() for value in values]))
    made = exp.Select(expressions=[replaced(item, outer.get) for item in select.expressions])
    made.set("from_", exp.From(this=rows.subquery(INNER)))
    take(made, select, "with_", "limit", "offset")
    take(made, select, "group", "having", "order", by=outer.get)
    return made


def _reads_inner_only(made: exp.Select) -> bool:
    """Whether all could be replaced: PostgreSQL also lets columns stand that only hang on a key."""
    from sqlglot import exp

    parts = [*made.expressions, *(made.args[name] for name in ("having", "order") if made.args.get(name))]
    return all(each.table in (INNER, "") for part in parts for each in part.find_all(exp.Column))
