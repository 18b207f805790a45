"""What of a query can stand in an index of one table: columns, immutable expressions, constant predicates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shop_platform.performance.advice.catalog import Column, Table
from shop_platform.performance.advice.immutable import family_of, immutable_family
from shop_platform.performance.advice.parsing import written
from shop_platform.performance.advice.quoting import quoted

if TYPE_CHECKING:
    from sqlglot import exp

#: A B-tree's entry holds at most a third of a page, so columns that are wider than this on average stay out.
WIDEST = 250

# Types without an order that a B-tree could use.
_UNORDERED = frozenset({"json", "xml", "point", "line", "lseg", "box", "path", "polygon", "circle", "txid_snapshot"})


@dataclass(frozen=True)
class Key:
    """One key of an index.

    Attributes:
        sql: as it stands between the index's parentheses, operator class and direction included.
        columns: names of the columns that it is made of.
        distinct: how many different values it is expected to have; 0 where nobody knows.
        expression: whether it is more than a column.
    """

    sql: str
    columns: tuple[str, ...]
    distinct: float = 0.0
    expression: bool = False


@dataclass(frozen=True)
class Predicate:
    """A condition that a query always states, so that an index may leave out all other rows.

    Attributes:
        sql: as it stands after WHERE.
        column: whose values it fixes or limits.
        fixes: whether it leaves one value only, so that the column need not be a key any more.
        words: its values, for names.
    """

    sql: str
    column: str
    fixes: bool
    words: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """A table at one place of a query: the alias that its columns carry there."""

    alias: str
    table: Table

    def owns(self, tree: exp.Expr) -> bool:
        """Whether an expression uses columns of this place."""
        return any(column.table == self.alias for column in _columns(tree))

    def key(self, tree: exp.Expr, ending: str = "") -> Key | None:
        """The key that an expression makes, if it can: a column of this place, or an immutable expression of them.

        Args:
            tree: the expression.
            ending: operator class or direction, with a space before.
        """
        from sqlglot import exp

        tree = tree.unnest()
        if isinstance(tree, exp.Column):
            column = self._column(tree)
            if column is None:
                return None
            return Key(quoted(column.name) + ending, (column.name,), column.distinct or 0.0)
        return self._expression(tree, ending)

    def family(self, tree: exp.Expr) -> str | None:
        """Family of an immutable expression's values, None for all others."""
        return immutable_family(tree, {column.name: column.type for column in self.table.columns})

    def predicate(self, tree: exp.Expr, doubled: bool) -> Predicate | None:
        """The predicate of a partial index that a condition makes, if it compares one column with known values.

        Args:
            tree: the condition.
            doubled: whether `%%` in the query stands for one `%`, as it does beside psycopg's placeholders.
        """
        from sqlglot import exp

        condition = tree.this.unnest() if isinstance(tree, exp.Not) else tree
        column = condition if isinstance(condition, exp.Column) else condition.this
        known = self._column(column) if isinstance(column, exp.Column) else None
        if known is None or not _known_values(condition, known):
            return None
        sql = _bare(tree)
        fixes = isinstance(tree, (exp.EQ, exp.Column, exp.Not)) or (
            isinstance(tree, exp.Is) and isinstance(tree.expression, exp.Null)
        )
        if isinstance(tree, exp.Not) and not isinstance(condition, exp.Column):
            fixes = False
        return Predicate(sql.replace("%%", "%") if doubled else sql, known.name, fixes, _words(tree, known.name))

    def _column(self, tree: exp.Column) -> Column | None:
        column = self.table.column(tree.name) if tree.table == self.alias else None
        usable = column is not None and column.type not in _UNORDERED and (column.width or 0) <= WIDEST
        return column if usable else None

    def _expression(self, tree: exp.Expr, ending: str) -> Key | None:
        from sqlglot import exp

        columns = _columns(tree)
        if not columns or any(self._column(column) is None for column in columns):
            return None
        if tree.find(exp.Placeholder, exp.Parameter, exp.Query) is not None or self.family(tree) is None:
            return None
        names = tuple(dict.fromkeys(column.name for column in columns))
        return Key(f"({_bare(tree)}){ending}", names, 0.0, expression=True)


def pattern_class(family: str | None) -> str:
    """Operator class with which an index serves LIKE 'start%' in whatever collation; empty for what is no text."""
    return " text_pattern_ops" if family == "text" else ""


def _columns(tree: exp.Expr) -> list[exp.Column]:
    from sqlglot import exp

    return list(tree.find_all(exp.Column, bfs=False))


def _bare(tree: exp.Expr) -> str:
    """SQL without table names before the columns: an index has one table."""
    tree = tree.copy()
    for column in _columns(tree):
        column.set("table", None)
        column.set("db", None)
    return written(tree)


def _known_values(condition: exp.Expr, column: Column) -> bool:
    """Whether a condition, NOT taken off, compares its column with nothing but values that the query states."""
    from sqlglot import exp

    if isinstance(condition, exp.Column):
        return family_of(column.type) == "boolean"
    if isinstance(condition, exp.In):
        return bool(condition.expressions) and all(_is_value(value, column) for value in condition.expressions)
    if isinstance(condition, exp.Is):
        return isinstance(condition.expression, (exp.Null, exp.Boolean))
    if isinstance(condition, (exp.EQ, exp.NEQ)):
        return _is_value(condition.expression, column)
    # A limit that is a date moves along sooner or later; one that is a number mostly stays.
    ranges = (exp.GT, exp.GTE, exp.LT, exp.LTE)
    return (
        isinstance(condition, ranges) and family_of(column.type) == "number" and _is_value(condition.expression, column)
    )


def _is_value(tree: exp.Expr, column: Column) -> bool:
    """A literal, a negative number, TRUE or FALSE; or a literal cast to the column's own kind of type."""
    from sqlglot import exp

    tree = tree.unnest()
    if isinstance(tree, exp.Cast):
        same = family_of(tree.to.sql(dialect="postgres")) == family_of(column.type) is not None
        return same and isinstance(tree.this, exp.Literal)
    if isinstance(tree, exp.Neg):
        tree = tree.this
    return isinstance(tree, (exp.Literal, exp.Boolean))


def _words(tree: exp.Expr, column: str) -> tuple[str, ...]:
    from sqlglot import exp

    if isinstance(tree, (exp.EQ, exp.In)):
        literals = [str(literal.this) for literal in tree.find_all(exp.Literal, bfs=False)]
        if literals and all(re.fullmatch(r"[a-z][a-z0-9_]*", literal) for literal in literals):
            return tuple(literals)
    return (column, *(("true",) if isinstance(tree, exp.Column) else ("some",)))
