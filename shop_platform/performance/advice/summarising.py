"""A table that holds a query's groups, and the query that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shop_platform.performance.advice.catalog import Table
from shop_platform.performance.advice.grouping import PLAIN, calls_only
from shop_platform.performance.advice.ordering import is_ordered
from shop_platform.performance.advice.parsing import column_of, has_placeholders, named, qualified, tables_of, written
from shop_platform.performance.advice.quoting import quoted

if TYPE_CHECKING:
    from sqlglot import exp

#: Aggregates that sqlglot is not told of, and that give the same whenever they are asked.
_AGGREGATES = frozenset({"array_agg", "bit_and", "bit_or", "bool_and", "bool_or", "every", "json_agg", "jsonb_agg"})

#: Names that the table gives to what the query sorts by without showing it.
_HIDDEN = "order_by_"


@dataclass(frozen=True)
class Summary:
    """A summary table for one query.

    Attributes:
        table: its name.
        create: CREATE TABLE ... AS, with the groups as they are at that moment.
        key: ALTER TABLE that makes the groups' columns unique; None where they are not all among the columns.
        text: the query that reads it, with the same columns in the same order, sorted and cut as the original.
        reason: one sentence: why it might be faster.
        fresh: what its answer is worth later, and what keeps it up to date.
        ordered: whether ORDER BY leaves no two rows equal. Where it does, or there is none, compare answers as sets.
    """

    table: str
    create: str
    key: str | None
    text: str
    reason: str
    fresh: str
    ordered: bool


def summary(text: str, name: str, catalog: Mapping[str, Table] | None = None) -> Summary | None:
    """A table of a query's groups and aggregates, and how it is read.

    Args:
        text: one SELECT.
        name: of the table to be made, without schema: the search path says where.
        catalog: the tables that the query reads. Without them, names that may be columns or aliases are left as they
            are, and fewer keys are known.

    Returns:
        None where the query has no GROUP BY, has placeholders, calls what may answer differently next time (the time,
        chance, functions that nobody here knows), names two columns alike, or cuts an order that leaves rows equal.

    Raises:
        DataError: the text is not one SELECT.
    """
    from sqlglot import exp

    sources = tables_of(text)
    tree = qualified(text, catalog) if catalog is not None and sources <= set(catalog) else None
    known = tree is not None
    tree = named(text) if tree is None else tree
    if not isinstance(tree, exp.Select) or not _can_be_kept(tree):
        return None
    groups = _group_columns(tree, known=known)
    order = _order(tree)
    shown = {item.name for item, _ in order}
    ordered = groups is not None and (set(groups) <= shown or (known and _is_ordered(tree, groups, catalog or {})))
    cut = tree.args.get("limit") is not None or tree.args.get("offset") is not None
    hidden = [(item.name, value) for item, value in order if value is not None]
    if (cut and not ordered) or (hidden and tree.args.get("distinct") is not None):
        return None
    table = quoted(name)
    key = (
        None if not groups else f"ALTER TABLE {table} ADD UNIQUE NULLS NOT DISTINCT ({', '.join(map(quoted, groups))});"
    )
    return Summary(
        name,
        f"CREATE TABLE {table} AS\n{_filling(tree, hidden)};",
        key,
        _reading(tree, name, [item for item, _ in order]),
        "Reads groups that were added up before, instead of all the rows that they are made of.",
        _fresh(sources),
        ordered,
    )


def _can_be_kept(tree: exp.Select) -> bool:
    from sqlglot import exp

    names = [item.alias_or_name for item in tree.expressions]
    now = (exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp, exp.CurrentUser, exp.SessionUser)
    local = (exp.Localtime, exp.Localtimestamp)
    distinct = tree.args.get("distinct")
    return (
        tree.args.get("group") is not None
        and not has_placeholders(tree)
        and len(set(names)) == len(names)
        and not any(item.is_star for item in tree.expressions)
        and not any(name.startswith(_HIDDEN) for name in names)
        and (distinct is None or distinct.args.get("on") is None)
        and tree.find(*now, *local, exp.TableSample) is None
        and calls_only(tree, PLAIN | _AGGREGATES)
    )


def _group_columns(tree: exp.Select, *, known: bool) -> list[str] | None:
    """Output columns that tell the groups apart; None where a group is not among them or nobody can say."""
    from sqlglot import exp

    group = tree.args["group"]
    if any(value for name, value in group.args.items() if name != "expressions"):
        return None
    outputs = {item.alias_or_name: item.unalias() for item in tree.expressions}
    columns = []
    for key in group.expressions:
        if isinstance(key, exp.Literal):
            column = _at(list(outputs), key)
        elif not known and isinstance(key, exp.Column) and not key.table and outputs.get(key.name, key) != key:
            # Either the output of this name, or a column of a table: PostgreSQL prefers the column.
            column = None
        else:
            column = next((name for name, value in outputs.items() if value == key.unnest()), None)
        if column is None:
            return None
        columns.append(column)
    return list(dict.fromkeys(columns))


def _is_ordered(tree: exp.Select, groups: list[str], catalog: Mapping[str, Table]) -> bool:
    outputs = {item.alias_or_name: item.unalias() for item in tree.expressions}
    return is_ordered(tree, [outputs[name] for name in groups], catalog)


def _at(names: list[str], position: exp.Literal) -> str | None:
    place = int(position.this) if str(position.this).isdigit() else 0
    return names[place - 1] if 1 <= place <= len(names) else None


def _order(tree: exp.Select) -> list[tuple[exp.Column, exp.Expr | None]]:
    """For each item of ORDER BY: the table's column to sort by, and what it holds if the query does not show it."""
    from sqlglot import exp

    order = tree.args.get("order")
    outputs = {item.alias_or_name: item.unalias() for item in tree.expressions}
    found: list[tuple[exp.Column, exp.Expr | None]] = []
    for number, item in enumerate(order.expressions if order is not None else [], 1):
        by = item.this
        if isinstance(by, exp.Literal):
            shown = _at(list(outputs), by)
        elif isinstance(by, exp.Column) and not by.table and by.name in outputs:
            shown = by.name
        else:
            shown = next((name for name, value in outputs.items() if value == by), None)
        found.append((column_of(None, shown or f"{_HIDDEN}{number}"), None if shown else by))
    return found


