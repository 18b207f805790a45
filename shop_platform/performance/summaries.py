"""The exact summary tables of schema `analytics`: built from the events, then kept by what changed since."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import IsolationLevel, sql

from shop_platform import sqlfiles
from shop_platform.changes import EventState, event_state, mark_consumed, prune_changes
from shop_platform.errors import DataError
from shop_platform.performance.indexes import LIVE
from shop_platform.performance.queries import answer, dashboard_queries, rows_fingerprint
from shop_platform.resources.postgres import WRITER, Connection, PostgresResource

#: Schema of the live summary tables.
ANALYTICS = "analytics"

#: In the order in which they are filled: each is made from `events` or from one before it.
SUMMARIES = ("weekly_activity", "weekly_active_users", "product_sales", "category_revenue", "category_totals")

#: Under this name the summaries note which changes of `events` they hold.
CONSUMER = "activity_summaries"

#: With more changes than this share of the events, building anew is quicker than applying them.
REBUILD_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class Refresh:
    """What a refresh did.

    Attributes:
        rebuilt: why everything was built anew; None where only changes were applied.
        event_changes: rows of `events` added or taken away since, an update counts as both; 0 for a rebuild.
        rows: rows by summary table.
        equal: after a rebuild, by dashboard query, whether the summary's answer is the direct query's, to the last
            digit.
        counted: what must be the same counted in two ways, by its name.
        estimated: whether active users are estimated.
    """

    rebuilt: str | None
    event_changes: int
    rows: dict[str, int]
    equal: dict[str, bool] = field(default_factory=dict)
    counted: dict[str, tuple[int, int]] = field(default_factory=dict)
    estimated: bool = False

    @property
    def adds_up(self) -> bool:
        """Whether everything counted in two ways is the same."""
        return all(one == other for one, other in self.counted.values())

    @property
    def published(self) -> bool:
        """Whether it was committed: summaries that contradict the events or each other are not."""
        return self.adds_up and all(self.equal.values())


def fill_summary(connection: Connection, table: str) -> None:
    """Replace a summary table's rows; the search path says which tables are meant."""
    connection.execute(sqlfiles.read_sql(f"indexes/{table}").text)


def refresh_summaries(postgres: PostgresResource, *, rebuild: bool = False, lock_timeout: str = "60s") -> Refresh:
    """Take into the summaries what has changed in `events` and `products` since they were last refreshed.

    Triggers note every row that comes, goes or changes in `ops.event_log`, in the transaction that does it. The
    refresh removes and applies what it sees of that log, in one transaction: a change is applied once, however late
    its own time or its commit. What it costs depends on the changes, not on the shop. It gives what a rebuild gives.

    Builds anew where there is nothing to start from, where rows changed without being noted one by one (a load,
    TRUNCATE), in another time zone than before, where more than `REBUILD_SHARE` of the events changed, and where the
    changes contradict the summaries. A rebuild is compared with the direct queries before it is committed.

    Readers see the old rows until the commit and the new ones after; views, grants and readers' snapshots stay good.

    Args:
        postgres: the shop's database.
        rebuild: build anew whatever has changed.
        lock_timeout: longest wait for another refresh, as PostgreSQL writes durations.

    Raises:
        DataError: another refresh has held the tables for longer than `lock_timeout`.
    """
    with one_writer(postgres, lock_timeout) as (connection, state):
        reason = "asked for" if rebuild else reason_to_rebuild(connection)
        done = _rebuild(connection, reason) if reason else _apply_or_rebuild(connection)
        if done.published:
            mark_consumed(connection, CONSUMER, state)
        else:
            connection.rollback()
    if done.published:
        vacuum(postgres, done)
    return done


def ask_for_rebuild(connection: Connection) -> None:
    """Let the next refresh build everything anew, and the sensors see that there is something to do."""
    connection.execute("INSERT INTO ops.event_log (sign) VALUES (0)")
    connection.execute("INSERT INTO ops.event_changes (operation) VALUES ('REBUILD')")


@contextmanager
def one_writer(postgres: PostgresResource, lock_timeout: str) -> Iterator[tuple[Connection, EventState]]:
    """A REPEATABLE READ transaction that holds off other writers of the summaries, and the events' state in it.

    Locks tables, not an advisory key: LOCK TABLE takes no snapshot, so that in REPEATABLE READ the one that has
    waited starts from what the one before has committed. It also holds off writers that know of no key.
    """
    with postgres.connect(role=WRITER) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(lock_timeout)))
        names = sql.SQL(", ").join(sql.Identifier(ANALYTICS, table) for table in SUMMARIES)
        try:
            connection.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(names))
        except psycopg.errors.LockNotAvailable as error:
            raise DataError(
                f"The summary tables have been held by another transaction for longer than {lock_timeout}: wait for "
                "it or end it (pg_stat_activity shows it), then materialise activity_summaries again."
            ) from error
        connection.execute(
            sql.SQL("SET LOCAL search_path TO {}, {}").format(sql.Identifier(ANALYTICS), sql.Identifier(LIVE))
        )
        yield connection, event_state(connection)


