"""The cells that PostgreSQL counts, against a slow, plain reference; and the assets that publish them."""

from __future__ import annotations

import datetime as dt
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shop_platform import sqlfiles
from shop_platform.changes import consumed_state, event_state
from shop_platform.pictures import read_facts
from shop_platform.records import read_record
from shop_platform.resources.postgres import Connection, PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.retention import assets
from shop_platform.retention.cells import Cell, make_cell
from shop_platform.retention.checks import is_a_picture
from shop_platform.retention.counting import lock_matrix, publish, read_cells

UTC = dt.UTC
Count = tuple[int, int, int]


def bounds(signup: dt.datetime, zone: str, periods: int) -> list[pd.Timestamp]:
    """The moments at which a user's periods begin, and the end of the last, by the wall clock of the zone.

    An hour that the clock shows twice means its second pass; one that it skips, the hour after: PostgreSQL's rules.
    """
    start = pd.Timestamp(signup).tz_convert(zone)
    wall = start.tz_localize(None)
    later = (wall + pd.Timedelta(days=7 * period) for period in range(1, periods + 1))
    return [start, *(w.tz_localize(zone, ambiguous=False, nonexistent=pd.Timedelta(hours=1)) for w in later)]


def reference(
    users: dict[str, dt.datetime], events: list[tuple[str, dt.datetime]], zone: str, periods: int = 8
) -> dict[tuple[dt.date, int], Count]:
    """Size, observed and active of each cell, written from the definition: a row for each user and period."""
    acts = pd.DataFrame(events, columns=["user", "at"])
    rows = []
    for user, signup in users.items():
        starts = bounds(signup, zone, periods)
        own = pd.to_datetime(acts.loc[acts["user"] == user, "at"], utc=True)
        for period, (start, end) in enumerate(pairwise(starts)):
            observed = len(acts) > 0 and end <= acts["at"].max()
            active = observed and bool(((own >= start) & (own < end)).any())
            rows.append((starts[0].date().replace(day=1), period, 1, int(observed), int(active)))
    frame = pd.DataFrame(rows, columns=["cohort", "period", "size", "observed", "active"])
    sums = frame.groupby(["cohort", "period"]).sum()
    return {key: tuple(map(int, counts)) for key, counts in zip(sums.index, sums.to_numpy(), strict=True)}


def fill(connection: Connection, users: dict[str, dt.datetime], events: list[tuple[str, dt.datetime]]) -> None:
    """Put users and events in place of what is there."""
    connection.execute("TRUNCATE users, events CASCADE")
    connection.execute("INSERT INTO products VALUES ('p', 'P', 'C', 1) ON CONFLICT DO NOTHING")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO users (user_id, signup_date) VALUES (%s, %s)", list(users.items()))
        cursor.executemany(
            "INSERT INTO events (user_id, product_id, event_type, timestamp) VALUES (%s, 'p', 'viewed', %s)", events
        )


def counted(connection: Connection) -> dict[tuple[dt.date, int], Count]:
    query = sqlfiles.read_sql("queries/cohort_retention").text
    rows = connection.execute(query, {"periods": 8, "days": 7}).fetchall()
    return {(row[0], row[1]): (row[2], row[3], row[4]) for row in rows}


# Both changes of the clock in London and in New York, and weeks before them, when a user may have signed up.
CHANGES = [
    dt.datetime(2024, 3, 10, 7, tzinfo=UTC),
    dt.datetime(2024, 3, 31, 1, tzinfo=UTC),
    dt.datetime(2024, 10, 27, 1, tzinfo=UTC),
    dt.datetime(2024, 11, 3, 6, tzinfo=UTC),
]
NEAR_A_CHANGE = st.builds(
    lambda change, weeks, quarters: change + dt.timedelta(weeks=weeks, minutes=15 * quarters),
    st.sampled_from(CHANGES),
    st.integers(-3, 3),
    st.integers(-12, 12),
)
# From before new year into a leap year's February, and over the next new year.
ANYWHEN = st.one_of(
    st.integers(0, 90 * 86_400).map(lambda s: dt.datetime(2023, 12, 1, tzinfo=UTC) + dt.timedelta(seconds=s)),
    st.integers(0, 120 * 86_400).map(lambda s: dt.datetime(2024, 10, 1, tzinfo=UTC) + dt.timedelta(seconds=s)),
)
MOMENTS = st.one_of(ANYWHEN, NEAR_A_CHANGE)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.usefixtures("postgres")
@given(
    signups=st.lists(MOMENTS, min_size=1, max_size=8),
    acts=st.lists(st.tuples(st.integers(0, 7), MOMENTS), max_size=40),
    zone=st.sampled_from(["UTC", "Europe/London", "America/New_York", "Asia/Kolkata"]),
)
def test_every_cell_equals_the_reference(
    signups: list[dt.datetime], acts: list[tuple[int, dt.datetime]], zone: str
) -> None:
    users = {f"u{n}": signup for n, signup in enumerate(signups)}
    events = [(f"u{who % len(users)}", moment) for who, moment in acts]
    with PostgresResource(time_zone=zone).connect() as connection:
        fill(connection, users, events)
        assert counted(connection) == reference(users, events, zone)


