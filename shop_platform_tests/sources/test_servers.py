"""A shop in somebody's PostgreSQL and Elasticsearch: read by whoever may only read, and never written to."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from shop_platform.commerce.loading import load_shop_tables
from shop_platform.errors import SettingsError, ShopPlatformError, SourceError
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform.settings import Settings
from shop_platform.sources.base import Extract, Shop
from shop_platform.sources.load import load_shop

UTC = dt.UTC

TOML = """
[shop]
name = "old_shop"
title = "The old shop"
time_zone = "Europe/Berlin"
currency = "EUR"

[postgres.tables]
customers = 'sales."Customers"'
articles = "sales.articles"
clicks = "sales.clickstream"
{more}
[users]
from = "customers"
columns = {{ user_id = "number", signup_date = "registered", country = "land" }}
without_signup = "first event"

[products]
from = "articles"
columns = {{ product_id = "sku", name = "label", category = "shelf", price = "price" }}
defaults = {{ category = "other", price = "0" }}

[events]
from = "clicks"
leave_out = [{{ reason = "a robot's", where = "robot" }}]
columns = {{ user_id = "customer", product_id = "sku", event_type = "action", timestamp = '"at"' }}
[events.meaning]
page_view = "viewed"
basket = "add_to_cart"
order = "purchased"
login = ""
"""

THEIRS = """
CREATE SCHEMA sales;
CREATE TABLE sales."Customers" (number integer PRIMARY KEY, registered timestamp, land char(2), "e-mail" text);
CREATE TABLE sales.articles (sku text PRIMARY KEY, label text, shelf text, price numeric(10, 2));
CREATE TYPE sales.act AS ENUM ('page_view', 'basket', 'order', 'login', 'mystery');
CREATE TABLE sales.log (
    customer integer, sku text, action sales.act, at timestamp with time zone, robot boolean DEFAULT false
);
CREATE VIEW sales.clickstream AS SELECT * FROM sales.log WHERE at > '2020-01-01';
INSERT INTO sales."Customers" VALUES (1, '2025-03-01 00:30', 'DE', 'canary@example.com'), (2, NULL, 'AT', NULL);
INSERT INTO sales.articles VALUES ('a', 'Tea, "green"', NULL, 2.5), ('b', E'Cup\nand saucer', 'Kitchen', NULL);
INSERT INTO sales.log VALUES
    (1, 'a', 'page_view', '2025-03-02 10:00+00', false), (1, 'a', 'order', '2025-03-02 10:05+00', false),
    (2, 'b', 'basket', '2025-04-01 12:00+00', false), (2, 'b', 'login', '2025-03-01 12:00+00', false),
    (2, 'b', 'mystery', '2025-04-02 12:00+00', false), (1, 'b', 'page_view', '2025-04-02 12:00+00', true),
    (1, 'a', 'page_view', '2019-01-01', false);
"""


@pytest.fixture
def theirs(template_url: str) -> Iterator[tuple[str, str]]:
    """URLs of a database of somebody else's, for its owner and for a role that may only read."""
    name = f"theirs_{uuid.uuid4().hex}"
    role, password = f"reader_{uuid.uuid4().hex[:8]}", "hush"
    parts: dict[str, Any] = conninfo_to_dict(template_url)
    admin = make_conninfo(**(parts | {"dbname": "postgres"}))
    owner = make_conninfo(**(parts | {"dbname": name}))
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with psycopg.connect(owner) as connection:
        connection.execute(THEIRS)
        connection.execute(
            sql.SQL(
                "CREATE ROLE {0} LOGIN PASSWORD {1}; GRANT USAGE ON SCHEMA sales TO {0};"
                'GRANT SELECT ON sales."Customers", sales.articles, sales.clickstream TO {0}'
            ).format(sql.Identifier(role), sql.Literal(password))
        )
    yield owner, make_conninfo(**(parts | {"dbname": name, "user": role, "password": password}))
    with psycopg.connect(owner) as connection:
        connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


Make = Callable[..., Shop]


@pytest.fixture
def make(tmp_path: Path, theirs: tuple[str, str]) -> Make:
    """The shop by its mapping, read by the role that may only read."""

    def shop(more: str = "", toml: str = TOML, **settings: Any) -> Shop:
        config = tmp_path / "shop.toml"
        config.write_text(toml.format(more=more), encoding="utf-8")
        return load_shop(Settings(config=config, **({"source_database_url": theirs[1]} | settings)))

    return shop


def rows_of(extract: Extract) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pa.Table.from_batches(extract.batches).to_pylist()
    assert len(rows) + sum(extract.left_out.values()) + sum(extract.quarantined.values()) == extract.rows_read
    return rows


@pytest.mark.fault
def test_tables_and_views_are_read_by_a_role_that_may_only_read(make: Make) -> None:
    shop = make()
    users = {row["user_id"]: row for row in rows_of(shop.source.users())}
    # Half past midnight by the clock of Berlin; and the first event that means something.
    assert users["1"]["signup_date"] == dt.datetime(2025, 2, 28, 23, 30, tzinfo=UTC)
    assert users["2"]["signup_date"] == dt.datetime(2025, 4, 1, 12, tzinfo=UTC)
    assert [row["country"] for row in users.values()] == ["DE", "AT"]
    products = [(row["name"], row["category"], row["price"]) for row in rows_of(shop.source.products())]
    assert products == [('Tea, "green"', "other", Decimal("2.50")), ("Cup\nand saucer", "Kitchen", Decimal("0.00"))]
    extract = shop.source.events()
    assert [(row["user_id"], row["event_type"]) for row in rows_of(extract)] == [
        ("1", "viewed"), ("1", "purchased"), ("2", "add_to_cart"),
    ]  # fmt: skip
    assert extract.left_out == {"a robot's": 1, "login means nothing here": 1}
    assert extract.quarantined == {"unknown event_type": 1}
    assert shop.source.searches().rows_read == 0


