"""A fault in the data turns one check red, and that one alone; the command fails by it, and one alert is posted."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from rich.console import Console

from shop_platform.definitions import build_defs
from shop_platform.demo import conclude, materialise

from ..test_alerts import Webhook

QUARANTINE = "INSERT INTO ops.quarantine (table_name, reason, row) VALUES ('{0}', 'planted', '{{}}')"
BUILT_ANEW = "SELECT 'the next run mends it itself'"
PARDON = "DELETE FROM ops.quarantine WHERE reason = 'planted'"


@dataclass(frozen=True)
class Fault:
    """What is planted and taken away again, which assets are then made, and which check finds it."""

    plant: str
    undo: str
    assets: tuple[str, ...]
    asset: str
    check: str
    error: bool


COMMERCE = ("users", "products", "events")
FAULTS = [
    *(Fault(QUARANTINE.format(table), PARDON, COMMERCE, table, "rows_match_source", error=False) for table in COMMERCE),
    Fault(
        "INSERT INTO events (user_id, product_id, event_type, timestamp)"
        " SELECT min(user_id), (SELECT min(product_id) FROM products), 'viewed', '1999-01-01Z' FROM users",
        "DELETE FROM events WHERE timestamp < '2000-01-01Z'", COMMERCE, "events", "starts_at_signup", error=False,
    ),
    Fault(
        "UPDATE analytics.weekly_active_users SET active_users = active_users + 1",
        BUILT_ANEW,
        ("activity_summaries",), "activity_summaries", "answers_equal_direct_queries", error=True,
    ),
    Fault(
        "INSERT INTO events (user_id, product_id, event_type, timestamp)"
        " SELECT min(user_id), (SELECT min(product_id) FROM products), 'viewed', '2999-01-01Z' FROM users",
        "DELETE FROM events WHERE timestamp > '2998-01-01Z'",
        ("cohort_retention",), "cohort_retention", "data_end_is_past", error=False,
    ),
    Fault(
        "UPDATE analytics.retention_users SET active_periods = 0",
        BUILT_ANEW, ("cohort_retention",), "cohort_retention", "agrees_with_events", error=False,
    ),
    Fault(QUARANTINE.format("user_logs"), PARDON, ("user_logs",), "user_logs", "documents_match_source", error=False),
]  # fmt: skip


@pytest.fixture
def webhook(shop: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    """The small shop's environment, with a webhook for its alerts."""
    made = Webhook()
    for name, value in shop.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DAGSTER_HOME", str(Path(shop["SHOP_HOME"]) / "shops" / "shop" / "dagster"))
    monkeypatch.setenv("SHOP_ALERT_WEBHOOK", made.url.get_secret_value())
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.asset}-{fault.check}")
def test_the_check_is_red_alone_and_told_once(fault: Fault, webhook: Webhook, shop: dict[str, str]) -> None:
    defs, said = build_defs(), io.StringIO()
    quiet, err = Console(quiet=True), Console(file=said, width=1000)

    def make() -> tuple[list[str], int]:
        outcome = materialise(quiet, defs, fault.assets)
        return [each.what for each in (*outcome.failures, *outcome.warnings)], conclude(err, outcome)

    assert make() == ([], 0)
    execute(shop, fault.plant)
    try:
        expected = f"check {fault.check} of {fault.asset}"
        assert make() == ([expected], 1 if fault.error else 0)
        assert expected in said.getvalue()
        alert = f"{'Check' if fault.error else 'Warning: check'} {fault.check} of {fault.asset} did not pass."
        assert webhook.posted == [f"Synthetic shop: {alert}"]
        make()
        assert len(webhook.posted) == 1
    finally:
        execute(shop, fault.undo)
    make()
    assert make() == ([], 0)
    assert len(webhook.posted) == 1


def execute(shop: dict[str, str], statement: str) -> None:
    with psycopg.connect(shop["DATABASE_URL"]) as connection:
        connection.execute(statement)  # type: ignore[call-overload]
