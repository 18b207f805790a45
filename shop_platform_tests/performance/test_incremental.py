"""Refreshing the summaries gives what building them anew gives, whatever happened to the events in between."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shop_platform.changes import event_state
from shop_platform.commerce.loading import load_shop_tables
from shop_platform.performance.laboratory import fingerprint_table
from shop_platform.performance.queries import answer, dashboard_queries
from shop_platform.performance.sampling import compare_weeks
from shop_platform.performance.sketches import is_estimate_of
from shop_platform.performance.summaries import ANALYTICS, SUMMARIES, ask_for_rebuild, refresh_summaries
from shop_platform.resources.postgres import PostgresResource
from shop_platform.sources.base import Shop
from shop_platform.sources.parameters import ShopParameters
from shop_platform.sources.synthetic import SyntheticSource

INSERT = (
    "INSERT INTO events (user_id, product_id, event_type, timestamp) SELECT 'u' || 1 + floor(500 * random()),"
    " 'p' || 1 + floor(20 * random()), (ARRAY['viewed', 'add_to_cart', 'purchased'])[1 + floor(3 * random())::int],"
)

#: What may happen to a shop between two refreshes; `random()` is PostgreSQL's, seeded by the test.
CHANGES = {
    "new": INSERT + " '2026-01-01'::timestamptz + random() * interval '9 days' FROM generate_series(1, 40)",
    "late": INSERT + " '2025-01-01'::timestamptz + random() * interval '365 days' FROM generate_series(1, 40)",
    "ancient": INSERT + " '0044-03-15'::timestamptz FROM generate_series(1, 2)",
    "one": INSERT + " '2025-06-30 23:59:59.999999+00'::timestamptz",
    "gone": "DELETE FROM events WHERE random() < 0.005",
    "users gone": "DELETE FROM events WHERE user_id IN (SELECT 'u' || 1 + floor(500 * random()) FROM"
    " generate_series(1, 3))",
    "moved": "UPDATE events SET timestamp = timestamp - random() * interval '20 days' WHERE random() < 0.004",
    "corrected": "UPDATE events SET event_type = 'purchased', product_id = 'p' || 1 + floor(20 * random())"
    " WHERE random() < 0.004",
    "touched only": "UPDATE events SET timestamp = timestamp WHERE random() < 0.004",
    "priced": "UPDATE products SET price = round((1 + 100 * random())::numeric, 2) WHERE random() < 0.3",
    "free": "UPDATE products SET price = 0 WHERE product_id = 'p5'",
    "recategorised": "UPDATE products SET category = 'category ' || floor(7 * random()) WHERE random() < 0.2",
    "product gone": "DELETE FROM events WHERE product_id = 'p1'; DELETE FROM products WHERE product_id = 'p1';"
    " INSERT INTO products (product_id, name, category, price) VALUES ('p1', 'Again', 'category 9', 3.5)",
    "emptied": "TRUNCATE events",
}


def tables(postgres: PostgresResource) -> list[tuple[int, str]]:
    with postgres.connect() as connection:
        return [fingerprint_table(connection, ANALYTICS, table) for table in SUMMARIES]


def apply(postgres: PostgresResource, changes: list[str], seed: float) -> None:
    with postgres.connect() as connection:
        connection.execute("SELECT setseed(%s)", [seed])
        for change in changes:
            connection.execute(CHANGES[change])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([["late", "priced"], ["gone", "recategorised"], ["product gone"], ["emptied"], ["new"]], 0.5, "UTC")
@example([["new"], ["users gone", "new"], ["moved", "corrected"], ["ancient"]], 0.1, "America/Santiago")
@given(
    steps=st.lists(st.lists(st.sampled_from(sorted(CHANGES)), min_size=1, max_size=4), min_size=1, max_size=4),
    seed=st.floats(-1, 1),
    zone=st.sampled_from(["UTC", "Asia/Kolkata", "America/Santiago", "Pacific/Apia"]),
)
def test_a_refresh_gives_what_a_rebuild_gives(
    random_shop: PostgresResource, steps: list[list[str]], seed: float, zone: str
) -> None:
    postgres = random_shop.model_copy(update={"time_zone": zone})
    assert refresh_summaries(postgres).published
    for number, changes in enumerate(steps):
        apply(postgres, changes, seed / (1 + number))
        done = refresh_summaries(postgres)
        assert done.published
        assert "emptied" in changes or done.rebuilt is None
        refreshed = tables(postgres)
        assert refresh_summaries(postgres, rebuild=True).published
        assert tables(postgres) == refreshed


def test_a_change_that_commits_late_is_in_the_refresh_after_its_commit(random_shop: PostgresResource) -> None:
    refresh_summaries(random_shop)
    with random_shop.connect() as late:
        late.execute(CHANGES["late"])
        apply(random_shop, ["new"], 0.1)
        assert refresh_summaries(random_shop).event_changes == 40
    assert refresh_summaries(random_shop).event_changes == 40
    refreshed = tables(random_shop)
    refresh_summaries(random_shop, rebuild=True)
    assert tables(random_shop) == refreshed


def test_a_change_that_is_rolled_back_was_never_there(random_shop: PostgresResource) -> None:
    refresh_summaries(random_shop)
    before = tables(random_shop)
    with random_shop.connect() as connection:
        connection.execute(CHANGES["new"])
        connection.rollback()
    assert refresh_summaries(random_shop).event_changes == 0
    assert tables(random_shop) == before


def test_an_update_counts_as_a_row_that_went_and_one_that_came(random_shop: PostgresResource) -> None:
    refresh_summaries(random_shop)
    with random_shop.connect() as connection:
        connection.execute("UPDATE events SET user_id = 'u2' WHERE event_id <= 10")
        connection.execute("DELETE FROM events WHERE event_id = 11")
    assert refresh_summaries(random_shop).event_changes == 21


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        ("TRUNCATE events", "rows changed that were not noted one by one"),
        ("DELETE FROM ops.summary_basis", "there were no summaries"),
        ("DELETE FROM events WHERE event_id % 2 = 0", "much of the shop has changed"),
        ("UPDATE ops.summary_basis SET time_zone = 'Asia/Kolkata'", "the time zone was Asia/Kolkata"),
        # Somebody takes rows out of a summary; then these users' events go.
        (
            "UPDATE analytics.weekly_activity SET events = 1; DELETE FROM events WHERE user_id = 'u7'",
            "the summaries did not fit the changes noted since",
        ),
        (
            "DELETE FROM analytics.weekly_activity WHERE user_id = 'u7'; DELETE FROM events WHERE user_id = 'u7'",
            "the summaries did not fit the changes noted since",
        ),
    ],
)
def test_where_changes_do_not_do_all_is_built_anew(random_shop: PostgresResource, prepare: str, reason: str) -> None:
    refresh_summaries(random_shop)
    with random_shop.connect() as connection:
        connection.execute(prepare)
    done = refresh_summaries(random_shop)
    assert (done.rebuilt, done.published) == (reason, True)
    assert refresh_summaries(random_shop).rebuilt is None


def test_writers_need_no_rights_on_the_logs(random_shop: PostgresResource) -> None:
    with random_shop.connect() as connection:
        connection.execute("CREATE ROLE shop_writer_of_test; GRANT INSERT, SELECT ON events TO shop_writer_of_test")
        connection.execute("SET ROLE shop_writer_of_test")
        connection.execute(CHANGES["new"])
        connection.execute("RESET ROLE")
        row = connection.execute("SELECT count(*) FROM ops.event_log WHERE sign = 1").fetchone()
        connection.execute("DROP OWNED BY shop_writer_of_test; DROP ROLE shop_writer_of_test")
    assert row is not None
    assert row[0] >= 40


def test_a_new_price_is_seen_as_a_change_by_the_sensors_and_another_name_is_not(random_shop: PostgresResource) -> None:
    with random_shop.connect() as connection:
        before = event_state(connection)
        connection.execute("UPDATE products SET name = 'Other', price = price")
        assert event_state(connection) == before
        connection.execute("UPDATE products SET price = price + 1 WHERE product_id = 'p1'")
        assert event_state(connection) != before


def test_the_sampled_weeks_are_the_latest_and_others_and_they_agree(random_shop: PostgresResource) -> None:
    refresh_summaries(random_shop)
    weeks = compare_weeks(random_shop, "run", weeks=5)
    assert len({week.week for week in weeks}) == 5
    assert max(week.week for week in weeks).isoformat() == "2025-12-29T00:00:00+00:00"
    assert all(week.equal for week in weeks)
    assert all(week.active > 0 for week in weeks)
    with random_shop.connect() as connection:
        connection.execute(dashboard_queries()[0].text)
        direct = dict(answer(connection, dashboard_queries()[0].text))
    assert [direct[week.week] for week in weeks] == [week.active for week in weeks]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE analytics.weekly_active_users SET active_users = active_users + 1",
        "UPDATE analytics.category_revenue SET revenue = revenue + 0.01",
        "DELETE FROM analytics.category_revenue WHERE category = 'category 1'",
        "UPDATE analytics.category_revenue SET day = day + 1000 WHERE category = 'category 1'",
    ],
)
def test_a_summary_that_was_changed_by_hand_is_noticed(random_shop: PostgresResource, damage: str) -> None:
    refresh_summaries(random_shop)
    with random_shop.connect() as connection:
        connection.execute(damage)
    weeks = compare_weeks(random_shop, "run")
    assert weeks
    assert not any(week.equal for week in weeks)


def test_all_weeks_are_compared_on_demand_so_that_one_that_drifted_is_found(random_shop: PostgresResource) -> None:
    refresh_summaries(random_shop)
    with random_shop.connect() as connection:
        connection.execute(
            "UPDATE analytics.weekly_active_users SET active_users = active_users + 1 WHERE week = '2025-02-10'"
        )
        (all_weeks,) = connection.execute("SELECT count(*) FROM analytics.weekly_active_users").fetchone() or (0,)
    weeks = compare_weeks(random_shop, "run", weeks=None)
    assert len(weeks) == all_weeks > 5
    assert [f"{week.week:%Y-%m-%d}" for week in weeks if not week.equal] == ["2025-02-10"]


def test_an_estimate_may_be_as_far_off_as_a_sketch_is_and_no_further(random_shop: PostgresResource) -> None:
    refresh_summaries(random_shop)
    with random_shop.connect() as connection:
        connection.execute("UPDATE analytics.weekly_active_users SET active_users = active_users + 1, estimated = true")
    assert all(week.equal and week.estimated for week in compare_weeks(random_shop, "run"))
    with random_shop.connect() as connection:
        connection.execute("UPDATE analytics.weekly_active_users SET active_users = ceil(active_users * 1.1)")
    assert not any(week.equal for week in compare_weeks(random_shop, "run"))
    assert refresh_summaries(random_shop).rebuilt == "active users were estimated"
    weeks = compare_weeks(random_shop, "run")
    assert all(week.equal and not week.estimated for week in weeks)


@pytest.mark.parametrize(
    ("exact", "estimate", "near"),
    [(1, 2, True), (1, 3, False), (1_000_000, 1_020_000, True), (1_000_000, 979_000, False)],
)
def test_five_standard_errors_are_as_far_as_an_estimate_may_be(exact: int, estimate: int, near: bool) -> None:
    assert is_estimate_of(exact, estimate) is near


def test_weeks_that_changes_wait_for_are_not_compared(random_shop: PostgresResource) -> None:
    refresh_summaries(random_shop)
    with random_shop.connect() as connection:
        connection.execute("UPDATE events SET user_id = 'u1' WHERE timestamp >= '2025-02-01'")
    assert {week.week.month for week in compare_weeks(random_shop, "run", weeks=60)} <= {1, 12}
    with random_shop.connect() as connection:
        connection.execute("UPDATE products SET price = price + 1")
    assert compare_weeks(random_shop, "run") == []


def test_what_asks_for_a_rebuild_gets_one(random_shop: PostgresResource) -> None:
    refresh_summaries(random_shop)
    with random_shop.connect() as connection:
        before = event_state(connection)
        ask_for_rebuild(connection)
        assert event_state(connection) != before
    assert refresh_summaries(random_shop).rebuilt is not None


def test_many_writers_and_refreshes_at_once_lose_nothing(random_shop: PostgresResource) -> None:
    refresh_summaries(random_shop)
    names = [name for name in CHANGES if name not in ("emptied", "product gone", "gone", "users gone", "corrected")]
    draw = random.Random(7)  # noqa: S311

    def work(number: int) -> None:
        if number % 3 == 0:
            assert refresh_summaries(random_shop).published
        else:
            with random_shop.connect() as connection:
                connection.execute("SELECT pg_advisory_xact_lock(1) WHERE false")
                connection.execute(CHANGES[names[number % len(names)]] if number % 2 else CHANGES["late"])

    numbers = list(range(45))
    draw.shuffle(numbers)
    with ThreadPoolExecutor(6) as pool:
        failures = [future.exception() for future in [pool.submit(work, number) for number in numbers]]
    # Writers may meet each other in a deadlock, as on any server; a refresh meets nobody.
    assert [repr(f) for f in failures if f is not None and "deadlock" not in str(f)] == []
    assert refresh_summaries(random_shop).published
    refreshed = tables(random_shop)
    refresh_summaries(random_shop, rebuild=True)
    assert tables(random_shop) == refreshed


def test_what_commits_while_all_is_built_anew_is_in_the_next_refresh_and_in_no_table_before(
    random_shop: PostgresResource,
) -> None:
    refresh_summaries(random_shop)
    with random_shop.connect() as connection:
        connection.execute(
            "CREATE FUNCTION wait_here() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_advisory_xact_lock(77); RETURN NULL; END $$"
        )
        # Between the summaries of users and those of products.
        connection.execute(
            "CREATE TRIGGER wait_here AFTER INSERT ON analytics.weekly_active_users"
            " FOR EACH STATEMENT EXECUTE FUNCTION wait_here()"
        )
    waiting = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 77 AND NOT granted"
    with (
        ThreadPoolExecutor(1) as pool,
        random_shop.connect() as gate,
        random_shop.connect(autocommit=True) as writer,
    ):
        gate.execute("SELECT pg_advisory_xact_lock(77)")
        rebuild = pool.submit(refresh_summaries, random_shop, rebuild=True)
        while writer.execute(waiting).fetchone() is None:
            assert not rebuild.done()
            time.sleep(0.01)
        writer.execute(
            "INSERT INTO events (user_id, product_id, event_type, timestamp)"
            " SELECT 'u1', 'p1', 'purchased', '2025-06-01' FROM generate_series(1, 10)"
        )
        gate.commit()
        assert rebuild.result().published
    assert refresh_summaries(random_shop).event_changes == 10
    refreshed = tables(random_shop)
    refresh_summaries(random_shop, rebuild=True)
    assert tables(random_shop) == refreshed


def test_a_load_is_taken_in_by_building_anew(postgres: PostgresResource) -> None:
    for seed in (1, 2):
        with postgres.connect() as connection:
            parameters = ShopParameters(seed=seed, users=50, products=5, events=2_000, searches=1)
            load_shop_tables(connection, Shop("shop", "A shop", "UTC", "EUR", SyntheticSource(parameters)))
            row = connection.execute("SELECT count(*), max(sign) FROM ops.event_log").fetchone()
            assert row == (1, 0)
            # Were there summaries already, they would be of other rows.
            connection.execute("INSERT INTO ops.summary_basis (time_zone) VALUES ('UTC') ON CONFLICT DO NOTHING")
        assert refresh_summaries(postgres).rebuilt == "rows changed that were not noted one by one"
        assert all(week.equal for week in compare_weeks(postgres, seed))
