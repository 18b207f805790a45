"""What PostgreSQL counts, directly and from summaries kept by changes, against the slow and plain reference.

RETENTION_CASES sets how many shops are drawn; each is counted before and after changes, so twice as many cases.
"""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shop_platform.resources.postgres import Connection, PostgresResource
from shop_platform.retention.cells import Counts
from shop_platform.retention.definition import Definition
from shop_platform.retention.summaries import count_directly, count_from_summaries, refresh_retention
from shop_platform_tests.retention.reference import PRODUCTS, Event, Key, Shop, periods, reference

CASES = int(os.environ.get("RETENTION_CASES", "100"))

UTC = dt.UTC
ZONES = [
    "UTC", "Europe/London", "America/New_York", "Asia/Kolkata", "America/Santiago", "Australia/Lord_Howe",
    "Pacific/Apia", "Europe/Dublin",
]  # fmt: skip

#: Both changes of the clock in London, New York, Santiago and Lord Howe, a day that Apia skipped, new year, a leap day.
TURNS = [
    dt.datetime.fromisoformat(f"{turn}Z")
    for turn in (
        "2024-03-10T07:00", "2024-11-03T06:00", "2024-03-31T01:00", "2024-10-27T01:00", "2024-04-07T03:00",
        "2024-09-08T04:00", "2024-04-06T15:00", "2024-10-05T15:30", "2011-12-30T10:00", "2025-01-01T00:00",
        "2021-01-01T00:00", "2024-02-29T12:00", "2023-02-28T23:00", "2024-01-31T10:00",
    )
]  # fmt: skip
AROUND = st.builds(
    lambda turn, days, quarters: turn + dt.timedelta(days=days, minutes=15 * quarters),
    st.sampled_from(TURNS),
    st.integers(-20, 20),
    st.integers(-12, 12),
)
USERS = [f"u{number}" for number in range(6)]
KINDS = ["viewed", "add_to_cart", "purchased"]

DEFINITIONS = st.builds(
    Definition,
    cohort=st.sampled_from(["day", "week", "month", "quarter"]),
    start=st.sampled_from(["signup", "signup", "purchased", "viewed"]),
    unit=st.sampled_from(["day", "week", "week", "month"]),
    periods=st.integers(1, 9),
    anchor=st.sampled_from(["user", "user", "calendar", "cohort"]),
    activity=st.sampled_from(["any", "any", "purchased"]),
    minimum=st.sampled_from([1, 1, 2, 3]),
    measure=st.sampled_from(["n-period", "n-period", "unbounded", "revenue"]),
    breakdown=st.sampled_from(["", "", "country", "category", "segment"]),
    week_start=st.sampled_from(["monday", "sunday", "saturday", "wednesday"]),
    time_zone=st.sampled_from(ZONES),
)


@st.composite
def signups(draw: st.DrawFn) -> dict[str, tuple[dt.datetime, str | None]]:
    """Users, most of them near one turn of the clock or the calendar."""
    near = draw(AROUND)
    moments = st.one_of(st.integers(-40, 40).map(lambda hours: near + dt.timedelta(hours=hours)), AROUND)
    countries = st.sampled_from(["CH", "AT", "", None])
    return {user: (draw(moments), draw(countries)) for user in USERS[: draw(st.integers(1, 6))]}


@st.composite
def happenings(
    draw: st.DrawFn, users: dict[str, tuple[dt.datetime, str | None]], definition: Definition, most: int
) -> list[Event]:
    """Events: at the very bounds of periods, a microsecond before, somewhere within, before the signup, long after."""
    found = []
    for _ in range(draw(st.integers(0, most))):
        user = draw(st.sampled_from(sorted(users)))
        other = users[draw(st.sampled_from(sorted(users)))][0]
        bounds = [end for _, end in periods(pd.Timestamp(other), definition)]
        at = draw(
            st.one_of(
                st.sampled_from([other, *bounds]),
                st.sampled_from(bounds).map(lambda bound: bound - dt.timedelta(microseconds=1)),
                st.integers(-30, 24 * 9).map(lambda hours, start=other: start + dt.timedelta(hours=hours)),
                st.integers(0, 120).map(lambda days, start=other: start + dt.timedelta(days=days, hours=5)),
            )
        )
        kind, product = draw(st.sampled_from(KINDS)), draw(st.sampled_from(sorted(PRODUCTS)))
        found.append(Event(user, at.astimezone(UTC), kind, product))
    return found


def insert_users(connection: Connection, users: dict[str, tuple[dt.datetime, str | None]]) -> None:
    connection.execute(
        "INSERT INTO users (user_id, signup_date, country)"
        " SELECT * FROM unnest(%s::text[], %s::timestamptz[], %s::text[])",
        [list(users), [signup for signup, _ in users.values()], [country for _, country in users.values()]],
    )


def insert_events(connection: Connection, events: list[Event]) -> None:
    connection.execute(
        "INSERT INTO events (user_id, product_id, event_type, timestamp)"
        " SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[])",
        [[e.user for e in events], [e.product for e in events], [e.kind for e in events], [e.at for e in events]],
    )


def insert_segments(connection: Connection, segments: dict[str, str]) -> None:
    connection.execute("DELETE FROM analytics.user_segments")
    for user, segment in segments.items():
        connection.execute("INSERT INTO analytics.user_segments VALUES (%s, %s, 0.5, 1, 'm')", [user, segment])


def fill(connection: Connection, shop: Shop) -> None:
    """Put a shop into empty tables."""
    for product, (price, category) in PRODUCTS.items():
        connection.execute("INSERT INTO products VALUES (%s, %s, %s, %s)", [product, product, category, price])
    insert_users(connection, shop.users)
    insert_events(connection, shop.events)
    insert_segments(connection, shop.segments)


