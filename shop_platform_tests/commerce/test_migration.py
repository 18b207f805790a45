"""A database that an earlier version loaded: what came from the source is known after the migration."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg.conninfo import make_conninfo

from shop_platform import sqlfiles
from shop_platform.commerce.loading import load_shop_tables
from shop_platform.resources.migrating import migrate
from shop_platform.resources.postgres import PostgresResource
from shop_platform_tests.databases import clone_of

from .lists import ListSource, event, shop_of, user

_LOADED = """
INSERT INTO users (user_id, signup_date) VALUES ('abc123', '2025-01-01'), ('gone', '2025-01-01');
INSERT INTO products VALUES ('p01', 'Headphones', 'Electronics', 59.90);
INSERT INTO events (user_id, product_id, event_type, timestamp) VALUES
    ('abc123', 'p01', 'viewed', '2025-04-01 12:30Z'), ('gone', 'p01', 'viewed', '2025-04-01 12:30Z');
INSERT INTO ops.loads (table_name, shop, fingerprint, rows_read, rows_loaded, last_id) VALUES
    ('users', 'shop', 'old', 2, 2, NULL), ('products', 'shop', 'old', 1, 1, NULL), ('events', 'shop', 'old', 2, 2, 2);
INSERT INTO events (user_id, product_id, event_type, timestamp) VALUES ('abc123', 'p01', 'viewed', '2025-04-01 12:30Z');
"""


@pytest.fixture
def loaded_before(template_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresResource]:
    """A database at migration 005, with a shop and one event that somebody else added."""
    with clone_of(make_conninfo(template_url, dbname="template1")) as url:
        monkeypatch.setenv("DATABASE_URL", url)
        later = [file for file in sqlfiles.list_sql("schema") if file.name >= "006"]
        with PostgresResource().connect() as connection:
            migrate(connection, [file for file in sqlfiles.list_sql("schema") if file not in later])
        yield PostgresResource()


def test_rows_of_a_load_before_are_the_sources_and_others_are_kept(loaded_before: PostgresResource) -> None:
    with loaded_before.connect() as connection:
        connection.execute(_LOADED)
    loaded_before.migrate()
    with loaded_before.connect() as connection:
        load_shop_tables(connection, shop_of(ListSource([user()], event_rows=[event()], version="new")))
        assert connection.execute("SELECT event_id FROM events ORDER BY 1").fetchall() == [(1,), (3,)]
        assert connection.execute("SELECT user_id FROM users").fetchall() == [("abc123",)]


def test_users_of_whom_nobody_can_tell_whose_they_are_are_kept(loaded_before: PostgresResource) -> None:
    with loaded_before.connect() as connection:
        connection.execute(_LOADED)
        connection.execute("INSERT INTO users (user_id, signup_date) VALUES ('theirs', '2025-01-01')")
    loaded_before.migrate()
    with loaded_before.connect() as connection:
        load_shop_tables(connection, shop_of(ListSource([], event_rows=[], version="new")))
        assert connection.execute("SELECT event_id FROM events").fetchall() == [(3,)]
        names = connection.execute("SELECT user_id FROM users ORDER BY 1").fetchall()
        assert names == [("abc123",), ("gone",), ("theirs",)]
