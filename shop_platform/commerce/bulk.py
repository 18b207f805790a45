"""Loads so many rows that what is noted row by row, or checked row by row, would take longer than the load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shop_platform.resources.postgres import Connection

#: Triggers that note each row of `events` for the summaries.
_LOGS = ("log_inserted_events", "log_deleted_events")


@contextmanager
def bulk_loading(connection: Connection) -> Iterator[None]:
    """Load without noting each row: the summaries are told to build themselves anew instead."""
    _switch(connection, "DISABLE")
    yield
    _switch(connection, "ENABLE")
    connection.execute("DELETE FROM ops.event_log; INSERT INTO ops.event_log (sign) VALUES (0)")


def _switch(connection: Connection, state: str) -> None:
    for name in _LOGS:
        connection.execute(f"ALTER TABLE events {state} TRIGGER {name}")
