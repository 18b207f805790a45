"""What the asset checks found when they were evaluated last, as the report shows it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

import dagster as dg


@dataclass(frozen=True)
class Evaluation:
    """The last evaluation of an asset check.

    Attributes:
        asset, check: which.
        passed: None where a run was to evaluate it and ended before.
        error: whether a failure counts as an error; else it is a warning.
        why: the check's own words.
        when: of the evaluation.
    """

    asset: str
    check: str
    passed: bool | None
    error: bool
    why: str
    when: dt.datetime


def latest_evaluations(instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey]) -> list[Evaluation]:
    """The last evaluation of each check that was ever asked for; what did not pass comes first."""
    found = []
    for key in checks:
        record = instance.get_latest_asset_check_evaluation_record(key)
        if record is None:
            continue
        evaluated = record.status.name != "PLANNED"
        evaluation = record.evaluation if evaluated else None
        found.append(
            Evaluation(
                asset=key.asset_key.to_user_string(),
                check=key.name,
                passed=evaluation.passed if evaluation else None,
                error=evaluation is None or evaluation.severity is dg.AssetCheckSeverity.ERROR,
                why=(evaluation.description if evaluation else "The run ended before it was evaluated.") or "",
                when=dt.datetime.fromtimestamp(record.create_timestamp, dt.UTC),
            )
        )
    return sorted(found, key=lambda each: (_place(each), each.asset, each.check))


def _place(evaluation: Evaluation) -> int:
    """Errors first, then warnings, then what passed."""
    return 2 if evaluation.passed else 0 if evaluation.error else 1
