"""Sensors ask for a refresh when something is new, and only then."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from shop_platform import automation
from shop_platform.changes import event_state, mark_consumed
from shop_platform.commerce.loading import load_or_refuse
from shop_platform.definitions import build_defs
from shop_platform.errors import SourceError
from shop_platform.records import write_record
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.encoder import EncoderResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.retention.definition import Definition
from shop_platform.segmentation.marks import Mark, history
from shop_platform.segmentation.segments import load_segments, segments_digest
from shop_platform.settings import load_settings
from shop_platform.sources.load import load_shop

from .sources.test_files import EVENTS, write_shop

ASSETS = automation.RETENTION


def decision(
    state: str = "2", consumed: str | None = "1", cursor: str | None = None, *, running: bool = False
) -> dg.SensorResult | dg.SkipReason:
    return automation.decide(
        state=state, consumed=consumed, cursor=cursor, running=running, assets=ASSETS, what="events"
    )


def test_something_new_is_asked_for_once_with_its_assets_alone() -> None:
    asked = decision()
    assert isinstance(asked, dg.SensorResult)
    assert asked.cursor == "2"
    assert [request.asset_selection for request in asked.run_requests or []] == [[dg.AssetKey(a) for a in ASSETS]]


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (decision(consumed=None), "not been materialised yet"),
        (decision(consumed="2"), "No new events"),
        (decision(running=True), "under way"),
        (decision(cursor="2"), "asked for already"),
    ],
)
def test_nothing_is_asked_for_otherwise(found: object, reason: str) -> None:
    assert isinstance(found, dg.SkipReason)
    assert reason in str(found.skip_message)


def test_what_is_new_after_a_failed_refresh_is_asked_for_again() -> None:
    assert isinstance(decision(state="3", consumed="1", cursor="2"), dg.SensorResult)


EVENT = "INSERT INTO events (user_id, product_id, event_type, timestamp) VALUES ('u', 'p', 'viewed', now())"


def add_event(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        connection.execute("INSERT INTO users (user_id, signup_date) VALUES ('u', now()) ON CONFLICT DO NOTHING")
        connection.execute("INSERT INTO products VALUES ('p', 'P', 'C', 1) ON CONFLICT DO NOTHING")
        connection.execute(EVENT)


def tick(
    sensor: dg.SensorDefinition, instance: dg.DagsterInstance, cursor: str | None = None, **resources: object
) -> tuple[set[str], str | None, str]:
    """Assets asked for, the new cursor, and why nothing was."""
    with dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        sensor_name=sensor.name,
        resources=resources,
        repository_def=build_defs().get_repository_def(),
    ) as context:
        ticked = sensor.evaluate_tick(context)
    asked = {key.to_user_string() for request in ticked.run_requests or [] for key in request.asset_selection or []}
    return asked, ticked.cursor, ticked.skip_message or ""


@pytest.mark.parametrize(
    ("sensor", "consumer", "assets"),
    [
        (automation.retention_refresh, "cohort_retention", set(automation.RETENTION)),
        # Never measured: the benchmarks are due as well.
        (automation.performance_refresh, "activity_summaries", {"activity_summaries", *automation.LABORATORY}),
    ],
)
def test_new_events_are_noticed_once_and_no_change_is_quiet(
    postgres: PostgresResource, sensor: dg.SensorDefinition, consumer: str, assets: set[str]
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        add_event(postgres)
        assert "not been materialised" in tick(sensor, instance, postgres=postgres)[2]
        with postgres.connect() as connection:
            mark_consumed(connection, consumer, event_state(connection))
        assert "No new events" in tick(sensor, instance, postgres=postgres)[2]
        add_event(postgres)
        asked, cursor, _ = tick(sensor, instance, postgres=postgres)
        assert asked == assets
        assert "asked for already" in tick(sensor, instance, cursor, postgres=postgres)[2]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: PostgresResource) -> Path:
    """The folder of a shop in files whose tables are loaded."""
    monkeypatch.setenv("SHOP_CONFIG", str(write_shop(tmp_path)))
    load_or_refuse(postgres, load_shop(load_settings()))
    return tmp_path / "data"


def look(postgres: PostgresResource, cursor: str | None = None) -> tuple[set[str], str | None, str]:
    with dg.DagsterInstance.ephemeral() as instance:
        return tick(automation.source_refresh, instance, cursor, postgres=postgres, shop=ShopResource())


def test_a_source_that_was_never_loaded_is_not_asked_for(
    tmp_path: Path, postgres: PostgresResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_CONFIG", str(write_shop(tmp_path)))
    assert "users has not been materialised" in look(postgres)[2]


@pytest.mark.usefixtures("files")
def test_an_unchanged_source_is_quiet(postgres: PostgresResource) -> None:
    assert look(postgres) == (set(), None, "No new data in the source.")


def append_a_row(files: Path) -> None:
    with (files / "users.csv").open("a") as file:
        file.write("ghi,2025-01-03T08:00:00Z,Ida\n")


def add_a_file(files: Path) -> None:
    (files / "events" / "2.jsonl").write_text(json.dumps(EVENTS[0] | {"seen_at": "2025-05-01T13:00:00Z"}))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (append_a_row, (3, 2, "0 files new, 1 changed, 0 gone")),
        (add_a_file, (2, 3, "1 file new, 0 changed, 0 gone")),
        (lambda files: (files / "events" / "1.jsonl").unlink(), (2, 1, "0 files new, 0 changed, 1 gone")),
    ],
)
def test_what_changes_in_a_source_is_asked_for_once_and_quiet_when_it_is_loaded(
    files: Path, postgres: PostgresResource, change: Callable[[Path], None], found: tuple[int, int, str]
) -> None:
    change(files)
    asked, cursor, _ = look(postgres)
    assert asked == {"users", "products", "events", "user_logs"}
    assert "asked for already" in look(postgres, cursor)[2]
    loads = load_or_refuse(postgres, load_shop(load_settings()))
    assert (loads["users"].rows_loaded, loads["events"].rows_loaded, str(loads["events"].moved)) == found
    assert "No new data" in look(postgres, cursor)[2]


def test_a_file_whose_time_alone_has_changed_is_looked_at_once(files: Path, postgres: PostgresResource) -> None:
    os.utime(files / "users.csv", (1, 1))
    assert look(postgres)[0]
    assert not load_or_refuse(postgres, load_shop(load_settings()))["users"].changed
    assert "No new data" in look(postgres)[2]


@pytest.mark.usefixtures("files")
def test_search_logs_that_lag_behind_are_asked_for(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        connection.execute("INSERT INTO ops.sources (part, shop, state) VALUES ('user_logs', 'corner_shop', 'old')")
    assert look(postgres)[0]


def test_a_source_that_can_not_be_read_is_an_error_and_not_nothing_new(files: Path, postgres: PostgresResource) -> None:
    (files / "users.csv").unlink()
    with pytest.raises(SourceError, match=r"There is no file users\.csv"):
        look(postgres)


def test_another_definition_of_retention_is_noticed(
    postgres: PostgresResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres.connect() as connection:
        mark_consumed(connection, "cohort_retention", event_state(connection))
        write_record(connection, "cohort_retention", "run", {"definition_settings": Definition().as_record()})
    with dg.DagsterInstance.ephemeral() as instance:
        assert "No new events" in tick(automation.retention_refresh, instance, postgres=postgres)[2]
        monkeypatch.setenv("SHOP_RETENTION_COHORT", "week")
        asked, cursor, _ = tick(automation.retention_refresh, instance, postgres=postgres)
        assert asked == set(automation.RETENTION)
        assert "asked for already" in tick(automation.retention_refresh, instance, cursor, postgres=postgres)[2]


def test_a_deleted_event_is_noticed(postgres: PostgresResource) -> None:
    add_event(postgres)
    with postgres.connect() as connection:
        mark_consumed(connection, "cohort_retention", event_state(connection))
        connection.execute("DELETE FROM events")
    with dg.DagsterInstance.ephemeral() as instance:
        assert tick(automation.retention_refresh, instance, postgres=postgres)[0]


@pytest.mark.fault
def test_a_failed_read_is_an_error_not_nothing_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:hush@127.0.0.1:1/nowhere")
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(dg.DagsterError) as caught:
        tick(automation.retention_refresh, instance, postgres=PostgresResource())
    said = f"{caught.value} {caught.value.__cause__}"
    assert "cannot be reached" in said
    assert "hush" not in said


def test_search_logs_that_came_changed_or_went_are_noticed_and_other_segments_too(
    postgres: PostgresResource, elasticsearch: ElasticsearchResource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alias = f"{elasticsearch.index_prefix}user_logs"
    resources = {"postgres": postgres, "elasticsearch": elasticsearch, "encoder": EncoderResource()}
    basis = {"encoder": EncoderResource().model_name, "segments": segments_digest(load_segments())}
    with dg.DagsterInstance.ephemeral() as instance, elasticsearch.client() as client:

        def ticked(cursor: str | None = None) -> tuple[set[str], str | None, str]:
            return tick(automation.segmentation_refresh, instance, cursor, **resources)

        def settle() -> None:
            at = history(client, alias)
            assert at is not None
            with postgres.connect() as connection:
                write_record(connection, "segmented_user_logs", "run", {"read_to": Mark(*at, 0).as_record()})
                write_record(connection, "user_segments", "run", {"basis": basis})

        assert "not been materialised" in ticked()[2]
        client.indices.create(index=f"{alias}-1", aliases={alias: {}})
        client.index(index=alias, id="1", document={"user_id": "u", "segment": "bargain_hunter"}, refresh=True)
        assert "not been materialised" in ticked()[2]
        settle()
        assert "No new search logs" in ticked()[2]
        client.index(index=alias, id="2", document={"user_id": "u"}, refresh=True)
        asked, cursor, _ = ticked()
        assert asked == {*automation.SEGMENTATION, *automation.PROFILES}
        assert "asked for already" in ticked(cursor)[2]
        for change in ({"segment": "bargain_hunter"}, {"user_id": "v"}):
            client.update(index=alias, id="2", doc=change, refresh=True)
            assert ticked()[0]
            settle()
            assert not ticked()[0]
        client.delete(index=alias, id="1", refresh=True)
        assert ticked()[0]
        settle()
        path = tmp_path / "segments.toml"
        path.write_text(
            '[[segments]]\nname = "a"\nphrases = ["x"]\n[[segments]]\nname = "b"\nphrases = ["y"]\n', "utf-8"
        )
        monkeypatch.setenv("SHOP_SEGMENTS", str(path))
        monkeypatch.setenv("SHOP_RETENTION_BREAKDOWN", "segment")
        assert ticked()[0] == {*automation.SEGMENTATION, *automation.PROFILES, *automation.RETENTION}
        with postgres.connect() as connection:
            write_record(connection, "segment_profiles", "run", {"version": "1"})
            write_record(connection, "user_segments", "run", {"basis": basis, "version": "1"})
        assert ticked()[0] == {*automation.SEGMENTATION, *automation.RETENTION}


def test_every_sensor_runs_without_being_turned_on() -> None:
    assert {sensor.default_status for sensor in automation.sensors} == {dg.DefaultSensorStatus.RUNNING}


@pytest.mark.parametrize("unknown", [set(), {dg.AssetKey("index_effects"), dg.AssetKey("segment_profiles")}])
def test_the_report_is_written_again_when_a_result_is_new(unknown: set[dg.AssetKey]) -> None:
    """Also by a Dagster that knows nothing of results that PostgreSQL holds."""
    defs = build_defs()
    with dg.DagsterInstance.ephemeral() as instance:
        for key in defs.resolve_asset_graph().materializable_asset_keys - unknown:
            instance.report_runless_asset_event(dg.AssetMaterialization(key))
        first = dg.evaluate_automation_conditions(defs=defs, instance=instance)
        instance.report_runless_asset_event(dg.AssetMaterialization("cohort_retention"))
        second = dg.evaluate_automation_conditions(defs=defs, instance=instance, cursor=first.cursor)
        # In one tick, so that both are made in one run.
        assert second.get_num_requested(dg.AssetKey("segment_retention")) == 1
        assert second.get_num_requested(dg.AssetKey("shop_report")) == 1
        third = dg.evaluate_automation_conditions(defs=defs, instance=instance, cursor=second.cursor)
        assert third.total_requested == 0


def test_a_new_dagster_asks_for_nothing_by_itself() -> None:
    defs = build_defs()
    with dg.DagsterInstance.ephemeral() as instance:
        first = dg.evaluate_automation_conditions(defs=defs, instance=instance)
        assert first.total_requested == 0
        second = dg.evaluate_automation_conditions(defs=defs, instance=instance, cursor=first.cursor)
        assert second.total_requested == 0
