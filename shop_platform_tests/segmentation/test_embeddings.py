"""The index of embeddings: exact, once each, and searchable."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from shop_platform.errors import DataError, SchemaError
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.segmentation import embeddings
from shop_platform.segmentation.embeddings import (
    PROTOTYPE,
    SEARCH,
    Text,
    ensure_index,
    index_of,
    present_ids,
    publish_index,
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
        ensure_index(client, prefix, "model", lambda: 384)
        store(client, prefix, "model", TEXTS, vectors)
        back = read_vectors(client, prefix, "model", TEXTS[::-1])
    assert (back == vectors[::-1]).all()


def test_storing_again_changes_nothing_and_another_origin_makes_another_document(
    elasticsearch: ElasticsearchResource,
) -> None:
    prefix, vectors = elasticsearch.index_prefix, random_vectors(2)
    with elasticsearch.client() as client:
        ensure_index(client, prefix, "model", lambda: 384)
        ensure_index(client, prefix, "model", lambda: 384)
        store(client, prefix, "model", TEXTS[:2], vectors)
        store(client, prefix, "model", TEXTS[:2], vectors[::-1])
        store(client, prefix, "model", [Text(PROTOTYPE, "query 0")], vectors[:1])
        assert len(stored_ids(client, prefix, "model")) == 3
        assert present_ids(client, prefix, "model", [TEXTS[1].id("model"), TEXTS[1].id("other")]) == {
            TEXTS[1].id("model")
        }
        assert (read_vectors(client, prefix, "model", TEXTS[:2]) == vectors).all()


def test_removed_embeddings_are_gone_and_removing_twice_is_no_error(elasticsearch: ElasticsearchResource) -> None:
    prefix = elasticsearch.index_prefix
    with elasticsearch.client() as client:
        ensure_index(client, prefix, "model", lambda: 384)
        store(client, prefix, "model", TEXTS[:3], random_vectors(3))
        for _ in range(2):
            remove(client, prefix, "model", [TEXTS[0].id("model")])
        assert stored_ids(client, prefix, "model") == {text.id("model") for text in TEXTS[1:3]}
        with pytest.raises(DataError, match="1 of 3 texts have no embedding"):
            read_vectors(client, prefix, "model", TEXTS[:3])


def test_the_nearest_queries_are_found(elasticsearch: ElasticsearchResource) -> None:
    prefix, vectors = elasticsearch.index_prefix, random_vectors(50)
    with elasticsearch.client() as client:
        ensure_index(client, prefix, "model", lambda: 384)
        store(client, prefix, "model", TEXTS[:50], vectors)
        assert publish_index(client, prefix, "model") == 50
        knn = {"field": "embedding", "query_vector": vectors[7].tolist(), "k": 1, "num_candidates": 50}
        hits = client.search(index=f"{prefix}search_embeddings", knn=knn)["hits"]["hits"]
    assert [hit["_source"]["query"] for hit in hits] == ["query 7"]


def test_something_that_is_no_vector_is_refused(elasticsearch: ElasticsearchResource) -> None:
    with elasticsearch.client() as client:
        ensure_index(client, elasticsearch.index_prefix, "model", lambda: 384)
        with pytest.raises(DataError, match="refused an embedding"):
            store(client, elasticsearch.index_prefix, "model", TEXTS[:1], np.zeros((1, 384), dtype=np.float32))


def test_reading_before_anything_was_made_says_what_to_do(elasticsearch: ElasticsearchResource) -> None:
    with elasticsearch.client() as client, pytest.raises(DataError, match="materialise"):
        read_vectors(client, elasticsearch.index_prefix, "model", TEXTS[:1])


def test_another_models_embeddings_replace_those_before_when_they_are_complete(
    elasticsearch: ElasticsearchResource,
) -> None:
    prefix = elasticsearch.index_prefix
    with elasticsearch.client() as client:
        assert ensure_index(client, prefix, "model", lambda: 384)
        store(client, prefix, "model", TEXTS[:2], random_vectors(2))
        publish_index(client, prefix, "model")
        assert not ensure_index(client, prefix, "model", lambda: 384)

        assert ensure_index(client, prefix, "abandoned", lambda: 7)
        assert ensure_index(client, prefix, "small", lambda: 3)
        store(client, prefix, "small", TEXTS[:1], np.eye(3, dtype=np.float32)[:1])
        seen_before = client.count(index=f"{prefix}search_embeddings")["count"]
        assert publish_index(client, prefix, "small") == 1
        assert (seen_before, client.count(index=f"{prefix}search_embeddings")["count"]) == (2, 1)
        assert read_vectors(client, prefix, "small", TEXTS[:1]).shape == (1, 3)
        indexes = set(client.indices.get(index=f"{prefix}search_embeddings*"))
        assert indexes == {index_of(prefix, "small")}


def test_many_vectors_are_quantised_for_search_and_read_back_exactly(
    elasticsearch: ElasticsearchResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shop_platform.segmentation.embeddings.QUANTISED_FROM", 50)
    prefix, vectors = elasticsearch.index_prefix, random_vectors(60)
    with elasticsearch.client() as client:
        ensure_index(client, prefix, "model", lambda: 384)
        store(client, prefix, "model", TEXTS[:60], vectors)
        for _ in range(2):
            publish_index(client, prefix, "model")
        mapping = client.indices.get_mapping(index=index_of(prefix, "model"))[index_of(prefix, "model")]
        assert mapping["mappings"]["properties"]["embedding"]["index_options"]["type"] == "int8_hnsw"
        assert (read_vectors(client, prefix, "model", TEXTS[:60]) == vectors).all()


def test_an_older_platform_leaves_the_index_of_a_newer_one_alone_and_a_newer_replaces_the_older(
    elasticsearch: ElasticsearchResource,
) -> None:
    prefix = elasticsearch.index_prefix
    with elasticsearch.client() as client:
        with pytest.MonkeyPatch.context() as newer:
            newer.setattr(embeddings, "MAPPING_VERSION", 3)
            newer.setattr(embeddings, "_META", {"shop_platform": {"mapping_version": 3}})
            ensure_index(client, prefix, "model", lambda: 384)
            publish_index(client, prefix, "model")
        before = client.indices.get(index=f"{prefix}*").body
        with pytest.raises(SchemaError, match="made by a newer shop_platform, with version 3"):
            ensure_index(client, prefix, "model", lambda: 384)
        assert client.indices.get(index=f"{prefix}*").body == before
        with pytest.MonkeyPatch.context() as newest:
            newest.setattr(embeddings, "MAPPING_VERSION", 4)
            assert ensure_index(client, prefix, "model", lambda: 384)
            publish_index(client, prefix, "model")
        after = client.indices.get(index=f"{prefix}*").body
        assert len(after) == 1
        assert after.keys() != before.keys()
