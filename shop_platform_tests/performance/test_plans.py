"""Reading what PostgreSQL says about its plans."""

from __future__ import annotations

import pytest

from shop_platform.errors import MeasurementError
from shop_platform.performance.plans import Plan, parse_plan
from shop_platform.resources.postgres import PostgresResource

EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "


def plan_of(postgres: PostgresResource, query: str, *settings: str) -> Plan:
    with postgres.connect() as connection:
        for setting in settings:
            connection.execute(setting)
        row = connection.execute(EXPLAIN + query).fetchone()
    assert row is not None
    return parse_plan(row[0])


def test_an_index_that_a_plan_uses_is_named(random_shop: PostgresResource) -> None:
    plan = plan_of(random_shop, "SELECT * FROM events WHERE event_id = 7")
    assert plan.indexes == ("events_pkey",)
    assert plan.nodes == ("Index Scan using events_pkey on events",)


def test_an_index_under_a_bitmap_is_named(random_shop: PostgresResource) -> None:
    plan = plan_of(random_shop, "SELECT * FROM events WHERE event_id < 700", "SET LOCAL enable_indexscan = off")
    assert plan.indexes == ("events_pkey",)
    assert plan.nodes == ("Bitmap Heap Scan on events", "Bitmap Index Scan using events_pkey")


def test_a_plan_without_an_index_names_none(random_shop: PostgresResource) -> None:
    plan = plan_of(random_shop, "SELECT count(*) FROM events WHERE event_type = 'viewed'")
    assert plan.indexes == ()
    assert plan.nodes == ("Aggregate", "Seq Scan on events")


def test_parents_come_before_their_children_and_aggregates_are_worded_as_explain_does(
    random_shop: PostgresResource,
) -> None:
    plan = plan_of(random_shop, "SELECT event_type, count(*) FROM events GROUP BY event_type ORDER BY event_type")
    assert plan.nodes == ("Sort", "HashAggregate", "Seq Scan on events")


def test_the_work_of_parallel_workers_is_worded_as_explain_does(random_shop: PostgresResource) -> None:
    plan = plan_of(
        random_shop,
        "SELECT count(*) FROM events WHERE event_type = 'viewed'",
        "SET LOCAL min_parallel_table_scan_size = 0",
        "SET LOCAL parallel_setup_cost = 0",
        "SET LOCAL parallel_tuple_cost = 0",
    )
    assert plan.nodes == ("Finalize Aggregate", "Gather", "Partial Aggregate", "Parallel Seq Scan on events")


def test_the_buffers_of_a_full_scan_are_the_pages_of_the_table(random_shop: PostgresResource) -> None:
    plan = plan_of(random_shop, "SELECT count(*) FROM events WHERE event_type = 'viewed'")
    with random_shop.connect() as connection:
        pages = connection.execute("SELECT pg_relation_size('events') / 8192").fetchone()
    assert pages is not None
    assert plan.buffers_hit + plan.buffers_read == pages[0]


@pytest.mark.parametrize("explained", [None, [], {}, [{}], [{"Plan": {"Node Type": "Result"}}], "Result"])
def test_what_is_no_plan_with_buffers_is_refused(explained: object) -> None:
    with pytest.raises(MeasurementError, match="can't be read"):
        parse_plan(explained)
