"""The live summaries: exact, kept by what changes, and replaced as a whole or not at all."""

from __future__ import annotations

import time
from threading import Thread

import psycopg
import pytest

from shop_platform.changes import consumed_state, event_state
from shop_platform.errors import DataError, ServiceError
from shop_platform.performance.laboratory import fingerprint_table
from shop_platform.performance.queries import answer, dashboard_queries
from shop_platform.performance.summaries import ANALYTICS, CONSUMER, SUMMARIES, refresh_summaries
from shop_platform.resources.postgres import PostgresResource


def stored(postgres: PostgresResource) -> list[tuple[int, str]]:
    with postgres.connect() as connection:
        return [fingerprint_table(connection, ANALYTICS, table) for table in SUMMARIES]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/Santiago"])
def test_the_summaries_give_the_direct_answers_in_every_time_zone(random_shop: PostgresResource, zone: str) -> None:
    postgres = random_shop.model_copy(update={"time_zone": zone})
    assert refresh_summaries(postgres).published
    with postgres.connect() as connection:
        direct = [answer(connection, query.text) for query in dashboard_queries()]
        connection.execute("SET LOCAL search_path = analytics")
        assert [answer(connection, query.from_summary) for query in dashboard_queries()] == direct


def test_the_rows_of_a_tiny_shop_are_those_that_one_counts_by_hand(tiny_shop: PostgresResource) -> None:
    rebuild = refresh_summaries(tiny_shop)
    assert rebuild.rows == {
        "weekly_activity": 5,
        "weekly_active_users": 3,
        "product_sales": 4,
        "category_revenue": 4,
        "category_totals": 2,
    }
    with tiny_shop.connect() as connection:
        rows = connection.execute(
            "SELECT day::text, category, revenue::text, purchases FROM analytics.category_revenue ORDER BY day"
        ).fetchall()
    assert rows == [
        ("2025-01-02", "Home", "19.99", 1),
        ("2025-01-05", "Sports", "5.00", 1),
        ("2025-01-06", "Home", "400.10", 1),
        ("2025-01-20", "Home", "400.10", 1),
    ]


def test_a_second_refresh_changes_nothing(random_shop: PostgresResource) -> None:
    refresh_summaries(random_shop)
    before = stored(random_shop)
    refresh_summaries(random_shop)
    assert stored(random_shop) == before


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM events WHERE event_id % 3 = 0",
        "DELETE FROM events",
        "UPDATE products SET price = price * 2, category = 'category 1' WHERE product_id = 'p7'",
        "UPDATE events SET timestamp = '1999-12-31' WHERE event_id = 1",
        "INSERT INTO events (user_id, product_id, event_type, timestamp) SELECT 'u1', 'p1', 'purchased', now()",
        "UPDATE events SET user_id = 'u2', event_type = 'purchased' WHERE user_id = 'u1'",
        "UPDATE events SET user_id = 'u2' WHERE event_id < 100; DELETE FROM events WHERE event_id < 50",
        "TRUNCATE events",
        "DELETE FROM events WHERE product_id = 'p3'; DELETE FROM products WHERE product_id = 'p3'",
    ],
)
def test_whatever_changes_is_in_the_next_rebuild(random_shop: PostgresResource, change: str) -> None:
    refresh_summaries(random_shop)
    with random_shop.connect() as connection:
        connection.execute(change)
    refreshed = refresh_summaries(random_shop)
    assert refreshed.published
    rows = stored(random_shop)
    rebuilt = refresh_summaries(random_shop, rebuild=True)
    assert rebuilt.rebuilt == "asked for"
    assert rebuilt.published
    assert rows == stored(random_shop)


def test_the_refresh_notes_which_changes_of_events_it_holds(random_shop: PostgresResource) -> None:
    refresh_summaries(random_shop)
    with random_shop.connect() as connection:
        assert consumed_state(connection, CONSUMER) == event_state(connection)


@pytest.mark.fault
def test_readers_never_see_empty_or_mixed_summaries(
    random_shop: PostgresResource, readers: list[tuple[int, ...]]
) -> None:
    before = None
    expected = set()
    for _ in range(10):
        rebuild = refresh_summaries(random_shop)
        sold = rebuild.counted["purchases by day and in total"][0]
        state = (rebuild.rows["weekly_activity"], rebuild.rows["weekly_activity"], sold)
        assert state != before
        before = state
        expected.add(state)
        with random_shop.connect() as connection:
            connection.execute(
                "DELETE FROM events WHERE event_id IN (SELECT event_id FROM events ORDER BY event_id LIMIT 700)"
            )
    assert len(expected) == 10
    assert len(readers) > 10
    assert set(readers) <= expected


