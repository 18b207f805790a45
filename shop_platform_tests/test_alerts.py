"""Alerts: what is wrong is told once, to a real webhook, without a word from the data."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import dagster as dg
import pytest
from pydantic import SecretStr

from shop_platform.alerts import current_troubles, tell
from shop_platform.definitions import build_defs
from shop_platform.errors import DataError, SettingsError
from shop_platform.metadata import PUBLISHED
from shop_platform.settings import load_settings

SECRET = "a-name-from-the-data"


class Webhook:
    """A server on loopback that notes what is posted to it."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.posted: list[str] = []
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                webhook.posted.append(json.loads(body)["text"])
                self.send_response(webhook.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = SecretStr(f"http://127.0.0.1:{self.server.server_port}/T0/secret-path")
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    made = Webhook()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


state = {"raises": False, "holds": True, "blocks": True}


@dg.asset
def first() -> None:
    if state["raises"]:
        raise DataError(f"something is wrong with {SECRET}")


@dg.asset(
    deps=[first],
    freshness_policy=PUBLISHED,
    check_specs=[
        dg.AssetCheckSpec("holds", asset="second"),
        dg.AssetCheckSpec("blocks", asset="second", blocking=True),
    ],
)
def second() -> dg.MaterializeResult:
    return dg.MaterializeResult(
        check_results=[
            dg.AssetCheckResult(check_name="holds", passed=state["holds"], severity=dg.AssetCheckSeverity.WARN),
            dg.AssetCheckResult(check_name="blocks", passed=state["blocks"], description=SECRET),
        ]
    )


def run(instance: dg.DagsterInstance, **faults: bool) -> dict[str, str]:
    """Troubles after a run with some faults."""
    state.update({"raises": False, "holds": True, "blocks": True} | faults)
    dg.materialize([first, second], instance=instance, raise_on_error=False)
    return current_troubles(instance, [first.key, second.key], second.check_keys)


def test_a_good_run_is_no_trouble(instance: dg.DagsterInstance) -> None:
    assert current_troubles(instance, [first.key], []) == {}
    assert run(instance) == {}


def test_a_failed_asset_is_named_with_its_run_and_without_its_message(instance: dg.DagsterInstance) -> None:
    (text,) = run(instance, raises=True).values()
    assert "failed in first;" in text
    assert SECRET not in text
    assert run(instance) == {}


@pytest.mark.parametrize(
    ("fault", "text"),
    [("holds", "Warning: check holds of second did not pass."), ("blocks", "Check blocks of second did not pass.")],
)
def test_a_failed_check_is_told_alone_whether_it_blocks_or_not(
    instance: dg.DagsterInstance, fault: str, text: str
) -> None:
    assert list(run(instance, **{fault: False}).values()) == [text]
    assert run(instance) == {}


def test_the_same_trouble_is_told_once_until_it_is_over(webhook: Webhook, tmp_path: Path) -> None:
    told = tmp_path / "alerts.json"
    for _ in range(3):
        tell({"a": "A is wrong."}, "Shop", told, webhook.url)
    assert webhook.posted == ["Shop: A is wrong."]
    tell({"a": "A is wrong.", "b": "B is wrong."}, "Shop", told, webhook.url)
    assert webhook.posted[1:] == ["Shop: B is wrong."]
    tell({}, "Shop", told, webhook.url)
    tell({"a": "A is wrong.", "b": "B is wrong."}, "Shop", told, webhook.url)
    assert webhook.posted[2:] == ["Shop: A is wrong.\nB is wrong."]


def test_a_webhook_that_refuses_or_is_gone_is_asked_again_and_its_address_stays_secret(
    webhook: Webhook, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = tmp_path / "alerts.json"
    webhook.status = 500
    assert tell({"a": "A is wrong."}, "Shop", told, webhook.url) == []
    gone = SecretStr(webhook.url.get_secret_value().replace(str(webhook.server.server_port), "9"))
    assert tell({"a": "A is wrong."}, "Shop", told, gone) == []
    assert "500" in caplog.text
    assert "could not be posted" in caplog.text
    assert "secret-path" not in caplog.text
    webhook.status = 200
    assert tell({"a": "A is wrong."}, "Shop", told, webhook.url) == ["A is wrong."]


def test_without_a_webhook_it_is_told_once_as_well(tmp_path: Path) -> None:
    told = tmp_path / "alerts.json"
    assert tell({"a": "A is wrong."}, "Shop", told, None) == ["A is wrong."]
    assert tell({"a": "A is wrong."}, "Shop", told, None) == []


def test_a_webhook_must_be_a_web_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_ALERT_WEBHOOK", "file:///secret-path")
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert "SHOP_ALERT_WEBHOOK" in str(raised.value)
    assert "secret-path" not in str(raised.value)


def test_what_people_read_is_made_each_night_and_stale_after_a_day_and_a_half() -> None:
    defs = build_defs()
    graph = defs.resolve_asset_graph()
    fresh = {key.to_user_string() for key in graph.materializable_asset_keys if graph.get(key).freshness_policy}
    nightly = {key.to_user_string() for key in defs.resolve_job_def("nightly").asset_layer.selected_asset_keys}
    assert fresh == {
        "activity_summaries",
        "cohort_retention",
        "segment_retention",
        "segmented_user_logs",
        "shop_report",
    }
    assert fresh <= nightly
    (schedule,) = defs.schedules or ()
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (schedule.job_name, schedule.execution_timezone) == ("nightly", "UTC")
