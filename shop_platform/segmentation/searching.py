"""Searches that mean the same: the nearest queries, and the segments of those who search for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shop_platform.errors import DataError
from shop_platform.segmentation.embeddings import SEARCH, index_of
from shop_platform.segmentation.profiles import SHARED_BY
from shop_platform.segmentation.queries import normalise

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from shop_platform.resources.encoder import EncoderResource
    from shop_platform.resources.postgres import Connection

#: Candidates that are looked at for each query that is asked for: most are not shared by enough users.
_CANDIDATES, _MOST = 20, 1_000


@dataclass(frozen=True)
class Similar:
    """A query that is like the text.

    Attributes:
        query: normalised.
        cosine: of its embedding with the text's.
        users: how many search for it.
        segments: of these users, those of each segment.
        looks_like: segment of the query by itself.
    """

    query: str
    cosine: float
    users: int
    segments: Mapping[str, int]
    looks_like: str


def similar_searches(
    client: Elasticsearch,
    connection: Connection,
    prefix: str,
    encoder: EncoderResource,
    text: str,
    count: int,
    least_users: int = SHARED_BY,
) -> list[Similar]:
    """The queries nearest in meaning, by approximate kNN over distinct queries, the nearest first.

    Args:
        client: with the embeddings.
        connection: with the segments.
        prefix: of the names of indexes.
        encoder: by whose embeddings.
        text: what to search for.
        count: how many at most; fewer where fewer are shared.
        least_users: queries of fewer users are not shown: they may tell who somebody is.

    Raises:
        DataError: the text says nothing, or there are no embeddings by this encoder yet.
    """
    from elasticsearch import NotFoundError

    query = normalise(text)
    if not query:
        raise DataError("There is nothing to search for: the text is empty.")
    candidates = min(_CANDIDATES * count, _MOST)
    knn = {
        "field": "embedding",
        "query_vector": encoder.encode([query])[0].tolist(),
        "k": candidates,
        "num_candidates": max(candidates, 100),
        "filter": {"term": {"origin": SEARCH}},
    }
    index = index_of(prefix, encoder.model_name)
    try:
        hits = client.search(index=index, knn=knn, size=candidates, source={"includes": ["query"]})["hits"]["hits"]
    except NotFoundError:
        raise DataError(
            f"There are no embeddings by {encoder.model_name}: materialise search_embeddings first."
        ) from None
    users: dict[str, dict[str, int]] = {}
    looks: dict[str, str] = {}
    for key, looks_like, segment, number in connection.execute(
        "SELECT query_id, query_segments.segment, user_segments.segment, count(*) FROM analytics.query_segments"
        " JOIN analytics.user_queries USING (query_id) JOIN analytics.user_segments USING (user_id)"
        " WHERE query_id = ANY(%s) GROUP BY 1, 2, 3 ORDER BY 4 DESC, 3",
        [[hit["_id"] for hit in hits]],
    ):
        users.setdefault(key, {})[segment] = number
        looks[key] = looks_like
    found = [
        Similar(
            hit["_source"]["query"],
            # Elasticsearch scores a dot product as (1 + cosine) / 2.
            round(2 * hit["_score"] - 1, 4),
            sum(users[hit["_id"]].values()),
            users[hit["_id"]],
            looks[hit["_id"]],
        )
        for hit in hits
        if sum(users.get(hit["_id"], {}).values()) >= least_users
    ]
    return found[:count]