@pytest.mark.fault
def test_a_rebuild_that_is_killed_leaves_the_old_summaries_and_the_next_succeeds(
    random_shop: PostgresResource,
) -> None:
    refresh_summaries(random_shop)
    before = stored(random_shop)
    with random_shop.connect() as connection:
        connection.execute("DELETE FROM events WHERE event_id % 10 = 0")
        # Whoever fills the last table stops right before its end, and waits there to be killed.
        connection.execute(
            "CREATE FUNCTION wait_here() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_advisory_xact_lock(77); RETURN NULL; END $$"
        )
        connection.execute(
            "CREATE TRIGGER wait_here AFTER INSERT ON analytics.category_totals"
            " FOR EACH STATEMENT EXECUTE FUNCTION wait_here()"
        )
    failures: list[BaseException] = []

    def rebuild() -> None:
        try:
            done = refresh_summaries(random_shop)
            assert done.rebuilt is None
        except ServiceError as error:
            failures.append(error)

    with random_shop.connect() as gate, random_shop.connect(autocommit=True) as admin:
        gate.execute("SELECT pg_advisory_xact_lock(77)")
        thread = Thread(target=rebuild)
        thread.start()
        waiting = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 77 AND NOT granted"
        while (row := admin.execute(waiting).fetchone()) is None:
            time.sleep(0.01)
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", [row[0]])
        thread.join()
    assert len(failures) == 1
    assert stored(random_shop) == before
    assert refresh_summaries(random_shop).published
    assert stored(random_shop) != before


def test_summaries_that_differ_from_the_direct_answer_are_not_published(random_shop: PostgresResource) -> None:
    refresh_summaries(random_shop)
    before = stored(random_shop)
    with random_shop.connect() as connection:
        connection.execute("DELETE FROM events WHERE event_id % 2 = 0")
        connection.execute(
            "CREATE FUNCTION add_a_cent() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN NEW.revenue := NEW.revenue + 0.01; RETURN NEW; END $$"
        )
        connection.execute(
            "CREATE TRIGGER add_a_cent BEFORE INSERT ON analytics.category_revenue"
            " FOR EACH ROW EXECUTE FUNCTION add_a_cent()"
        )
    rebuild = refresh_summaries(random_shop)
    assert rebuild.rebuilt == "much of the shop has changed"
    assert rebuild.equal == {"weekly_active_users": True, "revenue_by_category": False}
    assert not rebuild.published
    assert stored(random_shop) == before
    with random_shop.connect() as connection:
        assert consumed_state(connection, CONSUMER) != event_state(connection)


def test_a_second_writer_waits_and_starts_from_what_the_first_committed(random_shop: PostgresResource) -> None:
    failures: list[BaseException] = []

    def rebuild() -> None:
        try:
            refresh_summaries(random_shop)
        except (psycopg.Error, DataError) as error:
            failures.append(error)

    refresh_summaries(random_shop)
    with random_shop.connect() as connection:
        connection.execute("DELETE FROM events WHERE event_id % 10 = 0")
    threads = [Thread(target=rebuild) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    rows = stored(random_shop)
    refresh_summaries(random_shop, rebuild=True)
    assert stored(random_shop) == rows


def test_a_writer_that_never_ends_is_named_after_the_time_limit(random_shop: PostgresResource) -> None:
    with random_shop.connect() as holder:
        holder.execute("LOCK TABLE analytics.category_revenue IN ROW EXCLUSIVE MODE")
        with pytest.raises(DataError, match="held by another transaction"):
            refresh_summaries(random_shop, lock_timeout="100ms")


def test_a_view_and_a_grant_on_a_summary_outlive_a_rebuild(random_shop: PostgresResource) -> None:
    with random_shop.connect() as connection:
        connection.execute("CREATE VIEW weeks AS SELECT count(*) FROM analytics.weekly_active_users")
        connection.execute("GRANT SELECT ON analytics.weekly_active_users TO pg_monitor")
    rebuild = refresh_summaries(random_shop)
    with random_shop.connect() as connection:
        assert connection.execute("SELECT * FROM weeks").fetchone() == (rebuild.rows["weekly_active_users"],)
        assert connection.execute(
            "SELECT has_table_privilege('pg_monitor', 'analytics.weekly_active_users', 'SELECT')"
        ).fetchone() == (True,)
