"""What is known of one searcher: the segment, and the searches and purchases that tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shop_platform.errors import DataError
from shop_platform.segmentation.embeddings import index_of

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from shop_platform.resources.postgres import Connection


@dataclass(frozen=True)
class Searched:
    """One distinct query of somebody's: what it looks like by itself, and how probable that is."""

    query: str
    looks_like: str
    confidence: float


@dataclass(frozen=True)
class Person:
    """A searcher.

    Attributes:
        user: id.
        segment: the searcher's.
        confidence: its probability, given all that was searched for.
        provisional: whether it rests on fewer than three distinct queries.
        model: what gave the segment.
        documents: search logs.
        queries: distinct ones, the most telling first.
        bought: purchases by category, the most first.
    """

    user: str
    segment: str
    confidence: float
    provisional: bool
    model: str
    documents: int
    queries: tuple[Searched, ...]
    bought: Mapping[str, int]


def segment_of(client: Elasticsearch, connection: Connection, prefix: str, encoder_name: str, user: str) -> Person:
    """What is known of a searcher.

    Raises:
        DataError: nobody of this id was segmented, or the embeddings are gone.
    """
    row = connection.execute(
        "SELECT segment, confidence, provisional, model, documents FROM analytics.user_segments WHERE user_id = %s",
        [user],
    ).fetchone()
    if row is None:
        raise DataError(
            f"No searcher {user} was segmented: either the id is another, or this user has searched for nothing, or "
            "only since the last refresh of user_segments."
        )
    told: dict[str, tuple[str, float]] = {
        query_id: (segment, confidence)
        for query_id, segment, confidence in connection.execute(
            "SELECT query_id, segment, confidence FROM analytics.user_queries JOIN analytics.query_segments"
            " USING (query_id) WHERE user_id = %s ORDER BY confidence DESC, query_id",
            [user],
        )
    }
    bought = connection.execute(
        "SELECT category, count(*) FROM events JOIN products USING (product_id)"
        " WHERE user_id = %s AND event_type = 'purchased' GROUP BY category ORDER BY 2 DESC, 1",
        [user],
    ).fetchall()
    texts = _texts(client, index_of(prefix, encoder_name), list(told))
    queries = tuple(Searched(texts[each], *told[each]) for each in told if each in texts)
    segment, confidence, provisional, model, documents = row
    return Person(user, segment, confidence, provisional, model, documents, queries, dict(bought))


def _texts(client: Elasticsearch, index: str, ids: list[str]) -> dict[str, str]:
    """Words of queries by id."""
    from elasticsearch import NotFoundError

    if not ids:
        return {}
    try:
        found = client.mget(index=index, ids=ids, source_includes=["query"])["docs"]
    except NotFoundError:
        raise DataError(f"There is no index {index}: materialise search_embeddings first.") from None
    return {each["_id"]: each["_source"]["query"] for each in found if each.get("found")}
