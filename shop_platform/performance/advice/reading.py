"""Reads from a query what it does with each table: which rows it looks for, joins, groups, sorts, and which columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shop_platform.performance.advice.catalog import Table
from shop_platform.performance.advice.keys import Key, Place, Predicate, pattern_class
from shop_platform.performance.advice.parsing import has_placeholders, owned, qualified

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.optimizer.scope import Scope


@dataclass
class Use:
    """What one SELECT of a query does with one table.

    Attributes:
        table: the table.
        equal: keys that are compared with values by `=` or IN.
        joins: keys that are compared with other tables, or looked for in subqueries.
        ranges: keys that are limited by values.
        alternatives: keys of conditions that stand in an OR.
        groups: keys of GROUP BY or DISTINCT; where an expression of theirs can't be indexed, its columns.
        orders: keys of each order that is asked for: ORDER BY, windows, minimum and maximum.
        counted: keys inside COUNT(DISTINCT ...).
        predicates: conditions that hold whatever the parameters are.
        read: names of all columns that are read, in the table's order.
        beyond: those that are read outside of the predicates too.
    """

    table: Table
    equal: list[Key] = field(default_factory=list)
    joins: list[Key] = field(default_factory=list)
    ranges: list[Key] = field(default_factory=list)
    alternatives: list[Key] = field(default_factory=list)
    groups: list[Key] = field(default_factory=list)
    orders: list[list[Key]] = field(default_factory=list)
    counted: list[Key] = field(default_factory=list)
    predicates: list[Predicate] = field(default_factory=list)
    read: tuple[str, ...] = ()
    beyond: frozenset[str] = frozenset()


def uses(text: str, catalog: Mapping[str, Table]) -> list[Use]:
    """What a query does with each table of the catalog, at each place where it reads it.

    Raises:
        DataError: the text is not one SELECT.
    """
    from sqlglot import exp
    from sqlglot.optimizer.scope import traverse_scope

    tree = qualified(text, catalog)
    if tree is None:
        tree = owned(text, catalog)
    doubled = has_placeholders(tree)
    return [
        _use(scope, Place(alias, catalog[source.name]), doubled)
        for scope in traverse_scope(tree)
        if isinstance(scope.expression, exp.Select)
        for alias, source in scope.sources.items()
        if isinstance(source, exp.Table) and _is_plain(source) and source.name in catalog
    ]


def _is_plain(source: exp.Table) -> bool:
    """Whether a source is a table by its bare name, or of the schema `public`; other schemas are not the catalog's."""
    from sqlglot import exp

    return isinstance(source.this, exp.Identifier) and source.db in ("", "public") and not source.catalog


def _use(scope: Scope, place: Place, doubled: bool) -> Use:
    use = Use(place.table)
    inside: set[int] = set()
    for condition, limits in _conditions(scope.expression, place.alias):
        if not limits:
            _take_joins(use, place, condition)
            continue
        _take(use, place, condition)
        predicate = place.predicate(condition, doubled)
        if predicate is not None:
            use.predicates.append(predicate)
            inside.update(map(id, condition.find_all(_column_class())))
    _take_groups(use, place, scope.expression)
    _take_orders(use, place, scope.expression)
    columns = [column for column in scope.columns if column.table == place.alias]
    names = {column.name for column in columns}
    use.read = tuple(column.name for column in place.table.columns if column.name in names)
    use.beyond = frozenset(column.name for column in columns if id(column) not in inside)
    return use


def _column_class() -> type[exp.Column]:
    from sqlglot import exp

    return exp.Column


def _conditions(select: exp.Expr, alias: str) -> Iterator[tuple[exp.Expr, bool]]:
    """Conditions of WHERE and ON, and whether they limit the rows of one place."""
    where = select.args.get("where")
    if where is not None:
        yield from ((condition, True) for condition in conjuncts(where.this))
    for join in select.args.get("joins") or []:
        # An outer join keeps the rows of its preserved side, whatever ON says of them.
        limited = {"": True, "LEFT": join.alias_or_name == alias, "RIGHT": join.alias_or_name != alias}
        if join.args.get("on") is not None:
            limits = limited.get(join.side, False)
            yield from ((condition, limits) for condition in conjuncts(join.args["on"]))


def conjuncts(tree: exp.Expr) -> Iterator[exp.Expr]:
    """The conditions that a condition joins by AND."""
    from sqlglot import exp

    tree = tree.unnest()
    if isinstance(tree, exp.And):
        yield from conjuncts(tree.this)
        yield from conjuncts(tree.expression)
    else:
        yield tree


