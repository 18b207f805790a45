"""A source of a few rows, held in lists."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import pyarrow as pa

from shop_platform.sources.base import Extract, Part, Shop, Source, Truth

NOON = dt.datetime(2025, 4, 1, 12, 30, tzinfo=dt.UTC)

Row = dict[str, object]


def user(user_id: str = "abc123", **other: object) -> Row:
    """A user, of whom little is known."""
    return {"user_id": user_id, "signup_date": NOON, "name": "Ada", "email": "", "city": None, "country": "NL"} | other


def product(product_id: str = "p01", price: str = "59.90", **other: object) -> Row:
    """A product."""
    row = {"product_id": product_id, "name": "Headphones", "category": "Electronics", "price": Decimal(price)}
    return row | other


def event(user_id: str = "abc123", product_id: str = "p01", what: str = "viewed", minute: int = 0) -> Row:
    """An event, some minutes after noon."""
    time = NOON + dt.timedelta(minutes=minute)
    return {"user_id": user_id, "product_id": product_id, "event_type": what, "timestamp": time}


@dataclass
class ListSource(Source):
    """A source of a few rows, held in lists; `left_out` and `quarantined` are of its events."""

    user_rows: list[Row] = field(default_factory=lambda: [user()])
    product_rows: list[Row] = field(default_factory=lambda: [product()])
    event_rows: list[Row] = field(default_factory=lambda: [event()])
    left_out: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, list[Row]] = field(default_factory=dict)
    version: str = "1"
    parts: Mapping[str, Part] = field(default_factory=dict)

    def fingerprint(self) -> str:
        return self.version

    def manifest(self) -> Mapping[str, Part]:
        return self.parts

    def users(self) -> Extract:
        text = [(name, pa.string()) for name in ("user_id", "name", "email", "city", "country")]
        schema = pa.schema([("signup_date", pa.timestamp("us", "UTC")), *text])
        return Extract(iter([pa.RecordBatch.from_pylist(self.user_rows, schema=schema)]), len(self.user_rows))

    def products(self) -> Extract:
        text = [(name, pa.string()) for name in ("product_id", "name", "category")]
        schema = pa.schema([*text, ("price", pa.decimal128(12, 2))])
        return Extract(iter([pa.RecordBatch.from_pylist(self.product_rows, schema=schema)]), len(self.product_rows))

    def events(self) -> Extract:
        text = [(name, pa.string()) for name in ("user_id", "product_id", "event_type")]
        schema = pa.schema([("event_id", pa.int64()), ("timestamp", pa.timestamp("us", "UTC")), *text])
        rows = [row | {"event_id": place} for place, row in enumerate(self.event_rows, 1)]
        broken = [
            {"reason": reason, "origin": "events.csv, line 7", "row": json.dumps(row, default=str)}
            for reason, some in self.quarantined.items()
            for row in some
        ]
        texts = pa.schema([(name, pa.string()) for name in ("reason", "origin", "row")])
        return Extract(
            iter([pa.RecordBatch.from_pylist(rows, schema=schema)]),
            len(rows) + sum(self.left_out.values()) + len(broken),
            self.left_out,
            {reason: len(some) for reason, some in self.quarantined.items()},
            iter([pa.RecordBatch.from_pylist(broken, schema=texts)]),
        )

    def searches(self) -> Extract:
        raise NotImplementedError

    def truth(self) -> Truth | None:
        return None


def shop_of(source: Source, name: str = "shop", **other: float) -> Shop:
    """A shop with that source."""
    return Shop(name, "A shop", "UTC", "EUR", source, **other)  # type: ignore[arg-type]