def _filling(tree: exp.Select, hidden: list[tuple[str, exp.Expr]]) -> str:
    from sqlglot import exp

    filling = tree.copy()
    for name in ("order", "limit", "offset"):
        filling.set(name, None)
    for name, value in hidden:
        filling.append("expressions", exp.alias_(value.copy(), name))
    return written(filling, pretty=True)


def _reading(tree: exp.Select, name: str, by: list[exp.Column]) -> str:
    from sqlglot import exp

    reading = exp.Select(expressions=[column_of(None, item.alias_or_name) for item in tree.expressions])
    reading.set("from_", exp.From(this=exp.Table(this=exp.Identifier(this=name, quoted=False))))
    order = tree.args.get("order")
    if order is not None:
        items = []
        for item, column in zip(order.expressions, by, strict=True):
            items.append(item.copy())
            items[-1].set("this", column.copy())
        reading.set("order", exp.Order(expressions=items))
    for part in ("limit", "offset"):
        if tree.args.get(part) is not None:
            reading.set(part, tree.args[part].copy())
    return written(reading, pretty=True)


def _fresh(sources: set[str]) -> str:
    of = ", ".join(sorted(sources)) or "its sources"
    return (
        f"It is a snapshot: what {of} held when it was made, with days and weeks cut in the time zone of the session "
        f"that made it. It does not follow later changes: after each change of {of}, delete its rows and insert them "
        "again in one transaction, or its answers are old."
    )
