"""Comparing records: only what is comparable, and in words that say what is true."""

from __future__ import annotations

from typing import Any

import pytest

from shop_platform.errors import MeasurementError
from shop_platform.performance import checks
from shop_platform.performance.effects import Effects, compare
from shop_platform.performance.ladder import draw_ladder, figure, rungs
from shop_platform.performance.records import SERVER_SETTINGS, Provenance, as_baseline, as_indexed
from shop_platform.pictures import read_facts
from shop_platform_tests.performance import examples


def effects_of(indexed: dict[str, Any], baseline: dict[str, Any] | None = None) -> Effects:
    return compare(as_baseline(baseline or examples.baseline()), as_indexed(indexed))


def test_ratios_come_from_the_interleaved_times_and_not_from_the_baseline_that_ran_alone() -> None:
    baseline = examples.baseline()
    baseline["queries"][0]["measured"]["median_ms"] = 1_000
    query = effects_of(examples.indexed(), baseline)["queries"][0]
    assert query["indexes_speedup"]["value"] == pytest.approx(2)
    assert query["summaries_speedup"]["value"] == pytest.approx(100)
    assert query["baseline_median_ms"] == 1_000


@pytest.mark.parametrize(
    ("with_indexes", "word"), [(5.0, "helps"), (10.1, "no effect"), (9.9, "no effect"), (20.0, "hurts")]
)
def test_the_verdict_on_the_indexes_follows_from_the_times(with_indexes: float, word: str) -> None:
    query = effects_of(examples.indexed(with_indexes=with_indexes))["queries"][0]
    assert query["indexes_verdict"] == word


def test_an_index_is_called_used_when_the_plan_names_it_and_not_used_otherwise() -> None:
    effects = effects_of(examples.indexed())
    assert {use["name"]: (use["used"], use["used_alone"]) for use in effects["queries"][0]["indexes"]} == {
        "idx_events_product_type": (True, True),
        "idx_events_user_time": (False, False),
        "idx_products_category": (False, False),
    }
    assert "idx_events_product_type is used by q: helps, not missed where the others stay." in effects["findings"]
    assert "idx_events_user_time is not used by q: no effect." in effects["findings"]


@pytest.mark.parametrize(
    ("only", "word"),
    # Alone, an index that no plan names can't have helped, and has hurt only beyond what is negligible.
    [(5.0, "no effect"), (10.0, "no effect"), (10.4, "no effect"), (11.5, "hurts")],
)
def test_an_index_that_the_planner_does_not_use_never_helps(only: float, word: str) -> None:
    uses = effects_of(examples.indexed(only=only))["queries"][0]["indexes"]
    assert [use["verdict"] for use in uses if use["name"] == "idx_events_user_time"] == [word]


@pytest.mark.parametrize(
    ("with_indexes", "word"), [(5.0, "helps"), (10.1, "no effect"), (9.9, "no effect"), (20.0, "hurts")]
)
def test_an_index_that_the_planner_uses_is_judged_by_its_times(with_indexes: float, word: str) -> None:
    uses = effects_of(examples.indexed(with_indexes=with_indexes))["queries"][0]["indexes"]
    assert [use["verdict"] for use in uses if use["used_alone"]] == [word]


@pytest.mark.parametrize(("without", "word"), [(5.0, "not missed"), (9.0, "missed")])
def test_an_index_is_missed_when_the_query_is_slower_without_it(without: float, word: str) -> None:
    uses = effects_of(examples.indexed(without=without))["queries"][0]["indexes"]
    assert [use["missed"] for use in uses] == [word, None, None]


def test_what_an_index_costs_those_who_write_is_a_ratio_of_medians() -> None:
    for cost in effects_of(examples.indexed())["indexes"]:
        assert cost["insert_slowdown"]["value"] == pytest.approx(1.5)
        assert cost["rows_per_second"]["without"] == pytest.approx(1.5 * cost["rows_per_second"]["with"])


def test_a_query_of_the_users_has_neither_summaries_nor_expected_rows() -> None:
    baseline, indexed = examples.baseline(), examples.indexed()
    baseline["queries"][0]["expected_rows"] = None
    for key in ("rewritten", "from_summaries"):
        for part in ("variants", "times_ms", "answers"):
            del indexed["queries"][0][part][key]
    effects = effects_of(indexed, baseline)
    assert effects["queries"][0]["summaries_speedup"] is None
    assert [rung["way"] for rung in rungs(effects, None)] == ["as written", "three indexes"]
    assert checks.result_rows(effects).passed
    assert checks.optimised_answers_faster(effects).passed


def test_the_gain_is_said_with_its_interval() -> None:
    assert effects_of(examples.indexed())["findings"][0] == (
        "q: with the three indexes 2 times as fast (95 % interval 2 to 2), they help; "
        "rewritten 2.5 times as fast (95 % interval 2.5 to 2.5), it helps; "
        "from summaries 100 times as fast (95 % interval 100 to 100), they help."
    )


