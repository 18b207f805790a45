"""Months of events are loaded by Dagster's own partitions and backfills, and nothing beside them is touched."""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from shop_platform import automation
from shop_platform.changes import event_state, mark_consumed
from shop_platform.commerce.by_month import define_events_by_month
from shop_platform.commerce.loading import load_or_refuse, load_shop_tables
from shop_platform.commerce.months import MonthsLoad, Window, load_month_tables, load_months
from shop_platform.erasure.record import note_erasure, read_forgotten
from shop_platform.errors import DataError
from shop_platform.quarantine import RefusedLoadError
from shop_platform.resources.postgres import Connection, PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.settings import load_settings
from shop_platform.sources.load import load_shop

from ..sources.test_files import write_shop
from ..test_automation import tick
from .lists import ListSource, event, shop_of, user

ZONE = "Europe/Berlin"
#: Germany's clocks go forward on March 30 and back on October 26, 2025.
EDGES = {
    "2025-02": ["2025-02-28T22:59:59.999999Z"],
    "2025-03": ["2025-02-28T23:00:00Z", "2025-03-31T21:59:59.999999Z"],
    "2025-04": ["2025-03-31T22:00:00Z", "2025-04-15T12:00:00Z"],
    "2025-10": ["2025-09-30T22:00:00Z", "2025-10-31T22:59:59.999999Z"],
    "2025-11": ["2025-10-31T23:00:00Z"],
}
ROWS = "SELECT user_id, product_id, event_type, timestamp FROM events ORDER BY 4, 1, 2, 3, event_id"
#: Where each row lies and which transaction wrote it: both change when it is touched.
VERSIONS = "SELECT event_id, ctid::text, xmin::text FROM events ORDER BY 1"


def run(postgres: PostgresResource, statement: str) -> list[tuple[Any, ...]]:
    with postgres.connect() as connection:
        done = connection.execute(statement)  # type: ignore[call-overload]
        return done.fetchall() if done.description else []


def seen(at: str, **other: object) -> dict[str, object]:
    return {"who": "abc123", "what": "p01", "did": "saw", "seen_at": at, "robot": False} | other


EVENTS = [seen(at) for times in EDGES.values() for at in times]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[dict[str, object]]], None]:
    """Writes the shop's files, in Berlin's time, with these events."""

    def write_them(events: list[dict[str, object]]) -> None:
        monkeypatch.setenv("SHOP_CONFIG", str(write_shop(tmp_path, events=events)))

    write_them(EVENTS)
    return write_them


Write = Callable[[list[dict[str, object]]], None]


def make(
    postgres: PostgresResource,
    first: str,
    last: str | None = None,
    instance: dg.DagsterInstance | None = None,
    *,
    must_succeed: bool = True,
) -> dg.ExecuteInProcessResult:
    """Materialise one month, or a range of them in a single run, as Dagster's commands and backfills do."""
    asset = define_events_by_month("2025-01", load_shop(load_settings()).time_zone)
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last} if last else {}
    return dg.materialize(
        [asset],
        resources={"postgres": postgres, "shop": ShopResource()},
        partition_key=None if last else first,
        tags=tags,  # type: ignore[arg-type]
        instance=instance,
        raise_on_error=must_succeed,
    )


def load_all(postgres: PostgresResource) -> dict[str, Any]:
    return load_or_refuse(postgres, load_shop(load_settings()))


def counts(result: dg.ExecuteInProcessResult) -> dict[str | None, list[object]]:
    """Rows of each month, added and removed, as the metadata of its materialisation tell."""
    names = ("dagster/partition_row_count", "rows added", "rows removed")
    return {
        each.partition: [each.metadata[name].value for name in names]
        for each in result.asset_materializations_for_node("events_by_month")
    }


