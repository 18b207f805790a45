"""Stored records: what an asset measured or computed, with its provenance, for other assets to compare and show."""

from __future__ import annotations

from typing import Any

from psycopg.types.json import Jsonb

from shop_platform.errors import DataError
from shop_platform.resources.postgres import Connection


def write_record(connection: Connection, name: str, run_id: str, record: dict[str, Any]) -> None:
    """Store the latest record of an asset in place of the one before, in the caller's transaction."""
    connection.execute(
        "INSERT INTO analytics.records (name, run_id, record) VALUES (%s, %s, %s) ON CONFLICT (name) DO UPDATE"
        " SET run_id = excluded.run_id, record = excluded.record, created_at = now()",
        [name, run_id, Jsonb(record)],
    )


def read_record(connection: Connection, name: str) -> dict[str, Any]:
    """The latest record of an asset.

    Raises:
        DataError: the asset has not been materialised in this database.
    """
    record = find_record(connection, name)
    if record is None:
        raise DataError(f"No result of {name} in this database: materialise the asset {name} first.")
    return record


def find_record(connection: Connection, name: str) -> dict[str, Any] | None:
    """The latest record of an asset; None where it has not been materialised in this database."""
    row = connection.execute("SELECT record FROM analytics.records WHERE name = %s", [name]).fetchone()
    return None if row is None else row[0]
