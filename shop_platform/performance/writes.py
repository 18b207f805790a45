"""What an index costs those who write: rows inserted into the copy, with the index and without, in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from psycopg import sql

from shop_platform.errors import MeasurementError
from shop_platform.performance.laboratory import COPY, TABLES, hiding_indexes
from shop_platform.performance.records import WriteCost
from shop_platform.performance.rounds import Rule, take_rounds
from shop_platform.performance.trials import SEED, milliseconds
from shop_platform.resources.postgres import Connection

#: Rows of one insert; a table that holds fewer is inserted once more as a whole.
ROWS = 2_000

#: Each execution leaves its rows behind as dead ones, so there is an end to them.
RULE = Rule(warm_ups=2, least=15, most=15, seconds=0)


def write_costs(connection: Connection, indexes: Mapping[str, str], rule: Rule = RULE) -> dict[str, WriteCost]:
    """Insert rows into the copy with no index and with each one alone; every insert is rolled back.

    What is inserted are rows of the table itself, drawn by the hash of their key, with keys of their own: they fall
    all over an index, as the events of many users do. Call it last: it leaves dead rows in the copy.

    Args:
        connection: in autocommit.
        indexes: table by name of each index that was built on the copy.
        rule: how many rounds.
    """
    costs: dict[str, WriteCost] = {}
    for table in sorted(set(indexes.values())):
        mine = sorted(name for name, of in indexes.items() if of == table)
        statement, rows = _insert(connection, table)
        ways = {name: partial(_inserting, connection, statement, set(indexes) - {name}) for name in (*mine, "")}
        taken = take_rounds(ways, partial(_check, rows), rule, SEED, what=f"inserting into {table}")
        costs |= {
            name: WriteCost(rows=rows, without_ms=milliseconds(taken[""]), with_ms=milliseconds(taken[name]))
            for name in mine
        }
    return costs


def _insert(connection: Connection, table: str) -> tuple[sql.Composed, int]:
    """A statement that inserts new rows made of the table's own, prepared in a temporary table, and their number."""
    key, copy = sql.Identifier(TABLES[table]), sql.Identifier(COPY, table)
    new_rows = sql.Identifier("pg_temp", f"new_{table}")
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(new_rows))
    connection.execute(
        sql.SQL("CREATE TEMPORARY TABLE {} AS SELECT * FROM {} ORDER BY hashtextextended({}::text, 0) LIMIT {}").format(
            sql.Identifier(f"new_{table}"), copy, key, ROWS
        )
    )
    # A key that no row has: numbers go on, texts get a prefix that no other has.
    as_number = table == "events"
    new_key = sql.SQL("{0} + (SELECT max({0}) FROM {1})" if as_number else "'lab ' || {0}").format(key, copy)
    connection.execute(sql.SQL("UPDATE {} SET {} = {}").format(new_rows, key, new_key))
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(new_rows)).fetchone()
    return sql.SQL("INSERT INTO {} SELECT * FROM {}").format(copy, new_rows), int(row[0]) if row else 0


@contextmanager
def _inserting(connection: Connection, statement: sql.Composed, hidden: set[str]) -> Iterator[Callable[[], int]]:
    with hiding_indexes(connection, hidden):
        connection.execute(sql.SQL("EXPLAIN ") + statement)
        yield lambda: connection.execute(statement).rowcount


def _check(expected: int, variant: str, inserted: int) -> None:
    if inserted != expected:
        raise MeasurementError(f"With {variant or 'no index'}, {inserted} rows were inserted instead of {expected}.")
