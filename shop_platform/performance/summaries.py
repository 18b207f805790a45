"""The exact summary tables of schema `analytics`: filled by one SQL text, live and on copies, and compared."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import IsolationLevel, sql

from shop_platform import sqlfiles
from shop_platform.changes import event_state, mark_consumed
from shop_platform.errors import DataError
from shop_platform.performance.indexes import LIVE
from shop_platform.performance.queries import answer, dashboard_queries, rows_fingerprint
from shop_platform.resources.postgres import Connection, PostgresResource

#: Schema of the live summary tables.
ANALYTICS = "analytics"

#: In the order in which they are filled: `weekly_active_users` is made from `weekly_activity`.
SUMMARIES = ("weekly_activity", "weekly_active_users", "category_revenue")

#: Under this name the summaries note which changes of `events` they hold.
CONSUMER = "activity_summaries"


@dataclass(frozen=True)
class Rebuild:
    """What a rebuild made.

    Attributes:
        rows: rows by summary table.
        equal: by dashboard query, whether the summary's answer is the direct query's, to the last digit.
        counted: what summaries and events must agree on, by its name: (in the summaries, in the events).
    """

    rows: dict[str, int]
    equal: dict[str, bool]
    counted: dict[str, tuple[int, int]]

    @property
    def adds_up(self) -> bool:
        """Whether every sum over the summaries is what the events give."""
        return all(summed == counted for summed, counted in self.counted.values())

    @property
    def published(self) -> bool:
        """Whether it was committed: a summary that differs from the events is not."""
        return self.adds_up and all(self.equal.values())


def fill_summary(connection: Connection, table: str) -> None:
    """Replace a summary table's rows; the search path says which tables are meant."""
    connection.execute(sqlfiles.read_sql(f"indexes/{table}").text)


def rebuild_summaries(postgres: PostgresResource, lock_timeout: str = "60s") -> Rebuild:
    """Replace the rows of all summary tables in one transaction, from one snapshot, and compare with the events.

    Deletes and inserts rather than swapping tables: readers see the old rows until the commit and the new ones after,
    and views, grants and readers' snapshots stay good. Where a summary does not give the direct query's answer, the
    transaction is rolled back and the old rows stay.

    Raises:
        DataError: another rebuild has held the tables for longer than `lock_timeout`.
    """
    with postgres.connect() as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        _lock(connection, lock_timeout)
        connection.execute(
            sql.SQL("SET LOCAL search_path TO {}, {}").format(sql.Identifier(ANALYTICS), sql.Identifier(LIVE))
        )
        state = event_state(connection)
        for table in SUMMARIES:
            fill_summary(connection, table)
        rebuild = _compare(connection)
        if rebuild.published:
            mark_consumed(connection, CONSUMER, state)
        else:
            connection.rollback()
    if rebuild.published:
        with postgres.connect(autocommit=True) as connection:
            names = sql.SQL(", ").join(sql.Identifier(ANALYTICS, table) for table in SUMMARIES)
            connection.execute(sql.SQL("VACUUM (ANALYZE, SKIP_LOCKED) {}").format(names))
    return rebuild


def _lock(connection: Connection, lock_timeout: str) -> None:
    """Let one writer in at a time; readers go on.

    Locks tables, not an advisory key: LOCK TABLE takes no snapshot, so that in REPEATABLE READ the one that has
    waited starts from what the one before has committed. It also holds off writers that know of no key.
    """
    connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(lock_timeout)))
    names = sql.SQL(", ").join(sql.Identifier(ANALYTICS, table) for table in SUMMARIES)
    try:
        connection.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(names))
    except psycopg.errors.LockNotAvailable as error:
        raise DataError(
            f"The summary tables have been held by another transaction for longer than {lock_timeout}: wait for it or "
            "end it (pg_stat_activity shows it), then materialise activity_summaries again."
        ) from error


def _compare(connection: Connection) -> Rebuild:
    equal = {
        query.name: rows_fingerprint(answer(connection, query.text))
        == rows_fingerprint(answer(connection, query.from_summary))
        for query in dashboard_queries()
    }
    row = connection.execute(sqlfiles.read_sql("queries/summary_sums").text).fetchone()
    if row is None:
        raise AssertionError("a query of scalar subqueries returns one row")
    pairs, pairs_summed, purchases, purchases_summed, *rows = map(int, row)
    counted = {"active users of all weeks": (pairs_summed, pairs), "purchases": (purchases_summed, purchases)}
    return Rebuild(dict(zip(SUMMARIES, rows, strict=True)), equal, counted)
