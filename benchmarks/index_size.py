"""Bytes that a document takes in the two indexes: python -m benchmarks.index_size; 2 minutes, 1 GB of disk.

The search logs are those of a synthetic shop, loaded and given segments as the platform does it; the embeddings are
random vectors of 384 dimensions, as long as real ones and no better to compress. Merged into one segment, no replica.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import numpy as np
from elasticsearch import Elasticsearch

from benchmarks.harness import out
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.segmentation.embeddings import SEARCH, Text, ensure_index, index_of, publish_index, store
from shop_platform.segmentation.logs import ALIAS, load_logs
from shop_platform.segmentation.publishing import Label
from shop_platform.segmentation.writeback import Labels, write_segments
from shop_platform.services import elasticsearch
from shop_platform.settings import load_settings
from shop_platform.sources.base import Shop
from shop_platform.sources.parameters import ShopParameters
from shop_platform.sources.synthetic import SyntheticSource

_SEARCHES, _EMBEDDINGS = 100_000, 20_000

_SEGMENTS = ("tech_enthusiast", "lifestyle_shopper", "fitness_focused", "bargain_hunter")


def main() -> None:
    """Load, write, merge and print."""
    with tempfile.TemporaryDirectory(prefix="shop_platform_bench_") as folder:
        os.environ["SHOP_HOME"] = folder
        try:
            with ElasticsearchResource().client() as client:
                _measure(client)
        finally:
            elasticsearch.stop(load_settings())


def _measure(client: Elasticsearch) -> None:
    source = SyntheticSource(ShopParameters(seed=42, users=10_000, searches=_SEARCHES))
    load_logs(client, "", Shop("bench", "A shop", "UTC", "EUR", source))
    _tell(client, ALIAS, "search logs, as loaded")
    labels = {
        user: Label(_SEGMENTS[at % 4], 0.7, "all-MiniLM-L6-v2/0123456789ab") for at, user in enumerate(_users(source))
    }
    write_segments(client, ALIAS, lambda: Labels(labels, Label(_SEGMENTS[0], 0.0, "model")))
    _tell(client, ALIAS, "search logs, with segments")
    ensure_index(client, "", "model", lambda: 384)
    vectors = np.random.default_rng(1).standard_normal((_EMBEDDINGS, 384), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = [Text(SEARCH, f"wireless headphones number {number}") for number in range(_EMBEDDINGS)]
    store(client, "", "model", texts, vectors)
    publish_index(client, "", "model")
    _tell(client, index_of("", "model"), "embeddings")


def _users(source: SyntheticSource) -> Iterator[str]:
    seen = {user for batch in source.searches().batches for user in batch.column("user_id").to_pylist()}
    yield from sorted(seen)


def _tell(client: Elasticsearch, index: str, what: str) -> None:
    client.options(request_timeout=600).indices.forcemerge(index=index, max_num_segments=1)
    client.indices.refresh(index=index)
    total = client.indices.stats(index=index, metric=["docs", "store"])["_all"]["primaries"]
    size, count = total["store"]["size_in_bytes"], total["docs"]["count"]
    out.print(f"{what}: {count:,} documents, {size / count:,.0f} bytes each")


if __name__ == "__main__":
    main()
