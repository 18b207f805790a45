"""What has changed in `events` since a consumer last looked: the state that sensors compare."""

from __future__ import annotations

from dataclasses import dataclass

from shop_platform.resources.postgres import Connection


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
    """State of `events` as the caller's snapshot sees it."""
    row = connection.execute("SELECT count(*), coalesce(max(change_id), 0) FROM ops.event_changes").fetchone()
    if row is None:
        raise AssertionError("an aggregate without GROUP BY returns one row")
    return EventState(row[0], row[1])


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
