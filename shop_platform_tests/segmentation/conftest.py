"""The real encoder, loaded once, and a shop of a few search logs held in lists."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

import pyarrow as pa
import pytest

from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.encoder import EncoderResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform.segmentation.logs import LogLoad, load_logs
from shop_platform.sources.base import Extract, Shop, Source, Truth

NOON = dt.datetime(2025, 4, 1, 12, 30, tzinfo=dt.UTC)

SEARCHES = pa.schema(
    [
        ("user_id", pa.string()),
        ("search_query", pa.string()),
        ("clicked_product_ids", pa.list_(pa.string())),
        ("timestamp", pa.timestamp("us", "UTC")),
    ]
)


def search(
    user: str | None = "abc123", query: str | None = "wireless headphones", **other: object
) -> dict[str, object]:
    """A row of a search log, the example of the mission unless told otherwise."""
    return {"user_id": user, "search_query": query, "clicked_product_ids": ["p01", "p02"], "timestamp": NOON} | other


@dataclass
class LogSource(Source):
    """A source of search logs, and of the users and products that they refer to, held in lists."""

    rows: Sequence[Mapping[str, object]] = field(default_factory=lambda: [search()])
    version: str = "1"
    left_out: Mapping[str, int] = field(default_factory=dict)

    def fingerprint(self) -> str:
        return self.version

    def users(self) -> Extract:
        ids = sorted({str(row["user_id"]) for row in self.rows if row["user_id"]})
        text = {name: pa.nulls(len(ids), pa.string()) for name in ("name", "email", "city", "country")}
        signup = pa.array([NOON] * len(ids), pa.timestamp("us", "UTC"))
        batch = pa.RecordBatch.from_pydict({"user_id": pa.array(ids, pa.string()), "signup_date": signup, **text})
        return Extract(iter([batch]), len(ids))

    def products(self) -> Extract:
        rows = [
            {"product_id": f"p{number:02}", "name": "Thing", "category": "Things", "price": Decimal("5.00")}
            for number in range(1, 21)
        ]
        return Extract(iter([pa.RecordBatch.from_pylist(rows)]), len(rows))

    def events(self) -> Extract:
        names = ("event_id", "user_id", "product_id", "event_type", "timestamp")
        types = (pa.int64(), pa.string(), pa.string(), pa.string(), pa.timestamp("us", "UTC"))
        schema = pa.schema(list(zip(names, types, strict=True)))
        return Extract(iter([pa.RecordBatch.from_pylist([], schema=schema)]), 0)

    def searches(self) -> Extract:
        batch = pa.RecordBatch.from_pylist([dict(row) for row in self.rows], schema=SEARCHES)
        return Extract(iter([batch]), len(self.rows) + sum(self.left_out.values()), self.left_out)

    def truth(self) -> Truth | None:
        return None


def shop_of(source: LogSource, name: str = "shop") -> Shop:
    return Shop(name, "A shop", "UTC", "EUR", source)


def load(elasticsearch: ElasticsearchResource, source: LogSource) -> LogLoad:
    with elasticsearch.client() as client:
        return load_logs(client, elasticsearch.index_prefix, replace(shop_of(source), quarantine_at_most=1))


def add_log(elasticsearch: ElasticsearchResource, **document: object) -> str:
    """Add a document as curl would; returns its id."""
    with elasticsearch.client() as client:
        found = client.index(index=f"{elasticsearch.index_prefix}user_logs", document=document, refresh=True)
    return str(found["_id"])


def documents(elasticsearch: ElasticsearchResource) -> dict[str, dict[str, object]]:
    """All search logs by id."""
    with elasticsearch.client() as client:
        client.indices.refresh(index=f"{elasticsearch.index_prefix}user_logs")
        found = client.search(index=f"{elasticsearch.index_prefix}user_logs", size=1_000)
    return {hit["_id"]: hit["_source"] for hit in found["hits"]["hits"]}


def publish(postgres: PostgresResource, *rows: tuple[str, str, float]) -> None:
    """Put users with a segment and a confidence into the table of segments."""
    with postgres.connect() as connection:
        connection.execute("DELETE FROM analytics.user_segments")
        connection.cursor().executemany("INSERT INTO analytics.user_segments VALUES (%s, %s, %s, 1, 'test')", rows)


@pytest.fixture(scope="session")
def encoder() -> EncoderResource:
    """The real model; importing it takes most of the time of these tests."""
    return EncoderResource()
