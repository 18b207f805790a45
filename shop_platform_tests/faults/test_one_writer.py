"""One run at a time writes: the other one waits, or stops and says who is in its way."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from shop_platform import automation
from shop_platform.commerce.loading import LOAD_LOCK, load_or_refuse, lock_loading
from shop_platform.definitions import build_defs
from shop_platform.errors import BusyError
from shop_platform.processes import TAG, end_dead_runs, note_process
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.postgres import Connection, PostgresResource
from shop_platform.runs import dagster_instance
from shop_platform.segmentation.publishing import SEGMENTATION_LOCK, lock_segmentation
from shop_platform.settings import load_settings

from ..test_automation import tick
from .children import child, keep_busy, load_and_wait, materialise
from .shops import shop_of_events, tables

#: Sessions in the middle of the long statement of `keep_busy`.
AT_WORK = "FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(600)' AND pid <> pg_backend_pid()"

LOCKS = pytest.mark.parametrize(
    ("key", "take", "what"),
    [
        (LOAD_LOCK, lock_loading, "loading users, products and events"),
        (SEGMENTATION_LOCK, lock_segmentation, "writing search logs, embeddings or segments"),
    ],
)


@LOCKS
def test_the_second_of_two_stops_and_names_the_first(
    postgres: PostgresResource,
    monkeypatch: pytest.MonkeyPatch,
    key: int,
    take: Callable[[Connection], None],
    what: str,
) -> None:
    monkeypatch.setenv("SHOP_WAIT_FOR_RUN", "0.2")
    with child(keep_busy, os.environ, key) as first:
        assert first.hear() == "held"
        with postgres.connect() as connection, pytest.raises(BusyError) as stopped:
            take(connection)
    assert re.search(
        rf"Another run is {what} \(shop_platform, session \d+ of PostgreSQL, for \d+ s\)", str(stopped.value)
    )


@LOCKS
def test_a_holder_that_is_killed_in_the_middle_of_a_statement_frees_the_lock(
    postgres: PostgresResource,
    monkeypatch: pytest.MonkeyPatch,
    key: int,
    take: Callable[[Connection], None],
    what: str,
) -> None:
    assert what
    monkeypatch.setenv("SHOP_WAIT_FOR_RUN", "40")
    with child(keep_busy, os.environ, key) as holder:
        assert holder.hear() == "held"
        with postgres.connect(autocommit=True) as connection:
            until(connection, f"SELECT count(*) > 0 {AT_WORK}")
        holder.kill()
        # Its statement would go on for ten minutes.
        with postgres.connect() as connection:
            take(connection)
        # It lets go of the lock a moment before it says that it has ended.
        with postgres.connect(autocommit=True) as connection:
            until(connection, f"SELECT count(*) = 0 {AT_WORK}")


def test_of_two_loads_at_once_the_second_waits_and_both_are_whole(postgres: PostgresResource) -> None:
    with child(load_and_wait, os.environ, 800, "first") as first:
        assert first.hear() == "copied"
        # Only now: of two that start together either may be the first.
        with child(load_and_wait, os.environ, 900, "second") as second:
            assert not second.pipe.poll(2)
            first.tell("go on")
            assert first.hear() == "committed"
            assert second.hear() == "copied"
            second.tell("go on")
            assert second.hear() == "committed"
    done = tables(postgres)
    load_or_refuse(postgres, shop_of_events(900, "second"))
    assert tables(postgres) == done
    assert done["events"][0] == 900


@pytest.fixture
def small_shop(home: Path, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
    """Settings of a small shop, and its Dagster home."""
    for name, value in {"SHOP_USERS": "60", "SHOP_EVENTS": "1500", "SHOP_SEARCHES": "400"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DAGSTER_HOME", str(home / "shops" / "shop" / "dagster"))
    return dagster_instance(load_settings())


def test_a_run_that_finds_another_one_at_work_fails_by_its_name(
    postgres: PostgresResource, elasticsearch: ElasticsearchResource, small_shop: dg.DagsterInstance
) -> None:
    assert small_shop
    environment = os.environ | {"SHOP_WAIT_FOR_RUN": "0.5"}
    with child(materialise, environment, elasticsearch.index_prefix, ["users", "products", "events"]) as run:
        assert run.hear() == "ready"
        with postgres.connect() as connection:
            lock_loading(connection)
            run.tell("begin")
            ((what, why),) = run.hear()  # type: ignore[misc]
    assert what == "load_commerce"
    assert why.startswith("Another run is loading users, products and events (shop_platform, session ")


def test_a_sensor_asks_for_nothing_while_a_run_is_under_way_and_again_once_its_process_was_killed(
    postgres: PostgresResource,
    elasticsearch: ElasticsearchResource,
    small_shop: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert small_shop
    commerce = ["users", "products", "events"]

    with child(materialise, os.environ, elasticsearch.index_prefix, commerce) as run:
        assert run.hear() == "ready"
        run.tell("begin")
        assert run.hear() == []
    # The same shop with other events: the sensor would ask for a load.
    monkeypatch.setenv("SHOP_EVENTS", "1600")
    with child(materialise, os.environ, elasticsearch.index_prefix, commerce) as run, postgres.connect() as connection:
        assert run.hear() == "ready"
        lock_loading(connection)
        run.tell("begin")
        until(connection, "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        assert look(postgres) == "A refresh is under way."
        run.kill()
        assert look(postgres) == ""


def until(connection: Connection, query: str) -> None:
    """Ask until it is so."""
    while connection.execute(query).fetchone() != (True,):  # type: ignore[call-overload]
        connection.execute("SELECT pg_sleep(0.05)")


def look(postgres: PostgresResource) -> str:
    """Why the sensor of the source asks for nothing; "" where it does."""
    from shop_platform.resources.shop import ShopResource

    with dagster_instance(load_settings()) as instance:
        return tick(automation.source_refresh, instance, postgres=postgres, shop=ShopResource())[2]


def test_runs_of_processes_that_are_gone_are_ended_and_others_are_not(small_shop: dg.DagsterInstance) -> None:
    job = build_defs().resolve_job_def("everything")
    dead, ours, unknown, elsewhere = (
        small_shop.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED) for _ in range(4)
    )
    note_process(small_shop, ours)
    tag = small_shop.get_run_by_id(ours.run_id).tags[TAG]  # type: ignore[union-attr]
    host, pid, birth = tag.rsplit(" ", 2)
    boot, seconds = birth.split("/")
    small_shop.add_run_tags(dead.run_id, {TAG: f"{host} {pid} {boot}/{float(seconds) - 60}"})
    small_shop.add_run_tags(elsewhere.run_id, {TAG: f"elsewhere {pid} {boot}/1"})
    assert end_dead_runs(small_shop) == [dead.run_id]
    left = small_shop.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    assert {run.run_id for run in left} == {ours.run_id, unknown.run_id, elsewhere.run_id}