USUAL_SQL = """
SELECT extract(WEEK FROM e.timestamp)::int - extract(WEEK FROM u.signup_date)::int AS week, count(DISTINCT user_id)
FROM users u JOIN events e USING (user_id) GROUP BY 1 ORDER BY 1
"""


def test_subtracting_week_numbers_breaks_at_new_year_and_ours_does_not(postgres: PostgresResource) -> None:
    signup = dt.datetime(2024, 12, 26, 12, tzinfo=UTC)
    events = [("a", signup + dt.timedelta(days=8)), ("a", signup + dt.timedelta(days=100))]
    with postgres.connect() as connection:
        fill(connection, {"a": signup}, events)
        usual = dict(connection.execute(USUAL_SQL).fetchall())
        ours = counted(connection)
    # The second of January lies in week 1, the signup in week 52: "51 weeks before the signup".
    assert -51 in usual
    assert 1 not in usual
    assert ours[dt.date(2024, 12, 1), 1] == (1, 1, 1)
    assert ours[dt.date(2024, 12, 1), 2] == (1, 1, 0)


@pytest.mark.usefixtures("postgres")
@pytest.mark.parametrize(("hour", "period"), [(9, 0), (10, 1)])
@pytest.mark.parametrize(
    ("zone", "year", "month", "day"),
    [
        ("Europe/London", 2025, 3, 24),  # forward on the 30th: the week from the 24th, ten o'clock, is an hour short
        ("Europe/London", 2025, 10, 20),  # back on the 26th: an hour long
        ("America/New_York", 2025, 3, 3),
        ("America/New_York", 2025, 10, 27),
    ],
)
def test_a_week_ends_at_the_hour_of_the_signup_though_the_clock_changes(
    zone: str, year: int, month: int, day: int, hour: int, period: int
) -> None:
    signup = dt.datetime(year, month, day, 10, tzinfo=ZoneInfo(zone))
    event = signup.replace(hour=hour, minute=30) + dt.timedelta(days=7)
    later = signup + dt.timedelta(days=70)
    with PostgresResource(time_zone=zone).connect() as connection:
        fill(connection, {"a": signup, "b": signup}, [("a", event), ("b", later)])
        cells = counted(connection)
    assert {p for (_, p), (_, _, active) in cells.items() if active} == {period}


@pytest.mark.usefixtures("postgres")
def test_what_a_user_does_in_the_hour_that_the_clock_shows_twice_counts() -> None:
    # 3 November 2024, New York: signed up at the first half past one, active 45 minutes later, at 1:15 by the clock.
    signup = dt.datetime(2024, 11, 3, 5, 30, tzinfo=UTC)
    events = [("a", signup + dt.timedelta(minutes=45)), ("a", signup + dt.timedelta(days=60))]
    with PostgresResource(time_zone="America/New_York").connect() as connection:
        fill(connection, {"a": signup}, events)
        assert counted(connection)[dt.date(2024, 11, 1), 0] == (1, 1, 1)


@pytest.mark.usefixtures("postgres")
def test_the_cohort_is_the_month_of_the_shop_not_of_utc() -> None:
    signup = dt.datetime(2025, 1, 1, 2, tzinfo=UTC)
    with PostgresResource(time_zone="America/New_York").connect() as connection:
        fill(connection, {"a": signup}, [("a", signup)])
        assert {cohort for cohort, _ in counted(connection)} == {dt.date(2024, 12, 1)}


