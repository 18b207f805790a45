"""Single cases of what is counted, told as stories; and the asset that publishes the matrix."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from shop_platform.changes import consumed_state, event_state
from shop_platform.errors import DataError, SettingsError
from shop_platform.records import read_record
from shop_platform.resources.engine import EngineResource
from shop_platform.resources.postgres import Connection, PostgresResource
from shop_platform.retention import assets
from shop_platform.retention.cells import Cell, Counts, make_cell
from shop_platform.retention.counting import lock_matrix, publish
from shop_platform.retention.definition import Definition
from shop_platform.retention.stored import read_cells
from shop_platform.retention.summaries import (
    ask_for_rebuild,
    count_directly,
    count_from_summaries,
    refresh_retention,
)
from shop_platform.verifying import TAGS

UTC = dt.UTC
Count = tuple[int, int, int]


def fill(connection: Connection, users: dict[str, dt.datetime], events: list[tuple[str, dt.datetime]]) -> None:
    """Put users and events in place of what is there; each event is one view of the same product."""
    connection.execute("TRUNCATE users, events CASCADE")
    connection.execute("INSERT INTO products VALUES ('p', 'P', 'C', 1) ON CONFLICT DO NOTHING")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO users (user_id, signup_date) VALUES (%s, %s)", list(users.items()))
        cursor.executemany(
            "INSERT INTO events (user_id, product_id, event_type, timestamp) VALUES (%s, 'p', 'viewed', %s)", events
        )


def busy(start: dt.datetime, days: int) -> list[tuple[str, dt.datetime]]:
    """Somebody who does something every day, so that the shop is never silent."""
    return [("busy", start + dt.timedelta(days=day)) for day in range(days)]


def counted(connection: Connection, definition: Definition | None = None) -> dict[tuple[dt.date, int], Count]:
    """Size, observed and active of each cell of all users."""
    cells = count_directly(connection, definition or Definition())
    return {(c.cohort, c.period): (c.cohort_size, c.users_observed, c.active_users) for c in cells}


USUAL_SQL = """
SELECT extract(WEEK FROM e.timestamp)::int - extract(WEEK FROM u.signup_date)::int AS week, count(DISTINCT user_id)
FROM users u JOIN events e USING (user_id) WHERE user_id = 'a' GROUP BY 1 ORDER BY 1
"""


def test_subtracting_week_numbers_breaks_at_new_year_and_ours_does_not(postgres: PostgresResource) -> None:
    signup = dt.datetime(2024, 12, 26, 12, tzinfo=UTC)
    early = signup - dt.timedelta(days=40)
    events = [("a", signup + dt.timedelta(days=8)), ("a", signup + dt.timedelta(days=100)), *busy(early, 140)]
    with postgres.connect() as connection:
        fill(connection, {"a": signup, "busy": early}, events)
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


def run(postgres: PostgresResource, tags: Mapping[str, str] | None = None) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [assets.cohort_retention],
        resources={"postgres": postgres, "engine": EngineResource()},
        raise_on_error=False,
        tags=dict(tags or {}),
    )


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


SPOILING = """
CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.users := NEW.users + 1; RETURN NEW; END $$;
CREATE TRIGGER spoil BEFORE INSERT ON analytics.retention_days FOR EACH ROW EXECUTE FUNCTION spoil()
"""


def test_a_matrix_that_contradicts_the_events_is_not_published(postgres: PostgresResource) -> None:
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    with postgres.connect() as connection:
        fill(connection, {"a": signup}, [("a", signup), ("a", signup + dt.timedelta(days=60))])
    run(postgres)
    before = published(postgres)
    with postgres.connect() as connection:
        connection.execute(SPOILING)
        connection.execute("INSERT INTO users (user_id, signup_date) VALUES ('b', '2025-01-05')")
    result = run(postgres)
    assert not result.success
    checks = checks_of(result)
    assert not checks["keeps_its_definition"].passed
    assert "do not hold the 2 users" in (checks["keeps_its_definition"].description or "")
    assert (checks["agrees_with_events"].passed, checks["agrees_with_events"].severity) == (
        False, dg.AssetCheckSeverity.ERROR,
    )  # fmt: skip
    assert published(postgres) == before
    with postgres.connect() as connection:
        assert consumed_state(connection, "cohort_retention") != event_state(connection)


def test_a_contradiction_that_the_events_share_is_not_called_a_disagreement(postgres: PostgresResource) -> None:
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    with postgres.connect() as connection:
        fill(connection, {"a": signup, "b": signup}, [("a", signup), ("a", signup + dt.timedelta(days=60))])
        connection.execute(
            "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;"
            "CREATE TRIGGER lose BEFORE INSERT ON analytics.retention_users FOR EACH ROW WHEN (NEW.user_id = 'b')"
            " EXECUTE FUNCTION lose()"
        )
    checks = checks_of(run(postgres))
    assert not checks["keeps_its_definition"].passed
    assert checks["agrees_with_events"].passed


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE analytics.retention_users SET active_periods = 0 WHERE user_id = 'a'",
        "UPDATE analytics.retention_days SET users = users + 1",
        "DELETE FROM analytics.retention_users WHERE user_id = 'a'",
    ],
)
def test_summaries_that_were_changed_by_hand_are_noticed_and_built_anew(
    postgres: PostgresResource, damage: str
) -> None:
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    with postgres.connect() as connection:
        fill(connection, {"a": signup}, [("a", signup), ("a", signup + dt.timedelta(days=60))])
    run(postgres)
    before = published(postgres)
    with postgres.connect() as connection:
        connection.execute(damage)
    result = run(postgres)
    check = checks_of(result)["agrees_with_events"]
    assert (result.success, check.passed, check.severity) == (True, False, dg.AssetCheckSeverity.WARN)
    assert "built anew" in (check.description or "")
    assert published(postgres) == before
    assert checks_of(run(postgres))["agrees_with_events"].passed


def test_the_nightly_run_compares_every_user_so_that_one_who_drifted_is_found(postgres: PostgresResource) -> None:
    first = dt.datetime(2025, 1, 1, tzinfo=UTC)
    signups = {f"u{day}": first + dt.timedelta(days=day) for day in range(60)}
    with postgres.connect() as connection:
        fill(connection, signups, [(user, signup + dt.timedelta(days=9)) for user, signup in signups.items()])
    run(postgres)
    usual = checks_of(run(postgres))["agrees_with_events"]
    assert (usual.passed, usual.metadata["compared"].value) == (True, 20)
    with postgres.connect() as connection:
        connection.execute("UPDATE analytics.retention_users SET active_periods = 0 WHERE user_id = 'u31'")
    assert not checks_of(run(postgres, TAGS))["agrees_with_events"].passed
    nightly = checks_of(run(postgres, TAGS))["agrees_with_events"]
    assert (nightly.passed, nightly.metadata["compared"].value) == (True, 60)


@pytest.mark.parametrize(
    ("prepare", "definition", "reason"),
    [
        ("SELECT 1", Definition(), None),
        ("TRUNCATE events", Definition(), "rows changed that were not noted one by one"),
        ("TRUNCATE users CASCADE", Definition(), "rows changed that were not noted one by one"),
        ("DELETE FROM ops.retention_basis", Definition(), "there were no summaries"),
        ("SELECT 1", Definition(periods=9, start="viewed"), "the definition has changed: periods, start"),
        ("SELECT 1", Definition(time_zone="Asia/Kolkata"), "the definition has changed: time_zone"),
        ("SELECT 1", Definition(least_users=3), None),
        (
            "INSERT INTO users (user_id, signup_date) SELECT 'u' || n, now() FROM generate_series(1, 1001) AS n",
            Definition(),
            "much of the shop has changed",
        ),
    ],
)
def test_where_changes_do_not_do_all_is_built_anew(
    postgres: PostgresResource, prepare: str, definition: Definition, reason: str | None
) -> None:
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    with postgres.connect() as connection:
        fill(connection, {"a": signup}, [("a", signup), ("a", signup + dt.timedelta(days=60))])
        assert refresh_retention(connection, Definition()).rebuilt is not None
    with postgres.connect() as connection:
        connection.execute(prepare)
    with postgres.model_copy(update={"time_zone": definition.time_zone}).connect() as connection:
        done = refresh_retention(connection, definition)
        assert (done.rebuilt, done.equal) == (reason, True)
        assert count_from_summaries(connection, definition) == count_directly(connection, definition)


def test_what_asks_for_a_rebuild_gets_one(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        refresh_retention(connection, Definition())
        before = event_state(connection)
        ask_for_rebuild(connection)
        assert event_state(connection) != before
        assert refresh_retention(connection, Definition()).rebuilt is not None


def test_a_new_user_without_events_is_seen_by_the_sensors_and_in_the_next_matrix(postgres: PostgresResource) -> None:
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    with postgres.connect() as connection:
        fill(connection, {"a": signup}, [("a", signup), ("a", signup + dt.timedelta(days=60))])
    run(postgres)
    with postgres.connect() as connection:
        connection.execute("INSERT INTO users (user_id, signup_date) VALUES ('idle', '2025-01-02')")
        assert consumed_state(connection, "cohort_retention") != event_state(connection)
    run(postgres)
    first = published(postgres)[0]
    assert (first.cohort_size, first.active_users) == (2, 1)


def test_a_week_in_which_the_shop_recorded_nothing_is_unknown_until_late_data_fill_it(
    postgres: PostgresResource,
) -> None:
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    others = [event for event in busy(signup, 60) if not 10 <= (event[1] - signup).days < 22]
    with postgres.connect() as connection:
        fill(connection, {"a": signup, "busy": signup}, [("a", signup), *others])
    run(postgres)
    cells = published(postgres)
    # The outage is as long as the weeks 1 to 3, but holds only week 2 whole.
    assert [(cell.users_observed, cell.users_unrecorded) for cell in cells[:4]] == [(2, 0), (2, 0), (0, 2), (2, 0)]
    assert cells[2].rate is None
    with postgres.connect() as connection:
        connection.execute(
            "INSERT INTO events (user_id, product_id, event_type, timestamp) VALUES ('a', 'p', 'viewed', '2025-01-16')"
        )
    run(postgres)
    assert [(cell.users_observed, cell.active_users) for cell in published(postgres)[:4]] == [
        (2, 2), (2, 1), (2, 1), (2, 1),
    ]  # fmt: skip


def test_a_break_down_that_is_no_column_or_makes_too_many_groups_is_refused(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        connection.execute(
            "INSERT INTO users (user_id, signup_date, city) SELECT n, '2025-01-01', 'c' || n"
            " FROM generate_series(1, 60) AS n"
        )
        with pytest.raises(DataError, match="a column of users, which are user_id, signup_date"):
            refresh_retention(connection, Definition(breakdown="shoe_size"))
        with pytest.raises(DataError, match="makes 60 groups"):
            refresh_retention(connection, Definition(breakdown="city"))


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"periods": 0}, "SHOP_RETENTION_PERIODS"),
        ({"periods": 61}, "SHOP_RETENTION_PERIODS"),
        ({"measure": "revenue", "activity": "viewed"}, "SHOP_RETENTION_ACTIVITY"),
        ({"breakdown": "email"}, "single people"),
    ],
)
def test_a_definition_that_can_not_be_counted_is_refused(choice: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        Definition(**choice)


def test_an_event_in_the_future_is_warned_of(postgres: PostgresResource) -> None:
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    with postgres.connect() as connection:
        fill(connection, {"a": signup}, [("a", signup), ("a", signup + dt.timedelta(days=9))])
        connection.execute("UPDATE events SET timestamp = '2999-01-01' WHERE timestamp > %s", [signup])
    result = run(postgres)
    check = checks_of(result)["data_end_is_past"]
    assert (result.success, check.passed, check.severity) == (True, False, dg.AssetCheckSeverity.WARN)
    # And it makes no week look as if everybody had left: the shop recorded nothing until then.
    assert [cell.rate for cell in published(postgres)] == [1.0, *[None] * 7]


def test_an_event_at_infinity_counts_nowhere(postgres: PostgresResource) -> None:
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    with postgres.connect() as connection:
        fill(connection, {"a": signup}, [("a", signup), ("a", signup + dt.timedelta(days=9))])
        connection.execute("UPDATE events SET timestamp = 'infinity' WHERE timestamp > %s", [signup])
    assert checks_of(run(postgres))["data_end_is_past"].passed
    assert [cell.rate for cell in published(postgres)] == [None] * 8


def test_events_before_the_signup_are_left_out_and_counted(postgres: PostgresResource) -> None:
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    with postgres.connect() as connection:
        events = [("a", signup - dt.timedelta(seconds=1)), ("a", signup + dt.timedelta(days=9)), *busy(signup, 9)]
        fill(connection, {"a": signup, "busy": signup - dt.timedelta(days=40)}, events)
    result = run(postgres)
    assert published(postgres)[-8].active_users == 0
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
    assert "Week n runs from 7n days after each user's own signup" in record["definition"]
    assert record["definition_settings"]["anchor"] == "user"
    metadata = result.asset_materializations_for_node("cohort_retention")[0].metadata
    assert metadata["data until"].value == record["data_end"]
    assert "| 2025-01 | 1 | 100% (1 of 1) |  |" in str(metadata["retention"].value)


@pytest.mark.fault
def test_one_run_at_a_time_counts_and_the_next_one_sees_what_it_published(postgres: PostgresResource) -> None:
    signup = dt.datetime(2025, 1, 1, tzinfo=UTC)
    with postgres.connect() as connection:
        fill(connection, {"a": signup}, [("a", signup + dt.timedelta(days=60))])
    with ThreadPoolExecutor() as others:
        with postgres.connect() as first:
            lock_matrix(first)
            second = others.submit(run, postgres)
            wait_until_locked_out(postgres)
            publish(first, [make_cell(Counts(None, dt.date(2020, 1, 1), 0, 1, 1, 0, 1, None))], [], 30)
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
