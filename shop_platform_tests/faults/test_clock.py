"""A machine's clock goes back: runs and servers are known again, no row is lost, nothing waits until it is right."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)

from shop_platform import automation
from shop_platform.commerce.loading import load_or_refuse, lock_loading
from shop_platform.definitions import build_defs
from shop_platform.housekeeping import forget_later_looks
from shop_platform.processes import note_process
from shop_platform.quarantine import RefusedLoadError
from shop_platform.records import write_record
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.postgres import PostgresResource, clock
from shop_platform.resources.shop import ShopResource
from shop_platform.runs import dagster_instance
from shop_platform.segmentation.describing import PROFILES
from shop_platform.segmentation.freshness import profiles_due
from shop_platform.segmentation.logs import LogLoad, load_logs
from shop_platform.segmentation.segmenting import RECORD
from shop_platform.services import elasticsearch as elasticsearch_service
from shop_platform.services import postgres as postgres_service
from shop_platform.settings import Settings, load_settings

from ..sources.test_files import EVENTS, SEARCHES, write_shop
from ..test_automation import tick
from .clocks import DAY, YEAR, Clock, needs_faketime, postgres_by
from .shops import tables
from .test_one_writer import until
from .twins import Twin, twins

SOMEWHERE = RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1), "__repository__")


def state_of(name: str, kind: InstigatorType, data: SensorInstigatorData | ScheduleInstigatorData) -> InstigatorState:
    """As Dagster's daemon keeps it."""
    return InstigatorState(RemoteInstigatorOrigin(SOMEWHERE, name), kind, InstigatorStatus.DECLARED_IN_CODE, data)


def test_sensors_and_schedules_of_a_clock_that_was_ahead_look_again_once_it_is_right(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(home / "shops" / "shop" / "dagster"))
    now = time.time()
    with dagster_instance(load_settings()) as instance:
        for name, looked in {"ahead": now + YEAR, "right": now - 5}.items():
            seen = SensorInstigatorData(looked, cursor="seen", last_tick_start_timestamp=looked)
            instance.add_instigator_state(state_of(name, InstigatorType.SENSOR, seen))
        asked = ScheduleInstigatorData("30 3 * * *", now - YEAR, now + YEAR)
        schedule = state_of("nightly", InstigatorType.SCHEDULE, asked)
        instance.add_instigator_state(schedule)
        ids = schedule.instigator_origin_id, schedule.selector_id
        tick = TickData(
            ids[0], "nightly", InstigatorType.SCHEDULE, TickStatus.SUCCESS, now + YEAR, run_ids=[], selector_id=ids[1]
        )
        instance.create_tick(tick)
        assert sorted(forget_later_looks(instance)) == ["ahead", "nightly"]
        assert forget_later_looks(instance) == []
        data = {each.instigator_name: each.instigator_data for each in instance.all_instigator_state()}
        assert data["right"] == SensorInstigatorData(now - 5, cursor="seen", last_tick_start_timestamp=now - 5)
        assert data["ahead"] == SensorInstigatorData(cursor="seen")
        assert isinstance(data["nightly"], ScheduleInstigatorData)
        assert (data["nightly"].last_iteration_timestamp, instance.get_ticks(*ids)) == (None, [])


