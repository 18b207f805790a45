"""The cells that PostgreSQL counts, against a slow, plain reference; and the assets that publish them."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shop_platform import sqlfiles
from shop_platform.changes import consumed_state, event_state
from shop_platform.resources.postgres import Connection, PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.retention import assets
from shop_platform.retention.cells import Cell

UTC = dt.UTC
Count = tuple[int, int, int]


def reference(
    users: dict[str, dt.datetime], events: list[tuple[str, dt.datetime]], zone: str, periods: int = 8
) -> dict[tuple[dt.date, int], Count]:
    """Size, observed and active of each cell, counted one user at a time by wall-clock arithmetic."""
    local = ZoneInfo(zone)

    def wall(moment: dt.datetime) -> dt.datetime:
        return moment.astimezone(local).replace(tzinfo=None)

    until = max((wall(moment) for _, moment in events), default=None)
    cells: dict[tuple[dt.date, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for user, signup in users.items():
        start = wall(signup)
        active = {(wall(m) - start) // dt.timedelta(days=7) for who, m in events if who == user and m >= signup}
        for period in range(periods):
            cell = cells[dt.date(start.year, start.month, 1), period]
            observed = until is not None and start + dt.timedelta(days=7 * (period + 1)) <= until
            cell[0] += 1
            cell[1] += observed
            cell[2] += observed and period in active
    return {key: (size, observed, active) for key, (size, observed, active) in cells.items()}


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


# Around new year in a leap year, and around both changes of the clock in London and New York.
MOMENTS = st.one_of(
    st.integers(0, 140 * 86_400).map(lambda s: dt.datetime(2023, 12, 1, tzinfo=UTC) + dt.timedelta(seconds=s)),
    st.integers(0, 120 * 86_400).map(lambda s: dt.datetime(2024, 10, 1, tzinfo=UTC) + dt.timedelta(seconds=s)),
)


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
def test_a_week_ends_at_the_hour_of_the_signup_though_the_clock_changes(hour: int, period: int) -> None:
    # British clocks went forward on 30 March 2025: the week from the 24th, ten o'clock, is an hour short.
    london = ZoneInfo("Europe/London")
    signup = dt.datetime(2025, 3, 24, 10, tzinfo=london)
    event = dt.datetime(2025, 3, 31, hour, 30, tzinfo=london)
    later = dt.datetime(2025, 6, 30, tzinfo=london)
    with PostgresResource(time_zone="Europe/London").connect() as connection:
        fill(connection, {"a": signup, "b": signup}, [("a", event), ("b", later)])
        cells = counted(connection)
    assert {p for (_, p), (_, _, active) in cells.items() if active} == {period}


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
        return assets.read_cells(connection)


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


def test_a_matrix_that_contradicts_its_definition_is_not_published(postgres: PostgresResource) -> None:
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    with postgres.connect() as connection:
        fill(connection, {"a": signup}, [("a", signup), ("a", signup + dt.timedelta(days=60))])
    run(postgres)
    before = published(postgres)
    with postgres.connect() as connection:
        # A user signed up at infinity belongs to no month that a row could hold: the fault planted here.
        connection.execute("INSERT INTO users (user_id, signup_date) VALUES ('eternal', 'infinity')")
    result = run(postgres)
    assert not result.success
    assert published(postgres) == before


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


def test_a_heatmap_of_nothing_is_refused_with_the_way_out(postgres: PostgresResource, home: Path) -> None:
    assert home
    result = dg.materialize(
        [assets.retention_heatmap], resources={"postgres": postgres, "shop": ShopResource()}, raise_on_error=False
    )
    assert not result.success
    assert "materialise cohort_retention" in str(result.failure_data_for_node("retention_heatmap"))
