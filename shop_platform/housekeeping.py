"""Keeps Dagster's history to a size, and to the past: the last runs, those that made what stands, no later looks."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import dagster as dg
from dagster._core.scheduler.instigation import ScheduleInstigatorData, SensorInstigatorData

#: Runs that are forgotten at a time, in some seconds: a sensor's look must end within a minute.
_AT_A_TIME = 200

#: Seconds after now that a look may seem to have been: clocks of two machines differ by less.
_LATER = 60.0

_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def forget_runs(
    instance: dg.DagsterInstance, assets: Iterable[dg.AssetKey], checks: Iterable[dg.AssetCheckKey], keep: int
) -> int:
    """Remove the oldest runs that have ended, with their events and logs; returns how many.

    What is kept beside the last `keep` runs: those that made each asset's last materialisation, were the last to try
    it, or evaluated a check last. So what Dagster, the report and the alerts say of the present stays as it is.

    Args:
        instance: whose runs they are.
        assets: keys of all assets.
        checks: keys of all checks.
        keep: number of runs.
    """
    ids = instance.get_run_ids(filters=dg.RunsFilter(statuses=_ENDED))[keep:]
    if not ids:
        return 0
    standing = _standing(instance, list(assets), checks)
    # From the end, where the oldest are.
    old = [run_id for run_id in reversed(ids) if run_id not in standing][:_AT_A_TIME]
    for run_id in old:
        instance.delete_run(run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        _remove_shard(instance, run_id)
    return len(old)


def forget_later_looks(instance: dg.DagsterInstance) -> list[str]:
    """Forget when sensors and schedules looked last, where that is later than now; returns their names.

    Dagster lets one look again some time after its last look. Where the clock was ahead and was set back, it would not
    look before that is reached once more. What a sensor has seen, its cursor, stays.
    """
    now = time.time()
    late = []
    for state in instance.all_instigator_state():
        data = state.instigator_data
        again: SensorInstigatorData | ScheduleInstigatorData
        if isinstance(data, SensorInstigatorData):
            looked = max(data.last_tick_timestamp or 0, data.last_tick_start_timestamp or 0)
            again = data._replace(last_tick_timestamp=None, last_tick_start_timestamp=None)
        elif isinstance(data, ScheduleInstigatorData):
            looked = max(data.start_timestamp or 0, data.last_iteration_timestamp or 0)
            again = data._replace(start_timestamp=now, last_iteration_timestamp=None)
        else:
            continue
        if looked > now + _LATER:
            instance.update_instigator_state(state.with_data(again))
            # A schedule goes on from its last one.
            instance.purge_ticks(state.instigator_origin_id, state.selector_id, before=looked + _LATER)
            late.append(state.instigator_name)
    return late


def _standing(
    instance: dg.DagsterInstance, assets: list[dg.AssetKey], checks: Iterable[dg.AssetCheckKey]
) -> set[str | None]:
    records = instance.get_asset_records(assets)
    made = [record.asset_entry.last_materialization_record for record in records]
    evaluated = [instance.get_latest_asset_check_evaluation_record(key) for key in checks]
    return {
        *(record.asset_entry.last_run_id for record in records),
        *(each.run_id for each in made if each is not None),
        *(each.run_id for each in evaluated if each is not None),
    }


def _remove_shard(instance: dg.DagsterInstance, run_id: str) -> None:
    """Remove the file of a run's events, which Dagster leaves behind, empty, where it keeps one for each run."""
    # SQLAlchemy and Alembic, which commands that look at no run can do without.
    from dagster._core.storage.event_log import SqliteEventLogStorage

    storage = instance.event_log_storage
    if isinstance(storage, SqliteEventLogStorage):
        shard = Path(storage.path_for_shard(run_id))
        for path in (shard, *(shard.with_name(shard.name + end) for end in ("-wal", "-shm", "-journal"))):
            path.unlink(missing_ok=True)
