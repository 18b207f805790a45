"""Which expressions PostgreSQL lets an index be made of: those that give the same for ever, whatever the session says.

As `pg_proc.provolatile` and `pg_cast` of PostgreSQL 18 have it. What is not listed here is not taken for immutable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sqlglot import exp

Family = Literal["number", "text", "date", "time", "timestamp", "timestamptz", "interval", "boolean", "constant"]

#: Functions by name: families of their arguments (a literal goes for any), then of the result.
_FUNCTIONS: Mapping[str, tuple[tuple[tuple[Family, ...], Family], ...]] = {
    "lower": ((("text",), "text"),),
    "upper": ((("text",), "text"),),
    "btrim": ((("text",), "text"), (("text", "text"), "text")),
    "md5": ((("text",), "text"),),
    "length": ((("text",), "number"),),
    "char_length": ((("text",), "number"),),
    "left": ((("text", "number"), "text"),),
    "right": ((("text", "number"), "text"),),
    "substr": ((("text", "number"), "text"), (("text", "number", "number"), "text")),
    "replace": ((("text", "text", "text"), "text"),),
    "split_part": ((("text", "text", "number"), "text"),),
    "strpos": ((("text", "text"), "number"),),
    "abs": ((("number",), "number"),),
    "floor": ((("number",), "number"),),
    "ceil": ((("number",), "number"),),
    "round": ((("number",), "number"),),
    # Without a zone, these depend on TimeZone where they are given a moment.
    "date_trunc": (
        (("text", "timestamp"), "timestamp"),
        (("text", "timestamptz", "text"), "timestamptz"),
    ),
    "date_bin": (
        (("interval", "timestamp", "timestamp"), "timestamp"),
        (("interval", "timestamptz", "timestamptz"), "timestamptz"),
    ),
    "date_part": ((("text", "timestamp"), "number"), (("text", "date"), "number")),
}

#: Casts between families; others depend on DateStyle, TimeZone or the like.
_CASTS = {
    ("number", "number"),
    ("text", "text"),
    ("timestamp", "date"),
    ("timestamp", "time"),
    ("timestamp", "timestamp"),
    ("timestamptz", "timestamptz"),
    ("date", "timestamp"),
    ("date", "date"),
}

_TYPES: Mapping[str, Family] = {
    "smallint": "number",
    "integer": "number",
    "int": "number",
    "bigint": "number",
    "numeric": "number",
    "decimal": "number",
    "real": "number",
    "double precision": "number",
    "text": "text",
    "character varying": "text",
    "varchar": "text",
    "date": "date",
    "time without time zone": "time",
    "time": "time",
    "timestamp without time zone": "timestamp",
    "timestamp": "timestamp",
    "timestamp with time zone": "timestamptz",
    "timestamptz": "timestamptz",
    "interval": "interval",
    "boolean": "boolean",
}


def family_of(type_name: str) -> Family | None:
    """Family of a type as PostgreSQL or sqlglot writes it, its length and precision aside; None for all others."""
    name = type_name.lower()
    if "(" in name:
        name = name[: name.index("(")] + name[name.index(")") + 1 :]
    return _TYPES.get(" ".join(name.split()))


def immutable_family(tree: exp.Expr, types: Mapping[str, str]) -> Family | None:
    """Family of an expression's values, or None where the expression is not known to be immutable.

    Args:
        tree: the expression.
        types: by name of column, of the one table whose columns the expression may use.
    """
    from sqlglot import exp

    if isinstance(tree, exp.Literal):
        return "constant" if tree.is_string else "number"
    if isinstance(tree, exp.Column):
        return family_of(types.get(tree.name, ""))
    return next(
        (judge(tree, types) for kind, judge in _judges().items() if isinstance(tree, kind)),
        None,
    )


def _judges() -> dict[type[exp.Expr], Callable[..., Family | None]]:
    from sqlglot import exp

    return {
        exp.Paren: _inner,
        exp.Neg: _inner,
        exp.Cast: _cast,
        exp.Interval: lambda *_: "interval",
        exp.AtTimeZone: _at_time_zone,
        exp.Extract: _extract,
        exp.Lower: _function,
        exp.Upper: _function,
        exp.Anonymous: _function,
        exp.DPipe: _joined,
        exp.Add: _arithmetic,
        exp.Sub: _arithmetic,
        exp.Mul: _arithmetic,
        exp.Div: _arithmetic,
        exp.Mod: _arithmetic,
    }


def _inner(tree: exp.Expr, types: Mapping[str, str]) -> Family | None:
    return immutable_family(tree.this, types)


def _cast(tree: exp.Cast, types: Mapping[str, str]) -> Family | None:
    target = family_of(tree.to.sql(dialect="postgres"))
    source = immutable_family(tree.this, types)
    if source == "constant":
        return target
    return target if (source, target) in _CASTS else None


def _at_time_zone(tree: exp.AtTimeZone, types: Mapping[str, str]) -> Family | None:
    if immutable_family(tree.args["zone"], types) != "constant":
        return None
    return {"timestamptz": "timestamp", "timestamp": "timestamptz"}.get(  # type: ignore[return-value]
        immutable_family(tree.this, types) or ""
    )


def _extract(tree: exp.Extract, types: Mapping[str, str]) -> Family | None:
    return "number" if immutable_family(tree.expression, types) in ("timestamp", "date") else None


def _function(tree: exp.Func, types: Mapping[str, str]) -> Family | None:
    from sqlglot import exp

    plain = isinstance(tree, exp.Anonymous)
    name = tree.name.lower() if plain else tree.sql_name().lower()
    given = [immutable_family(argument, types) for argument in (tree.expressions if plain else [tree.this])]
    return next((result for takes, result in _FUNCTIONS.get(name, ()) if _fits(given, takes)), None)


def _fits(given: list[Family | None], takes: tuple[Family, ...]) -> bool:
    return len(given) == len(takes) and all(one in (other, "constant") for one, other in zip(given, takes, strict=True))


def _joined(tree: exp.DPipe, types: Mapping[str, str]) -> Family | None:
    families = [immutable_family(side, types) for side in (tree.this, tree.expression)]
    return "text" if "text" in families and _fits(families, ("text", "text")) else None


def _arithmetic(tree: exp.Binary, types: Mapping[str, str]) -> Family | None:
    from sqlglot import exp

    left, right = immutable_family(tree.this, types), immutable_family(tree.expression, types)
    if left == right == "number":
        return "number"
    if (left, right) == ("date", "number") and isinstance(tree, (exp.Add, exp.Sub)):
        return "date"
    return None
