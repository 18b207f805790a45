"""When the laboratory must run again."""

from __future__ import annotations

from typing import Any

import pytest

from shop_platform.performance.freshness import measurements_outgrown
from shop_platform.performance.indexes import ensure_index, index_files
from shop_platform.performance.queries import dashboard_queries
from shop_platform.records import write_record
from shop_platform.resources.postgres import Connection, PostgresResource
from shop_platform_tests.performance import examples


@pytest.fixture
def measured_shop(random_shop: PostgresResource) -> PostgresResource:
    """A shop with its indexes and a record of measurements on all of its 20,000 events."""
    with random_shop.connect(autocommit=True) as connection:
        for file in index_files():
            ensure_index(connection, file)
        store(connection)
    return random_shop


def outgrown_now(connection: Connection, growth: float) -> bool:
    return measurements_outgrown(connection, growth, dashboard_queries())


def store(connection: Connection, **changes: Any) -> None:
    row = connection.execute("SELECT current_setting('server_version')").fetchone()
    assert row is not None
    conditions = {
        "server_version": row[0].split()[0],
        "live_events": 20_000,
        "queries": {query.name: query.fingerprint for query in dashboard_queries()},
    }
    write_record(connection, "index_effects", "run", {"provenance": examples.provenance(**conditions | changes)})


def test_a_shop_that_was_never_measured_must_be(random_shop: PostgresResource) -> None:
    with random_shop.connect() as connection:
        assert outgrown_now(connection, 0.1)


def test_measurements_hold_while_nothing_changes_even_with_no_growth_allowed(measured_shop: PostgresResource) -> None:
    with measured_shop.connect() as connection:
        assert not outgrown_now(connection, 0.1)
        assert not outgrown_now(connection, 0)


@pytest.mark.parametrize(("events", "outgrown"), [(1_999, False), (2_000, True)])
@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO events SELECT event_id + 1000000, user_id, product_id, event_type, timestamp FROM events LIMIT %s",
        "DELETE FROM events WHERE event_id IN (SELECT event_id FROM events LIMIT %s)",
    ],
)
def test_they_hold_until_the_events_have_moved_by_the_given_share(
    measured_shop: PostgresResource, change: str, events: int, outgrown: bool
) -> None:
    with measured_shop.connect() as connection:
        connection.execute(change, [events])
        assert outgrown_now(connection, 0.1) == outgrown


@pytest.mark.parametrize(
    "changes", [{"server_version": "1.0"}, {"source": "x"}, {"time_zone": "Asia/Tokyo"}, {"queries": {}}, {"format": 0}]
)
def test_they_do_not_hold_under_other_conditions(measured_shop: PostgresResource, changes: dict[str, Any]) -> None:
    with measured_shop.connect() as connection:
        store(connection, **changes)
        assert outgrown_now(connection, 0.1)


def test_they_do_not_hold_when_an_index_is_gone(measured_shop: PostgresResource) -> None:
    with measured_shop.connect() as connection:
        connection.execute("DROP INDEX idx_products_category")
        assert outgrown_now(connection, 0.1)
