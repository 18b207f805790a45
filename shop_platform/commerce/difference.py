"""Brings tables that hold rows to what a changed source gives, by difference: what stays is not touched.

The source's rows lie in temporary tables `incoming_<table>`. Which rows of the tables came from the source before is
known by their keys in `ops.loaded_keys` and, for events, by `ops.loads.ids`; nobody else's row is changed or removed.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import sql

from shop_platform.commerce.bulk import unlogged
from shop_platform.errors import DataError
from shop_platform.resources.postgres import Connection
from shop_platform.sources.base import EVENT_COLUMNS, PRODUCT_COLUMNS, USER_COLUMNS

COLUMNS = {"users": USER_COLUMNS, "products": PRODUCT_COLUMNS, "events": EVENT_COLUMNS}

KEYS = {"users": "user_id", "products": "product_id", "events": "event_id"}


@dataclass(frozen=True)
class Difference:
    """What became of the rows of a table.

    Attributes:
        added, updated, removed: rows of the source that were.
        kept: rows that the source gives no longer, which stay because rows of somebody else refer to them.
    """

    added: int
    updated: int
    removed: int
    kept: int


def incoming(table: str) -> sql.Identifier:
    """The temporary table for what the source gives."""
    return sql.Identifier(f"incoming_{table}")


def make_incoming(connection: Connection, table: str) -> None:
    """Make the temporary table for what the source gives; it goes with the transaction."""
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(incoming(table)))
    connection.execute(
        sql.SQL("CREATE TEMPORARY TABLE {} (LIKE {}) ON COMMIT DROP").format(incoming(table), sql.Identifier(table))
    )


def apply_difference(connection: Connection) -> tuple[dict[str, Difference], str]:
    """Bring `users`, `products` and `events` to what lies in their incoming tables, in the caller's transaction.

    Returns what became of each table, and the ids of the events that are the source's now, as an int8multirange.

    Others wait with their writing until it ends, and read the old rows meanwhile. Events are compared as multisets:
    of equal ones as many stay as the source gives.

    Raises:
        DataError: the source gives a key that somebody else's row has already, with other values.
        psycopg.IntegrityError: the source's rows contradict each other, such as an event of an unknown user.
    """
    for table in COLUMNS:
        connection.execute(sql.SQL("ANALYZE {}").format(incoming(table)))
    lock_tables(connection)
    changes = {table: put(connection, table) for table in ("users", "products")}
    events, ids = exchange_events(connection)
    removed = {table: _remove(connection, table) for table in changes}
    return {table: Difference(*changes[table], *removed[table]) for table in changes} | {"events": events}, ids


def lock_tables(connection: Connection) -> None:
    """Let others wait with their writing until the caller's transaction ends; they read the old rows meanwhile."""
    connection.execute("LOCK TABLE users, products, events IN SHARE ROW EXCLUSIVE MODE")


def put(connection: Connection, table: str) -> tuple[int, int]:
    """Add the source's new rows to a table with a key, and update those that changed; returns how many of each.

    Raises:
        DataError: the source gives a key that somebody else's row has already, with other values.
    """
    key = KEYS[table]
    others = [column for column in COLUMNS[table] if column != key]
    names = {
        "table": sql.Identifier(table),
        "name": sql.Literal(table),
        "incoming": incoming(table),
        "key": sql.Identifier(key),
        "columns": sql.SQL(", ").join(map(sql.Identifier, COLUMNS[table])),
        "old": sql.SQL(", ").join(sql.Identifier("old", each) for each in others),
        "new": sql.SQL(", ").join(sql.Identifier("new", each) for each in others),
        "set": sql.SQL(", ").join(sql.SQL("{0} = new.{0}").format(sql.Identifier(each)) for each in others),
    }
    foreign = _value(
        connection,
        "SELECT count(*) FROM {table} AS old JOIN {incoming} AS new USING ({key})"
        " WHERE ({old}) IS DISTINCT FROM ({new}) AND NOT EXISTS ("
        "SELECT FROM ops.loaded_keys WHERE table_name = {name} AND key = new.{key})",
        names,
    )
    if foreign:
        raise DataError(
            f"The source gives {foreign:,} rows for {table} whose {key} somebody else has added to the table already, "
            f"with other values: both can't be kept. Remove those rows from {table}, or rename them in the source; "
            "nothing was loaded."
        )
    updated = connection.execute(
        sql.SQL(
            "UPDATE {table} AS old SET {set} FROM {incoming} AS new"
            " WHERE old.{key} = new.{key} AND ({old}) IS DISTINCT FROM ({new})"
        ).format(**names)
    ).rowcount
    added = _value(
        connection,
        "WITH added AS (INSERT INTO {table} ({columns}) SELECT {columns} FROM {incoming} AS new"
        " WHERE NOT EXISTS (SELECT FROM {table} AS old WHERE old.{key} = new.{key}) RETURNING {key}),"
        " noted AS (INSERT INTO ops.loaded_keys (table_name, key) SELECT {name}, {key} FROM added"
        " ON CONFLICT DO NOTHING) SELECT count(*) FROM added",
        names,
    )
    return added, updated