@pytest.fixture
def synthetic(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A small synthetic shop in New York; returns its months, of which the first holds what is still 2024 there."""
    for name, value in {"USERS": "80", "EVENTS": "2500", "PRODUCTS": "8", "TIME_ZONE": "America/New_York"}.items():
        monkeypatch.setenv(f"SHOP_{name}", value)
    return [f"2025-{month:02}" for month in range(1, 13)]


@pytest.mark.parametrize("in_a_single_run", [False, True])
def test_all_months_give_the_same_table_as_the_load_of_everything(
    postgres: PostgresResource, synthetic: list[str], monkeypatch: pytest.MonkeyPatch, in_a_single_run: bool
) -> None:
    # Of New York's 2024 are the events of the first five hours; they have no partition here.
    monkeypatch.setenv("SHOP_TIME_ZONE", "UTC" if in_a_single_run else "America/New_York")
    load_all(postgres)
    whole = run(postgres, ROWS)
    run(postgres, "DELETE FROM events")
    run(postgres, "UPDATE ops.loads SET ids = '{}', fingerprint = 'none' WHERE table_name = 'events'")
    if in_a_single_run:
        result = make(postgres, synthetic[0], synthetic[-1])
        assert sum(int(str(rows)) for rows, _, _ in counts(result).values()) == len(whole)
    else:
        for month in synthetic:
            make(postgres, month)
    start = dt.datetime.fromisoformat("2025-01-01T00:00:00Z" if in_a_single_run else "2025-01-01T05:00:00Z")
    assert run(postgres, ROWS) == [row for row in whole if row[3] >= start]
    load = load_all(postgres)["events"]
    assert (load.difference.added, load.difference.removed) == (sum(row[3] < start for row in whole), 0)
    assert run(postgres, ROWS) == whole


@pytest.mark.usefixtures("write")
def test_months_are_those_of_the_shops_calendar_with_daylight_saving(postgres: PostgresResource) -> None:
    for month, times in EDGES.items():
        result = make(postgres, month)
        assert counts(result) == {month: [len(times), len(times), 0]}
        (check,) = result.get_asset_check_evaluations()
        assert check.passed
        run(postgres, "DELETE FROM events")
        assert counts(make(postgres, month)) == {month: [len(times), len(times), 0]}
        assert [row[3] for row in run(postgres, ROWS)] == [dt.datetime.fromisoformat(time) for time in times]
        run(postgres, "DELETE FROM events")


@pytest.mark.usefixtures("write")
def test_a_range_is_one_run_whose_metadata_tell_of_each_month(postgres: PostgresResource) -> None:
    load_all(postgres)
    run(postgres, "DELETE FROM events WHERE timestamp < '2025-04-10'")
    result = make(postgres, "2025-03", "2025-05")
    assert counts(result) == {"2025-03": [2, 2, 0], "2025-04": [2, 1, 0], "2025-05": [0, 0, 0]}
    (observed,) = result.asset_observations_for_node("events_by_month")
    assert observed.asset_key == dg.AssetKey("events")
    assert observed.metadata["months"].value == "2025-03, 2025-04, 2025-05"
    assert run(postgres, "SELECT count(*) FROM events") == [(7,)]


def test_a_corrected_month_changes_alone_and_a_full_load_puts_right_the_rest(
    postgres: PostgresResource, write: Write
) -> None:
    load_all(postgres)
    before = run(postgres, VERSIONS)
    gone, corrected = EDGES["2025-04"][1], EDGES["2025-11"][0]
    new = [seen("2025-04-20T12:00:00Z"), seen("2025-04-21T12:00:00Z", did="bought")]
    changed = [each for each in EVENTS if each["seen_at"] not in (gone, corrected)]
    write([*changed, *new, seen(corrected, did="bought")])
    assert counts(make(postgres, "2025-04")) == {"2025-04": [3, 2, 1]}
    assert [row for row in run(postgres, VERSIONS) if row in before] == before[:4] + before[5:]
    assert len(run(postgres, VERSIONS)) == 9
    load = load_all(postgres)["events"]
    assert (load.difference.added, load.difference.removed) == (1, 1)
    assert not load_all(postgres)["events"].changed


@pytest.mark.usefixtures("write")
def test_a_month_loaded_twice_changes_nothing(postgres: PostgresResource) -> None:
    make(postgres, "2025-03")
    queries = (VERSIONS, "SELECT ids, rows_loaded, fingerprint FROM ops.loads", "TABLE ops.event_changes")
    before = [run(postgres, query) for query in queries]
    assert counts(make(postgres, "2025-03")) == {"2025-03": [2, 0, 0]}
    assert [run(postgres, query) for query in queries] == before


@pytest.mark.usefixtures("write")
def test_months_of_the_version_that_is_loaded_leave_the_next_full_load_nothing_to_do(
    postgres: PostgresResource,
) -> None:
    load_all(postgres)
    run(postgres, "DELETE FROM events WHERE timestamp < '2025-03-15'")
    make(postgres, "2025-02", "2025-03")
    assert run(postgres, "SELECT count(*) FROM events") == [(len(EVENTS),)]
    again = load_all(postgres)
    assert not again["events"].changed
    assert (again["events"].rows_loaded, again["events"].kept) == (len(EVENTS), 0)


def test_a_source_that_goes_back_after_a_month_was_loaded_is_loaded_again(
    postgres: PostgresResource, write: Write, tmp_path: Path
) -> None:
    mtimes = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("data/**/*") if path.is_file()}
    load_all(postgres)
    whole = run(postgres, ROWS)
    write(EVENTS[:2])
    make(postgres, "2025-04")
    assert len(run(postgres, ROWS)) == len(whole) - 2
    write(EVENTS)
    for path, mtime in mtimes.items():
        os.utime(path, ns=(mtime, mtime))
    with dg.DagsterInstance.ephemeral() as instance:
        asked, _, _ = tick(automation.source_refresh, instance, postgres=postgres, shop=ShopResource())
    assert "events" in asked
    assert load_all(postgres)["events"].changed
    assert run(postgres, ROWS) == whole


@pytest.mark.usefixtures("write")
def test_into_empty_tables_a_month_brings_all_users_and_products(postgres: PostgresResource) -> None:
    make(postgres, "2025-03")
    assert run(postgres, "SELECT user_id FROM users ORDER BY 1") == [("abc123",), ("def",)]
    assert run(postgres, "SELECT count(*) FROM products") == [(2,)]
    load = load_all(postgres)["events"]
    assert (load.difference.added, load.difference.removed, load.rows_loaded) == (len(EVENTS) - 2, 0, len(EVENTS))


def test_what_breaks_the_contract_is_accounted_for_and_too_much_is_refused(
    postgres: PostgresResource, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_QUARANTINE_AT_MOST", "0.5")
    write(
        [*EVENTS, seen("2025-03-05T12:00:00Z", who="stranger"), seen("soon"), seen("2025-03-06T12:00:00Z", robot=True)]
    )
    (check,) = make(postgres, "2025-03").get_asset_check_evaluations()
    assert check.passed
    assert check.metadata["rows_read"].value == len(EVENTS) + 3
    told = [check.metadata[name].value for name in ("rows_of_these_months", "rows_of_other_months", "left_out")]
    assert told == [2, len(EVENTS) - 2, 1]
    reasons = run(postgres, "SELECT reason FROM ops.quarantine WHERE NOT refused ORDER BY 1")
    assert reasons == [("no usable timestamp",), ("unknown user",)]
    before = run(postgres, VERSIONS)
    monkeypatch.setenv("SHOP_QUARANTINE_AT_MOST", "0.1")
    with pytest.raises(RefusedLoadError):
        make(postgres, "2025-04")
    assert run(postgres, VERSIONS) == before
    assert len(run(postgres, "SELECT 1 FROM ops.quarantine WHERE refused")) == 2


def test_events_downstream_are_refreshed_after_a_month(postgres: PostgresResource, write: Write) -> None:
    load_all(postgres)
    with postgres.connect() as connection:
        mark_consumed(connection, "cohort_retention", event_state(connection))
    with dg.DagsterInstance.ephemeral() as instance:
        assert "No new events" in tick(automation.retention_refresh, instance, postgres=postgres)[2]
        write(EVENTS[:5])
        make(postgres, "2025-10", instance=instance)
        assert tick(automation.retention_refresh, instance, postgres=postgres)[0] == set(automation.RETENTION)


@pytest.mark.usefixtures("write")
def test_a_row_that_does_not_arrive_turns_the_check_red(postgres: PostgresResource) -> None:
    load_all(postgres)
    run(postgres, "DELETE FROM events")
    run(postgres, "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    run(
        postgres,
        "CREATE TRIGGER lose BEFORE INSERT ON events FOR EACH ROW"
        " WHEN (new.timestamp < '2025-03-15') EXECUTE FUNCTION lose()",
    )
    (check,) = make(postgres, "2025-03", must_succeed=False).get_asset_check_evaluations()
    assert not check.passed
    assert check.metadata["rows_that_differ"].value == 1


@pytest.mark.usefixtures("write")
def test_months_bring_nobody_back_who_was_erased(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        note_erasure(connection, read_forgotten(connection).digest("abc123"), None, {})
    (check,) = make(postgres, "2025-03").get_asset_check_evaluations()
    assert check.passed
    assert check.metadata["left_out"].value == len(EVENTS)
    assert run(postgres, "SELECT count(*) FROM events") == [(0,)]
    assert run(postgres, "SELECT count(*) FROM users WHERE user_id = 'abc123'") == [(0,)]


# ------------------------------------------------------------------------------------ without Dagster, on rows in lists

APRIL = {"2025-04": Window(*(dt.datetime(2025, month, 1, tzinfo=dt.UTC) for month in (4, 5)))}


def load_april(postgres: PostgresResource, source: ListSource) -> MonthsLoad:
    return load_months(postgres, shop_of(source), APRIL)


def test_rows_of_others_stay_and_a_row_that_others_refer_to_is_kept(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        load_shop_tables(connection, shop_of(ListSource(event_rows=[event(), event(minute=1)])))
    run(
        postgres,
        "INSERT INTO events SELECT 77, user_id, product_id, event_type, timestamp FROM events WHERE event_id = 1",
    )
    run(postgres, "CREATE TABLE notes (about bigint REFERENCES events)")
    run(postgres, "INSERT INTO notes VALUES (2)")
    load = load_april(postgres, ListSource(event_rows=[], version="2"))
    assert run(postgres, "SELECT event_id FROM events ORDER BY 1") == [(2,), (77,)]
    assert (load.difference.removed, load.difference.kept, load.differing) == (1, 1, 1)


def test_an_event_of_somebody_whom_the_source_does_not_give_is_named_and_changes_nothing(
    postgres: PostgresResource,
) -> None:
    with pytest.raises(DataError, match="refer to 1 users that the source does not give"):
        load_april(postgres, ListSource(event_rows=[event(), event("nobody")]))
    assert run(postgres, "SELECT count(*) FROM users") == [(0,)]


def test_another_shop_is_refused(postgres: PostgresResource) -> None:
    load_april(postgres, ListSource())
    with pytest.raises(DataError, match="holds the shop shop, not other"):
        load_months(postgres, shop_of(ListSource(), "other"), APRIL)


def test_users_who_are_there_stay_as_they_are(postgres: PostgresResource) -> None:
    load_april(postgres, ListSource([user()]))
    load = load_april(postgres, ListSource([user(name="Bea"), user("new")], event_rows=[event("new")], version="2"))
    assert run(postgres, "SELECT user_id, name FROM users ORDER BY 1") == [("abc123", "Ada"), ("new", "Ada")]
    assert load.parents == {"users": 1}


def test_a_load_of_everything_at_the_same_time_waits_for_the_month(postgres: PostgresResource) -> None:
    def load(connection: Connection) -> dict[str, Any]:
        return load_shop_tables(connection, shop_of(ListSource(event_rows=[event(), event(minute=70_000)])))

    with postgres.connect() as first, postgres.connect() as second, ThreadPoolExecutor(1) as pool:
        load_month_tables(first, shop_of(ListSource(event_rows=[event(), event(minute=70_000)])), APRIL)
        loading = pool.submit(load, second)
        waiting = "SELECT 1 FROM pg_locks WHERE pid = %s AND locktype = 'advisory' AND NOT granted"
        patience = time.monotonic() + 10
        waited = False
        while not waited and time.monotonic() < patience:
            waited = first.execute(waiting, [second.info.backend_pid]).fetchone() is not None
            time.sleep(0.01)
        # Also where nobody waited, so that the other one ends.
        first.commit()
        done = loading.result()["events"]
    assert waited
    assert (done.difference.added, done.difference.removed) == (1, 0)
    assert json.dumps(run(postgres, "SELECT event_id FROM events ORDER BY 1")) == "[[1], [2]]"
