"""The log of changes to `events` misses nothing, whatever order transactions commit in."""

from __future__ import annotations

import pytest

from shop_platform.changes import EventState, consumed_state, event_state, mark_consumed
from shop_platform.resources.postgres import PostgresResource

SETUP = """
INSERT INTO users (user_id, signup_date) VALUES ('u', '2025-01-01');
INSERT INTO products (product_id, name, category, price) VALUES ('p', 'P', 'C', 1);
"""
EVENT = "INSERT INTO events (user_id, product_id, event_type, timestamp) VALUES ('u', 'p', 'viewed', now())"


@pytest.mark.parametrize(
    "statement", [EVENT, "UPDATE events SET event_type = 'purchased'", "DELETE FROM events", "TRUNCATE events"]
)
def test_every_kind_of_change_moves_the_state(postgres: PostgresResource, statement: str) -> None:
    with postgres.connect() as connection:
        connection.execute(SETUP)
        connection.execute(EVENT)
        before = event_state(connection)
        connection.execute(statement)
        assert event_state(connection) != before


def test_a_transaction_that_commits_late_still_moves_the_state(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        connection.execute(SETUP)
    with postgres.connect() as reader:
        with postgres.connect() as late:
            late.execute(EVENT)
            with postgres.connect() as early:
                early.execute(EVENT)
            reader.commit()
            seen = event_state(reader)
        reader.commit()
        assert event_state(reader).changes == seen.changes + 1
        assert event_state(reader).last_change == seen.last_change


def test_a_rolled_back_change_does_not_move_the_state(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        connection.execute(SETUP)
        before = event_state(connection)
        with connection.transaction(force_rollback=True):
            connection.execute(EVENT)
        assert event_state(connection) == before


def test_what_a_consumer_took_in_is_remembered(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        assert consumed_state(connection, "summaries") is None
        mark_consumed(connection, "summaries", EventState(1, 1))
        mark_consumed(connection, "summaries", EventState(3, 7))
        assert consumed_state(connection, "summaries") == EventState(3, 7)
