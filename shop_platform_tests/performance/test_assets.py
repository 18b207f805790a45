"""The assets of the room, materialised against a real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import dagster as dg
import pytest

from shop_platform.errors import MeasurementError
from shop_platform.performance import assets
from shop_platform.performance.laboratory import laboratory
from shop_platform.records import read_record, write_record
from shop_platform.resources.engine import EngineResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform_tests.performance import examples
from shop_platform_tests.performance.conftest import live_state, schemas

ROOM = [
    assets.baseline_benchmark,
    assets.commerce_indexes,
    assets.indexed_benchmark,
    assets.index_effects,
    assets.activity_summaries,
]


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure as briefly as can be set."""
    monkeypatch.setenv("SHOP_MEASURE_SECONDS", "0.1")


def materialise(postgres: PostgresResource, *names: str, raise_on_error: bool = True) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        ROOM,
        resources={"postgres": postgres, "engine": EngineResource()},
        selection=list(names) or None,
        raise_on_error=raise_on_error,
    )


def record_of(postgres: PostgresResource, name: str) -> dict[str, Any]:
    with postgres.connect() as connection:
        return read_record(connection, name)


def failure_of(result: dg.ExecuteInProcessResult, step: str) -> str:
    error = result.failure_data_for_node(step)
    assert error is not None
    assert error.error is not None
    assert error.error.cause is not None
    return error.error.cause.message


def test_the_whole_room_materialises_and_what_does_not_hang_on_times_passes(random_shop: PostgresResource) -> None:
    result = materialise(random_shop)
    evaluations = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert set(evaluations) == {
        "answers_complete",
        "measured_alone",
        "indexes_valid",
        "optimised_answers_faster",
        "result_rows",
        "results_equal",
        "answers_equal_direct_queries",
        "sums_add_up",
    }
    failed = {name for name, check in evaluations.items() if not check.passed}
    assert failed <= {"optimised_answers_faster", "measured_alone"}


def test_the_effects_are_stored_with_numbers_for_each_query_and_index(random_shop: PostgresResource) -> None:
    materialise(random_shop)
    record = record_of(random_shop, "index_effects")
    assert [query["name"] for query in record["queries"]] == ["weekly_active_users", "revenue_by_category"]
    for query in record["queries"]:
        assert query["rounds"] >= 11
        for speedup in (query["indexes_speedup"], query["summaries_speedup"]):
            assert 0 < speedup["low"] <= speedup["value"] <= speedup["high"]
        for variant in ("as_written", "with_indexes", "rewritten", "from_summaries"):
            assert query[variant]["median_ms"] > 0
            assert query[variant]["nodes"]
            assert query[variant]["buffers_hit"] + query[variant]["buffers_read"] > 0
        assert query["as_written"]["indexes"] == []
        assert {use["name"] for use in query["indexes"]} == {index["name"] for index in record["indexes"]}
        assert query["equal_answers"]
    assert all(index["size_bytes"] > 0 and index["build_ms"] > 0 for index in record["indexes"])
    assert all(index["rows_per_second"]["with"] > 0 for index in record["indexes"])
    assert {summary["name"]: summary["rows"] > 0 for summary in record["summaries"]} == {
        "weekly_activity": True,
        "weekly_active_users": True,
        "product_sales": True,
        "category_revenue": True,
        "category_totals": True,
    }
    assert record["provenance"]["rows"] == {"events": 20_000, "products": 20, "users": 500}


def test_the_benchmarks_leave_the_live_tables_alone_and_no_copies_behind(random_shop: PostgresResource) -> None:
    materialise(random_shop, "commerce_indexes")
    with random_shop.connect() as connection:
        before = live_state(connection)
    materialise(random_shop, "baseline_benchmark", "indexed_benchmark", "index_effects")
    with random_shop.connect() as connection:
        assert live_state(connection) == before
        assert schemas(connection) == set()


def test_building_the_live_indexes_changes_no_row(random_shop: PostgresResource) -> None:
    with random_shop.connect() as connection:
        before = {row for row in live_state(connection) if row[0] in ("users", "products", "events")}
    materialise(random_shop, "commerce_indexes")
    with random_shop.connect() as connection:
        assert before <= set(live_state(connection))


def test_a_stored_record_without_its_conditions_is_refused(postgres: PostgresResource) -> None:
    record = examples.indexed()
    del record["provenance"]["server_version"]
    with postgres.connect() as connection:
        write_record(connection, "baseline_benchmark", "run", examples.baseline())
        write_record(connection, "indexed_benchmark", "run", record)
    result = materialise(postgres, "index_effects", raise_on_error=False)
    assert "missing: server_version" in failure_of(result, "index_effects")


