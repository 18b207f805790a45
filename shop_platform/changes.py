"""What has changed in `events` since a consumer last looked: the state that sensors compare."""

from __future__ import annotations

from dataclasses import dataclass

from shop_platform.errors import DataError
from shop_platform.resources.postgres import WRITER, Connection, PostgresResource


@dataclass(frozen=True)
class EventState:
    """State of the log of changes to `events`: number of changing statements, and the highest change_id.

    Both together move with every commit, whatever order transactions commit in: a low change_id that commits late
    still raises the number.
    """

    changes: int
    last_change: int

    def __str__(self) -> str:
        """The form in which a sensor's cursor holds it."""
        return f"{self.changes}:{self.last_change}"


def event_state(connection: Connection) -> EventState:
    """State of `events` as the caller's snapshot sees it: what is in the log, and what was removed from it."""
    row = connection.execute(
        "SELECT changes + (SELECT count(*) FROM ops.event_changes),"
        " greatest(last_change, (SELECT max(change_id) FROM ops.event_changes)) FROM ops.event_changes_before"
    ).fetchone()
    if row is None:
        raise DataError(
            "ops.event_changes_before has lost its row, which says what was removed from ops.event_changes: INSERT INTO"
            " ops.event_changes_before VALUES (0, 0), then materialise everything again."
        )
    return EventState(row[0], row[1])


def prune_changes(postgres: PostgresResource) -> int:
    """Remove from the log what is in it, and go on counting it; returns how many rows went.

    No state moves by it: not that of who looks meanwhile, nor that which a consumer has noted, whether or not it has
    taken these changes in. A change that commits later with a lower change_id still raises the number.
    """
    with postgres.connect(role=WRITER) as connection:
        # One at a time: two that delete the same rows in different orders would wait for each other. READ COMMITTED:
        # the next statement sees what the one before us has removed.
        connection.execute("SELECT FROM ops.event_changes_before FOR UPDATE")
        row = connection.execute(
            "WITH gone AS (DELETE FROM ops.event_changes RETURNING change_id),"
            " counted AS (SELECT count(*) AS rows, coalesce(max(change_id), 0) AS last FROM gone)"
            " UPDATE ops.event_changes_before SET changes = changes + rows, last_change = greatest(last_change, last)"
            " FROM counted RETURNING rows"
        ).fetchone()
    with postgres.connect(autocommit=True) as connection:
        connection.execute("VACUUM (SKIP_LOCKED) ops.event_changes, ops.event_changes_before")
    return int(row[0]) if row else 0


def consumed_state(connection: Connection, consumer: str) -> EventState | None:
    """State of `events` that the consumer's published result is made from; None where there is none yet."""
    row = connection.execute("SELECT changes, last_change FROM ops.consumed WHERE consumer = %s", [consumer]).fetchone()
    return None if row is None else EventState(row[0], row[1])


def mark_consumed(connection: Connection, consumer: str, state: EventState) -> None:
    """Note, in the transaction that publishes a result, the state of `events` that it was made from.

    Take `state` before reading `events`, or in the same snapshot: noting too little costs one refresh, noting too
    much would lose events.
    """
    connection.execute(
        "INSERT INTO ops.consumed (consumer, changes, last_change) VALUES (%s, %s, %s) ON CONFLICT (consumer)"
        " DO UPDATE SET changes = excluded.changes, last_change = excluded.last_change, consumed_at = now()",
        [consumer, state.changes, state.last_change],
    )
