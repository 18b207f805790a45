"""Loads a source into users, products, events and truth: all four or none, in one transaction, once a source."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from psycopg import sql
from psycopg.types.json import Jsonb

from shop_platform.commerce.bulk import bulk_loading
from shop_platform.commerce.difference import COLUMNS, KEYS, Difference, apply_difference, incoming, make_incoming
from shop_platform.commerce.writing import as_writer
from shop_platform.erasure.record import without_erased
from shop_platform.errors import DataError
from shop_platform.loaded import Moved, due_of, holds, note_source, until
from shop_platform.progress import track
from shop_platform.quarantine import (
    forget_refused,
    keep_quarantine,
    keeping_refused,
    refuse_over_threshold,
)
from shop_platform.resources.copying import copy_batches
from shop_platform.resources.locks import be_the_only_one
from shop_platform.resources.postgres import Connection, PostgresResource, clock
from shop_platform.sources.base import Shop

if TYPE_CHECKING:
    from shop_platform.sources.base import Extract, Truth

LOAD_LOCK = 7_301_002

#: Parents first, so that foreign keys hold while loading.
TABLES = ("users", "products", "events")


def lock_loading(connection: Connection) -> None:
    """Wait until nobody else loads or erases, and keep others waiting until the caller's transaction ends.

    Raises:
        BusyError: somebody else has loaded for too long.
    """
    be_the_only_one(connection, LOAD_LOCK, "loading users, products and events")


@dataclass(frozen=True)
class Load:
    """How a table stands to its source.

    Attributes:
        rows_read: rows that the source holds.
        rows_loaded: rows that it gives; all of them are in the table.
        left_out, quarantined: the other rows, by reason.
        last_id: highest event_id of the source's rows; None for other tables.
        difference: what this load changed; None where the source was loaded already.
        kept: rows that the source gave once and gives no longer, which stay because rows of others refer to them.
        moved: what this load found new, changed or gone among the source's files, where it has any.
        due: when the same source gives more rows; see `Extract`.
    """

    rows_read: int
    rows_loaded: int
    left_out: Mapping[str, int]
    quarantined: Mapping[str, int]
    last_id: int | None
    difference: Difference | None
    kept: int = 0
    moved: Moved | None = None
    due: dt.datetime | None = None

    @property
    def changed(self) -> bool:
        """Whether the source was loaded just now."""
        return self.difference is not None

    @property
    def adds_up(self) -> bool:
        """Whether every row that the source holds was loaded, left out on purpose or quarantined."""
        return self.rows_read == self.rows_loaded + sum(self.left_out.values()) + sum(self.quarantined.values())


def load_shop_tables(connection: Connection, shop: Shop) -> dict[str, Load]:
    """Bring the shop's tables to what its source gives, in the caller's transaction; returns a `Load` a table.

    A source that is already loaded is left alone, with whatever was added to the tables since. One that changed is
    compared with what was loaded from it: see `apply_difference`. Rows that somebody else added stay in either case,
    views, grants and foreign keys too, and readers see the old rows until the commit. Into empty tables, where there
    is nothing to be seen, loading takes a short cut: see `bulk_loading`. Rows are written as the writer, which may not
    know who was erased: that is read before.

    Raises:
        BusyError: another run has been loading for too long.
        RefusedLoadError: too many rows of a table break the contract.
        DataError: the tables hold another shop; the source gives a row that somebody else has added already, with
            other values; or it gives a value that a column can't hold.
        psycopg.IntegrityError: the source's rows contradict each other, such as an event of an unknown user.
    """
    lock_loading(connection)
    now = clock(connection)
    shop = without_erased(connection, shop.at(now))
    with as_writer(connection):
        return _load(connection, shop, now)


def _load(connection: Connection, shop: Shop, now: dt.datetime) -> dict[str, Load]:
    # Taken first: what changes while the source is read is then noticed afterwards.
    state = shop.source.state()
    fingerprint = shop.source.fingerprint()
    loads = _loads(connection, shop, fingerprint, now)
    if loads is not None:
        forget_refused(connection, TABLES)
        note_source(connection, "commerce", shop, until(state, loads["events"].due))
        return loads
    ids = ""
    with bulk_loading(connection) as truncated:
        if truncated:
            loads = _load_at_once(connection, shop)
        else:
            loads, ids = _load_difference(connection, shop)
    if truncated:
        # With the primary key back in its place, the highest id is found at once.
        last_id = _continue_numbering(connection)
        ids = f"{{[1,{last_id}]}}" if loads["events"].rows_loaded else "{}"
    else:
        last_id = highest_id(connection, ids)
    loads["events"] = replace(loads["events"], last_id=last_id)
    _load_truth(connection, shop.source.truth())
    # All three end together: they are loaded together.
    due = min((load.due for load in loads.values() if load.due is not None), default=None)
    for table, load in loads.items():
        note_load(connection, table, shop.name, until(fingerprint, due), load, ids if table == "events" else None)
    moved = note_source(connection, "commerce", shop, until(state, due), shop.source.manifest())
    return {table: replace(load, moved=moved) for table, load in loads.items()}


def rows_in_table(connection: Connection, table: str) -> int:
    """Rows of a table of the shop, counted."""
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
    return int(row[0]) if row else 0


def load_or_refuse(postgres: PostgresResource, shop: Shop) -> dict[str, Load]:
    """`load_shop_tables` in a transaction of its own; what a refused load quarantined is kept to be looked at.

    Raises:
        RefusedLoadError: and whatever else `load_shop_tables` raises.
    """
    with keeping_refused(postgres), postgres.connect() as connection:
        return load_shop_tables(connection, shop)


def refuse_another_shop(connection: Connection, shop: Shop) -> None:
    """Make sure that the tables are this shop's, or nobody's.

    Raises:
        DataError: they hold another shop.
    """
    others = connection.execute(
        "SELECT DISTINCT shop FROM ops.loads WHERE shop <> %s ORDER BY shop", [shop.name]
    ).fetchall()
    if others:
        raise DataError(
            f"This database holds the shop {', '.join(row[0] for row in others)}, not {shop.name}. Point DATABASE_URL "
            "at a database of its own for each shop."
        )


def _loads(connection: Connection, shop: Shop, fingerprint: str, now: dt.datetime) -> dict[str, Load] | None:
    """What was loaded before, where it is all of this very source; None where it must be loaded."""
    refuse_another_shop(connection, shop)
    rows = connection.execute(
        "SELECT table_name, shop, fingerprint, rows_read, rows_loaded, left_out, quarantined, last_id, kept"
        " FROM ops.loads"
    ).fetchall()
    if {row[0] for row in rows if holds(row[2], fingerprint, now)} != set(TABLES):
        return None
    return {row[0]: Load(row[3], row[4], row[5], row[6], row[7], None, kept=row[8], due=due_of(row[2])) for row in rows}


def _load_at_once(connection: Connection, shop: Shop) -> dict[str, Load]:
    """Load everything into tables that are this transaction's own."""
    loads = {}
    for table in TABLES:
        loads[table] = take(connection, shop, table, sql.Identifier(table), extract_of(shop, table), freeze=True)
    connection.execute("DELETE FROM ops.loaded_keys")
    for table in ("users", "products"):
        connection.execute(
            sql.SQL("INSERT INTO ops.loaded_keys (table_name, key) SELECT {}, {} FROM {}").format(
                table, sql.Identifier(KEYS[table]), sql.Identifier(table)
            )
        )
    return {table: replace(load, difference=Difference(load.rows_loaded, 0, 0, 0)) for table, load in loads.items()}


