"""The schema of the shop's database: which migrations it holds, and applying those that it lacks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import psycopg
from psycopg.rows import TupleRow

from shop_platform.errors import SchemaError
from shop_platform.sqlfiles import SqlFile

#: Transaction-level advisory lock key: one migrator at a time.
MIGRATE_LOCK = 7_301_001

#: Milliseconds for which a migrator waits for another one, or for whoever holds a table.
_PATIENCE = 60_000


def migrate(connection: psycopg.Connection[TupleRow], files: Sequence[SqlFile]) -> list[str]:
    """Apply, in the caller's transaction, the migrations that the database lacks; returns their names.

    Forward only: what was applied is never taken back, and its file never changes. A database that holds all of them
    is only read. Everything is applied or, where one fails, nothing: the caller's transaction then has to be rolled
    back.

    Args:
        connection: in a new READ COMMITTED transaction.
        files: all migrations of this version, in their order.

    Raises:
        SchemaError: a newer version has migrated the database, or one of this version's migrations is not what was
            applied, both found before anything is written; or one of them fails.
    """
    if _up_to_date(connection, files):
        return []
    connection.execute("SELECT set_config('lock_timeout', %s, true)", [str(_PATIENCE)])
    try:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [MIGRATE_LOCK])
        # Whoever held the lock may have done all of it.
        if _up_to_date(connection, files):
            return []
        applied = _applied(connection)
        _make_table(connection, files)
    except psycopg.errors.LockNotAvailable as error:
        raise SchemaError(
            f"Another migration of this database has run for more than {_PATIENCE // 1000} s: wait for it or end it "
            "(pg_stat_activity shows it), then try again."
        ) from error
    missing = [file for file in files if file.name not in applied]
    for file in missing:
        _apply(connection, file)
    return [file.name for file in missing]


def digest_of(file: SqlFile) -> str:
    """SHA-256 of a migration's text, by which a later change is noticed."""
    return hashlib.sha256(file.text.encode()).hexdigest()


def _up_to_date(connection: psycopg.Connection[TupleRow], files: Sequence[SqlFile]) -> bool:
    """Whether nothing is to be written.

    Raises:
        SchemaError: this version does not fit the database.
    """
    applied = _applied(connection)
    _refuse_newer(applied, files)
    _refuse_changed(applied, files)
    return applied.keys() == {file.name for file in files} and None not in [each for each, _ in applied.values()]


def _applied(connection: psycopg.Connection[TupleRow]) -> dict[str, tuple[str | None, str]]:
    """Digest and platform of each migration that the database holds, by name."""
    row = connection.execute("SELECT to_regclass('ops.migrations') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return {}
    # As JSON: before digests were noted, the table had no such columns.
    found = connection.execute(
        "SELECT name, to_jsonb(m) ->> 'digest', to_jsonb(m) ->> 'platform' FROM ops.migrations m"
    )
    return {name: (digest, platform or "an unknown version") for name, digest, platform in found}


def _refuse_newer(applied: Mapping[str, tuple[str | None, str]], files: Sequence[SqlFile]) -> None:
    unknown = sorted(applied.keys() - {file.name for file in files})
    if unknown:
        raise SchemaError(
            f"The database holds migrations that this version ({_platform()}) does not know: {', '.join(unknown)}. "
            f"It was used by a newer shop_platform ({applied[unknown[-1]][1]}); upgrade this one. Nothing was written."
        )


def _refuse_changed(applied: Mapping[str, tuple[str | None, str]], files: Sequence[SqlFile]) -> None:
    for file in files:
        digest, platform = applied.get(file.name, (None, ""))
        if digest is not None and digest != digest_of(file):
            raise SchemaError(
                f"The migration {file.name} is not the one that {platform} applied to this database: its file has "
                "changed since. Put the file back as it was; what is to be otherwise goes into a new migration. "
                "Nothing was written."
            )


def _make_table(connection: psycopg.Connection[TupleRow], files: Sequence[SqlFile]) -> None:
    """Make the record of migrations, or bring that of a database from before digests up to this version."""
    connection.execute(
        "CREATE SCHEMA IF NOT EXISTS ops;"
        "CREATE TABLE IF NOT EXISTS ops.migrations"
        " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());"
        "ALTER TABLE ops.migrations ADD COLUMN IF NOT EXISTS digest text, ADD COLUMN IF NOT EXISTS platform text"
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE ops.migrations SET digest = %s WHERE name = %s AND digest IS NULL",
            [(digest_of(file), file.name) for file in files],
        )


def _apply(connection: psycopg.Connection[TupleRow], file: SqlFile) -> None:
    try:
        connection.execute(file.text)
        connection.execute(
            "INSERT INTO ops.migrations (name, digest, platform) VALUES (%s, %s, %s)",
            [file.name, digest_of(file), _platform()],
        )
    except psycopg.Error as error:
        # Not the whole message: its detail may show a row.
        raise SchemaError(
            f"The migration {file.name} can't be applied ({type(error).__name__}: "
            f"{error.diag.message_primary or 'the connection was lost'}). The database is as it was before; mend the "
            "cause, then try again."
        ) from error


def _platform() -> str:
    return f"shop_platform {version('shop-platform')}"
