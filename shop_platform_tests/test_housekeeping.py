"""Dagster's history is kept to a size, and what it says of the present stays."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from shop_platform.housekeeping import forget_runs
from shop_platform.metadata import Materialized

CHECK = dg.AssetCheckSpec("fine", asset="once")


@dg.asset(check_specs=[CHECK])
def once() -> Materialized:
    return dg.MaterializeResult(check_results=[dg.AssetCheckResult(check_name="fine", passed=True)])


@dg.asset
def often() -> None:
    """Made again and again."""


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster with its SQLite files, in which one asset was made once and another four times."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        assert dg.materialize([once], instance=made).success
        for _ in range(4):
            assert dg.materialize([often], instance=made).success
        yield made


def runs_on_disk(tmp_path: Path) -> set[str]:
    """Ids of the runs of which any file is left."""
    shards = {path.stem for path in tmp_path.glob("history/runs/*.db")} - {"index"}
    return shards | {path.name for path in tmp_path.glob("storage/*-*-*")}


def test_the_last_runs_and_those_that_made_what_stands_are_kept(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    before = instance.get_run_ids()
    keys = [once.key, often.key]
    assert forget_runs(instance, keys, [CHECK.key], keep=2) == 2
    assert instance.get_run_ids() == [*before[:2], before[-1]]
    assert runs_on_disk(tmp_path) == {*before[:2], before[-1]}
    for key in keys:
        assert instance.get_latest_materialization_event(key) is not None
    evaluation = instance.get_latest_asset_check_evaluation_record(CHECK.key)
    assert evaluation is not None
    assert evaluation.run_id == before[-1]


def test_a_second_look_finds_nothing_and_fewer_runs_are_left_alone(instance: dg.DagsterInstance) -> None:
    keys = [once.key, often.key]
    forget_runs(instance, keys, [CHECK.key], keep=2)
    assert forget_runs(instance, keys, [CHECK.key], keep=2) == 0
    assert forget_runs(instance, keys, [CHECK.key], keep=100) == 0


def test_a_run_that_has_not_ended_is_kept(instance: dg.DagsterInstance) -> None:
    job = dg.Definitions(assets=[once, often]).resolve_implicit_global_asset_job_def()
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    dg.materialize([often], instance=instance)
    forget_runs(instance, [once.key, often.key], [CHECK.key], keep=1)
    assert run.run_id in instance.get_run_ids()
