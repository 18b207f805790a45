"""The queries that the laboratory measures, and how their answers are read, compared and fingerprinted."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shop_platform import sqlfiles
from shop_platform.resources.postgres import Connection

#: Names of the dashboard's queries; each has a twin `<name>_from_summary` with the same answer.
DASHBOARD = ("weekly_active_users", "revenue_by_category")

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class DashboardQuery:
    """A query and its twin that reads summary tables.

    Attributes:
        name: name of its file in `sql/queries/`.
        question: what it answers, from the file's header.
        text: as written.
        from_summary: SQL with the same columns and the same answer, from the summary tables.
    """

    name: str
    question: str
    text: str
    from_summary: str

    @property
    def fingerprint(self) -> str:
        """Changes when either text does."""
        return hashlib.sha256(f"{self.text}\0{self.from_summary}".encode()).hexdigest()[:16]


def dashboard_queries() -> list[DashboardQuery]:
    """The dashboard's queries, read from `sql/queries/`."""
    queries = []
    for name in DASHBOARD:
        file = sqlfiles.read_sql(f"queries/{name}")
        twin = sqlfiles.read_sql(f"queries/{name}_from_summary")
        queries.append(DashboardQuery(name, file.header.splitlines()[0], file.text, twin.text))
    return queries


def answer(connection: Connection, text: str) -> Rows:
    """Execute a query and fetch all of its rows. Never prepared: a later execution is planned like the first."""
    return connection.execute(text, prepare=False).fetchall()


def expected_rows(connection: Connection) -> dict[str, int]:
    """How many rows each dashboard query must return, counted from the data in another way than the queries do."""
    cursor = connection.execute(sqlfiles.read_sql("queries/dashboard_rows").text)
    row = cursor.fetchone()
    if row is None or cursor.description is None:
        raise AssertionError("a query of scalar subqueries returns one row")
    return {column.name: int(value) for column, value in zip(cursor.description, row, strict=True)}


def rows_fingerprint(rows: Sequence[Sequence[Any]]) -> str:
    """Hash of an answer: equal when the rows, their order and every digit of theirs are equal.

    Times count as moments: the same moment in another time zone gives the same hash.
    """
    return hashlib.sha256(json.dumps([list(map(_text, row)) for row in rows]).encode()).hexdigest()[:16]


def _text(value: Any) -> str:  # noqa: ANN401  whatever a query returns
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        value = value.astimezone(dt.UTC)
    return str(value)
