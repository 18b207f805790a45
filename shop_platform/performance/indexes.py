"""The shop's three indexes: their files, their state on the live tables, and building them while people work."""

from __future__ import annotations

import re
from dataclasses import dataclass
from time import perf_counter

import psycopg
from psycopg import sql

from shop_platform import sqlfiles
from shop_platform.errors import DataError, SettingsError
from shop_platform.resources.postgres import Connection

#: Schema of the live tables.
LIVE = "public"

#: How long one attempt to build waits for others, and how often it is attempted.
LOCK_TIMEOUT = "10s"
ATTEMPTS = 3


@dataclass(frozen=True)
class IndexFile:
    """An index as `sql/indexes/` defines it: its name, its table, its columns as SQL, the whole statement."""

    name: str
    table: str
    columns: str
    statement: str


@dataclass(frozen=True)
class IndexState:
    """An index as it stands in the database; `definition` is PostgreSQL's, without the table's schema."""

    valid: bool
    size_bytes: int
    definition: str


@dataclass(frozen=True)
class BuiltIndex:
    """What `ensure_index` found or did. `build_seconds` is None where the index was there already."""

    name: str
    valid: bool
    size_bytes: int
    build_seconds: float | None
    replaced_invalid: bool


def index_files() -> list[IndexFile]:
    """The indexes of `sql/indexes/idx_*.sql`.

    Raises:
        SettingsError: a file is not one plain CREATE INDEX of the index that it is named after.
    """
    return [_index_file(file) for file in sqlfiles.list_sql("indexes") if file.name.startswith("idx_")]


def _index_file(file: sqlfiles.SqlFile) -> IndexFile:
    statement = "\n".join(line for line in file.text.splitlines() if not line.startswith("--")).strip()
    match = re.fullmatch(r"CREATE INDEX (\w+) ON (\w+) \(([^;]+)\);", statement)
    if match is None or match[1] != file.name:
        raise SettingsError(
            f"sql/indexes/{file.name}.sql must hold one statement, CREATE INDEX {file.name} ON table (columns);"
        )
    return IndexFile(file.name, match[2], match[3], statement)


def index_state(connection: Connection, schema: str, name: str) -> IndexState | None:
    """How an index stands; None where there is none of this name in the schema."""
    row = connection.execute(
        "SELECT i.indisvalid AND i.indisready, pg_relation_size(c.oid), pg_get_indexdef(c.oid)"
        " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s",
        [schema, name],
    ).fetchone()
    return None if row is None else IndexState(row[0], row[1], _without_schema(row[2]))


def ensure_index(
    connection: Connection, file: IndexFile, *, lock_timeout: str = LOCK_TIMEOUT, attempts: int = ATTEMPTS
) -> BuiltIndex:
    """Make sure that an index is on its live table, valid and as its file defines it. Writers and readers go on.

    An invalid index, as a failed CREATE INDEX CONCURRENTLY leaves it, is dropped and built again: it serves nobody,
    slows writes down, and IF NOT EXISTS would take it for good. A build waits for older transactions to end, at most
    `lock_timeout` at a time, so that no queue forms behind it.

    Args:
        connection: in autocommit, since a concurrent build can't run inside a transaction.
        file: the index.
        lock_timeout: longest wait of one attempt, as PostgreSQL writes durations.
        attempts: how often to try.

    Raises:
        DataError: a valid index of this name is another one; or others held their locks through all attempts.
    """
    connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(LIVE)))
    before = index_state(connection, LIVE, file.name)
    if before is not None and before.valid:
        expected = expected_definition(connection, file)
        if before.definition != expected:
            raise DataError(
                f"The index {file.name} exists, but as: {before.definition}. Expected: {expected}. Rename or drop it; "
                "the platform never removes a valid index."
            )
        return BuiltIndex(file.name, True, before.size_bytes, None, replaced_invalid=False)
    connection.execute("SELECT set_config('lock_timeout', %s, false)", [lock_timeout])
    try:
        seconds = _build(connection, file, attempts)
    finally:
        connection.execute("RESET lock_timeout")
    after = index_state(connection, LIVE, file.name)
    if after is None:
        raise DataError(f"The index {file.name} was built but is gone: somebody else dropped it. Run this again.")
    return BuiltIndex(file.name, after.valid, after.size_bytes, seconds, replaced_invalid=before is not None)


def expected_definition(connection: Connection, file: IndexFile) -> str:
    """PostgreSQL's wording of the file's definition: asked of an index on an empty temporary copy of the table."""
    with connection.transaction(force_rollback=True):
        connection.execute(
            sql.SQL("CREATE TEMPORARY TABLE {0} (LIKE {1}.{0})").format(
                sql.Identifier(file.table), sql.Identifier(LIVE)
            )
        )
        connection.execute("SET LOCAL search_path = pg_temp")
        connection.execute(file.statement)
        row = connection.execute("SELECT pg_get_indexdef(%s::regclass)", [file.name]).fetchone()
    return _without_schema(row[0]) if row else ""


def _build(connection: Connection, file: IndexFile, attempts: int) -> float:
    """Build concurrently, removing what a failed attempt left; returns the seconds of the build that succeeded."""
    name = sql.Identifier(LIVE, file.name)
    concurrently = file.statement.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY", 1)
    for _ in range(attempts):
        try:
            if index_state(connection, LIVE, file.name) is not None:
                connection.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(name))
            started = perf_counter()
            connection.execute(concurrently)
            return perf_counter() - started
        except psycopg.errors.LockNotAvailable:
            continue
    raise DataError(
        f"The index {file.name} could not be built: other transactions held {file.table} through {attempts} attempts. "
        "End long transactions (pg_stat_activity shows them), then run this again; an unfinished build is replaced."
    )


def _without_schema(definition: str) -> str:
    return re.sub(r' ON (ONLY )?("[^"]+"|[^ ."]+)\.', r" ON \1", definition, count=1)