def reason_to_rebuild(connection: Connection, *, share: float = REBUILD_SHARE, estimated: bool = False) -> str | None:
    """Why the summaries can't be brought up by what changed since, in the caller's snapshot; None where they can.

    Args:
        connection: in a transaction.
        share: with more changes than this share of the events, building anew is quicker.
        estimated: whether active users are to be estimated now.
    """
    row = connection.execute(
        "SELECT (SELECT time_zone FROM ops.summary_basis), current_setting('TimeZone'),"
        " EXISTS (SELECT FROM ops.event_log WHERE sign = 0), (SELECT count(*) FROM ops.event_log),"
        " (SELECT reltuples FROM pg_class WHERE oid = 'public.events'::regclass),"
        " (SELECT bool_or(estimated) FROM analytics.weekly_active_users)"
    ).fetchone()
    if row is None:
        raise AssertionError("a query without FROM returns one row")
    built_in, time_zone, unnoted, changes, events, were_estimated = row
    if built_in is None:
        return "there were no summaries"
    if unnoted:
        return "rows changed that were not noted one by one"
    if built_in != time_zone:
        return f"the time zone was {built_in}"
    if were_estimated is not None and were_estimated != estimated:
        return "active users were " + ("estimated" if were_estimated else "counted")
    # An estimate, -1 in a table never analysed: what it decides changes the time, not the result.
    return "much of the shop has changed" if changes > max(1_000, share * events) else None


def _apply_or_rebuild(connection: Connection) -> Refresh:
    try:
        with connection.transaction():
            return _apply(connection)
    except (psycopg.errors.CheckViolation, psycopg.errors.UniqueViolation):
        # More was taken away than there was: the summaries were changed by hand, or triggers were switched off.
        return _rebuild(connection, "the summaries did not fit the changes noted since")


def _apply(connection: Connection) -> Refresh:
    connection.execute(
        "CREATE TEMPORARY TABLE taken (LIKE ops.event_log) ON COMMIT DROP;"
        "CREATE TEMPORARY TABLE touched (day date, category text) ON COMMIT DROP"
    )
    changes = connection.execute(
        "WITH gone AS (DELETE FROM ops.event_log RETURNING *) INSERT INTO taken SELECT * FROM gone"
    ).rowcount
    # By the primary key, pair by pair: without statistics on `taken` the planner may read the whole table instead.
    connection.execute("ANALYZE taken; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
    for file in sqlfiles.list_sql("refresh"):
        connection.execute(file.text)
    rows, counted = counts(connection)
    return Refresh(rebuilt=None, event_changes=changes, rows=rows, counted=counted)


def _rebuild(connection: Connection, reason: str) -> Refresh:
    connection.execute("DELETE FROM ops.event_log; DELETE FROM ops.product_log; DELETE FROM ops.summary_basis")
    for table in SUMMARIES:
        fill_summary(connection, table)
    connection.execute("INSERT INTO ops.summary_basis (time_zone) VALUES (current_setting('TimeZone'))")
    equal = {
        query.name: rows_fingerprint(answer(connection, query.text))
        == rows_fingerprint(answer(connection, query.from_summary))
        for query in dashboard_queries()
    }
    rows, counted = counts(connection)
    purchases = one_number(connection, "SELECT count(*) FROM events WHERE event_type = 'purchased'")
    events = one_number(connection, "SELECT count(*) FROM events")
    counted |= {
        "purchases in total and in the events": (
            one_number(connection, "SELECT sum(purchases) FROM category_totals"),
            purchases,
        ),
        "events of all weeks and in the table": (
            one_number(connection, "SELECT sum(events) FROM weekly_activity"),
            events,
        ),
    }
    return Refresh(rebuilt=reason, event_changes=0, rows=rows, equal=equal, counted=counted)


def counts(connection: Connection) -> tuple[dict[str, int], dict[str, tuple[int, int]]]:
    """Rows by summary table, and what must be the same in two of them.

    Counts no table that grows with the users: the rows of `weekly_activity` are the active users of all weeks.
    """
    row = connection.execute(sqlfiles.read_sql("queries/summary_sums").text).fetchone()
    if row is None:
        raise AssertionError("a query of scalar subqueries returns one row")
    *rows, sold, by_day, total = map(int, row)
    return dict(zip(SUMMARIES, rows, strict=True)), {
        "purchases by product and by category": (sold, by_day),
        "purchases by day and in total": (by_day, total),
    }


def one_number(connection: Connection, query: str) -> int:
    """The number that a query gives; 0 for null."""
    row = connection.execute(query).fetchone()
    return int(row[0] or 0) if row else 0


def vacuum(postgres: PostgresResource, done: Refresh) -> None:
    """Take away the dead rows that a refresh leaves, after a rebuild those of all summaries; and the log of changes."""
    prune_changes(postgres)
    with postgres.connect(autocommit=True) as connection:
        connection.execute("VACUUM (SKIP_LOCKED) ops.event_log, ops.product_log")
        if done.rebuilt is not None:
            names = sql.SQL(", ").join(sql.Identifier(ANALYTICS, table) for table in SUMMARIES)
            connection.execute(sql.SQL("VACUUM (ANALYZE, SKIP_LOCKED) {}").format(names))