def _remove(connection: Connection, table: str) -> tuple[int, int]:
    """Remove rows that the source gives no longer, where nothing refers to them; returns how many went and stayed."""
    key = KEYS[table]
    names = {
        "table": sql.Identifier(table),
        "name": sql.Literal(table),
        "incoming": incoming(table),
        "key": sql.Identifier(key),
    }
    removed = connection.execute(
        sql.SQL(
            "DELETE FROM {table} AS old USING ops.loaded_keys WHERE old.{key} = key AND table_name = {name}"
            " AND NOT EXISTS (SELECT FROM {incoming} AS new WHERE new.{key} = old.{key}) AND NOT ({referred})"
        ).format(**names, referred=_referred(connection, table))
    ).rowcount
    # Also of rows that somebody else removed; one that the source gives has just been added again.
    connection.execute(
        sql.SQL(
            "DELETE FROM ops.loaded_keys WHERE table_name = {name}"
            " AND NOT EXISTS (SELECT FROM {table} AS old WHERE old.{key} = loaded_keys.key)"
        ).format(**names)
    )
    kept = _value(
        connection,
        "SELECT count(*) FROM ops.loaded_keys WHERE table_name = {name}"
        " AND NOT EXISTS (SELECT FROM {incoming} AS new WHERE new.{key} = loaded_keys.key)",
        names,
    )
    return removed, kept


# The sum with nothing is a copy in memory: the stored value would be unpacked again for each event.
_OURS = "SELECT coalesce((SELECT ids FROM ops.loads WHERE table_name = 'events'), '{}') + '{}'"

# Equal events are told apart by their place among each other, the oldest first.
_COMPARE = """
WITH old AS (
    SELECT event_id AS old_id, user_id, product_id, event_type, timestamp, row_number() OVER (
        PARTITION BY user_id, product_id, event_type, timestamp ORDER BY event_id) AS place
    FROM events WHERE event_id <@ ({ours}) AND {within}
), new AS (
    SELECT event_id AS new_id, user_id, product_id, event_type, timestamp, row_number() OVER (
        PARTITION BY user_id, product_id, event_type, timestamp ORDER BY event_id) AS place
    FROM incoming_events
)
SELECT * FROM old FULL JOIN new USING (user_id, product_id, event_type, timestamp, place)
WHERE old_id IS NULL OR new_id IS NULL
"""

# The ids are the database's own, in the source's order.
_ADD = """
WITH added AS (
    INSERT INTO events (user_id, product_id, event_type, timestamp)
    SELECT user_id, product_id, event_type, timestamp FROM event_difference WHERE new_id IS NOT NULL ORDER BY new_id
    RETURNING event_id
)
SELECT count(*), coalesce(range_agg(int8range(event_id, event_id, '[]')), '{}') FROM added
"""

_REMOVE = """
WITH removed AS (
    DELETE FROM events AS old USING event_difference WHERE event_id = old_id AND NOT ({referred}) RETURNING event_id
)
SELECT count(*), coalesce(range_agg(int8range(event_id, event_id, '[]')), '{{}}') FROM removed
"""