def test_loading_adds_up_and_loading_again_loads_nothing_twice(
    make: Make, postgres: PostgresResource, theirs: tuple[str, str]
) -> None:
    with postgres.connect() as connection:
        loads = load_shop_tables(connection, make(quarantine_at_most=0.2))
    assert {table: load.adds_up for table, load in loads.items()} == dict.fromkeys(loads, True)
    with postgres.connect() as connection:
        again = load_shop_tables(connection, make(quarantine_at_most=0.2))
        assert not any(load.changed for load in again.values())
    with psycopg.connect(theirs[0]) as connection:
        connection.execute("INSERT INTO sales.log VALUES (2, 'a', 'order', '2025-05-01 12:00+00')")
    with postgres.connect() as connection:
        appended = load_shop_tables(connection, make(quarantine_at_most=0.2))
        difference = appended["events"].difference
        assert difference is not None
        assert (difference.added, difference.removed) == (1, 0)
        assert connection.execute("SELECT count(*), max(event_id) FROM events").fetchone() == (4, 4)


def test_the_state_moves_with_the_rows_and_reads_none(make: Make, theirs: tuple[str, str]) -> None:
    source = make().source
    with psycopg.connect(theirs[0], autocommit=True) as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        before, fingerprint = source.state(), source.fingerprint()
        assert make().source.state() == before
        assert make().source.fingerprint() == fingerprint
        # Below a view, in a table that the reader has no right on.
        connection.execute("UPDATE sales.log SET sku = 'b' WHERE customer = 1")
        connection.execute("SELECT pg_stat_force_next_flush()")
    assert make().source.state() != before
    assert make().source.fingerprint() != fingerprint


def test_all_kinds_are_of_one_moment(make: Make, theirs: tuple[str, str]) -> None:
    source = make().source
    assert len(rows_of(source.users())) == 2
    with psycopg.connect(theirs[0]) as connection:
        connection.execute("INSERT INTO sales.\"Customers\" VALUES (3, '2025-03-01')")
        connection.execute("INSERT INTO sales.log VALUES (3, 'a', 'order', '2025-05-01 12:00+00')")
    assert "unknown user" not in source.events().quarantined
    assert len(rows_of(make().source.users())) == 3


def unreachable(make: Make) -> Shop:
    return make(source_database_url="postgresql://reader:canary@127.0.0.1:1/x")


@pytest.mark.parametrize(
    ("read", "error", "told"),
    [
        (lambda make: make(toml=TOML.replace("sales.articles", "sales.article")), SourceError, "is it sales.articles"),
        (lambda make: make(toml=TOML.replace("sales.articles", "sales.log")), SourceError, "GRANT SELECT ON sales.log"),
        (lambda make: make(toml=TOML.replace("sales.articles", "; DROP")), SourceError, "no table or view ; DROP"),
        (lambda make: make(toml=TOML.replace('"shelf"', '"shelves"')), SourceError, "[products] of"),
        (unreachable, SourceError, "can't be reached, or turns the role away"),
        (lambda make: make(source_database_url="postgresql://reader:canary@[x"), ShopPlatformError, "SHOP_SOURCE_DATA"),
        (lambda make: make(source_database_url=None), SettingsError, "set SHOP_SOURCE_DATABASE_URL"),
    ],
)
@pytest.mark.fault
def test_what_can_not_be_read_is_named_without_a_secret(
    make: Make, read: Callable[[Make], Shop], error: type[Exception], told: str
) -> None:
    with pytest.raises(error) as raised:
        read(make).source.products()
    assert told in str(raised.value)
    assert "canary" not in str(raised.value)
    assert "hush" not in str(raised.value)


SEARCHES = """
[elasticsearch.indices]
finds = "{index}"

[searches]
from = "finds"
columns = { user_id = "who", search_query = "words", timestamp = '"at"', clicked_product_ids = "clicks" }
"""


def test_search_logs_come_from_an_index_of_somebody_elses(make: Make, elasticsearch: ElasticsearchResource) -> None:
    index = f"{elasticsearch.index_prefix}theirs"
    documents = [
        {"who": 1, "words": "green tea", "at": "2025-03-02T10:00:00Z", "clicks": ["a"]},
        {"who": 2, "words": "cup", "at": "2025-03-03T10:00:00Z"},
        {"who": 9, "words": "canary", "at": "2025-03-03T10:00:00Z"},
    ]
    with elasticsearch.client() as client:
        client.indices.create(index=index)
        for document in documents:
            client.index(index=index, document=document, refresh=True)
        url = str(client.transport.node_pool.get().base_url)

        def shop() -> Shop:
            return make(
                toml=TOML + SEARCHES.replace("{index}", index).replace("{ ", "{{ ").replace(" }", " }}"),
                source_elasticsearch_url=url,
            )

        extract = shop().source.searches()
        assert [(row["user_id"], row["search_query"], row["clicked_product_ids"]) for row in rows_of(extract)] == [
            ("1", "green tea", ["a"]), ("2", "cup", []),
        ]  # fmt: skip
        assert extract.quarantined == {"unknown user": 1}
        before = shop().source.state()
        assert shop().source.state() == before
        client.index(index=index, document=documents[0], refresh=True)
        assert shop().source.state() != before
        client.indices.delete(index=index)
        with pytest.raises(SourceError, match="has no index"):
            shop().source.searches()
