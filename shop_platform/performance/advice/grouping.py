"""A grouped query taken apart, for rewritings and summaries: its keys, its aggregates, whether its order is total."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shop_platform.performance.advice.catalog import Table
from shop_platform.performance.advice.ordering import is_ordered
from shop_platform.performance.advice.parsing import parse_select, qualified, tables_of

if TYPE_CHECKING:
    from sqlglot import exp

#: Functions by name that give one value for one row, the same throughout a statement, and are no aggregates. A query
#: that calls others is not rewritten: nobody knows what they do.
PLAIN = frozenset(
    """
    abs age btrim ceil ceiling char_length concat concat_ws date_bin date_part date_trunc floor format greatest initcap
    isfinite least left length ltrim make_date make_interval make_timestamptz md5 mod nullif power replace right round
    rtrim split_part strpos substr to_char to_date to_timestamp trunc upper width_bucket
    """.split()  # noqa: SIM905
)

#: Those that tell the time: the same throughout a statement, but not in a summary that is read later.
TELLING_TIME = frozenset({"now", "transaction_timestamp", "statement_timestamp"})


@dataclass(frozen=True)
class Grouped:
    """A query with aggregates.

    Attributes:
        select: its tree, columns qualified; not to be changed.
        keys: what it groups by; empty where everything is one group.
        aggregates: all that it computes of groups, each once.
        ordered: whether ORDER BY leaves no two rows equal, or there is one row: then the answer has one order.
    """

    select: exp.Select
    keys: tuple[exp.Expr, ...]
    aggregates: tuple[exp.AggFunc, ...]
    ordered: bool


def read_grouped(text: str, catalog: Mapping[str, Table]) -> Grouped | None:
    """Take a query apart; None where it is no plain grouped query, or not all is known that it reads and calls.

    Raises:
        DataError: the text is not one SELECT.
    """
    from sqlglot import exp

    tree = qualified(text, catalog)
    # sqlglot writes NATURAL joins out; whether just as PostgreSQL does is not worth finding out.
    if any(join.method for join in parse_select(text).find_all(exp.Join)):
        return None
    if not isinstance(tree, exp.Select) or not tables_of(text) <= set(catalog):
        return None
    if not _is_plain(tree) or not calls_only(tree, PLAIN | TELLING_TIME):
        return None
    if not _all_told_apart(tree):
        return None
    keys = _keys(tree)
    outside = [part for part in _outside(tree) if part.find(exp.Query) is not None]
    if keys is None or outside:
        return None
    aggregates = list(_aggregates(tree))
    ordered = is_ordered(tree, keys, catalog)
    # Which rows LIMIT leaves is for chance to say where two are equal in order.
    if not aggregates or (_is_cut(tree) and not ordered):
        return None
    return Grouped(tree, tuple(keys), tuple(dict.fromkeys(aggregates)), ordered)


def _all_told_apart(select: exp.Select) -> bool:
    """Whether every column has its table beside it, but for output columns that ORDER BY names."""
    from sqlglot import exp

    return all(column.table or isinstance(column.parent, exp.Ordered) for column in select.find_all(exp.Column))


def calls_only(tree: exp.Expr, names: frozenset[str]) -> bool:
    """Whether all functions, but those that sqlglot knows, are among some names."""
    from sqlglot import exp

    return all(function.name.lower() in names for function in tree.find_all(exp.Anonymous))


def _is_cut(select: exp.Select) -> bool:
    return select.args.get("limit") is not None or select.args.get("offset") is not None


def _is_plain(select: exp.Select) -> bool:
    """Whether the outermost SELECT has FROM, and nothing but joins, WHERE, GROUP BY, HAVING, ORDER BY and LIMIT."""
    from sqlglot import exp

    known = {"kind", "hint", "expressions", "with_", "from_", "joins", "where", "group", "having", "order", "limit"}
    others = [name for name, value in select.args.items() if value and name not in known | {"offset"}]
    strange = (exp.Window, exp.Filter, exp.WithinGroup, exp.TableSample, exp.Unnest, exp.Lateral, exp.Star)
    # Beside placeholders the operator would have to be written %% again.
    percents = select.find(exp.Mod) is not None and select.find(exp.Placeholder) is not None
    open_positions = any(placeholder.this is None for placeholder in select.find_all(exp.Placeholder))
    inside = [part for part in _outside(select) if _has_strange(part, strange)]
    sampled = select.find(exp.TableSample, exp.Unnest, exp.Lateral) is not None
    return not others and select.args.get("from_") is not None and not (percents or open_positions or inside or sampled)


def _has_strange(tree: exp.Expr, strange: tuple[type[exp.Expr], ...]) -> bool:
    from sqlglot import exp

    return any(
        not (isinstance(node, exp.Star) and isinstance(node.parent, exp.Count)) for node in tree.find_all(*strange)
    )


def _outside(select: exp.Select) -> Iterator[exp.Expr]:
    """The parts of a query that are computed of groups, not of rows."""
    yield from select.expressions
    for name in ("having", "order"):
        if select.args.get(name) is not None:
            yield select.args[name]


def _keys(select: exp.Select) -> list[exp.Expr] | None:
    """What is grouped by, each once; None for grouping sets and for keys without a column."""
    from sqlglot import exp

    group = select.args.get("group")
    if group is None:
        return []
    if any(value for name, value in group.args.items() if name != "expressions"):
        return None
    keys = list(dict.fromkeys(key.unnest() for key in group.expressions))
    strange = any(isinstance(key, exp.Tuple) or key.find(exp.Column) is None for key in keys)
    return None if strange or not keys else keys


def _aggregates(select: exp.Select) -> Iterator[exp.AggFunc]:
    from sqlglot import exp

    for part in _outside(select):
        yield from part.find_all(exp.AggFunc)


def replaced(tree: exp.Expr, of: Callable[[exp.Expr], exp.Expr | None]) -> exp.Expr:
    """A copy in which each topmost part that `of` has a replacement for is replaced by it."""

    def visit(node: Any) -> Any:  # noqa: ANN401  trees hold lists, texts and flags
        from sqlglot import exp

        if isinstance(node, list):
            return [visit(each) for each in node]
        if not isinstance(node, exp.Expr):
            return node
        new = of(node)
        if new is not None:
            return new.copy()
        made = node.copy()
        for name, value in node.args.items():
            made.set(name, visit(value))
        return made

    made: exp.Expr = visit(tree)
    return made


def take(
    made: exp.Select, select: exp.Select, *parts: str, by: Callable[[exp.Expr], exp.Expr | None] | None = None
) -> None:
    """Put copies of parts of one SELECT into another, as far as they are there; replaced by `by` if it is given."""
    for part in parts:
        value = select.args.get(part)
        several = value if isinstance(value, list) else [value]
        copies = [each.copy() if by is None else replaced(each, by) for each in several if each is not None]
        if copies:
            made.set(part, copies if isinstance(value, list) else copies[0])