def test_users_who_do_nothing_stay_in_the_denominator(postgres: PostgresResource) -> None:
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    events = [("a", signup), ("a", signup + dt.timedelta(days=60))]
    with postgres.connect() as connection:
        fill(connection, {"a": signup, "idle": signup}, events)
        assert counted(connection)[dt.date(2025, 1, 1), 0] == (2, 2, 1)


def test_a_week_that_lies_in_the_future_is_empty_not_zero(postgres: PostgresResource) -> None:
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    with postgres.connect() as connection:
        fill(connection, {"a": signup}, [("a", signup), ("a", signup + dt.timedelta(days=10))])
    run(postgres)
    cells = published(postgres)
    assert [(cell.users_observed, cell.rate) for cell in cells][:3] == [(1, 1.0), (0, None), (0, None)]


def run(postgres: PostgresResource) -> dg.ExecuteInProcessResult:
    return dg.materialize([assets.cohort_retention], resources={"postgres": postgres}, raise_on_error=False)


def published(postgres: PostgresResource) -> list[Cell]:
    with postgres.connect() as connection:
        return read_cells(connection)


def test_the_asset_publishes_the_matrix_with_row_count_and_the_state_it_is_made_from(
    postgres: PostgresResource,
) -> None:
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    with postgres.connect() as connection:
        fill(connection, {"a": signup}, [("a", signup), ("a", signup + dt.timedelta(days=60))])
    result = run(postgres)
    assert result.success
    metadata = result.asset_materializations_for_node("cohort_retention")[0].metadata
    assert metadata["dagster/row_count"].value == len(published(postgres)) == 8
    with postgres.connect() as connection:
        assert consumed_state(connection, "cohort_retention") == event_state(connection)


