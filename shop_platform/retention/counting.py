"""What a matrix is counted from, and how it is published: one writer at a time, all at once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from shop_platform import sqlfiles
from shop_platform.errors import DataError
from shop_platform.resources.postgres import Connection
from shop_platform.retention.cells import Cell, Pooled
from shop_platform.retention.definition import Definition


@dataclass(frozen=True)
class Basis:
    """What a matrix was counted from.

    Attributes:
        users: how many there are.
        cohort_users: those who are in a cohort.
        events: how many there are, but for those at infinity.
        data_end: time of the latest event; None where there is none.
        before_signup: events of cohort users earlier than their signup, which are left out.
        in_future: events later than the moment of counting.
    """

    users: int
    cohort_users: int
    events: int
    data_end: dt.datetime | None
    before_signup: int
    in_future: int

    def as_record(self) -> dict[str, Any]:
        """The same, JSON-able."""
        return asdict(self) | {"data_end": self.data_end.isoformat() if self.data_end else None}


def lock_matrix(connection: Connection) -> None:
    """Make the caller's transaction, which must be new, the only one that counts; all it reads is one snapshot.

    Locks the table rather than an advisory key: LOCK is the one way to wait before the snapshot is taken. An advisory
    lock is waited for by a SELECT, whose snapshot lacks what the run before it publishes; the DELETE then fails.
    Readers are not locked out.

    Raises:
        DataError: another run has been counting for ten minutes.
    """
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    connection.execute("SET LOCAL lock_timeout = '10min'")
    try:
        connection.execute("LOCK TABLE analytics.cohort_retention IN SHARE ROW EXCLUSIVE MODE")
    except psycopg.errors.LockNotAvailable as error:
        raise DataError(
            "Another session has held analytics.cohort_retention for ten minutes: wait for its run to end, or end it, "
            "then materialise cohort_retention again."
        ) from error


def read_basis(connection: Connection, definition: Definition) -> Basis:
    """What the summaries hold, in the caller's snapshot."""
    row = connection.execute(sqlfiles.read_sql("queries/cohort_basis").text, definition.parameters()).fetchone()
    if row is None:
        raise AssertionError("a query without FROM returns one row")
    return Basis(*row)


def defined_otherwise(connection: Connection, definition: Definition) -> str:
    """The definition in words where the published matrix was counted by another one; "" where it was not."""
    row = connection.execute(
        "SELECT record -> 'definition_settings' FROM analytics.records WHERE name = 'cohort_retention'"
    ).fetchone()
    return "" if row is None or row[0] == definition.as_record() else f" {definition.text}"


def publish(connection: Connection, cells: Sequence[Cell], pooled: Sequence[Pooled], least_users: int) -> None:
    """Replace the matrix in the caller's transaction: readers see the old one until the commit.

    Deletes and inserts: the tables are small, and views and grants on them stay.

    Args:
        connection: in the transaction that counted.
        cells: of all break-downs.
        pooled: of all break-downs.
        least_users: cells with fewer observed users are marked.
    """
    connection.execute("DELETE FROM analytics.cohort_retention; DELETE FROM analytics.pooled_retention")
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO analytics.cohort_retention (breakdown, cohort, period, cohort_size, users_observed,"
            " users_unrecorded, active_users, rate, rate_low, rate_high, revenue, few_users)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (c.breakdown, c.cohort, c.period, c.cohort_size, c.users_observed, c.users_unrecorded, c.active_users,
                 c.rate, c.rate_low, c.rate_high, c.revenue, 0 < c.users_observed < least_users)
                for c in cells
            ],
        )  # fmt: skip
        cursor.executemany(
            "INSERT INTO analytics.pooled_retention (breakdown, period, cohorts, users_observed, active_users, rate,"
            " rate_low, rate_high, revenue) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (p.breakdown, p.period, p.cohorts, p.users_observed, p.active_users, p.rate, p.rate_low, p.rate_high,
                 p.revenue)
                for p in pooled
            ],
        )  # fmt: skip
