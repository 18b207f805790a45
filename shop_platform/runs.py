"""Runs assets in this process against the shop's own Dagster home, tells how they go, and what failed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import dagster as dg

from shop_platform.errors import SettingsError, ShopPlatformError, StorageError
from shop_platform.files import write_atomically
from shop_platform.processes import end_dead_runs
from shop_platform.services.account import private_home
from shop_platform.settings import Settings
from shop_platform.sources.load import load_shop

if TYPE_CHECKING:
    from dagster import DagsterEvent
    from dagster_shared.error import SerializableErrorInfo

#: Called with an asset step's name and "started", "finished", "failed" or "skipped", or with a line of its log.
Listener = Callable[[str, str], None]


@dataclass(frozen=True)
class Failure:
    """One thing that went wrong in a run: an asset that failed, or a check of ERROR severity that did not pass."""

    what: str
    why: str


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        run_id: id of Dagster's run.
        materialized: keys of the assets that were made.
        failures: why the run counts as failed; empty when it did not.
        warnings: checks of WARN severity that did not pass.
    """

    run_id: str
    materialized: tuple[str, ...]
    failures: tuple[Failure, ...]
    warnings: tuple[Failure, ...]


def dagster_home(settings: Settings) -> Path:
    """The shop's Dagster home, with its `dagster.yaml` and `workspace.yaml`; made when missing.

    Each shop has its own: two shops never share their history.
    """
    folder = private_home(settings) / "shops" / load_shop(settings).name / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("dagster.yaml", "workspace.yaml"):
        text = _packaged(name).read_bytes()
        if not (folder / name).exists() or (folder / name).read_bytes() != text:
            write_atomically(folder / name, text)
    return folder


def dagster_instance(settings: Settings) -> dg.DagsterInstance:
    """The Dagster instance that `DAGSTER_HOME` names, else the one of the shop's own home.

    Raises:
        StorageError: its history can't be opened, such as where its disk is full.
    """
    os.environ.setdefault("DAGSTER_HOME", str(dagster_home(settings)))
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
    with _naming_a_full_history():
        return dg.DagsterInstance.get()


def run_assets(
    defs: dg.Definitions, instance: dg.DagsterInstance, assets: Sequence[str] | None, listener: Listener
) -> Outcome:
    """Materialise the named assets, or all of them, and report the outcome.

    The run is stored in the instance, so that Dagster's UI shows it beside its own.

    Raises:
        StorageError: Dagster's history takes no more, such as where its disk is full.
    """
    with _naming_a_full_history():
        return _run_assets(defs, instance, assets, listener)


@contextmanager
def _naming_a_full_history() -> Iterator[None]:
    from sqlalchemy.exc import OperationalError

    try:
        yield
    except OperationalError as error:
        raise StorageError(
            f"Dagster's history in {os.environ.get('DAGSTER_HOME')} can't be written: {error.orig}. Make room, or "
            "check whose folder it is, then run it again; what was there stays."
        ) from error


def _run_assets(
    defs: dg.Definitions, instance: dg.DagsterInstance, assets: Sequence[str] | None, listener: Listener
) -> Outcome:
    end_dead_runs(instance)
    handler = _ProgressHandler(listener)
    listening = dg.Definitions.merge(defs, dg.Definitions(loggers={"progress": _progress_logger(handler)}))
    result = listening.resolve_job_def("everything").execute_in_process(
        instance=instance,
        asset_selection=None if assets is None else [dg.AssetKey(asset) for asset in assets],
        raise_on_error=False,
        run_config={"loggers": {"progress": {}}},
    )
    checks = result.get_asset_check_evaluations()
    failed_checks = [check for check in checks if not check.passed]
    errors = [check for check in failed_checks if check.severity == dg.AssetCheckSeverity.ERROR]
    blocked_by_check = {check.asset_key.to_user_string() for check in errors}
    step_failures = [
        Failure(event.step_key or "run", _reason(event))
        for event in result.all_events
        if event.is_step_failure and not is_failed_check(event)
    ]
    if not (result.success or step_failures or blocked_by_check):
        step_failures = [Failure("run", _reason_outside(result.all_events))]
    return Outcome(
        run_id=result.run_id,
        materialized=tuple(
            event.asset_key.to_user_string() for event in result.get_asset_materialization_events() if event.asset_key
        ),
        failures=(*step_failures, *map(_check_failure, errors)),
        warnings=tuple(_check_failure(check) for check in failed_checks if check not in errors),
    )


def _packaged(name: str) -> Path:
    """A file of the project's top level, which an installed wheel holds inside of the package."""
    package = Path(__file__).resolve().parent
    for candidate in (package / name, package.parent / name):
        if candidate.is_file():
            return candidate
    raise SettingsError(f"No {name} in {package} or beside it: the installation is incomplete.")


def _check_failure(check: dg.AssetCheckEvaluation) -> Failure:
    return Failure(
        f"check {check.check_name} of {check.asset_key.to_user_string()}", check.description or "It did not pass."
    )


def is_failed_check(event: DagsterEvent) -> bool:
    """Whether a step failed only because a blocking check did: the check itself is listed already."""
    error = event.step_failure_data.error
    return error is not None and error.cls_name == "DagsterAssetCheckFailedError"


def _reason(event: DagsterEvent) -> str:
    """The message of what an asset raised, without Dagster's wrapping; of a named error its own, not its cause's."""
    error = event.step_failure_data.error
    return event.message or "It failed without saying why." if error is None else _said(error)


def _reason_outside(events: Sequence[DagsterEvent]) -> str:
    """Why a run failed before or after its assets: because a server was not there when it began, say."""
    for event in events:
        error = None
        if event.is_resource_init_failure:
            error = event.engine_event_data.error
        elif event.is_job_failure:
            error = event.job_failure_data.error
        if error is not None:
            return _said(error)
    return "The run failed outside of its assets; see its log in Dagster's UI."


def _said(error: SerializableErrorInfo) -> str:
    named = _named_errors()
    while error.cause is not None and error.cls_name not in named:
        error = error.cause
    return error.message.strip().removeprefix(f"shop_platform.errors.{error.cls_name}: ")


def _named_errors(base: type[ShopPlatformError] = ShopPlatformError) -> set[str]:
    return {base.__name__}.union(*map(_named_errors, base.__subclasses__()))


class _ProgressHandler(logging.Handler):
    """Turns Dagster's log records into calls of a listener."""

    _STATES: ClassVar = {
        "STEP_START": "started",
        "STEP_SUCCESS": "finished",
        "STEP_FAILURE": "failed",
        "STEP_SKIPPED": "skipped",
    }

    def __init__(self, listener: Listener) -> None:
        super().__init__(logging.DEBUG)
        self._listener = listener

    def emit(self, record: logging.LogRecord) -> None:
        meta = getattr(record, "dagster_meta", {})
        step, event = meta.get("step_key"), meta.get("dagster_event")
        if step is None:
            return
        if event is None:
            if record.levelno >= logging.INFO:
                self._listener(step, str(meta.get("orig_message", record.getMessage())))
        elif event.event_type_value in self._STATES:
            self._listener(step, self._STATES[event.event_type_value])


def _progress_logger(handler: logging.Handler) -> dg.LoggerDefinition:
    @dg.logger
    def progress(_: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.Logger("shop_platform.progress", logging.DEBUG)
        logger.addHandler(handler)
        return logger

    return progress