def test_a_shop_without_events_has_cohorts_of_which_nothing_is_known(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        fill(connection, {"a": dt.datetime(2025, 1, 1, tzinfo=UTC)}, [])
    assert run(postgres).success
    assert {cell.rate for cell in published(postgres)} == {None}


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


def test_a_matrix_that_contradicts_its_definition_is_not_published(postgres: PostgresResource) -> None:
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    with postgres.connect() as connection:
        fill(connection, {"a": signup}, [("a", signup), ("a", signup + dt.timedelta(days=60))])
    run(postgres)
    before = published(postgres)
    with postgres.connect() as connection:
        # A user who signed up at infinity belongs to no month: the fault planted here.
        connection.execute("INSERT INTO users (user_id, signup_date) VALUES ('eternal', 'infinity')")
        connection.execute("DELETE FROM events")
    result = run(postgres)
    assert not result.success
    check = checks_of(result)["keeps_its_definition"]
    assert not check.passed
    assert "The cohorts hold 1 users, the shop 2." in (check.description or "")
    assert published(postgres) == before
    with postgres.connect() as connection:
        assert consumed_state(connection, "cohort_retention") != event_state(connection)


@pytest.mark.parametrize("moment", ["infinity", "2999-01-01"])
def test_an_event_in_the_future_is_warned_of(postgres: PostgresResource, moment: str) -> None:
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    with postgres.connect() as connection:
        fill(connection, {"a": signup}, [("a", signup)])
        connection.execute("UPDATE events SET timestamp = %s", [moment])
    result = run(postgres)
    check = checks_of(result)["data_end_is_past"]
    assert (result.success, check.passed, check.severity) == (True, False, dg.AssetCheckSeverity.WARN)


def test_events_before_the_signup_are_left_out_and_counted(postgres: PostgresResource) -> None:
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    with postgres.connect() as connection:
        fill(connection, {"a": signup}, [("a", signup - dt.timedelta(seconds=1)), ("a", signup + dt.timedelta(days=9))])
    result = run(postgres)
    assert published(postgres)[0].active_users == 0
    metadata = result.asset_materializations_for_node("cohort_retention")[0].metadata
    assert metadata["events before their user's signup, left out"].value == 1


def test_what_the_matrix_was_counted_from_is_stored_with_it(postgres: PostgresResource) -> None:
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    with postgres.connect() as connection:
        fill(connection, {"a": signup}, [("a", signup), ("a", signup + dt.timedelta(days=60))])
    result = run(postgres)
    with postgres.connect() as connection:
        record = read_record(connection, "cohort_retention")
        fill(connection, {"a": signup}, [("a", signup + dt.timedelta(days=90))])
    assert (record["users"], record["events"], record["data_end"]) == (1, 2, "2025-03-02T00:00:00+00:00")
    assert "7n days after each user's own signup, UTC time" in record["definition"]
    metadata = result.asset_materializations_for_node("cohort_retention")[0].metadata
    assert metadata["data until"].value == record["data_end"]
    assert "| 2025-01 | 1 | 100% (1 of 1) | 0% (0 of 1) |" in str(metadata["retention"].value)


def test_one_run_at_a_time_counts_and_the_next_one_sees_what_it_published(postgres: PostgresResource) -> None:
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    with postgres.connect() as connection:
        fill(connection, {"a": signup}, [("a", signup + dt.timedelta(days=60))])
    with ThreadPoolExecutor() as others:
        with postgres.connect() as first:
            lock_matrix(first)
            second = others.submit(run, postgres)
            wait_until_locked_out(postgres)
            publish(first, [make_cell(dt.date(2020, 1, 1), 0, 1, 1, 1)])
            assert not second.done()
        assert second.result().success
    assert {cell.cohort for cell in published(postgres)} == {dt.date(2025, 1, 1)}


def wait_until_locked_out(postgres: PostgresResource) -> None:
    """Wait until somebody waits for a lock."""
    waiting = "SELECT count(*) FROM pg_locks JOIN pg_class ON pg_class.oid = relation WHERE NOT granted"
    deadline = time.monotonic() + 60
    with postgres.connect(autocommit=True) as connection:
        while connection.execute(waiting).fetchone() == (0,):
            assert time.monotonic() < deadline, "nobody has waited for the lock"
            time.sleep(0.05)


def test_the_heatmap_is_a_file_and_stands_in_the_metadata(postgres: PostgresResource, home: Path) -> None:
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    with postgres.connect() as connection:
        fill(connection, {"a": signup}, [("a", signup), ("a", signup + dt.timedelta(days=60))])
    result = dg.materialize(
        [assets.cohort_retention, assets.retention_heatmap],
        resources={"postgres": postgres, "shop": ShopResource()},
    )
    assert result.success
    assert (home / "shops" / "shop" / "retention_heatmap.png").read_bytes().startswith(b"\x89PNG")
    metadata = result.asset_materializations_for_node("retention_heatmap")[0].metadata
    assert str(metadata["heatmap"].value).startswith("![Share of users active")
    assert checks_of(result)["is_a_picture"].passed


def test_a_picture_that_is_not_of_this_run_or_lacks_a_cohort_is_noticed() -> None:
    facts = {"run": "this", "cohorts": "12"}
    assert is_a_picture(facts, "this", 12).passed
    for run_id, cohorts in [("that", 12), ("this", 13)]:
        assert not is_a_picture(facts, run_id, cohorts).passed
    assert not is_a_picture({}, "this", 12).passed


def test_sixty_cohorts_fit_into_the_metadata(postgres: PostgresResource, home: Path) -> None:
    signups = {f"u{n}": dt.datetime(2020 + n // 12, n % 12 + 1, 2, tzinfo=UTC) for n in range(60)}
    with postgres.connect() as connection:
        fill(connection, signups, [(user, signup + dt.timedelta(days=60)) for user, signup in signups.items()])
    result = dg.materialize(
        [assets.cohort_retention, assets.retention_heatmap],
        resources={"postgres": postgres, "shop": ShopResource()},
    )
    metadata = result.asset_materializations_for_node("retention_heatmap")[0].metadata
    assert len(str(metadata["heatmap"].value)) < 60_000 * 4 / 3 + 200
    assert read_facts((home / "shops" / "shop" / "retention_heatmap.png").read_bytes())["cohorts"] == "60"


def test_a_heatmap_of_nothing_is_refused_with_the_way_out(postgres: PostgresResource, home: Path) -> None:
    assert home
    result = dg.materialize(
        [assets.retention_heatmap], resources={"postgres": postgres, "shop": ShopResource()}, raise_on_error=False
    )
    assert not result.success
    assert "materialise cohort_retention" in str(result.failure_data_for_node("retention_heatmap"))