def by_cell(counted: list[Counts]) -> dict[Key, tuple[Any, ...]]:
    return {(counts.breakdown, counts.cohort, counts.period): tuple(counts[3:]) for counts in counted}


def agree(connection: Connection, shop: Shop, definition: Definition) -> None:
    """The reference, the direct count and the summaries as they are: three times the same."""
    direct = count_directly(connection, definition)
    assert by_cell(direct) == reference(shop, definition)
    assert count_from_summaries(connection, definition) == direct


@pytest.mark.timeout(300 + CASES)
@settings(
    max_examples=CASES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_every_cell_equals_the_reference_before_and_after_changes(
    postgres: PostgresResource, data: st.DataObject
) -> None:
    definition = data.draw(DEFINITIONS)
    if definition.measure == "revenue":
        definition = replace(definition, activity="any")
    users = data.draw(signups())
    segments = data.draw(st.dictionaries(st.sampled_from(sorted(users)), st.sampled_from(["a", "b"])))
    shop = Shop(users, data.draw(happenings(users, definition, 25)), segments)
    resource = postgres.model_copy(update={"time_zone": definition.time_zone})
    with resource.connect(autocommit=True) as connection, connection.transaction(force_rollback=True):
        fill(connection, shop)
        built = refresh_retention(connection, definition)
        assert built.rebuilt is not None
        assert built.equal
        agree(connection, shop, definition)

        shop = change(connection, shop, data, definition)
        done = refresh_retention(connection, definition)
        assert (done.rebuilt, done.equal) == (None, True)
        agree(connection, shop, definition)


def change(connection: Connection, shop: Shop, data: st.DataObject, definition: Definition) -> Shop:
    """What may happen between two refreshes: events come, go and move; users come, go and move; prices stay."""
    gone = data.draw(st.sets(st.integers(0, max(len(shop.events) - 1, 0)), max_size=4))
    ids = [row[0] for row in connection.execute("SELECT event_id FROM events ORDER BY event_id")]
    connection.execute("DELETE FROM events WHERE event_id = ANY(%s)", [[ids[n] for n in gone if n < len(ids)]])
    events = [event for number, event in enumerate(shop.events) if number not in gone]
    users = dict(shop.users)
    newcomer = {"new": (data.draw(AROUND), "CH")} if data.draw(st.booleans()) else {}
    insert_users(connection, newcomer)
    users |= newcomer
    if data.draw(st.booleans()):
        moved, signup = data.draw(st.sampled_from(sorted(users))), data.draw(AROUND)
        connection.execute("UPDATE users SET signup_date = %s, country = 'IT' WHERE user_id = %s", [signup, moved])
        users[moved] = (signup, "IT")
    idle = sorted(set(users) - {event.user for event in events})
    if idle and len(users) > 1 and data.draw(st.booleans()):
        connection.execute("DELETE FROM users WHERE user_id = %s", [idle[0]])
        del users[idle[0]]
    new = data.draw(happenings(users, definition, 10))
    insert_events(connection, new)
    segments = {user: "b" for user in shop.segments if user in users}
    insert_segments(connection, segments)
    return Shop(users, events + new, segments)


@pytest.mark.parametrize("anchor", ["user", "calendar"])
def test_a_day_that_the_calendar_skips_is_one_in_which_nothing_was_recorded(
    postgres: PostgresResource, anchor: Any
) -> None:
    """Samoa went from the 29th of December 2011 to the 31st."""
    definition = Definition(unit="day", periods=4, anchor=anchor, time_zone="Pacific/Apia")
    signup = dt.datetime(2011, 12, 29, 20, 15, tzinfo=UTC)  # the 29th, a quarter past ten, by the clock of Apia
    events = [Event("a", signup + dt.timedelta(hours=hours)) for hours in range(0, 200, 3)]
    shop = Shop({"a": (signup, None)}, events)
    with (
        postgres.model_copy(update={"time_zone": "Pacific/Apia"}).connect(autocommit=True) as connection,
        connection.transaction(force_rollback=True),
    ):
        fill(connection, shop)
        refresh_retention(connection, definition)
        agree(connection, shop, definition)
        cells = count_from_summaries(connection, definition)
    assert [(cell.users_observed, cell.users_unrecorded) for cell in cells] == [(1, 0), (0, 1), (1, 0), (1, 0)]


@pytest.mark.parametrize("measure", ["n-period", "revenue"])
def test_a_new_price_or_category_is_in_the_next_refresh(postgres: PostgresResource, measure: Any) -> None:
    definition = Definition(measure=measure, breakdown="category")
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    events = [Event("a", signup, "purchased", "p1"), Event("b", signup + dt.timedelta(days=60), "purchased", "p2")]
    with postgres.connect(autocommit=True) as connection, connection.transaction(force_rollback=True):
        fill(connection, Shop({"a": (signup, None), "b": (signup, None)}, events))
        refresh_retention(connection, definition)
        connection.execute("UPDATE products SET price = 5, category = 'Garden' WHERE product_id = 'p1'")
        done = refresh_retention(connection, definition)
        assert (done.rebuilt, done.users_recounted) == (None, 1)
        counted = count_from_summaries(connection, definition)
        assert counted == count_directly(connection, definition)
    assert {counts.breakdown for counts in counted} == {None, "Garden", "Sports"}
    if measure == "revenue":
        assert by_cell(counted)["Garden", dt.date(2025, 1, 1), 0][-1] == 5