def _take(use: Use, place: Place, condition: exp.Expr) -> None:
    from sqlglot import exp

    if isinstance(condition, exp.Or):
        for side in condition.flatten():
            _take_alternative(use, place, side)
    elif isinstance(condition, exp.EQ):
        for one, other in ((condition.this, condition.expression), (condition.expression, condition.this)):
            _take_equal(use, place, one, other)
    elif isinstance(condition, exp.In):
        keys = use.joins if condition.args.get("query") is not None else use.equal
        _add(keys, place.key(condition.this))
    else:
        _take_range(use, place, condition)


def _take_joins(use: Use, place: Place, condition: exp.Expr) -> None:
    other = Use(use.table)
    _take(other, place, condition)
    for key in other.joins:
        _add(use.joins, key)


def _take_alternative(use: Use, place: Place, side: exp.Expr) -> None:
    other = Use(use.table)
    for part in conjuncts(side):
        _take(other, place, part)
    for key in (*other.equal, *other.ranges, *other.alternatives):
        _add(use.alternatives, key)


def _take_equal(use: Use, place: Place, one: exp.Expr, other: exp.Expr) -> None:
    if not place.owns(other):
        _add(use.joins if other.find(_column_class()) else use.equal, place.key(one))


def _take_range(use: Use, place: Place, condition: exp.Expr) -> None:
    from sqlglot import exp

    if isinstance(condition, exp.Between):
        _add(use.ranges, place.key(condition.this))
    elif isinstance(condition, (exp.GT, exp.GTE, exp.LT, exp.LTE)):
        for one, other in ((condition.this, condition.expression), (condition.expression, condition.this)):
            if not place.owns(other):
                _add(use.ranges, place.key(one))
    elif isinstance(condition, exp.Like) and not _starts_open(condition.expression):
        ending = pattern_class(place.family(condition.this))
        if ending:
            _add(use.ranges, place.key(condition.this, ending))


def _starts_open(pattern: exp.Expr) -> bool:
    """Whether a pattern begins with a wildcard, so that no index can lead to its matches."""
    from sqlglot import exp

    return isinstance(pattern, exp.Literal) and str(pattern.this)[:1] in ("%", "_", "")


def _take_groups(use: Use, place: Place, select: exp.Expr) -> None:
    from sqlglot import exp

    group = select.args.get("group")
    if group is not None:
        items = group.expressions
    else:
        items = [item.unalias() for item in select.expressions] if select.args.get("distinct") else []
    for item in items:
        for key in _keys_of(place, item):
            _add(use.groups, key)
    for count in select.find_all(exp.Count):
        if isinstance(count.this, exp.Distinct) and count.parent_select is select:
            for item in count.this.expressions:
                _add(use.counted, place.key(item))


def _keys_of(place: Place, item: exp.Expr) -> Iterable[Key | None]:
    """An expression's own key; where it can't have one, keys of the columns that it is made of."""
    key = place.key(item)
    return [key] if key is not None else [place.key(column) for column in item.find_all(_column_class())]


def _take_orders(use: Use, place: Place, select: exp.Expr) -> None:
    from sqlglot import exp

    if select.args.get("order") is not None and select.args.get("group") is None:
        outputs = {item.alias_or_name: item.unalias() for item in select.expressions}
        use.orders.append(_order(place, select.args["order"].expressions, outputs))
    for window in select.find_all(exp.Window):
        if window.parent_select is select:
            parted = [key for item in window.args.get("partition_by") or [] if (key := place.key(item))]
            order = window.args.get("order")
            use.orders.append(parted + _order(place, order.expressions if order else [], {}))
    if select.args.get("group") is None:
        for extreme in select.find_all(exp.Min, exp.Max):
            if extreme.parent_select is select and (key := place.key(extreme.this)) is not None:
                use.orders.append([key])
    use.orders = [order for order in use.orders if order]


def _order(place: Place, items: list[exp.Ordered], outputs: Mapping[str, exp.Expr]) -> list[Key]:
    """Keys of an ORDER BY as far as they are of this place; without directions where one scan back will do."""
    from sqlglot import exp

    keys: list[Key] = []
    endings = [_direction(item) for item in items]
    plain = set(endings) <= {""} or set(endings) <= {" DESC"}
    for item, ending in zip(items, endings, strict=True):
        tree = item.this
        if isinstance(tree, exp.Column) and not tree.table:
            tree = outputs.get(tree.name, tree)
        key = place.key(tree, "" if plain else ending)
        if key is None:
            break
        keys.append(key)
    return keys


def _direction(item: exp.Ordered) -> str:
    descending, nulls_first = bool(item.args.get("desc")), bool(item.args.get("nulls_first"))
    nulls = "" if nulls_first == descending else f" NULLS {'FIRST' if nulls_first else 'LAST'}"
    return (" DESC" if descending else "") + nulls


def _add(keys: list[Key], key: Key | None) -> None:
    if key is not None and key not in keys:
        keys.append(key)
