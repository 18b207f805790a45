"""The long run in short: what must not grow does not, from one refresh to the next."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import long_run
from shop_platform.definitions import default_resources
from shop_platform_tests.small import remove_demo_indexes

#: Figures that are counts, and stay what they are after the first refresh.
COUNTS = (
    "indexes",
    "aliases",
    "points in time that are open",
    "connections",
    "schemas",
    "other files of the shop",
    "rows of ops.event_changes",
    "rows of ops.event_log",
    "rows of ops.product_log",
    "rows of ops.retention_log",
    "rows of ops.consumed",
    "rows of ops.loads",
    "rows of ops.segment_models",
    "rows of analytics.records",
)

KEPT = 6


@pytest.mark.fault
@pytest.mark.exhaustive
@pytest.mark.usefixtures("postgres", "elasticsearch")
def test_what_must_not_grow_does_not(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # So many searches that the segments hold, with so few users.
    for name, value in {"SHOP_USERS": "120", "SHOP_EVENTS": "4000", "SHOP_SEARCHES": "2000"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SHOP_KEEP_RUNS", str(KEPT))
    # Set by the run itself; said here, so that it is unset afterwards.
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.delenv("DAGSTER_HOME")
    try:
        found = long_run.run_cycles(3, Console(quiet=True), measuring=False)
    finally:
        with default_resources()["elasticsearch"].client() as client:
            remove_demo_indexes(client)
    first, last = found[1], found[-1]
    assert home.is_dir()
    assert last["events"] == 4_000 + 3 * long_run.EVENTS
    assert last["search logs"] == 2_000 + 3 * long_run.SEARCHES
    assert {name: last[name] for name in COUNTS} == {name: first[name] for name in COUNTS}
    assert [last[f"rows of ops.{name}"] for name in ("event_changes", "event_log", "product_log", "retention_log")] == [
        0, 0, 0, 0,
    ]  # fmt: skip
    # Three runs a cycle; beside the last ones stay those that made what stands: the load's, in this shop.
    assert last["Dagster's runs"] <= KEPT + 1


def test_what_grew_beyond_what_is_stated_is_told() -> None:
    steady = {"indexes": 2.0, "events": 10.0, "memory of the process, MiB": 100.0}
    found = [steady | {"events": 10.0 + n} for n in range(20)]
    assert all(each.kept for each in long_run.growths(found))
    leaking = [each | {"indexes": 2.0 + n // 15} for n, each in enumerate(found)]
    assert [each.figure for each in long_run.growths(leaking) if not each.kept] == ["indexes"]
