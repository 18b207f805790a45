"""The log of changes to `events` misses nothing, whatever order transactions commit in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from psycopg import sql

from shop_platform.changes import EventState, consumed_state, event_state, mark_consumed, prune_changes
from shop_platform.performance.summaries import CONSUMER, refresh_summaries
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


@pytest.mark.fault
def test_removing_rows_of_the_log_moves_no_state(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        connection.execute(SETUP)
        connection.execute(EVENT)
    with postgres.connect() as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        before = event_state(reader)
        assert prune_changes(postgres) == 2  # the user, the event
        assert event_state(reader) == before
        reader.commit()
        assert event_state(reader) == before
        assert reader.execute("SELECT count(*) FROM ops.event_changes").fetchone() == (0,)
        reader.execute(EVENT)
        assert event_state(reader) == EventState(before.changes + 1, before.last_change + 1)


@pytest.mark.fault
def test_a_change_that_commits_after_later_ones_were_removed_moves_the_state(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        connection.execute(SETUP)
    with postgres.connect() as late:
        late.execute(EVENT)
        with postgres.connect() as early:
            early.execute(EVENT)
        prune_changes(postgres)
        with postgres.connect() as reader:
            seen = event_state(reader)
    with postgres.connect() as reader:
        assert event_state(reader) == EventState(seen.changes + 1, seen.last_change)


@pytest.mark.fault
def test_rows_are_counted_once_however_many_remove_them_while_others_write(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        connection.execute(SETUP)
    together = Barrier(4)

    def write(_: int) -> int:
        together.wait()
        for _ in range(25):
            with postgres.connect() as connection:
                connection.execute(EVENT)
        return 0

    def prune(_: int) -> int:
        together.wait()
        return sum(prune_changes(postgres) for _ in range(25))

    with ThreadPoolExecutor(4) as threads:
        written = [threads.submit(write, each) for each in range(2)]
        pruned = [threads.submit(prune, each) for each in range(2)]
        removed = sum(each.result() for each in (*written, *pruned))
    with postgres.connect() as connection:
        assert event_state(connection).changes == 51  # the user, fifty events
        row = connection.execute("SELECT count(*) FROM ops.event_changes").fetchone()
        assert row == (51 - removed,)


def test_a_refresh_empties_the_logs_and_what_it_has_taken_in_stays_noted(postgres: PostgresResource) -> None:
    with postgres.connect(autocommit=True) as connection:
        connection.execute(SETUP)
        for _ in range(3):
            for _ in range(5):
                connection.execute(EVENT)
            assert refresh_summaries(postgres).published
            for log in ("event_changes", "event_log", "product_log"):
                query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("ops", log))
                assert connection.execute(query).fetchone() == (0,)
            assert consumed_state(connection, CONSUMER) == event_state(connection)
        assert event_state(connection).changes == 16  # the user, fifteen events
