"""Columns of USING: sqlglot writes COALESCE of both tables' columns where PostgreSQL takes the one of the left."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlglot import exp


def take_left_columns(tree: exp.Query) -> None:
    """Replace COALESCE of columns that inner or left joins make equal by the first of them, which is as good.

    Without that, a group by such a column would be a group by an expression, of which there is no index.
    """
    from sqlglot import exp

    for select in tree.find_all(exp.Select):
        if all(join.side in ("", "LEFT") for join in select.args.get("joins") or []):
            for merged in list(select.find_all(exp.Coalesce)):
                if merged.parent_select is select and _is_of_using(merged, select):
                    merged.replace(merged.this.copy())


def _is_of_using(merged: exp.Coalesce, select: exp.Select) -> bool:
    """Whether each further column has the first one's name, and its table's join compares it with such a column."""
    from sqlglot import exp

    columns = [merged.this, *merged.expressions]
    if not all(isinstance(column, exp.Column) and column.name == columns[0].name for column in columns):
        return False
    compared = {
        (join.alias_or_name, side.table)
        for join in select.args.get("joins") or []
        if join.args.get("on") is not None
        for equal in join.args["on"].find_all(exp.EQ)
        if _name(equal.this) == _name(equal.expression) == columns[0].name and not equal.find_ancestor(exp.Or, exp.Not)
        for side in (equal.this, equal.expression)
        if isinstance(side, exp.Column)
    }
    return all((column.table, column.table) in compared for column in columns[1:])


def _name(side: exp.Expr) -> str:
    from sqlglot import exp

    return side.this.name if isinstance(side, exp.Coalesce) else side.name