def test_profiles_of_a_clock_that_was_ahead_are_made_again(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        for name in (PROFILES, RECORD):
            write_record(connection, name, "run", {"version": "1"})
        assert not profiles_due(connection)
        for moved in ("-2 days", "1 year"):
            connection.execute("UPDATE analytics.records SET created_at = now() + %s::interval", [moved])
            assert profiles_due(connection)


#: What a process finds, to which the kernel says that the machine booted at another time than it said before.
LOOK = """
import json
from shop_platform.processes import end_dead_runs
from shop_platform.runs import dagster_instance
from shop_platform.services import elasticsearch
from shop_platform.settings import Settings, load_settings
ended = end_dead_runs(dagster_instance(load_settings()))
print(json.dumps({"ended": ended, "node": elasticsearch.status(Settings(home=HOME)).pid}))
"""


@pytest.mark.skipif(
    os.getuid() != 0
    or subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0,
    reason="puts a file in the place of /proc/stat",
)
@pytest.mark.usefixtures("elasticsearch_url")
def test_runs_and_servers_that_live_are_known_again_after_the_clock_was_set(
    home: Path, tmp_path: Path, server_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(home / "shops" / "shop" / "dagster"))
    with dagster_instance(load_settings()) as instance:
        run = instance.create_run_for_job(
            build_defs().resolve_job_def("everything"), status=dg.DagsterRunStatus.STARTED
        )
        note_process(instance, run)
        # Linux counts the start of processes from the boot, and says when that was by the clock of the moment.
        lines = Path("/proc/stat").read_text().splitlines()
        booted = next(line for line in lines if line.startswith("btime "))
        earlier = f"btime {int(booted.split()[1]) - DAY}"
        stat = tmp_path / "stat"
        stat.write_text("\n".join(earlier if line == booted else line for line in lines) + "\n")
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /proc/stat && exec "$@"', stat,
             sys.executable, "-c", f"from pathlib import Path\nHOME = Path({str(server_settings.home)!r})\n{LOOK}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"ended": [], "node": elasticsearch_service.status(server_settings).pid}


@pytest.fixture
def slow(server_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The clock of a PostgreSQL of the test's own, which `DATABASE_URL` names meanwhile."""
    server_folder.chmod(0o755)
    settings, of_postgres = Settings(home=server_folder / "home"), Clock(server_folder)
    with postgres_by(of_postgres, settings):
        monkeypatch.setenv("DATABASE_URL", postgres_service.url(settings, "shop"))
        PostgresResource().migrate()
        yield of_postgres


def ago(**time: float) -> str:
    """A time by the right clock."""
    return (dt.datetime.now(dt.UTC) - dt.timedelta(**time)).isoformat()


def loads(elasticsearch: ElasticsearchResource) -> tuple[int, LogLoad]:
    """Load all that the shop's source gives; events and search logs."""
    shop, postgres = replace(ShopResource().shop(), quarantine_at_most=0.5), PostgresResource()
    events = load_or_refuse(postgres, shop)["events"].rows_loaded
    with elasticsearch.client() as client, postgres.connect() as connection:
        now = clock(connection)
        return events, load_logs(client, elasticsearch.index_prefix, shop.at(now), now=now)


def look() -> tuple[set[str], str | None, str]:
    """What the sensor of the source asks for, and why it asks for nothing."""
    with dagster_instance(load_settings()) as instance:
        return tick(automation.source_refresh, instance, postgres=PostgresResource(), shop=ShopResource())


@needs_faketime
def test_rows_that_lie_in_the_future_of_a_slow_clock_are_loaded_once_it_is_right(
    slow: Clock, elasticsearch: ElasticsearchResource, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(home / "shops" / "corner_shop" / "dagster"))
    new = {"seen_at": ago(hours=1)}
    searches = [*SEARCHES, {**SEARCHES[0], "timestamp": ago(hours=1)}]
    monkeypatch.setenv("SHOP_CONFIG", str(write_shop(tmp_path, events=[*EVENTS, EVENTS[0] | new], searches=searches)))
    slow.be_slow_by(DAY)
    events, logs = loads(elasticsearch)
    assert (events, logs.rows_loaded, logs.quarantined) == (2, 1, {"timestamp in the future": 1})
    # As long as it is slow, the same again is nothing new.
    assert look()[2] == "No new data in the source."
    events, logs = loads(elasticsearch)
    assert (events, logs.rows_loaded, logs.changed) == (2, 1, False)
    slow.be_slow_by(0)
    asked, _, _ = look()
    assert asked == set(automation.SOURCE)
    events, logs = loads(elasticsearch)
    assert (events, logs.rows_loaded, logs.documents, logs.quarantined) == (3, 2, 2, {})
    assert look()[2] == "No new data in the source."


@needs_faketime
def test_a_clock_that_is_a_year_slow_ends_the_load_by_name_and_nothing_goes(
    slow: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [EVENTS[0] | {"seen_at": ago(hours=each)} for each in range(1, 9)]
    monkeypatch.setenv("SHOP_CONFIG", str(write_shop(tmp_path, events=now)))
    load_or_refuse(PostgresResource(), ShopResource().shop())
    before = tables(PostgresResource())
    slow.be_slow_by(YEAR)
    write_shop(tmp_path, events=[*now, EVENTS[0] | {"seen_at": ago(minutes=1)}])
    with pytest.raises(RefusedLoadError, match=r"timestamp in the future \(9\).*see whether `SELECT now\(\)` is right"):
        load_or_refuse(PostgresResource(), ShopResource().shop())
    assert tables(PostgresResource()) == before
    slow.be_slow_by(0)
    assert load_or_refuse(PostgresResource(), ShopResource().shop())["events"].rows_loaded == 9


ASSETS = ("users", "products", "events", "activity_summaries", "cohort_retention", "retention_export", "user_logs")


def rows_until(hours: int) -> dict[str, list[dict[str, object]]]:
    """Events and searches, one every few hours, from a month ago to some hours ago."""
    return {
        "events": [EVENTS[0] | {"seen_at": ago(hours=each)} for each in range(hours, 700, 7)],
        "searches": [{**SEARCHES[0], "timestamp": ago(hours=each)} for each in range(hours, 700, 11)],
    }


@pytest.mark.exhaustive
@needs_faketime
@pytest.mark.parametrize(("moment", "slow_by"), [("between loads", YEAR), ("in the middle", DAY)])
def test_a_run_whose_clock_goes_back_makes_what_one_with_the_right_clock_makes(
    template_url: str, elasticsearch_url: str, tmp_path: Path, slow_by: int, moment: str
) -> None:
    with twins(template_url, elasticsearch_url, tmp_path / "homes") as (right, wrong):
        for twin in (right, wrong):
            twin.settings = {"SHOP_CONFIG": str(tmp_path / "shop.toml"), "SHOP_SEARCH_LOGS_KEEP_DAYS": "20"}

        def make(hours: int, slow: Clock | None) -> None:
            write_shop(tmp_path, **rows_until(hours))  # type: ignore[arg-type]
            right.run(ASSETS)
            if slow is None:
                wrong.run(ASSETS)
            elif moment == "between loads":
                slow.be_slow_by(slow_by)
                wrong.run_elsewhere(ASSETS, **slow.variables)
            else:
                go_back_in_the_middle(wrong, slow, slow_by)
            assert wrong.state() == right.state()

        make(3, None)
        make(2, Clock(tmp_path))
        make(1, None)
        with psycopg.connect(wrong.url) as connection:
            assert connection.execute("SELECT count(*) FROM events").fetchone() == (100,)


def go_back_in_the_middle(twin: Twin, slow: Clock, seconds: int) -> None:
    """Run, and let the clock go back while the run waits for a lock."""
    with psycopg.connect(twin.url, autocommit=True) as looking, ThreadPoolExecutor(1) as thread:
        with psycopg.connect(twin.url) as holding:
            lock_loading(holding)
            run = thread.submit(twin.run_elsewhere, ASSETS, **slow.variables)
            until(looking, "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            slow.be_slow_by(seconds)
        run.result()
