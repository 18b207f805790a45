"""Whether a grouped query's ORDER BY leaves no two rows equal: then its answer has one order, and LIMIT one meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from shop_platform.performance.advice.catalog import Table
from shop_platform.performance.advice.parsing import column_of
from shop_platform.performance.advice.sums import source_tables

if TYPE_CHECKING:
    from sqlglot import exp


def is_ordered(select: exp.Select, keys: Sequence[exp.Expr], catalog: Mapping[str, Table]) -> bool:
    """Whether the items of ORDER BY tell all groups apart.

    They do where every key is among them or hangs on those that are: a table's columns hang on its primary key, and
    what an inner join makes equal is equal.

    Args:
        select: a grouped query, its columns qualified.
        keys: what it groups by; none makes one row.
        catalog: tables by name.
    """
    from sqlglot import exp

    by = _sorted_by(select)
    told = _with_dependents(select, {each for each in by if isinstance(each, exp.Column)}, catalog)
    return all(key in by or set(key.find_all(exp.Column)) <= told for key in keys)


def _sorted_by(select: exp.Select) -> list[exp.Expr]:
    """What each item of ORDER BY stands for: a bare name is an output column's."""
    from sqlglot import exp

    outputs = {item.alias_or_name: item.unalias() for item in select.expressions}
    order = select.args.get("order")
    by = [item.this for item in order.expressions] if order is not None else []
    return [outputs.get(each.name, each) if isinstance(each, exp.Column) and not each.table else each for each in by]


def _with_dependents(select: exp.Select, columns: set[exp.Column], catalog: Mapping[str, Table]) -> set[exp.Column]:
    """Columns whose values follow from those of some columns."""
    equal = _joined_columns(select)
    tables = {alias: catalog[name] for alias, name in source_tables(select).items() if name in catalog}
    told: set[exp.Column] = set()
    while columns - told:
        told |= columns
        columns = {pair[1 - side] for pair in equal for side in (0, 1) if pair[side] in told}
        for alias, table in tables.items():
            if table.primary_key and {column_of(alias, name) for name in table.primary_key} <= told:
                columns |= {column_of(alias, column.name) for column in table.columns}
    return told


def _joined_columns(select: exp.Select) -> list[tuple[exp.Column, exp.Column]]:
    """Pairs of columns that inner joins make equal."""
    from sqlglot import exp

    joins = select.args.get("joins") or []
    if any(join.side for join in joins):
        return []
    return [
        (equal.this, equal.expression)
        for join in joins
        for equal in (join.args["on"].flatten() if isinstance(join.args.get("on"), exp.And) else [join.args.get("on")])
        if isinstance(equal, exp.EQ) and isinstance(equal.this, exp.Column) and isinstance(equal.expression, exp.Column)
    ]
