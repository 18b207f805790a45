"""Reads a query: one SELECT of PostgreSQL's dialect, and every column with the table that it is of.

sqlglot takes part of a second to import, so every function imports it itself: the definitions load without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeGuard

from shop_platform.errors import DataError
from shop_platform.performance.advice.catalog import Table
from shop_platform.performance.advice.merging import take_left_columns
from shop_platform.performance.advice.outputs import output_name
from shop_platform.performance.advice.owners import name_owners
from shop_platform.performance.advice.quoting import needs_quotes

if TYPE_CHECKING:
    from sqlglot import exp

#: Functions that sqlglot may understand. It translates the arguments of others between dialects (units in capitals,
#: time formats), but an index serves an expression only if it says literally the same.
_UNDERSTOOD = frozenset({"COUNT", "SUM", "MIN", "MAX", "AVG", "LOWER", "UPPER", "COALESCE"})

#: Functions that are written in a way of their own.
_GRAMMAR = frozenset(
    {"CAST", "EXTRACT", "OVERLAY", "POSITION", "STRING_AGG", "SUBSTRING", "TRIM", "XMLELEMENT", "XMLTABLE"}
)


@lru_cache(maxsize=1)
def dialect() -> Any:  # noqa: ANN401  a class that is made here
    """PostgreSQL's dialect of sqlglot, with all functions but the plainest left as they are written."""
    from sqlglot.dialects.postgres import Postgres
    from sqlglot.parsers.postgres import PostgresParser

    class Literal(Postgres):
        class Parser(PostgresParser):
            FUNCTIONS = {name: made for name, made in PostgresParser.FUNCTIONS.items() if name in _UNDERSTOOD}  # noqa: RUF012
            FUNCTION_PARSERS = {  # noqa: RUF012
                name: made for name, made in PostgresParser.FUNCTION_PARSERS.items() if name in _GRAMMAR
            }

    return Literal


def check_select(text: str) -> None:
    """Make sure that a text is one SELECT that changes nothing and locks nothing; CTEs and UNION are fine.

    It does not look into functions: execute what it lets through in a read-only transaction all the same.

    Raises:
        DataError: it is something else; the message says what to change.
    """
    parse_select(text)


def parse_select(text: str) -> exp.Query:
    """The syntax tree of a query.

    Raises:
        DataError: as `check_select`.
    """
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        statements = list(filter(_says_something, sqlglot.parse(_single_percents(text), dialect=dialect())))
    except (SqlglotError, RecursionError) as error:
        first = str(error).splitlines()[0] if str(error) else "it is nested too deeply"
        raise DataError(f"The query can't be read as PostgreSQL's SQL: {first} Mend it, or try it in psql.") from error
    if len(statements) != 1:
        raise DataError(f"Expected one SELECT, but there are {len(statements)} statements: give one query at a time.")
    tree = statements[0]
    if isinstance(tree, exp.Subquery):
        tree = tree.unnest()
    if not isinstance(tree, (exp.Select, exp.SetOperation)):
        raise DataError(
            f"Expected a SELECT, but this is {_kind(tree)}: give the query alone, without EXPLAIN, "
            "PREPARE or anything around it."
        )
    _refuse_changes(tree)
    _refuse_other_rights(tree)
    return tree


