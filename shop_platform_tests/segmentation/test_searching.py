"""Searching for searches: the nearest that enough users share, and who they are."""

from __future__ import annotations

import pytest

from shop_platform.errors import DataError
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.encoder import EncoderResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform.segmentation.encoding import encode_missing
from shop_platform.segmentation.searching import Similar, similar_searches
from shop_platform.segmentation.segmenting import Room, refresh_segments
from shop_platform.segmentation.segments import load_segments

from .conftest import LogSource, load, search

SHARED = ("running shoes", "trail running shoes", "rug", "table lamp")


@pytest.fixture
def room(postgres: PostgresResource, elasticsearch: ElasticsearchResource, encoder: EncoderResource) -> None:
    """Six users who share four searches, one of whom also searches for something private."""
    rows = [search(user=f"u{number}", query=query) for number in range(6) for query in SHARED]
    load(elasticsearch, LogSource([*rows, search(user="u1", query="shoes for my bunion")]))
    segments = load_segments()
    with elasticsearch.client() as client, postgres.connect() as connection:
        encode_missing(client, elasticsearch.index_prefix, segments, encoder, lambda _: None)
        refresh_segments(Room(client, connection, elasticsearch.index_prefix, segments, encoder, 1, "run"))


def found(
    postgres: PostgresResource, elasticsearch: ElasticsearchResource, encoder: EncoderResource, text: str, **how: int
) -> list[Similar]:
    with elasticsearch.client() as client, postgres.connect() as connection:
        return similar_searches(client, connection, elasticsearch.index_prefix, encoder, text, **({"count": 2} | how))


@pytest.mark.usefixtures("room")
def test_the_nearest_searches_come_first_with_their_users_segments(
    postgres: PostgresResource, elasticsearch: ElasticsearchResource, encoder: EncoderResource
) -> None:
    exact, near = found(postgres, elasticsearch, encoder, " Running  SHOES")
    assert (exact.query, exact.users, near.query) == ("running shoes", 6, "trail running shoes")
    assert exact.cosine == pytest.approx(1, abs=1e-3)
    assert 0.5 < near.cosine < 0.99
    assert sum(exact.segments.values()) == 6
    assert exact.looks_like == "fitness_focused"


@pytest.mark.usefixtures("room")
def test_a_search_that_few_users_share_is_shown_only_on_demand_and_example_phrases_never(
    postgres: PostgresResource, elasticsearch: ElasticsearchResource, encoder: EncoderResource
) -> None:
    private = "shoes for my bunion"
    assert private not in [each.query for each in found(postgres, elasticsearch, encoder, private, count=9)]
    assert found(postgres, elasticsearch, encoder, private, least_users=1)[0].query == private
    everything = {each.query for each in found(postgres, elasticsearch, encoder, "shoes", count=50, least_users=1)}
    assert everything == {*SHARED, private}


def test_nothing_to_search_for_and_nothing_to_search_in_are_said(
    postgres: PostgresResource, elasticsearch: ElasticsearchResource, encoder: EncoderResource
) -> None:
    with pytest.raises(DataError, match="the text is empty"):
        found(postgres, elasticsearch, encoder, " \t")
    with pytest.raises(DataError, match="materialise search_embeddings first"):
        found(postgres, elasticsearch, encoder, "rug")