def _load_difference(connection: Connection, shop: Shop) -> tuple[dict[str, Load], str]:
    """Load what differs; returns also the ids of the events that are the source's."""
    loads = {}
    for table in TABLES:
        make_incoming(connection, table)
        loads[table] = take(connection, shop, table, incoming(table), extract_of(shop, table))
    differences, ids = apply_difference(connection)
    return {
        table: replace(load, difference=differences[table], kept=differences[table].kept)
        for table, load in loads.items()
    }, ids


def extract_of(shop: Shop, table: str) -> Extract:
    """What the shop's source gives for a table."""
    extracts = {"users": shop.source.users, "products": shop.source.products, "events": shop.source.events}
    return extracts[table]()


def take(
    connection: Connection, shop: Shop, table: str, target: sql.Identifier, extract: Extract, *, freeze: bool = False
) -> Load:
    """Copy rows for a table into another or that very one, and keep what is quarantined.

    Raises:
        RefusedLoadError: too many rows of the table break the contract.
        DataError: a value that a column can't hold.
    """
    with track(f"loading {table}", extract.fit, "rows") as advance:
        rows = copy_batches(connection, target, COLUMNS[table], extract.batches, freeze=freeze, done=advance)
    refuse_over_threshold(shop, table, extract.rows_read, extract.quarantined, extract.quarantine)
    keep_quarantine(connection, table, extract.quarantine)
    left_out, quarantined = dict(extract.left_out), dict(extract.quarantined)
    return Load(extract.rows_read, rows, left_out, quarantined, None, None, due=extract.due)


def _continue_numbering(connection: Connection) -> int:
    """Let the database's own ids follow the source's highest; returns that, or 1 where there is no event."""
    row = connection.execute(
        "SELECT setval(pg_get_serial_sequence('events', 'event_id'), greatest(max(event_id), 1)) FROM events"
    ).fetchone()
    return int(row[0]) if row else 1


def highest_id(connection: Connection, ids: str) -> int:
    """The highest id of an int8multirange; 1 where it is empty."""
    row = connection.execute("SELECT coalesce(upper(%s::int8multirange) - 1, 1)", [ids]).fetchone()
    return int(row[0]) if row else 1


def _load_truth(connection: Connection, truth: Truth | None) -> None:
    connection.execute("DELETE FROM truth.parameters")
    connection.execute("DELETE FROM truth.users")
    if truth is None:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO truth.parameters (name, value) VALUES (%s, %s)",
            [(name, Jsonb(value)) for name, value in truth.parameters.items()],
        )
    copy_batches(connection, sql.Identifier("truth", "users"), ("user_id", "persona", "traits"), truth.personas)


def note_load(connection: Connection, table: str, shop: str, fingerprint: str, load: Load, ids: str | None) -> None:
    """Note what a table was loaded from and, of events, which ids are the source's."""
    connection.execute(
        "INSERT INTO ops.loads"
        " (table_name, shop, fingerprint, rows_read, rows_loaded, left_out, quarantined, kept, last_id, ids)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (table_name) DO UPDATE SET shop = excluded.shop,"
        " fingerprint = excluded.fingerprint, rows_read = excluded.rows_read, rows_loaded = excluded.rows_loaded,"
        " left_out = excluded.left_out, quarantined = excluded.quarantined, kept = excluded.kept,"
        " last_id = excluded.last_id, ids = excluded.ids, loaded_at = now()",
        [
            table, shop, fingerprint, load.rows_read, load.rows_loaded, Jsonb(dict(load.left_out)),
            Jsonb(dict(load.quarantined)), load.kept, load.last_id, ids,
        ],
    )  # fmt: skip
