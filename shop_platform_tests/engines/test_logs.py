"""The copy of the search logs for Spark: every document once, whole months, also after changes and deletions."""

from __future__ import annotations

from typing import Any

import pytest
from elasticsearch import Elasticsearch
from pyarrow import parquet

from shop_platform.engines.export import exclusive, prepare
from shop_platform.engines.lake import Lake, Manifest
from shop_platform.engines.logs import TABLE, bring_up_logs
from shop_platform.resources.elasticsearch import ElasticsearchResource, create_index
from shop_platform.resources.postgres import WRITER, PostgresResource
from shop_platform.resources.snapshots import snapshot
from shop_platform.segmentation.logs import ALIAS, MAPPINGS
from shop_platform.segmentation.marks import history
from shop_platform_tests.engines.test_export import damaged

DOCUMENTS: dict[str, dict[str, Any]] = {
    "a": {"user_id": "u1", "search_query": " Red  SHOES", "timestamp": "2025-01-31T23:59:59.999Z"},
    "b": {"user_id": "u2", "search_query": "red shoes", "timestamp": "2025-02-01", "clicked_product_ids": ["p1", "p2"]},
    "c": {"user_id": 7, "search_query": "", "timestamp": 1_740_000_000_000, "clicked_product_ids": "p3"},
    "d": {"search_query": "no time"},
}


def export(client: Elasticsearch, alias: str, postgres: PostgresResource, lake: Lake) -> Manifest:
    """Bring the copy up, as an asset does."""
    prepare(postgres, lake)
    with exclusive(postgres), postgres.connect(role=WRITER) as connection:
        at = history(client, alias)
        with snapshot(client, alias) as taken:
            return bring_up_logs(connection, client, lake, taken, at)


def rows(lake: Lake, manifest: Manifest) -> dict[str, tuple[Any, ...]]:
    """All rows of the copy by id, with their month."""
    return {
        row["id"]: (month, row["user_id"], row["query"], row["clicked_product_ids"], str(row["timestamp"]))
        for month, part in manifest.partitions[TABLE].items()
        for row in parquet.read_table(lake.path(part.file)).to_pylist()
    }


@pytest.mark.parametrize("shards", [1, 3])
def test_months_that_changed_are_written_again_and_no_document_is_there_twice_or_missing(
    postgres: PostgresResource, elasticsearch: ElasticsearchResource, lake: Lake, shards: int
) -> None:
    alias = f"{elasticsearch.index_prefix}{ALIAS}"
    with elasticsearch.client() as client:
        create_index(client, f"{alias}-1", alias, MAPPINGS, shards=shards)
        for key, document in DOCUMENTS.items():
            client.index(index=alias, id=key, document=document)
        first = export(client, alias, postgres, lake)
        expected = {
            "a": ("2025-01", "u1", "red shoes", [], "2025-01-31 23:59:59.999000+00:00"),
            "b": ("2025-02", "u2", "red shoes", ["p1", "p2"], "2025-02-01 00:00:00+00:00"),
            "c": ("2025-02", "7", "", ["p3"], "2025-02-19 21:20:00+00:00"),
            "d": ("none", "", "no time", [], "None"),
        }
        assert rows(lake, first) == expected
        assert damaged(lake, first) == []
        assert export(client, alias, postgres, lake).partitions == first.partitions, "nothing has changed"
        client.update(index=alias, id="a", doc={"search_query": "boots"})
        second = export(client, alias, postgres, lake)
        kept = {key for key, part in first.partitions[TABLE].items() if second.partitions[TABLE][key] == part}
        assert kept == {"2025-02", "none"}
        expected["a"] = ("2025-01", "u1", "boots", *expected["a"][3:])
        assert rows(lake, second) == expected
        client.update(index=alias, id="b", doc={"timestamp": "2025-01-02T00:00:00Z"})
        expected["b"] = ("2025-01", "u2", "red shoes", ["p1", "p2"], "2025-01-02 00:00:00+00:00")
        assert rows(lake, export(client, alias, postgres, lake)) == expected, "the month that it left has it no more"
        client.delete(index=alias, id="d")
        client.index(index=alias, id="e", document=DOCUMENTS["a"])
        del expected["d"]
        expected["e"] = ("2025-01", "u1", "red shoes", [], "2025-01-31 23:59:59.999000+00:00")
        assert rows(lake, export(client, alias, postgres, lake)) == expected