def test_the_ladder_has_a_rung_for_each_way_to_answer() -> None:
    found = [(rung["way"], rung["median_ms"], rung["verdict"]) for rung in rungs(effects_of(examples.indexed()), None)]
    assert found == [
        ("as written", 10.0, None),
        ("three indexes", 5.0, "helps"),
        ("rewritten", 4.0, "helps"),
        ("summaries", 0.1, "helps"),
    ]


def test_the_ladder_is_drawn_with_its_facts_inside() -> None:
    ladder = rungs(effects_of(examples.indexed()), None)
    png = draw_ladder(ladder, "a note", {"run": "7"})
    assert read_facts(png) == {"run": "7"}
    assert len(png) < 60_000


@pytest.mark.parametrize("key", list(Provenance.__annotations__))
def test_a_record_that_lacks_a_condition_is_refused(key: str) -> None:
    indexed = examples.indexed()
    del indexed["provenance"][key]
    with pytest.raises(MeasurementError, match=f"indexed_benchmark does not say.*missing: {key}"):
        effects_of(indexed)


@pytest.mark.parametrize("key", SERVER_SETTINGS)
def test_a_record_that_lacks_a_server_setting_is_refused(key: str) -> None:
    baseline = examples.baseline()
    del baseline["provenance"]["settings"][key]
    with pytest.raises(MeasurementError, match=f"settings.{key}"):
        effects_of(examples.indexed(), baseline)


def test_a_record_without_any_provenance_is_refused() -> None:
    with pytest.raises(MeasurementError, match="baseline_benchmark does not say"):
        effects_of(examples.indexed(), {"queries": []})


def test_a_record_of_another_format_is_refused() -> None:
    indexed = examples.indexed()
    indexed["provenance"]["format"] = 0
    with pytest.raises(MeasurementError, match="another version of the platform"):
        effects_of(indexed)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("server_version", "17.1"),
        ("settings", dict.fromkeys(SERVER_SETTINGS, "2")),
        ("time_zone", "Europe/Berlin"),
        ("rows", {"events": 50_001, "products": 20}),
        ("fingerprints", {"events": "3", "products": "2"}),
        ("one_user_in", 2),
        ("queries", {"q": "def"}),
    ],
)
def test_records_made_under_different_conditions_are_refused(key: str, value: object) -> None:
    indexed = examples.indexed()
    indexed["provenance"][key] = value
    with pytest.raises(MeasurementError, match=f"can't be compared: {key} was"):
        effects_of(indexed)


@pytest.mark.parametrize("key", ["measured_at", "other_sessions", "live_events", "source", "load"])
def test_what_may_differ_between_two_runs_does_not_stop_the_comparison(key: str) -> None:
    indexed = examples.indexed()
    indexed["provenance"][key] = 7
    assert effects_of(indexed)["queries"]


def test_records_of_different_queries_are_refused() -> None:
    indexed = examples.indexed()
    indexed["queries"][0]["name"] = "r"
    with pytest.raises(MeasurementError, match="different queries"):
        effects_of(indexed)


def test_the_speedup_check_fails_when_summaries_are_not_shown_to_be_faster() -> None:
    good = checks.optimised_answers_faster(effects_of(examples.indexed(from_summaries=5)))
    bad = checks.optimised_answers_faster(effects_of(examples.indexed(from_summaries=10.0)))
    assert good.passed
    assert not bad.passed
    assert bad.severity.name == "ERROR"
    assert "Not shown to be faster: q" in (bad.description or "")


def test_the_speedup_check_only_warns_where_there_are_too_few_events_to_tell() -> None:
    baseline, indexed = examples.baseline(), examples.indexed(from_summaries=10.0)
    for record in (baseline, indexed):
        record["provenance"]["rows"]["events"] = 500
    result = checks.optimised_answers_faster(effects_of(indexed, baseline))
    assert not result.passed
    assert result.severity.name == "WARN"


@pytest.mark.parametrize(("rows", "expected", "passed"), [(5, 5, True), (4, 5, False), (0, 0, False)])
def test_the_row_check_wants_as_many_rows_as_were_counted_and_more_than_none(
    rows: int, expected: int, passed: bool
) -> None:
    baseline, indexed = examples.baseline(), examples.indexed()
    indexed["queries"][0]["rows"] = rows
    baseline["queries"][0]["expected_rows"] = expected
    assert checks.result_rows(effects_of(indexed, baseline)).passed == passed


def test_the_equality_check_fails_when_one_variant_answers_differently() -> None:
    indexed = examples.indexed()
    assert checks.results_equal(effects_of(indexed)).passed
    indexed["queries"][0]["answers"]["from_summaries"] = "y"
    assert not checks.results_equal(effects_of(indexed)).passed


@pytest.mark.parametrize(
    ("value", "text"), [(0.09234, "0.0923"), (2.599, "2.6"), (17.04, "17"), (99.96, "100"), (2484.2, "2,484")]
)
def test_figures_have_three_significant_digits_and_no_exponent(value: float, text: str) -> None:
    assert figure(value) == text
