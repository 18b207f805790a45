"""Names that PostgreSQL gives to columns of an answer that the query does not name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlglot import exp

#: What PostgreSQL calls what it has no name for.
NAMELESS = "?column?"


def output_name(item: exp.Expr) -> str:
    """The name of an item of SELECT, as PostgreSQL's `FigureColname` finds it."""
    from sqlglot import exp

    if isinstance(item, (exp.Alias, exp.Column, exp.Anonymous)):
        name: str = item.alias_or_name
        return name.lower() if isinstance(item, exp.Anonymous) else name
    if isinstance(item, (exp.Paren, exp.Filter, exp.Window, exp.WithinGroup, exp.Bracket)):
        return output_name(item.this)
    if isinstance(item, exp.Cast):
        return _or(output_name(item.this), item.to.sql(dialect="postgres").lower().split("(")[0])
    if isinstance(item, exp.Subquery):
        return output_name(item.selects[0]) if item.selects else NAMELESS
    if isinstance(item, exp.Case):
        default = item.args.get("default")
        return "case" if default is None or isinstance(default, exp.Cast) else _or(output_name(default), "case")
    return _function_name(item)


def _or(name: str, other: str) -> str:
    return other if name == NAMELESS else name


def _function_name(item: exp.Expr) -> str:
    from sqlglot import exp

    if isinstance(item, exp.Trim):
        return {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(str(item.args.get("position") or "").upper(), "btrim")
    special = {
        exp.GroupConcat: "string_agg",
        exp.StrPosition: "position",
        exp.AtTimeZone: "timezone",
        exp.Interval: "interval",
        exp.Array: "array",
        exp.Exists: "exists",
    }
    own = (
        exp.Count,
        exp.Sum,
        exp.Min,
        exp.Max,
        exp.Avg,
        exp.Lower,
        exp.Upper,
        exp.Coalesce,
        exp.Extract,
        exp.Substring,
    )
    now = (exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp, exp.Localtime, exp.Localtimestamp)
    if isinstance(item, (*own, *now)):
        return item.sql_name().lower()
    return special.get(type(item), NAMELESS)
