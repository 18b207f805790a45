"""Tells people what went wrong, once: runs that failed, checks that did not pass, assets that are stale."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import dagster as dg
from filelock import FileLock
from pydantic import SecretStr

from shop_platform.files import write_atomically
from shop_platform.report.evaluations import latest_evaluations
from shop_platform.runs import is_failed_check

_log = logging.getLogger(__name__)

#: Seconds that a webhook gets to answer.
_TIMEOUT = 10


def current_troubles(
    instance: dg.DagsterInstance, assets: Iterable[dg.AssetKey], checks: Iterable[dg.AssetCheckKey]
) -> dict[str, str]:
    """What is wrong now: a sentence each, by a key that stays the same while the trouble lasts.

    The sentences name assets, checks and runs, and nothing that comes from the data or from an exception's message.
    """
    keys = list(assets)
    return {
        **_failed_runs(instance, keys),
        **_failed_checks(instance, checks),
        **_stale(instance, keys),
    }


def tell(troubles: Mapping[str, str], shop: str, told: Path, webhook: SecretStr | None) -> list[str]:
    """Find the troubles that were not told before and post them to a webhook; forget those that are over.

    A webhook that can't be reached is logged, never raised, and tried again at the next call.

    Args:
        troubles: as `current_troubles` finds them.
        shop: its title, which begins the message.
        told: file in which it is noted what was told.
        webhook: URL that takes Slack's JSON; None for none.

    Returns:
        the sentences that were told now.
    """
    # The command line and the sensor may come at the same time: one of them tells.
    with FileLock(told.with_suffix(".lock")):
        before = json.loads(told.read_text(encoding="utf-8")) if told.exists() else {}
        new = {key: text for key, text in troubles.items() if key not in before}
        if new and webhook is not None and not _post(webhook, f"{shop}: " + "\n".join(new.values())):
            new = {}
        kept = {key: text for key, text in before.items() if key in troubles} | new
        if kept != before:
            write_atomically(told, json.dumps(kept, indent=1).encode())
    return list(new.values())


def _post(webhook: SecretStr, text: str) -> bool:
    """Whether the webhook took the message."""
    import requests

    from shop_platform.services.transport import trusted_authorities

    try:
        # Without following redirects: whoever is named gets the message, and nobody else.
        answer = requests.post(
            webhook.get_secret_value(),
            json={"text": text},
            timeout=_TIMEOUT,
            allow_redirects=False,
            verify=str(trusted_authorities()),
        )
    except requests.RequestException as error:
        # Its message holds the URL, and whoever knows that may write to the channel.
        _log.error("The alert could not be posted to the webhook: %s.", type(error).__name__)
        return False
    if not answer.ok:
        _log.error("The webhook refused the alert with status %d.", answer.status_code)
    return answer.ok


def _failed_runs(instance: dg.DagsterInstance, assets: list[dg.AssetKey]) -> dict[str, str]:
    """The last run of each asset, where it failed: what failed in it, once for each run."""
    last = {record.asset_entry.last_run_id for record in instance.get_asset_records(assets)} - {None}
    if not last:
        return {}
    failed = instance.get_runs(
        dg.RunsFilter(run_ids=sorted(each for each in last if each), statuses=[dg.DagsterRunStatus.FAILURE])
    )
    found = {}
    for run in failed:
        events = [
            entry.dagster_event
            for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
            if entry.dagster_event
        ]
        # What a blocking check stopped is told as the check.
        steps = sorted({event.step_key for event in events if event.step_key and not is_failed_check(event)})
        if steps or not events:
            what = ", ".join(steps) or "the run itself"
            found[f"run: {what}"] = f"Run {run.run_id[:8]} failed in {what}; its log in Dagster's UI says why."
    return found


def _failed_checks(instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey]) -> dict[str, str]:
    return {
        f"check: {each.asset}/{each.check}": f"{'Check' if each.error else 'Warning: check'} {each.check} of "
        f"{each.asset} did not pass."
        for each in latest_evaluations(instance, checks)
        if each.passed is False
    }


def _stale(instance: dg.DagsterInstance, assets: list[dg.AssetKey]) -> dict[str, str]:
    """Assets whose freshness policy is not kept, as Dagster's daemon judged last."""
    states = instance.get_freshness_state_records(assets)
    return {
        f"stale: {key.to_user_string()}": f"{key.to_user_string()} is stale: it was not made for longer than its "
        "freshness policy allows."
        for key, record in sorted(states.items())
        if record.freshness_state.name == "FAIL"
    }
