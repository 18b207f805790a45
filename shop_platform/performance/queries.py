"""The queries that the laboratory measures, and how their answers are read, compared and fingerprinted."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from shop_platform import sqlfiles
from shop_platform.errors import DataError, SettingsError
from shop_platform.handwritten import parse_toml
from shop_platform.resources.postgres import Connection

#: Names of the dashboard's queries; each has a twin `<name>_from_summary` with the same answer.
DASHBOARD = ("weekly_active_users", "revenue_by_category")

#: How a query's file names a value: `-- Parameter: user_id = "u0042"`.
_PARAMETER = "Parameter:"

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Query:
    """A query that is measured, with other texts that have the same columns and the same answer.

    Attributes:
        name: name of its file.
        question: what it answers: the first line of the file's header.
        text: as written.
        rewritten: other SQL on the same tables, where there is a file `<name>_rewritten.sql`.
        from_summary: SQL that reads the summary tables, for the dashboard's queries.
        parameters: values by name, for `%(name)s` in the text.
    """

    name: str
    question: str
    text: str
    rewritten: str | None = None
    from_summary: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Changes when any text or parameter does."""
        whole = json.dumps([self.text, self.rewritten, self.from_summary, self.parameters], default=str)
        return hashlib.sha256(whole.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class DashboardQuery(Query):
    """One of the dashboard's queries: its twin that reads the summary tables is always there."""

    from_summary: str = ""


def dashboard_queries() -> list[DashboardQuery]:
    """The dashboard's queries, read from `sql/queries/`."""
    queries = []
    for name in DASHBOARD:
        file = sqlfiles.read_sql(f"queries/{name}")
        queries.append(
            DashboardQuery(
                name,
                file.header.splitlines()[0],
                file.text,
                rewritten=sqlfiles.read_sql(f"queries/{name}_rewritten").text,
                from_summary=sqlfiles.read_sql(f"queries/{name}_from_summary").text,
            )
        )
    return queries


def measured_queries(folder: Path | None) -> list[Query]:
    """The dashboard's queries, then those of the folder's `.sql` files, by name.

    Raises:
        SettingsError: there is no such folder.
        DataError: a file is not one SELECT, names a parameter badly, or is named as another query is.
    """
    queries: list[Query] = list(dashboard_queries())
    if folder is None:
        return queries
    if not folder.is_dir():
        raise SettingsError(
            f"SHOP_QUERIES names {folder}, which is not a folder: put .sql files into one, or unset it."
        )
    files = {path.stem: path for path in sorted(folder.glob("*.sql"))}
    for name, path in files.items():
        if name.removesuffix("_rewritten") in files and name.endswith("_rewritten"):
            continue
        if name in DASHBOARD:
            raise DataError(f"{path}: {name} is one of the dashboard's own queries; give the file another name.")
        queries.append(read_query(path, files.get(f"{name}_rewritten")))
    return queries


def read_query(path: Path, twin: Path | None) -> Query:
    """The query of a file, and of the file with other SQL for the same answer.

    Raises:
        DataError: a file is not one SELECT, reads live tables, or names a parameter badly.
    """
    from shop_platform.performance.advice.parsing import check_select, live_tables_of

    file = sqlfiles.parse_sql(path)
    other = None if twin is None else sqlfiles.parse_sql(twin)
    for text, source in ((file.text, path), *(((other.text, twin),) if other else ())):
        try:
            check_select(text)
            if live := live_tables_of(text):
                raise DataError(
                    f"{', '.join(sorted(live))} would be read where it lives, not on the copy that is measured: write "
                    "tables of the shop without a schema."
                )
        except DataError as error:
            raise DataError(f"{source}: {error}") from error
    question = next((line for line in file.header.splitlines() if line and not line.startswith(_PARAMETER)), path.stem)
    return Query(
        path.stem,
        question,
        file.text,
        rewritten=None if other is None else other.text,
        parameters=_parameters(path, file.header),
    )


def _parameters(path: Path, header: str) -> dict[str, Any]:
    lines = [line.removeprefix(_PARAMETER).strip() for line in header.splitlines() if line.startswith(_PARAMETER)]
    try:
        return parse_toml("\n".join(lines))
    except ValueError as error:
        raise DataError(
            f'{path}: a parameter is written as in TOML, -- Parameter: user_id = "u0042" or 7 or 2025-01-31 ({error}).'
        ) from error


def answer(connection: Connection, text: str, parameters: Mapping[str, Any] | None = None) -> Rows:
    """Execute a query and fetch all of its rows. Never prepared: a later execution is planned like the first.

    Raises:
        DataError: a value of the answer is none that Python has, such as a time at infinity.
    """
    try:
        # Without parameters psycopg leaves % alone, as in LIKE 'a%'.
        return connection.execute(text, parameters or None, prepare=False).fetchall()
    except psycopg.DataError as error:
        if error.sqlstate is not None:
            raise  # The server's own, of the query.
        raise DataError(
            f"An answer can't be read: {error}. Where that is a time, look for events whose timestamp is none: "
            "isfinite(timestamp) tells."
        ) from None


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
