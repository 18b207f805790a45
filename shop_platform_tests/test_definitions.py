"""All definitions hang together, are described for people, and cost little to load."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.metadata.metadata_set import TableMetadataSet

from shop_platform.definitions import build_defs
from shop_platform.demo import all_assets

ROOT = Path(__file__).parents[1]

GROUPS = {
    "commerce": {"users", "products", "events"},
    "performance": {
        "baseline_benchmark",
        "commerce_indexes",
        "indexed_benchmark",
        "index_effects",
        "index_advice",
        "activity_summaries",
    },
    "retention": {"cohort_retention", "retention_heatmap", "retention_curves", "retention_export", "segment_retention"},
    "segmentation": {"user_logs", "search_embeddings", "user_segments", "segmented_user_logs", "segment_profiles"},
    "report": {"shop_report"},
}

HEAVY = (
    "torch",
    "sentence_transformers",
    "transformers",
    "pandas",
    "seaborn",
    "matplotlib",
    "sklearn",
    "scipy",
    "numpy",
    "pyspark",
    "py4j",
)


def test_the_graph_is_that_of_the_design() -> None:
    graph = build_defs().resolve_asset_graph()
    found: dict[str, set[str]] = {}
    for key in graph.materializable_asset_keys:
        found.setdefault(graph.get(key).group_name or "", set()).add(key.to_user_string())
    assert found == GROUPS


def test_by_months_there_is_one_asset_more_and_no_job_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    without = {job.name: job.asset_layer.executable_asset_keys for job in build_defs().resolve_all_job_defs()}
    monkeypatch.setenv("SHOP_EVENTS_BY_MONTH", "2024-02")
    monkeypatch.setenv("SHOP_TIME_ZONE", "Europe/London")
    defs = build_defs()
    assert len(all_assets(defs)) == len(set.union(*GROUPS.values()))
    graph = defs.resolve_asset_graph()
    key = dg.AssetKey("events_by_month")
    assert graph.materializable_asset_keys == {dg.AssetKey(each) for each in set.union(*GROUPS.values())} | {key}
    node = graph.get(key)
    assert (node.group_name, node.owners, node.code_version) == ("commerce", ["team:data-platform"], "1")
    assert {parent.to_user_string() for parent in node.parent_keys} == {"users", "products"}
    assert not node.child_keys
    months = node.partitions_def
    assert isinstance(months, dg.MonthlyPartitionsDefinition)
    assert (months.get_first_partition_key(), months.timezone) == ("2024-02", "Europe/London")
    now = dt.datetime(2024, 4, 1, tzinfo=dt.UTC)
    assert months.get_partition_keys(now) == ["2024-02", "2024-03", "2024-04"]
    jobs = {job.name: job.asset_layer.executable_asset_keys for job in defs.resolve_all_job_defs()}
    for name in ("everything", "nightly", *GROUPS):
        assert jobs[name] == without[name]
    asked_by_sensors = [sensor.asset_selection for sensor in defs.sensors or [] if sensor.asset_selection]
    assert all(key not in selection.resolve(graph) for selection in asked_by_sensors)


@pytest.mark.parametrize("breakdown", ["", "country", "segment"])
def test_retention_waits_for_the_segments_only_where_it_is_by_them(
    breakdown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_RETENTION_BREAKDOWN", breakdown)
    defs = build_defs()
    before = {"users", "events"} | ({"user_segments"} if breakdown == "segment" else set())
    node = defs.resolve_asset_graph().get(dg.AssetKey("cohort_retention"))
    assert {key.to_user_string() for key in node.parent_keys} == before
    # What is run follows the same order.
    dependencies = defs.resolve_job_def("everything").dependencies
    inputs = next(inputs for node, inputs in dependencies.items() if node.name == "cohort_retention")
    assert set(inputs) == before


@pytest.mark.parametrize("asset", sorted(set.union(*GROUPS.values())))
def test_every_asset_is_described_owned_versioned_and_checked(asset: str) -> None:
    graph = build_defs().resolve_asset_graph()
    node = graph.get(dg.AssetKey(asset))
    assert node.description
    assert node.description.endswith(".")
    assert node.owners == ["team:data-platform"]
    assert node.kinds
    assert node.code_version
    checked = {key.asset_key.to_user_string() for key in graph.asset_check_keys}
    assert asset in checked


#: Assets whose columns come from outside.
LOADED = {"users", "products", "events", "user_logs"}


@pytest.mark.parametrize("breakdown", ["", "segment"])
def test_each_column_says_which_columns_upstream_it_is_made_from(
    breakdown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_RETENTION_BREAKDOWN", breakdown)
    graph = build_defs().resolve_asset_graph()
    columns, lineages = {}, {}
    for key in graph.materializable_asset_keys:
        tables = TableMetadataSet.extract(graph.get(key).metadata)
        if tables.column_schema:
            columns[key] = {column.name for column in tables.column_schema.columns}
        if tables.column_lineage:
            lineages[key] = tables.column_lineage.deps_by_column
    assert {key.to_user_string() for key in columns.keys() - lineages.keys()} == LOADED
    for key, lineage in lineages.items():
        assert lineage.keys() == columns[key]
        upstream = graph.upstream_key_iterator(key)
        above = {each for each in upstream if isinstance(each, dg.AssetKey)}
        for column, sources in lineage.items():
            for source in sources:
                assert source.asset_key in above, f"{key} {column}: {source.asset_key} is not upstream"
                assert source.column_name in columns[source.asset_key], f"{key} {column}: no column {source}"
    made_from_none = {
        (key.to_user_string(), column)
        for key, each in lineages.items()
        for column, sources in each.items()
        if not sources
    }
    groups = set() if breakdown else {("cohort_retention", "breakdown")}
    assert made_from_none == groups | {
        ("cohort_retention", "period"), ("search_embeddings", "origin"), ("search_embeddings", "model"),
    }  # fmt: skip


def test_loading_the_definitions_imports_nothing_heavy() -> None:
    program = f"import sys, shop_platform.definitions; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command",
    [
        ["dagster", "definitions", "validate", "-w", "workspace.yaml"],
        ["dg", "check", "defs"],
        ["dg", "list", "defs", "--json"],
    ],
)
def test_both_command_lines_of_dagster_load_the_project(command: list[str], tmp_path: Path) -> None:
    environment = os.environ | {"DAGSTER_HOME": str(tmp_path), "SHOP_HOME": str(tmp_path / "shop")}
    path = Path(sys.executable).with_name(command[0])
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    result = subprocess.run(
        [str(path), *command[1:]], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr[-2_000:]
    assert not (tmp_path / "shop").exists(), "looking at the definitions started something"
