"""Loads a source into users, products, events and truth: all four or none, in one transaction, once a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from psycopg import sql
from psycopg.types.json import Jsonb

from shop_platform.commerce.bulk import bulk_loading
from shop_platform.errors import DataError
from shop_platform.resources.copying import copy_batches
from shop_platform.resources.postgres import Connection
from shop_platform.sources.base import EVENT_COLUMNS, PRODUCT_COLUMNS, USER_COLUMNS, Extract, Shop

if TYPE_CHECKING:
    from shop_platform.sources.base import Truth

LOAD_LOCK = 7_301_002

#: Parents first, so that foreign keys hold while loading.
TABLES = ("users", "products", "events")

_COLUMNS = {"users": USER_COLUMNS, "products": PRODUCT_COLUMNS, "events": EVENT_COLUMNS}


@dataclass(frozen=True)
class Load:
    """How a table stands to its source: rows it holds, rows loaded, and those left out or quarantined by reason."""

    rows_read: int
    rows_loaded: int
    left_out: Mapping[str, int]
    quarantined: Mapping[str, int]
    last_id: int | None
    changed: bool

    @property
    def adds_up(self) -> bool:
        """Whether every row that the source holds was loaded, left out on purpose or quarantined."""
        return self.rows_read == self.rows_loaded + sum(self.left_out.values()) + sum(self.quarantined.values())


def load_shop_tables(connection: Connection, shop: Shop) -> dict[str, Load]:
    """Bring the shop's tables to what its source gives, in the caller's transaction; returns a `Load` a table.

    A source that is already loaded is left alone, with whatever was added to `events` since. A source that changed
    replaces the rows of the one before. Deletes and copies rather than swapping tables: views, grants and foreign
    keys stay, and readers see the old rows until the commit. Into empty tables, where there is nothing to be seen,
    loading takes a short cut: see `bulk_loading`.

    Raises:
        DataError: the tables hold another shop, or rows that no source of ours gave and that replacing would lose; or
            the source gives a value that a column can't hold.
        psycopg.IntegrityError: the source's rows contradict each other, such as an event of an unknown user.
    """
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOAD_LOCK])
    fingerprint = shop.source.fingerprint()
    loaded = _loads(connection, shop, fingerprint)
    if loaded is not None:
        return loaded
    extracts = {"users": shop.source.users, "products": shop.source.products, "events": shop.source.events}
    with bulk_loading(connection) as truncated:
        if not truncated:
            _refuse_to_lose_rows(connection)
            for table in reversed(TABLES):
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        loads = {table: _load_table(connection, table, extracts[table](), freeze=truncated) for table in TABLES}
    # With the primary key back in its place, the highest id is found at once.
    loads["events"] = replace(loads["events"], last_id=_continue_numbering(connection))
    _load_truth(connection, shop.source.truth())
    for table, load in loads.items():
        _note(connection, table, shop.name, fingerprint, load)
    return loads


def rows_in_table(connection: Connection, table: str) -> int:
    """Rows of a table of the shop, counted."""
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
    return int(row[0]) if row else 0


def _loads(connection: Connection, shop: Shop, fingerprint: str) -> dict[str, Load] | None:
    """What was loaded before, where it is all of this very source; None where it must be loaded."""
    rows = connection.execute(
        "SELECT table_name, shop, fingerprint, rows_read, rows_loaded, left_out, last_id FROM ops.loads"
    ).fetchall()
    others = {row[1] for row in rows} - {shop.name}
    if others:
        raise DataError(
            f"This database holds the shop {', '.join(sorted(others))!s}, not {shop.name}. Point DATABASE_URL at a "
            "database of its own for each shop."
        )
    if {row[0] for row in rows if row[2] == fingerprint} != set(TABLES):
        return None
    return {row[0]: Load(row[3], row[4], row[5], {}, row[6], changed=False) for row in rows}


def _refuse_to_lose_rows(connection: Connection) -> None:
    """Stop before a replacement that would delete rows which no source of ours gave."""
    loaded: dict[str, int] = dict(connection.execute("SELECT table_name, rows_loaded FROM ops.loads").fetchall())
    foreign_rows = {table: rows_in_table(connection, table) - loaded.get(table, 0) for table in ("users", "products")}
    # Ids tell for certain which events came from elsewhere, even where some that were loaded have been deleted.
    row = connection.execute(
        "SELECT count(*) FROM events WHERE event_id > coalesce("
        "(SELECT last_id FROM ops.loads WHERE table_name = 'events'), 0)"
    ).fetchone()
    foreign_rows["events"] = row[0] if row else 0
    for table, foreign in foreign_rows.items():
        if foreign > 0:
            raise DataError(
                f"Table {table} holds {foreign} rows that were not loaded from this shop's source, and the source has "
                "changed: replacing it would lose them. Use another database (DATABASE_URL) or another SHOP_HOME for "
                "the changed source, or delete those rows yourself."
            )


def _load_table(connection: Connection, table: str, extract: Extract, *, freeze: bool) -> Load:
    rows = copy_batches(connection, sql.Identifier(table), _COLUMNS[table], extract.batches, freeze=freeze)
    return Load(extract.rows_read, rows, dict(extract.left_out), dict(extract.quarantined), None, changed=True)


def _continue_numbering(connection: Connection) -> int:
    """Let the database's own ids follow the source's highest; returns that, or 1 where there is no event."""
    row = connection.execute(
        "SELECT setval(pg_get_serial_sequence('events', 'event_id'), greatest(max(event_id), 1)) FROM events"
    ).fetchone()
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


def _note(connection: Connection, table: str, shop: str, fingerprint: str, load: Load) -> None:
    connection.execute(
        "INSERT INTO ops.loads (table_name, shop, fingerprint, rows_read, rows_loaded, left_out, last_id)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (table_name) DO UPDATE SET shop = excluded.shop,"
        " fingerprint = excluded.fingerprint, rows_read = excluded.rows_read, rows_loaded = excluded.rows_loaded,"
        " left_out = excluded.left_out, last_id = excluded.last_id, loaded_at = now()",
        [table, shop, fingerprint, load.rows_read, load.rows_loaded, Jsonb(dict(load.left_out)), load.last_id],
    )