def exchange_events(connection: Connection, times: str | None = None) -> tuple[Difference, str]:
    """Remove the source's events that it gives no longer, and add its new ones; returns also the ids that it has.

    Leaves what differed in the temporary table `event_difference`.

    Args:
        connection: in a transaction that has locked the tables.
        times: a tstzmultirange in which the incoming events lie; events outside of it are not looked at. None where
            the incoming events are all that the source gives.
    """
    connection.execute("DROP TABLE IF EXISTS event_difference")
    connection.execute(
        sql.SQL("CREATE TEMPORARY TABLE event_difference ON COMMIT DROP AS {}").format(_comparison(times))
    )
    connection.execute("ANALYZE event_difference")
    # Of some months the incoming events are few, and the summaries are still those of all events.
    changes, whole = connection.execute(
        sql.SQL("SELECT (SELECT count(*) FROM event_difference), (SELECT count(*) FROM {})").format(
            incoming("events") if times is None else sql.Identifier("events")
        )
    ).fetchone() or (0, 0)
    if not changes:
        # A statement that changes nothing would still be noted as a change of the events.
        return Difference(0, 0, 0, 0), str(_row(connection, sql.SQL("SELECT 0, ({})::text").format(sql.SQL(_OURS)))[1])
    # So many changes take the summaries longer one by one than building them anew.
    with unlogged(connection) if changes > whole else nullcontext():
        removed, removed_ids = _row(connection, sql.SQL(_REMOVE).format(referred=_referred(connection, "events")))
        # Ids that somebody gave by hand may lie ahead of the sequence.
        connection.execute(
            "SELECT setval(pg_get_serial_sequence('events', 'event_id'), max(event_id)) FROM events HAVING"
            " max(event_id) > coalesce(pg_sequence_last_value(pg_get_serial_sequence('events', 'event_id')), 0)"
        )
        added, added_ids = _row(connection, sql.SQL(_ADD))
    vanished, ids = _row(
        connection,
        sql.SQL("SELECT (SELECT count(old_id) FROM event_difference), (({}) - {}::int8multirange + {})::text").format(
            sql.SQL(_OURS), removed_ids, added_ids
        ),
    )
    return Difference(added, 0, removed, vanished - removed), ids


def events_that_differ(connection: Connection, times: str) -> int:
    """How many events of these times that are the source's, as `ops.loads` notes, differ from the incoming ones."""
    return _row(connection, sql.SQL("SELECT count(*), NULL FROM ({}) AS found").format(_comparison(times)))[0]


def _comparison(times: str | None) -> sql.Composed:
    within = sql.SQL("true") if times is None else sql.SQL("timestamp <@ {}::tstzmultirange").format(times)
    return sql.SQL(_COMPARE).format(ours=sql.SQL(_OURS), within=within)


_FOREIGN_KEYS = """
SELECT nspname, relname, mine.names, theirs.names
FROM pg_constraint
JOIN pg_class ON pg_class.oid = conrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
CROSS JOIN LATERAL (
    SELECT array_agg(attname::text ORDER BY place) AS names FROM unnest(conkey) WITH ORDINALITY AS keys (number, place)
    JOIN pg_attribute ON attrelid = conrelid AND attnum = number
) AS mine
CROSS JOIN LATERAL (
    SELECT array_agg(attname::text ORDER BY place) AS names FROM unnest(confkey) WITH ORDINALITY AS keys (number, place)
    JOIN pg_attribute ON attrelid = confrelid AND attnum = number
) AS theirs
WHERE contype = 'f' AND conparentid = 0 AND confrelid = %s::regclass
ORDER BY nspname, relname, conname
"""


def _referred(connection: Connection, table: str) -> sql.Composable:
    """Condition that a row `old` of the table is referred to, by whatever table there is with a foreign key to it."""
    conditions = [
        sql.SQL("EXISTS (SELECT FROM {} AS child WHERE {})").format(
            sql.Identifier(schema, child),
            sql.SQL(" AND ").join(
                sql.SQL("{} = {}").format(sql.Identifier("child", mine), sql.Identifier("old", theirs))
                for mine, theirs in zip(columns, referred, strict=True)
            ),
        )
        for schema, child, columns, referred in connection.execute(_FOREIGN_KEYS, [table])
    ]
    return sql.SQL(" OR ").join(conditions) if conditions else sql.SQL("false")


def _row(connection: Connection, statement: sql.SQL | sql.Composed) -> tuple[int, Any]:
    row = connection.execute(statement).fetchone()
    return (0, None) if row is None else (int(row[0]), row[1])


def _value(connection: Connection, statement: LiteralString, names: dict[str, Any]) -> int:
    # Without parameters, so that a name may hold a per cent sign.
    row = connection.execute(sql.SQL(statement).format(**names)).fetchone()
    return int(row[0]) if row else 0
