"""Loading a source: all three tables or none, once, and nothing of anybody else's is lost."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

import psycopg
import pyarrow as pa
import pytest

from shop_platform.commerce.loading import TABLES, load_shop_tables, rows_in_table
from shop_platform.errors import DataError
from shop_platform.resources.postgres import PostgresResource
from shop_platform.sources.base import Extract, Shop, Source, Truth

NOON = dt.datetime(2025, 4, 1, 12, 30, tzinfo=dt.UTC)


@dataclass
class ListSource(Source):
    """A source of a few rows, held in lists."""

    users_rows: list[dict[str, object]] = field(
        default_factory=lambda: [
            {
                "user_id": "abc123",
                "signup_date": NOON,
                "name": 'Zoë, "Zo"\nQuist',
                "email": "",
                "city": None,
                "country": "NL",
            }
        ]
    )
    event_rows: list[dict[str, object]] = field(
        default_factory=lambda: [
            {"event_id": 1, "user_id": "abc123", "product_id": "p01", "event_type": "viewed", "timestamp": NOON}
        ]
    )
    left_out: dict[str, int] = field(default_factory=dict)
    version: str = "1"

    def fingerprint(self) -> str:
        return self.version

    def _extract(self, rows: list[dict[str, object]], schema: pa.Schema, left_out: dict[str, int]) -> Extract:
        batches: Iterator[pa.RecordBatch] = iter([pa.RecordBatch.from_pylist(rows, schema=schema)])
        return Extract(batches, len(rows) + sum(left_out.values()), left_out)

    def users(self) -> Extract:
        text = ["user_id", "name", "email", "city", "country"]
        schema = pa.schema([("signup_date", pa.timestamp("us", "UTC")), *((name, pa.string()) for name in text)])
        return self._extract(self.users_rows, schema, {})

    def products(self) -> Extract:
        schema = pa.schema(
            [
                ("product_id", pa.string()),
                ("name", pa.string()),
                ("category", pa.string()),
                ("price", pa.decimal128(12, 2)),
            ]
        )
        rows: list[dict[str, object]] = [
            {"product_id": "p01", "name": "Headphones", "category": "Electronics", "price": Decimal("59.90")}
        ]
        return self._extract(rows, schema, {})

    def events(self) -> Extract:
        text = ["user_id", "product_id", "event_type"]
        schema = pa.schema(
            [
                ("event_id", pa.int64()),
                ("timestamp", pa.timestamp("us", "UTC")),
                *((name, pa.string()) for name in text),
            ]
        )
        return self._extract(self.event_rows, schema, self.left_out)

    def searches(self) -> Extract:
        raise NotImplementedError

    def truth(self) -> Truth | None:
        return None


def shop_of(source: ListSource, name: str = "shop") -> Shop:
    return Shop(name, "A shop", "UTC", "EUR", source)


def test_a_source_is_loaded_with_text_empty_text_null_and_time_as_they_are(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        load_shop_tables(connection, shop_of(ListSource()))
    with postgres.connect() as connection:
        row = connection.execute("SELECT name, email, city, signup_date FROM users").fetchone()
        price = connection.execute("SELECT price FROM products").fetchone()
    assert row == ('Zoë, "Zo"\nQuist', "", None, NOON)
    assert price == (Decimal("59.90"),)


def test_loading_the_same_source_twice_keeps_what_was_added_since(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        first = load_shop_tables(connection, shop_of(ListSource()))
        connection.execute(
            "INSERT INTO events (user_id, product_id, event_type, timestamp)"
            " VALUES ('abc123', 'p01', 'purchased', now())"
        )
    with postgres.connect() as connection:
        second = load_shop_tables(connection, shop_of(ListSource()))
        ids = [row[0] for row in connection.execute("SELECT event_id FROM events ORDER BY 1")]
    assert first["events"].changed
    assert not second["events"].changed
    assert ids == [1, 2]


def test_a_changed_source_replaces_the_rows_of_the_one_before(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        load_shop_tables(connection, shop_of(ListSource()))
    changed = ListSource(version="2")
    changed.users_rows = [changed.users_rows[0] | {"user_id": "def456"}]
    changed.event_rows = [changed.event_rows[0] | {"user_id": "def456"}]
    with postgres.connect() as connection:
        load_shop_tables(connection, shop_of(changed))
        assert connection.execute("SELECT user_id FROM users").fetchall() == [("def456",)]


def test_a_changed_source_is_refused_where_it_would_lose_rows_from_elsewhere(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        load_shop_tables(connection, shop_of(ListSource()))
        connection.execute("DELETE FROM events")
        connection.execute(
            "INSERT INTO events (user_id, product_id, event_type, timestamp) VALUES ('abc123', 'p01', 'viewed', now())"
        )
    with postgres.connect() as connection, pytest.raises(DataError, match="events holds 1 rows"):
        load_shop_tables(connection, shop_of(ListSource(version="2")))


def test_rows_that_were_there_before_are_not_overwritten(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        connection.execute("INSERT INTO users (user_id, signup_date) VALUES ('mine', now())")
    with postgres.connect() as connection, pytest.raises(DataError, match="users holds 1 rows"):
        load_shop_tables(connection, shop_of(ListSource()))


def test_another_shop_is_refused(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        load_shop_tables(connection, shop_of(ListSource()))
    with postgres.connect() as connection, pytest.raises(DataError, match="holds the shop shop, not other"):
        load_shop_tables(connection, shop_of(ListSource(), "other"))


def test_an_event_of_nobody_leaves_the_database_as_it_was(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        load_shop_tables(connection, shop_of(ListSource()))
    broken = ListSource(version="2")
    broken.event_rows = [broken.event_rows[0] | {"user_id": "nobody"}]
    with pytest.raises(psycopg.errors.ForeignKeyViolation), postgres.connect() as connection:
        load_shop_tables(connection, shop_of(broken))
    with postgres.connect() as connection:
        assert [rows_in_table(connection, table) for table in TABLES] == [1, 1, 1]
        assert connection.execute("SELECT DISTINCT fingerprint FROM ops.loads").fetchall() == [("1",)]


def test_rows_left_out_are_stored_by_reason_and_add_up(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        loads = load_shop_tables(connection, shop_of(ListSource(left_out={"cancelled": 3})))
        stored = connection.execute(
            "SELECT rows_read, rows_loaded, left_out FROM ops.loads WHERE table_name = 'events'"
        ).fetchone()
    assert loads["events"].adds_up
    assert stored == (4, 1, {"cancelled": 3})
