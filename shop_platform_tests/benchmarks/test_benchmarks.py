"""The benchmarks' own parts: turns, bounds, and engines that answer what PostgreSQL answers."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

import pytest

from benchmarks.engines import ENGINES, plain
from benchmarks.harness import Row, compare, in_turns, warm_in_turns, write
from benchmarks.shops import settings_of
from shop_platform.commerce.loading import load_shop_tables
from shop_platform.performance.queries import answer, dashboard_queries
from shop_platform.resources.postgres import PostgresResource
from shop_platform.sources.synthetic import synthetic_shop


def test_every_party_runs_once_a_round_and_every_result_is_checked() -> None:
    ran: list[str] = []
    checked: list[tuple[str, str]] = []

    def party(name: str) -> str:
        ran.append(name)
        return name

    times = in_turns(
        {name: lambda name=name: party(name) for name in "abc"},  # type: ignore[misc]
        5,
        lambda name, result: checked.append((name, result)),
        warm_ups=1,
    )
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 5, "b": 5, "c": 5}
    assert all(sorted(ran[i : i + 3]) == ["a", "b", "c"] for i in range(0, 18, 3))
    assert checked == [(name, name) for name in ran]


def test_a_warm_turn_is_checked_and_its_time_is_that_of_one_execution() -> None:
    ran: dict[str, int] = {"slow": 0, "fast": 0}

    def party(name: str, seconds: float) -> str:
        ran[name] += 1
        time.sleep(seconds)
        return name

    parties = {"slow": partial(party, "slow", 0.06), "fast": partial(party, "fast", 0.005)}
    times = warm_in_turns(parties, 3, lambda name, result: None if name == result else pytest.fail("mixed up"))
    assert {name: len(taken) for name, taken in times.items()} == {"slow": 3, "fast": 3}
    # Sleeping never ends early, so one execution's time is at least its sleep, and a turn's sum is many of them.
    assert all(seconds >= 0.06 for seconds in times["slow"])
    assert all(seconds >= 0.005 for seconds in times["fast"])
    assert ran["fast"] > ran["slow"] == 8


@pytest.mark.parametrize(
    ("bound", "met"),
    [({"at_least": 4.9}, True), ({"at_least": 5.1}, False), ({"at_most": 5.1}, True), ({"at_most": 4.9}, False)],
)
@pytest.mark.parametrize("pairs", [3, 10])
def test_a_row_says_whether_its_bound_is_met(bound: dict[str, float], met: bool, pairs: int) -> None:
    row = compare("here", "this", {"slow": [5.0] * pairs, "fast": [1.0] * pairs}, "slow", "fast", **bound)  # type: ignore[arg-type]
    assert (row.ratio, row.low, row.high, row.pairs, row.met) == (5.0, 5.0, 5.0, pairs, met)


def test_the_results_hold_every_time_and_the_conditions(tmp_path: Path) -> None:
    row = Row("here", "this", 2.0, 1.5, 2.5, 2, 1.0, at_least=True, times={"a": [2.0, 2.1], "b": [1.0, 1.0]})
    write(tmp_path / "new" / "results.json", [row], {"processors": 2})
    found = json.loads((tmp_path / "new" / "results.json").read_text())
    assert found["conditions"] == {"processors": 2}
    assert found["rows"][0]["times"] == {"a": [2.0, 2.1], "b": [1.0, 1.0]}
    assert found["rows"][0]["met"] is True


def test_every_engine_gives_postgresql_s_answers(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        load_shop_tables(connection, synthetic_shop(settings_of("50k")))
    with postgres.connect() as connection:
        expected = {query.name: plain(answer(connection, query.text)) for query in dashboard_queries()}
    for engine in ENGINES.values():
        loaded = engine("50k")
        assert {name: loaded.answer(name) for name in expected} == expected
