"""The graph with ENGINE=spark gives what it gives with ENGINE=postgres, also where workers die."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from psycopg import sql

from shop_platform import automation
from shop_platform.definitions import build_defs
from shop_platform.demo import all_assets
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.encoder import EncoderResource
from shop_platform.resources.engine import EngineResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.resources.snapshots import snapshot
from shop_platform.runs import run_assets
from shop_platform_tests.databases import clone_of
from shop_platform_tests.engines.cluster import Cluster, end_session, killed_in_the_middle
from shop_platform_tests.small import SMALL

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark

PROJECT = Path(__file__).resolve().parents[2]
RETAIL = PROJECT / "examples" / "online_retail.toml"
DATA = PROJECT.parent / "shared" / "data"


class RunningEngine(EngineResource):
    """The engine by a session that outlives a run, so that a test can watch its jobs."""

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002  Dagster's signature
        self._session = None


class Shop:
    """A shop in the test's servers, which the environment describes."""

    def __init__(self, postgres: PostgresResource, prefix: str, engine: EngineResource) -> None:
        time_zone = ShopResource().shop().time_zone
        self.postgres = postgres.model_copy(update={"time_zone": time_zone})
        self.elasticsearch = ElasticsearchResource(index_prefix=prefix)
        self.defs = build_defs(
            {
                "postgres": self.postgres, "elasticsearch": self.elasticsearch, "encoder": EncoderResource(),
                "shop": ShopResource(), "engine": engine,
            }
        )  # fmt: skip

    def run(self, *assets: str) -> None:
        """Materialise assets, or all."""
        with dg.instance_for_test() as instance:
            outcome = run_assets(self.defs, instance, assets or None, lambda *_: None)
        assert outcome.failures == ()

    def tables(self) -> dict[str, list[str]]:
        """All rows of all tables of results, as text."""
        with self.postgres.connect() as connection:
            names = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'analytics' AND tablename <> 'records'"
            ).fetchall()
            return {table: sorted(str(row) for row in connection.execute(_all(table)).fetchall()) for (table,) in names}

    def documents(self) -> dict[str, dict[str, object]]:
        """All documents of the search logs, by id."""
        with (
            self.elasticsearch.client() as client,
            snapshot(client, f"{self.elasticsearch.index_prefix}user_logs") as taken,
        ):
            return {
                hit.id: dict(hit.source)
                for hit in taken.hits(["segment", "query_segment", "segment_confidence", "segment_model"])
            }

    def versions(self) -> set[int]:
        """How often documents were written."""
        index = f"{self.elasticsearch.index_prefix}user_logs"
        with self.elasticsearch.client() as client:
            client.indices.refresh(index=index)
            found = client.search(index=index, size=2_000, version=True, source=False)
        return {hit["_version"] for hit in found["hits"]["hits"]}

    def embeddings(self) -> set[tuple[str, str]]:
        """Texts that have an embedding, and their origins."""
        with self.elasticsearch.client() as client:
            alias = f"{self.elasticsearch.index_prefix}search_embeddings"
            with snapshot(client, alias) as taken:
                return {(hit.source["query"], hit.source["origin"]) for hit in taken.hits(["query", "origin"])}


def _all(table: str) -> sql.Composed:
    return sql.SQL("SELECT * FROM {}").format(sql.Identifier("analytics", table))


@pytest.fixture
def other_database(template_url: str) -> Iterator[str]:
    """URL of a second clean database."""
    with clone_of(template_url) as url:
        yield url


def by_spark(master: str, url: str, lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment describe the other database and the cluster."""
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("ENGINE", "spark")
    monkeypatch.setenv("SPARK_MASTER", master)
    monkeypatch.setenv("SHOP_LAKE", str(lake))


@contextmanager
def by_connect(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of a server of Spark Connect on the cluster's workers, which the other tests' session must leave first."""
    end_session()
    # Spark sets it and leaves it there, and later sessions of this process are no longer Connect's.
    monkeypatch.setenv("SPARK_CONNECT_MODE_ENABLED", "1")
    with cluster.connect_server() as url:
        yield url


@pytest.mark.usefixtures("home")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("environment", "connect"),
    [
        pytest.param(SMALL, False, id="small", marks=pytest.mark.exhaustive),
        pytest.param(SMALL, True, id="small by Spark Connect", marks=pytest.mark.exhaustive),
        pytest.param({}, False, id="default"),
        pytest.param(
            {"SHOP_CONFIG": str(RETAIL)},
            False,
            id="online_retail",
            marks=pytest.mark.skipif(
                not DATA.exists(), reason="../shared/data is not there: it is no part of the project"
            ),
        ),
    ],
)
def test_the_whole_graph_publishes_the_same_by_both_engines(
    cluster: Cluster, postgres: PostgresResource, other_database: str, elasticsearch: ElasticsearchResource,
    environment: dict[str, str], connect: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # What measures PostgreSQL knows of no engine: once will do, on the shop that is quick to measure.
    measures = environment is SMALL and not connect
    first = Shop(postgres, f"{elasticsearch.index_prefix}a_", EngineResource())
    first.run(*(asset for asset in all_assets(first.defs) if asset not in automation.LABORATORY))
    expected, documents, texts = first.tables(), first.documents(), first.embeddings()
    with by_connect(cluster, monkeypatch) if connect else nullcontext(cluster.url) as master:
        by_spark(master, other_database, tmp_path / "lake", monkeypatch)
        other = Shop(PostgresResource(), f"{elasticsearch.index_prefix}b_", EngineResource())
        other.run(*(asset for asset in all_assets(other.defs) if measures or asset not in automation.LABORATORY))
    found = other.tables()
    assert {table: rows for table, rows in found.items() if rows != expected[table]} == {}
    assert found.keys() == expected.keys()
    assert other.documents() == documents
    assert other.embeddings() == texts


@pytest.mark.exhaustive
@pytest.mark.usefixtures("home")
@pytest.mark.timeout(900)
def test_workers_that_die_while_texts_are_embedded_and_segments_written_change_nothing(
    cluster: Cluster, spark: SparkSession, postgres: PostgresResource, other_database: str,
    elasticsearch: ElasticsearchResource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    for name, value in SMALL.items():
        monkeypatch.setenv(name, value)
    part_three = ("search_embeddings", "user_segments", "segmented_user_logs")
    loaded = ("users", "products", "events", "user_logs")
    first = Shop(postgres, f"{elasticsearch.index_prefix}a_", EngineResource())
    first.run(*loaded, *part_three)
    by_spark(cluster.url, other_database, tmp_path / "lake", monkeypatch)
    other = Shop(PostgresResource(), f"{elasticsearch.index_prefix}b_", RunningEngine())
    other.run(*loaded)
    with killed_in_the_middle(cluster, spark, tasks=8):
        other.run("search_embeddings")
    assert other.embeddings() == first.embeddings()
    other.run("user_segments")
    with killed_in_the_middle(cluster, spark, tasks=8):
        other.run("segmented_user_logs")
    found = other.documents()
    assert len(found) == 900
    assert found == first.documents()
    # Version 1 by the load, 2 by the segment: nothing was written twice.
    assert other.versions() == {2}
