"""Retention by segment is what counting by segment from the events gives, and adds up to the published matrix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest
from psycopg import sql

from shop_platform.definitions import build_defs
from shop_platform.pictures import read_facts
from shop_platform.resources.copying import copy_batches
from shop_platform.resources.postgres import PostgresResource
from shop_platform.retention.definition import Definition
from shop_platform.retention.summaries import count_by_segment, count_directly, refresh_retention
from shop_platform.sources.base import EVENT_COLUMNS, PRODUCT_COLUMNS, USER_COLUMNS
from shop_platform.sources.parameters import ShopParameters
from shop_platform.sources.synthetic import SyntheticSource

SEGMENTS = (
    "INSERT INTO analytics.user_segments (user_id, segment, confidence, distinct_queries, model)"
    " SELECT user_id, CASE WHEN hashtext(user_id) > 0 THEN 'a' ELSE 'b' END, 1, 1, 'm' FROM users"
    # A fifth of the users have not searched.
    " WHERE hashtext(user_id) % 5 <> 0"
)


@pytest.fixture
def shop(postgres: PostgresResource) -> PostgresResource:
    source = SyntheticSource(ShopParameters(seed=7, users=300, events=6_000))
    with postgres.connect() as connection:
        copy_batches(connection, sql.Identifier("users"), USER_COLUMNS, source.users().batches)
        copy_batches(connection, sql.Identifier("products"), PRODUCT_COLUMNS, source.products().batches)
        copy_batches(connection, sql.Identifier("events"), EVENT_COLUMNS, source.events().batches)
        connection.execute(SEGMENTS)
    return postgres


@pytest.mark.parametrize(
    "definition",
    [
        Definition(),
        Definition(breakdown="country"),
        Definition(anchor="cohort", unit="month", periods=4),
        Definition(measure="revenue", activity="purchased"),
    ],
    ids=["default", "broken down otherwise", "by months", "revenue"],
)
def test_it_is_the_count_from_the_events(shop: PostgresResource, definition: Definition) -> None:
    by_segment = Definition(**definition.as_record() | {"breakdown": "segment"})
    with shop.connect() as connection:
        refresh_retention(connection, definition)
        found = count_by_segment(connection, definition)
        assert found == count_directly(connection, by_segment)
    assert {counts.breakdown for counts in found} == {None, "a", "b", "(none)"}


def make(*assets: str) -> dict[str, Any]:
    """Materialise, and return the evaluations of the checks by name."""
    defs = build_defs()
    result = dg.materialize(
        [cast("dg.AssetsDefinition", each) for each in defs.assets or ()],
        selection=list(assets),
        resources=defs.resources,
        raise_on_error=False,
    )
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


def stored(shop: PostgresResource) -> dict[str, Any]:
    with shop.connect() as connection:
        row = connection.execute("SELECT record FROM analytics.records WHERE name = 'segment_retention'").fetchone()
    assert row is not None
    return cast("dict[str, Any]", row[0])


def test_the_asset_stores_what_adds_up_and_nothing_else(shop: PostgresResource, home: Path) -> None:
    assert make("cohort_retention", "segment_retention")["segments_add_up"].passed
    before = stored(shop)
    assert {row["segment"] for row in before["rows"]} == {"a", "b", "(none)"}
    with shop.connect() as connection:
        whole = connection.execute(
            "SELECT period, users_observed FROM analytics.pooled_retention WHERE breakdown IS NULL"
        ).fetchall()
    for period, observed in whole:
        assert sum(row["users_observed"] for row in before["rows"] if row["period"] == period) == observed
    facts = read_facts((home / "shops" / "shop" / "retention_by_segment.png").read_bytes())
    assert facts["matrix"] == before["matrix"]

    with shop.connect() as connection:
        connection.execute("UPDATE analytics.pooled_retention SET active_users = active_users - 1 WHERE period = 3")
    check = make("segment_retention")["segments_add_up"]
    assert not check.passed
    assert "In the periods 3 " in check.description
    assert json.dumps(stored(shop)) == json.dumps(before)