# Texts, quoted names and comments, in which nothing may be replaced.
_QUOTED = r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|\$(\w*)\$.*?\$\1\$"""


def _single_percents(text: str) -> str:
    """The text with `%%`, as psycopg has it beside placeholders, as the operator that it stands for.

    Raises:
        DataError: a number is written in a way that sqlglot takes for something else.
    """

    def mend(match: re.Match[str]) -> str:
        if match["number"]:
            raise DataError(f"Write the number {match['number']} in plain decimal digits.")
        return "%" if match["percents"] else match[0]

    number = r"(?P<number>(?<![\w$.])(?:\d+_[\d_]+|0[xXoObB]\w+))"
    return re.sub(rf"{_QUOTED}|{number}|(?P<percents>%%)", mend, text, flags=re.DOTALL)


def _says_something(tree: exp.Expr | None) -> TypeGuard[exp.Expr]:
    from sqlglot import exp

    return tree is not None and not isinstance(tree, exp.Semicolon)


def _kind(tree: exp.Expr) -> str:
    from sqlglot import exp

    return str(tree.this) if isinstance(tree, exp.Command) else tree.key.upper()


def _refuse_other_rights(tree: exp.Expr) -> None:
    """By `set_config` a query could leave the role that it is executed as."""
    from sqlglot import exp

    if any(function.name.lower() == "set_config" for function in tree.find_all(exp.Anonymous)):
        raise DataError("The query calls set_config, by which it could take other rights: leave that out.")


def _refuse_changes(tree: exp.Query) -> None:
    from sqlglot import exp

    change = tree.find(exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Command)
    if change is not None:
        raise DataError(f"The query contains {_kind(change)}: only a query that changes nothing can get advice.")
    for select in tree.find_all(exp.Query):
        if select.args.get("into"):
            raise DataError("SELECT INTO makes a table: take INTO and the table's name out of the query.")
        if select.args.get("locks"):
            raise DataError("The query locks rows: take FOR UPDATE, FOR SHARE or the like out of it.")


def tables_of(text: str) -> set[str]:
    """Names of the tables and views that a query reads, without those of its CTEs and without schemas.

    Raises:
        DataError: as `check_select`.
    """
    from sqlglot import exp
    from sqlglot.optimizer.normalize_identifiers import normalize_identifiers
    from sqlglot.optimizer.scope import traverse_scope

    tree = normalize_identifiers(parse_select(text), dialect=dialect())
    return {
        source.name
        for scope in traverse_scope(tree)
        for source in scope.sources.values()
        if isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier)
    }


def live_tables_of(text: str) -> set[str]:
    """Tables that a query names with schema `public`, as it names them.

    Raises:
        DataError: as `check_select`.
    """
    from sqlglot import exp

    return {
        f"{table.db}.{table.name}" for table in parse_select(text).find_all(exp.Table) if table.db.lower() == "public"
    }


def qualified(text: str, catalog: Mapping[str, Table]) -> exp.Query | None:
    """The syntax tree with every column's table beside it, stars written out and every output column named.

    Output columns get the names that PostgreSQL gives them. Columns of tables that are not in the catalog stay as
    they are.

    Returns:
        None where it can't be told which tables the columns are of, as with USING on what a function gives.

    Raises:
        DataError: as `check_select`.
    """
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.qualify import qualify

    schema: dict[str, object] = {
        table.name: {column.name: "text" for column in table.columns} for table in catalog.values()
    }
    try:
        made = qualify(
            _owned(text, catalog),
            dialect=dialect(),
            schema=schema,
            validate_qualify_columns=False,
            quote_identifiers=False,
            identify=False,
        )
    except (SqlglotError, RecursionError):
        return None
    take_left_columns(made)
    return _unquoted(made)


def owned(text: str, catalog: Mapping[str, Table]) -> exp.Query:
    """The syntax tree with the table beside those columns that can only be of one; else as written.

    Raises:
        DataError: as `check_select`.
    """
    return _unquoted(_owned(text, catalog))


def _owned(text: str, catalog: Mapping[str, Table]) -> exp.Query:
    from sqlglot.optimizer.qualify_tables import qualify_tables

    tree = _named(text)
    qualify_tables(tree, dialect=dialect())
    name_owners(tree, catalog)
    return tree


def named(text: str) -> exp.Query:
    """The syntax tree as written, only that every output column is named.

    Raises:
        DataError: as `check_select`.
    """
    return _unquoted(_named(text))


def _named(text: str) -> exp.Query:
    from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

    tree = normalize_identifiers(parse_select(text), dialect=dialect())
    _name_outputs(tree)
    return tree


def _unquoted(tree: exp.Query) -> exp.Query:
    """The tree with identifiers as they are stored: the same name is equal, however it was written."""
    from sqlglot import exp

    for identifier in tree.find_all(exp.Identifier):
        identifier.set("quoted", False)
    return tree


def column_of(table: str | None, name: str) -> exp.Column:
    """A column as the trees of this module have it; both names as they are stored."""
    from sqlglot import exp

    return exp.Column(
        this=exp.Identifier(this=name, quoted=False),
        table=None if table is None else exp.Identifier(this=table, quoted=False),
    )


def _name_outputs(tree: exp.Query) -> None:
    """Give the outermost SELECT's nameless columns PostgreSQL's names, before sqlglot gives them its own."""
    from sqlglot import exp

    if not isinstance(tree, exp.Select):
        return
    for item in tree.expressions:
        if not isinstance(item, (exp.Alias, exp.Column, exp.Star)):
            item.replace(exp.alias_(item.copy(), output_name(item), quoted=True))


def written(tree: exp.Expr, pretty: bool = False) -> str:
    """SQL of a tree, with quotes around every identifier that needs them."""
    from sqlglot import exp

    tree = tree.copy()
    for table in tree.find_all(exp.Table):
        if table.alias == table.name and not table.args["alias"].args.get("columns"):
            table.set("alias", None)
    for identifier in tree.find_all(exp.Identifier):
        identifier.set("quoted", needs_quotes(identifier.name) and not isinstance(identifier.parent, exp.Placeholder))
    return tree.sql(dialect=dialect(), pretty=pretty, normalize_functions=False, comments=False)


def has_placeholders(tree: exp.Expr) -> bool:
    """Whether values are left open: `%s`, `%(name)s`, `:name` or `$1`."""
    from sqlglot import exp

    return tree.find(exp.Placeholder, exp.Parameter) is not None
