"""The graph with ENGINE=spark gives what it gives with ENGINE=postgres, also where a worker dies."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from shop_platform.commerce.assets import commerce
from shop_platform.performance.assets import activity_summaries
from shop_platform.performance.summaries import SUMMARIES
from shop_platform.resources.elasticsearch import ElasticsearchResource, snapshot
from shop_platform.resources.encoder import EncoderResource
from shop_platform.resources.engine import EngineResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.retention.assets import cohort_retention
from shop_platform.segmentation import assets as segmentation
from shop_platform_tests.engines.cluster import Cluster

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark

GRAPH = [
    commerce, activity_summaries, cohort_retention, segmentation.user_logs, segmentation.search_embeddings,
    segmentation.user_segments, segmentation.segmented_user_logs,
]  # fmt: skip

TABLES = (
    *SUMMARIES, "cohort_retention", "pooled_retention", "retention_users", "retention_days", "recorded_hours",
)  # fmt: skip

#: What a refresh starts from: without it everything is made anew.
FORGET = """
TRUNCATE analytics.weekly_activity, analytics.weekly_active_users, analytics.product_sales, analytics.category_revenue,
    analytics.category_totals, analytics.cohort_retention, analytics.pooled_retention, analytics.retention_users,
    analytics.retention_days, analytics.recorded_hours, analytics.user_segments, analytics.user_queries,
    analytics.query_segments, analytics.records, ops.summary_basis, ops.retention_basis, ops.consumed
"""


class RunningEngine(EngineResource):
    """The engine by the tests' session, which outlives a run."""

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002  Dagster's signature
        self._session = None


def run(
    postgres: PostgresResource, prefix: str, engine: EngineResource, *assets: dg.AssetsDefinition
) -> dg.ExecuteInProcessResult:
    resources = {
        "postgres": postgres, "elasticsearch": ElasticsearchResource(index_prefix=prefix),
        "encoder": EncoderResource(), "shop": ShopResource(), "engine": engine,
    }  # fmt: skip
    result = dg.materialize(GRAPH, resources=resources, selection=list(assets) or None)
    failed = [
        (each.asset_key, each.check_name)
        for each in result.get_asset_check_evaluations()
        if not each.passed and each.severity == dg.AssetCheckSeverity.ERROR and each.check_name != "segments_supported"
    ]
    assert failed == []
    return result


def tables(postgres: PostgresResource) -> dict[str, list[tuple[Any, ...]]]:
    with postgres.connect() as connection:
        return {
            name: sorted(connection.execute(f"SELECT * FROM analytics.{name}").fetchall(), key=repr)  # noqa: S608
            for name in TABLES
        }


def documents(elasticsearch: ElasticsearchResource, prefix: str) -> dict[str, tuple[object, object, float]]:
    with elasticsearch.client() as client, snapshot(client, f"{prefix}user_logs") as taken:
        return {
            hit.id: (
                hit.source["segment"], hit.source.get("query_segment"), round(hit.source["segment_confidence"], 4)
            )
            for hit in taken.hits(["segment", "query_segment", "segment_confidence"])
        }  # fmt: skip


def versions(elasticsearch: ElasticsearchResource, prefix: str) -> dict[str, int]:
    with elasticsearch.client() as client:
        client.indices.refresh(index=f"{prefix}user_logs")
        found = client.search(index=f"{prefix}user_logs", size=1_000, version=True, source=False)
    return {hit["_id"]: hit["_version"] for hit in found["hits"]["hits"]}


@pytest.fixture
def small_shop(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:  # noqa: ARG001  a home of its own
    for name, value in {"USERS": 60, "SEARCHES": 600, "EVENTS": 3_000}.items():
        monkeypatch.setenv(f"SHOP_{name}", str(value))


@pytest.mark.usefixtures("small_shop")
def test_both_engines_publish_the_same_and_a_worker_that_dies_in_the_write_back_changes_nothing(
    cluster: Cluster, spark: SparkSession, postgres: PostgresResource, elasticsearch: ElasticsearchResource,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    one, other = f"{elasticsearch.index_prefix}a_", f"{elasticsearch.index_prefix}b_"
    run(postgres, one, EngineResource())
    expected = tables(postgres)
    with postgres.connect() as connection:
        connection.execute(FORGET)
    monkeypatch.setenv("ENGINE", "spark")
    monkeypatch.setenv("SPARK_MASTER", cluster.url)
    monkeypatch.setenv("SHOP_LAKE", str(tmp_path / "lake"))
    engine = RunningEngine()
    *before, last = GRAPH
    run(postgres, other, engine, *before)
    assert tables(postgres) == expected
    victim, killed = cluster.workers[-1], list[int]()

    def kill_in_the_middle() -> None:
        tracker = spark.sparkContext.statusTracker()
        while not killed:
            for stage in tracker.getActiveStageIds():
                info = tracker.getStageInfo(stage)
                if info is not None and info.numTasks == 8 and 1 <= info.numCompletedTasks < 7:
                    killed.append(cluster.kill_worker(victim))
                    return
            time.sleep(0.002)

    watcher = threading.Thread(target=kill_in_the_middle)
    watcher.start()
    try:
        run(postgres, other, engine, last)
    finally:
        killed.append(0)
        watcher.join(30)
        cluster.add_worker()
    assert killed[0] >= 2, "no worker with an executor was killed in the middle"
    found = documents(elasticsearch, other)
    assert len(found) == 600
    assert found == documents(elasticsearch, one)
    # Version 1 by the load, 2 by the segment: nothing was written twice.
    assert set(versions(elasticsearch, other).values()) == {2}