def test_a_failed_speedup_check_is_told_but_does_not_stop_the_report(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        write_record(connection, "baseline_benchmark", "run", examples.baseline())
        write_record(connection, "indexed_benchmark", "run", examples.indexed(from_summaries=10))
    result = materialise(postgres, "index_effects")
    passed = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert passed == {"optimised_answers_faster": False, "result_rows": True, "results_equal": True}
    assert result.success


def test_a_comparison_before_any_measurement_says_what_to_do(random_shop: PostgresResource) -> None:
    result = materialise(random_shop, "index_effects", raise_on_error=False)
    assert "materialise the asset baseline_benchmark first" in failure_of(result, "index_effects")


def test_a_benchmark_stops_while_another_run_measures(random_shop: PostgresResource) -> None:
    with laboratory(random_shop):
        result = materialise(random_shop, "baseline_benchmark", raise_on_error=False)
    assert MeasurementError.__name__ in str(result.failure_data_for_node("baseline_benchmark"))


def test_summaries_that_differ_fail_their_check(random_shop: PostgresResource) -> None:
    with random_shop.connect() as connection:
        connection.execute(
            "CREATE FUNCTION add_a_cent() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN NEW.revenue := NEW.revenue + 0.01; RETURN NEW; END $$"
        )
        connection.execute(
            "CREATE TRIGGER add_a_cent BEFORE INSERT ON analytics.category_revenue"
            " FOR EACH ROW EXECUTE FUNCTION add_a_cent()"
        )
    result = materialise(random_shop, "activity_summaries", raise_on_error=False)
    assert {check.check_name: check.passed for check in result.get_asset_check_evaluations()} == {
        "answers_equal_direct_queries": False,
        "sums_add_up": True,
    }


def test_a_summary_that_somebody_changed_fails_its_check_and_the_next_refresh_mends_it(
    random_shop: PostgresResource,
) -> None:
    materialise(random_shop, "activity_summaries")
    with random_shop.connect() as connection:
        connection.execute("UPDATE analytics.weekly_active_users SET active_users = active_users + 1")
    result = materialise(random_shop, "activity_summaries", raise_on_error=False)
    failed = {c.check_name: c.description for c in result.get_asset_check_evaluations() if not c.passed}
    assert set(failed) == {"answers_equal_direct_queries"}
    assert "2025-12-29" in str(failed["answers_equal_direct_queries"])
    assert "builds the summaries anew" in str(failed["answers_equal_direct_queries"])
    assert materialise(random_shop, "activity_summaries").success


def test_sums_that_somebody_changed_are_not_published_and_the_next_refresh_mends_them(
    random_shop: PostgresResource,
) -> None:
    materialise(random_shop, "activity_summaries")
    with random_shop.connect() as connection:
        connection.execute("UPDATE analytics.category_totals SET purchases = purchases + 1")
    result = materialise(random_shop, "activity_summaries", raise_on_error=False)
    assert [c.check_name for c in result.get_asset_check_evaluations() if not c.passed] == ["sums_add_up"]
    assert materialise(random_shop, "activity_summaries").success


@pytest.mark.parametrize("asset", ["baseline_benchmark", "indexed_benchmark", "index_effects"])
def test_measurements_run_in_a_pool_so_that_none_disturbs_another(asset: str) -> None:
    definition = getattr(assets, asset)
    assert definition.op.pool == "benchmark"


def test_every_asset_says_what_it_is_and_whose() -> None:
    for definition in ROOM:
        (spec,) = definition.specs
        assert spec.group_name == "performance"
        assert spec.owners == ["team:data-platform"]
        assert spec.description
        assert spec.kinds
        assert spec.code_version


def test_the_graph_is_the_one_that_the_design_draws() -> None:
    parents = {
        spec.key.to_user_string(): {dep.asset_key.to_user_string() for dep in spec.deps}
        for definition in ROOM
        for spec in definition.specs
    }
    assert parents == {
        "baseline_benchmark": {"products", "events"},
        "commerce_indexes": {"baseline_benchmark"},
        "indexed_benchmark": {"baseline_benchmark", "commerce_indexes"},
        "index_effects": {"baseline_benchmark", "indexed_benchmark"},
        "activity_summaries": {"products", "events"},
    }


def test_importing_the_assets_imports_nothing_heavy() -> None:
    heavy = ["numpy", "pandas", "pyarrow", "duckdb", "faker", "seaborn", "sklearn", "torch"]
    code = (
        "import sys, shop_platform.performance.assets\n"
        f"found = [name for name in {heavy!r} if name in sys.modules]\n"
        "sys.exit(', '.join(found) if found else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
