"""A cluster of three nodes that loses one by SIGKILL while documents are written: all are right, none lost or twice."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from elasticsearch import Elasticsearch, helpers

from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.snapshots import Hit, Snapshot
from shop_platform.segmentation.publishing import Label
from shop_platform.segmentation.writeback import FIELDS, Labels, segment_counts, write_segments
from shop_platform.sources.base import Extract
from shop_platform_tests.services.cluster import Cluster, three_nodes

from .conftest import LogSource, load, search

pytestmark = pytest.mark.cluster

#: Enough for several bulk requests, of which two are under way when the node is killed.
ROWS = [search(user=f"u{number % 7}", query=f"query {number}") for number in range(8_000)]

SEGMENTS = ("tech_enthusiast", "bargain_hunter")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="shop_platform_tests_") as folder, three_nodes(Path(folder)) as found:
        yield found


@pytest.fixture
def nodes(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> ElasticsearchResource:
    """The whole cluster as `ELASTICSEARCH_URL` names it, with three shards, each on two nodes."""
    cluster.mend()
    monkeypatch.setenv("ELASTICSEARCH_URL", cluster.url)
    monkeypatch.setenv("SHOP_ELASTICSEARCH_SHARDS", "3")
    return ElasticsearchResource(index_prefix="cluster_")


@pytest.fixture
def resting(nodes: ElasticsearchResource) -> Iterator[Elasticsearch]:
    """A client of the cluster, whose indexes are removed afterwards."""
    with nodes.client() as client:
        yield client
        client.indices.delete(index=",".join(client.indices.get(index="cluster_*")))


@pytest.mark.fault
@pytest.mark.exhaustive
def test_a_node_killed_during_a_load_loses_no_search_log(
    cluster: Cluster, nodes: ElasticsearchResource, resting: Elasticsearch
) -> None:
    killed: list[str] = []

    class Striking(LogSource):
        def searches(self) -> Extract:
            extract = super().searches()

            def batches() -> Iterator[pa.RecordBatch]:
                for batch in extract.batches:
                    yield batch.slice(0, 6_000)
                    killed.append(cluster.master())
                    cluster.kill(killed[0])
                    yield batch.slice(6_000)

            return Extract(batches(), extract.rows_read)

    done = load(nodes, Striking(ROWS))
    assert (done.documents, done.own) == (len(ROWS), len(ROWS))
    assert Counter(queries(resting)) == Counter(str(row["search_query"]) for row in ROWS)
    cluster.mend()
    assert Counter(queries(resting)) == Counter(str(row["search_query"]) for row in ROWS)


@pytest.mark.fault
def test_a_node_killed_during_the_write_back_leaves_every_document_with_its_segment(
    cluster: Cluster, nodes: ElasticsearchResource, resting: Elasticsearch
) -> None:
    alias = "cluster_user_logs"
    load(nodes, LogSource(ROWS))
    labels = Labels({f"u{n}": Label(SEGMENTS[n % 2], 0.5, "test") for n in range(7)}, Label(SEGMENTS[0], 0.0, "test"))
    killed: list[str] = []

    def strike_half_way(taken: Snapshot) -> Iterator[Hit]:
        for number, hit in enumerate(taken.hits(FIELDS)):
            if number == len(ROWS) // 2 and not killed:
                killed.append(cluster.reading())
                cluster.kill(killed[0])
            yield hit

    passes = write_segments(resting, alias, lambda: labels, strike_half_way)
    assert killed
    assert passes[0].lost
    assert passes[0].updated > 0
    assert passes[-1].settled
    assert passes[-1].documents == len(ROWS)
    expected = Counter(SEGMENTS[int(str(row["user_id"])[1:]) % 2] for row in ROWS)
    assert segment_counts(resting, alias) == expected
    found = list(helpers.scan(resting, index=alias, query={"version": True}))
    assert len({hit["_id"] for hit in found}) == len(found) == len(ROWS)
    assert all(hit["_source"]["segment"] == SEGMENTS[int(hit["_source"]["user_id"][1:]) % 2] for hit in found)
    # Loaded as version 1, given its segment as version 2, and written never again.
    assert {hit["_version"] for hit in found} == {2}


def queries(client: Elasticsearch) -> list[str]:
    return [hit["_source"]["search_query"] for hit in helpers.scan(client, index="cluster_user_logs")]
