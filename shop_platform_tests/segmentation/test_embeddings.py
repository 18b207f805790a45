"""The index of embeddings: exact, once each, and searchable."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from shop_platform.errors import DataError
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.segmentation.embeddings import (
    PROTOTYPE,
    SEARCH,
    Text,
    ensure_index,
    read_vectors,
    remove,
    store,
    stored_ids,
)
from shop_platform.segmentation.vectors import unit_rows

TEXTS = [Text(SEARCH, f"query {number}") for number in range(700)]


def random_vectors(count: int) -> NDArray[np.float32]:
    return unit_rows(np.random.default_rng(1).normal(size=(count, 384))).astype(np.float32)


def test_vectors_come_back_exactly_as_they_were_in_the_order_asked_for(elasticsearch: ElasticsearchResource) -> None:
    prefix, vectors = elasticsearch.index_prefix, random_vectors(len(TEXTS))
    with elasticsearch.client() as client:
        ensure_index(client, prefix, 384)
        store(client, prefix, "model", TEXTS, vectors)
        back = read_vectors(client, prefix, "model", TEXTS[::-1], 384)
    assert (back == vectors[::-1]).all()


def test_storing_again_changes_nothing_and_a_model_or_origin_makes_another_document(
    elasticsearch: ElasticsearchResource,
) -> None:
    prefix, vectors = elasticsearch.index_prefix, random_vectors(2)
    with elasticsearch.client() as client:
        ensure_index(client, prefix, 384)
        ensure_index(client, prefix, 384)
        store(client, prefix, "model", TEXTS[:2], vectors)
        store(client, prefix, "model", TEXTS[:2], vectors[::-1])
        store(client, prefix, "other", TEXTS[:2], vectors)
        store(client, prefix, "model", [Text(PROTOTYPE, "query 0")], vectors[:1])
        assert len(stored_ids(client, prefix)) == 5
        assert (read_vectors(client, prefix, "model", TEXTS[:2], 384) == vectors).all()


def test_removed_embeddings_are_gone_and_removing_twice_is_no_error(elasticsearch: ElasticsearchResource) -> None:
    prefix = elasticsearch.index_prefix
    with elasticsearch.client() as client:
        ensure_index(client, prefix, 384)
        store(client, prefix, "model", TEXTS[:3], random_vectors(3))
        for _ in range(2):
            remove(client, prefix, [TEXTS[0].id("model")])
        assert stored_ids(client, prefix) == {text.id("model") for text in TEXTS[1:3]}
        with pytest.raises(DataError, match="1 of 3 texts have no embedding"):
            read_vectors(client, prefix, "model", TEXTS[:3], 384)


def test_the_nearest_queries_are_found(elasticsearch: ElasticsearchResource) -> None:
    prefix, vectors = elasticsearch.index_prefix, random_vectors(50)
    with elasticsearch.client() as client:
        alias = ensure_index(client, prefix, 384)
        store(client, prefix, "model", TEXTS[:50], vectors)
        client.indices.refresh(index=alias)
        knn = {"field": "embedding", "query_vector": vectors[7].tolist(), "k": 1, "num_candidates": 50}
        hits = client.search(index=alias, knn=knn)["hits"]["hits"]
    assert [hit["_source"]["query"] for hit in hits] == ["query 7"]


def test_something_that_is_no_vector_is_refused(elasticsearch: ElasticsearchResource) -> None:
    with elasticsearch.client() as client:
        ensure_index(client, elasticsearch.index_prefix, 384)
        with pytest.raises(DataError, match="refused an embedding"):
            store(client, elasticsearch.index_prefix, "model", TEXTS[:1], np.zeros((1, 384), dtype=np.float32))


def test_reading_before_anything_was_made_says_what_to_do(elasticsearch: ElasticsearchResource) -> None:
    with elasticsearch.client() as client, pytest.raises(DataError, match="materialise"):
        read_vectors(client, elasticsearch.index_prefix, "model", TEXTS[:1], 384)
