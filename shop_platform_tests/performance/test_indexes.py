"""The live indexes: built while others work, invalid ones built again, strangers' left alone."""

from __future__ import annotations

import time
from threading import Thread

import psycopg
import pytest

from shop_platform.errors import DataError
from shop_platform.performance.indexes import LIVE, BuiltIndex, ensure_index, index_files, index_state
from shop_platform.resources.postgres import PostgresResource

FILES = {file.name: file for file in index_files()}
BY_PRODUCT = FILES["idx_events_product_type"]


def test_the_three_indexes_are_those_that_the_dashboard_was_promised() -> None:
    assert {(file.name, file.table, file.columns) for file in index_files()} == {
        ("idx_events_user_time", "events", "user_id, timestamp"),
        ("idx_events_product_type", "events", "product_id, event_type"),
        ("idx_products_category", "products", "category"),
    }


@pytest.mark.parametrize("name", list(FILES))
def test_a_missing_index_is_built(random_shop: PostgresResource, name: str) -> None:
    with random_shop.connect(autocommit=True) as connection:
        built = ensure_index(connection, FILES[name])
        state = index_state(connection, LIVE, name)
    assert state is not None
    assert state.valid
    assert built.build_seconds is not None
    assert built.size_bytes == state.size_bytes > 0
    assert state.definition.startswith(f"CREATE INDEX {name} ON {FILES[name].table} USING btree (")


def test_an_index_that_is_there_is_not_built_again(random_shop: PostgresResource) -> None:
    with random_shop.connect(autocommit=True) as connection:
        ensure_index(connection, BY_PRODUCT)
        node = connection.execute("SELECT pg_relation_filenode('idx_events_product_type')").fetchone()
        again = ensure_index(connection, BY_PRODUCT)
        assert connection.execute("SELECT pg_relation_filenode('idx_events_product_type')").fetchone() == node
    assert again.build_seconds is None
    assert again.valid


@pytest.mark.fault
def test_an_index_that_a_failed_build_left_invalid_is_built_again(random_shop: PostgresResource) -> None:
    with random_shop.connect(autocommit=True) as connection:
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(
                "CREATE UNIQUE INDEX CONCURRENTLY idx_events_product_type ON events (product_id, event_type)"
            )
        before = index_state(connection, LIVE, BY_PRODUCT.name)
        built = ensure_index(connection, BY_PRODUCT)
        after = index_state(connection, LIVE, BY_PRODUCT.name)
    assert before is not None
    assert not before.valid
    assert built.replaced_invalid
    assert built.valid
    assert after is not None
    assert after.valid
    assert "UNIQUE" not in after.definition


@pytest.mark.parametrize(
    "other",
    [
        "CREATE INDEX idx_events_product_type ON events (event_type, product_id)",
        "CREATE INDEX idx_events_product_type ON events (product_id, event_type) WHERE event_type = 'purchased'",
        "CREATE INDEX idx_events_product_type ON events (product_id, event_type) INCLUDE (user_id)",
        "CREATE INDEX idx_events_product_type ON users (name)",
    ],
)
def test_another_valid_index_of_that_name_is_refused_and_kept(random_shop: PostgresResource, other: str) -> None:
    with random_shop.connect(autocommit=True) as connection:
        connection.execute(other)
        before = index_state(connection, LIVE, BY_PRODUCT.name)
        with pytest.raises(DataError, match="exists, but as"):
            ensure_index(connection, BY_PRODUCT)
        assert index_state(connection, LIVE, BY_PRODUCT.name) == before


@pytest.mark.fault
def test_a_build_gives_up_when_others_hold_the_table_and_the_next_run_mends_what_it_left(
    random_shop: PostgresResource,
) -> None:
    with random_shop.connect() as writer:
        writer.execute("DELETE FROM events WHERE event_id = 1")
        with (
            random_shop.connect(autocommit=True) as connection,
            pytest.raises(DataError, match="other transactions held events through 2 attempts"),
        ):
            ensure_index(connection, BY_PRODUCT, lock_timeout="100ms", attempts=2)
    with random_shop.connect(autocommit=True) as connection:
        left = index_state(connection, LIVE, BY_PRODUCT.name)
        built = ensure_index(connection, BY_PRODUCT)
    assert left is None or not left.valid
    assert built.valid


def test_events_can_be_written_while_an_index_is_built(random_shop: PostgresResource) -> None:
    built: list[BuiltIndex] = []

    def build() -> None:
        with random_shop.connect(autocommit=True) as connection:
            built.append(ensure_index(connection, BY_PRODUCT, lock_timeout="60s"))

    waiting = (
        "SELECT count(*) FROM pg_stat_progress_create_index WHERE phase = 'waiting for old snapshots'"
        " AND datname = current_database()"
    )
    with random_shop.connect() as reader, random_shop.connect(autocommit=True) as writer:
        # A concurrent build waits for this snapshot near its end; a plain one would not.
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT count(*) FROM users")
        thread = Thread(target=build)
        thread.start()
        while writer.execute(waiting).fetchone() == (0,) and thread.is_alive():
            time.sleep(0.01)
        assert thread.is_alive()
        writer.execute("SET lock_timeout = '5s'")
        writer.execute("UPDATE events SET event_type = 'purchased' WHERE event_id = 1")
        reader.rollback()
        thread.join()
    assert built[0].valid


def test_a_table_of_the_same_name_in_ones_own_schema_is_not_mistaken_for_the_live_one(
    random_shop: PostgresResource,
) -> None:
    with random_shop.connect(autocommit=True) as connection:
        connection.execute("CREATE SCHEMA postgres")
        connection.execute("CREATE TABLE postgres.events (LIKE public.events)")
        ensure_index(connection, BY_PRODUCT)
        assert index_state(connection, LIVE, BY_PRODUCT.name) is not None
        assert index_state(connection, "postgres", BY_PRODUCT.name) is None
