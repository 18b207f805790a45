"""Which process a run is in: one whose process was killed is over, whatever Dagster believes of it."""

from __future__ import annotations

import os
import socket

import dagster as dg
import psutil

from shop_platform.services.process import birth_of, born_at, process_of

#: Tag of a run: host, pid and start of the process that it is in.
TAG = "shop_platform/process"

_BEGUN = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def note_process(instance: dg.DagsterInstance | None, run: dg.DagsterRun | None) -> None:
    """Note on a run that it is in this process."""
    if instance is not None and run is not None and instance.has_run(run.run_id):
        birth = birth_of(psutil.Process())
        instance.add_run_tags(run.run_id, {TAG: f"{socket.gethostname()} {os.getpid()} {birth}"})


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Note the end of runs whose process on this machine is gone; returns their ids.

    A process that was killed can't do so itself. Its run would count as under way for hours, so that no sensor would
    ask for another, and would keep its place in a pool.
    """
    ended = []
    for run in instance.get_runs(dg.RunsFilter(statuses=_BEGUN)):
        if _is_dead(run.tags.get(TAG, "")):
            instance.report_run_failed(run, "The process of this run was killed, or its machine was.")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            ended.append(run.run_id)
    return ended


def _is_dead(tag: str) -> bool:
    """Whether it names a process of this machine that is gone; what it does not say is taken for alive."""
    try:
        host, pid, birth = tag.rsplit(" ", 2)
        process = process_of(int(pid))
        return host == socket.gethostname() and (process is None or not born_at(process, birth))
    except ValueError:
        return False
