"""How a whole shop goes into its tables at once: what is put aside meanwhile, and put back before the commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import psycopg
from psycopg import sql

from shop_platform.resources.postgres import Connection, as_role

#: Milliseconds for which a first load waits to have the empty tables to itself, before it does without.
_PATIENCE = 10_000

#: What building an index and checking foreign keys may use, where PostgreSQL's own setting is lower.
_MEMORY = "512MB"

#: Triggers that note each row for the summaries, by table.
_LOGS = (
    ("events", "log_inserted_events"),
    ("events", "log_deleted_events"),
    ("events", "log_inserted_retention"),
    ("events", "log_deleted_retention"),
    ("users", "log_inserted_users"),
    ("users", "log_deleted_users"),
)

#: What may stand in the way of a first load's short cut: a reader who stays, objects that hang on a constraint or refer
#: to a table, and tables that belong to somebody else.
_IN_THE_WAY = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DependentObjectsStillExist,
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.ObjectNotInPrerequisiteState,
)

# An index with options, a tablespace, a mark or a comment of its own is left in place: `pg_get_constraintdef` tells of
# none of these, so putting the constraint back would lose them.
_CONSTRAINTS = """
    SELECT conname, pg_get_constraintdef(c.oid)
    FROM pg_constraint AS c
    LEFT JOIN pg_index AS i ON i.indexrelid = c.conindid AND c.contype = 'p'
    LEFT JOIN pg_class AS r ON r.oid = i.indexrelid
    WHERE conrelid = 'events'::regclass AND contype IN ('p', 'f')
        AND obj_description(c.oid, 'pg_constraint') IS NULL
        AND (contype = 'f' OR r.reloptions IS NULL AND r.reltablespace = 0 AND NOT indisclustered
            AND NOT indisreplident AND obj_description(r.oid, 'pg_class') IS NULL)
    ORDER BY contype = 'f', conname
"""


# The indexes that serve no constraint, with the same reserve.
_INDEXES = """
    SELECT r.relname, pg_get_indexdef(r.oid)
    FROM pg_index AS i
    JOIN pg_class AS r ON r.oid = i.indexrelid
    WHERE indrelid = 'events'::regclass AND indisvalid AND NOT indisclustered AND NOT indisreplident
        AND r.reltablespace = 0 AND obj_description(r.oid, 'pg_class') IS NULL
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = r.oid)
    ORDER BY r.relname
"""


@contextmanager
def bulk_loading(connection: Connection) -> Iterator[bool]:
    """Everything that surrounds the loading of users, products and events, in the caller's transaction.

    Yields whether the three tables were empty and are now this transaction's own. Then they have just been truncated,
    so that COPY may freeze its rows, and `events` has neither primary key nor foreign keys nor other indexes until the
    block ends well: one sort for each index and two joins over all rows cost far less than index entries and two
    look-ups for each. Afterwards the same constraints and indexes stand under the same names. If the block fails, the
    caller's transaction has to be rolled back. Only whoever owns the tables may do all this: it is done as whoever logs
    in, and the block runs as the role that the caller has taken.
    (Frozen rows are visible even to a snapshot taken before the load, which somebody could notice who holds one open
    but has not read the tables yet.)

    Where the tables hold rows, nothing is done. Dropping a constraint, and TRUNCATE, lock everybody out until the
    commit, and whoever reads meanwhile must see the old rows: a changed source goes in by difference, with everything
    in place. The same goes where somebody keeps reading the empty tables, or has made objects that depend on them.

    Raises:
        psycopg.errors.UniqueViolation: an `event_id` stands more than once; PostgreSQL tells which.
        psycopg.errors.ForeignKeyViolation: an event of an unknown user or product; PostgreSQL tells which.
    """
    with as_role(connection, None):
        put_aside = _take_empty_tables(connection)
    if put_aside is None:
        yield False
        return
    with unlogged(connection):
        yield True
        with as_role(connection, None):
            _put_back(connection, put_aside)


@contextmanager
def unlogged(connection: Connection) -> Iterator[None]:
    """Within it no row is noted for the summaries one by one; they are told to build themselves anew instead.

    Locks other writers out until the caller's transaction ends, and no reader.
    """
    _log_rows(connection, "DISABLE")
    yield
    _log_rows(connection, "ENABLE")
    connection.execute(
        "DELETE FROM ops.event_log; INSERT INTO ops.event_log (sign) VALUES (0);"
        "DELETE FROM ops.retention_log; INSERT INTO ops.retention_log DEFAULT VALUES;"
        "INSERT INTO ops.export_log (month) SELECT NULL FROM ops.exports"
    )


def _log_rows(connection: Connection, state: Literal["ENABLE", "DISABLE"]) -> None:
    """Switch the triggers that note each row for the summaries, which only the tables' owner may."""
    statement = sql.SQL("ALTER TABLE {} {} TRIGGER {}")
    with as_role(connection, None):
        for table, name in _LOGS:
            connection.execute(statement.format(sql.Identifier(table), sql.SQL(state), sql.Identifier(name)))


def _put_back(connection: Connection, put_aside: list[str]) -> None:
    if put_aside:
        connection.execute(
            "SELECT set_config('maintenance_work_mem', %s, true) WHERE pg_size_bytes(%s)"
            " > pg_size_bytes(current_setting('maintenance_work_mem'))",
            [_MEMORY, _MEMORY],
        )
        # Without these numbers the planner may sort all events to check a foreign key.
        connection.execute("ANALYZE users, products")
    for statement in put_aside:
        connection.execute(statement)


def _take_empty_tables(connection: Connection) -> list[str] | None:
    """Lock and truncate the tables, drop the constraints and indexes of `events`; returns what makes them again.

    Returns None, having done nothing, where a table holds rows or something is in the way.
    """
    if not _empty(connection):
        return None
    try:
        # A savepoint: what is in the way must not end the whole transaction.
        with connection.transaction():
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [str(_PATIENCE)])
            connection.execute("LOCK TABLE users, products, events IN ACCESS EXCLUSIVE MODE")
            # Somebody may have been faster than the lock.
            if not _empty(connection):
                raise psycopg.Rollback
            connection.execute("TRUNCATE users, products, events")
            indexes: dict[str, str] = dict(connection.execute(_INDEXES).fetchall())
            constraints: dict[str, str] = dict(connection.execute(_CONSTRAINTS).fetchall())
            for name in constraints:
                connection.execute(sql.SQL("ALTER TABLE events DROP CONSTRAINT {}").format(sql.Identifier(name)))
            for name in indexes:
                connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier("public", name)))
            connection.execute("SET LOCAL lock_timeout TO DEFAULT")
            again = sql.SQL("ALTER TABLE events ADD CONSTRAINT {} {}")
            return [
                *(
                    again.format(sql.Identifier(name), sql.SQL(definition)).as_string(connection)
                    for name, definition in constraints.items()
                ),
                *indexes.values(),
            ]
    except _IN_THE_WAY:
        pass
    return None


def _empty(connection: Connection) -> bool:
    row = connection.execute(
        "SELECT NOT EXISTS (SELECT FROM users) AND NOT EXISTS (SELECT FROM products)"
        " AND NOT EXISTS (SELECT FROM events)"
    ).fetchone()
    return bool(row and row[0])
