"""Loading a source: all three tables or none, once, and nothing of anybody else's is lost."""

from __future__ import annotations

from decimal import Decimal

import psycopg
import pytest

from shop_platform.commerce.loading import TABLES, load_or_refuse, load_shop_tables, rows_in_table
from shop_platform.errors import DataError
from shop_platform.quarantine import RefusedLoadError, rows_in_quarantine
from shop_platform.resources.postgres import Connection, PostgresResource
from shop_platform.sources.base import Part

from .lists import NOON, ListSource, event, shop_of, user


def test_a_source_is_loaded_with_text_empty_text_null_and_time_as_they_are(postgres: PostgresResource) -> None:
    name = 'Zoë, "Zo"\nQuist'
    with postgres.connect() as connection:
        load_shop_tables(connection, shop_of(ListSource([user(name=name)])))
    with postgres.connect() as connection:
        row = connection.execute("SELECT name, email, city, signup_date FROM users").fetchone()
        price = connection.execute("SELECT price FROM products").fetchone()
    assert row == (name, "", None, NOON)
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
    changed = ListSource([user("def456")], event_rows=[event("def456")], version="2")
    with postgres.connect() as connection:
        load_shop_tables(connection, shop_of(changed))
        assert connection.execute("SELECT user_id FROM users").fetchall() == [("def456",)]


def test_another_shop_is_refused(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        load_shop_tables(connection, shop_of(ListSource()))
    with postgres.connect() as connection, pytest.raises(DataError, match="holds the shop shop, not other"):
        load_shop_tables(connection, shop_of(ListSource(), "other"))


def test_an_event_of_nobody_leaves_the_database_as_it_was(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        load_shop_tables(connection, shop_of(ListSource()))
    broken = ListSource(event_rows=[event("nobody")], version="2")
    with pytest.raises(psycopg.errors.ForeignKeyViolation), postgres.connect() as connection:
        load_shop_tables(connection, shop_of(broken))
    with postgres.connect() as connection:
        assert [rows_in_table(connection, table) for table in TABLES] == [1, 1, 1]
        assert connection.execute("SELECT DISTINCT fingerprint FROM ops.loads").fetchall() == [("1",)]


BROKEN = {"unknown user": [event("nobody"), event("nobody")], "no usable timestamp": [{"timestamp": "soon"}]}


def test_rows_left_out_and_quarantined_are_stored_by_reason_and_add_up(postgres: PostgresResource) -> None:
    source = ListSource(left_out={"cancelled": 3}, quarantined=BROKEN)
    with postgres.connect() as connection:
        loads = load_shop_tables(connection, shop_of(source, quarantine_at_most=0.5))
        stored = connection.execute(
            "SELECT rows_read, rows_loaded, left_out, quarantined FROM ops.loads WHERE table_name = 'events'"
        ).fetchone()
    assert loads["events"].adds_up
    assert stored == (7, 1, {"cancelled": 3}, {"unknown user": 2, "no usable timestamp": 1})


def quarantined(connection: Connection, *, refused: bool = False) -> list[tuple[object, ...]]:
    return connection.execute(
        "SELECT table_name, reason, origin, row FROM ops.quarantine WHERE refused = %s ORDER BY quarantine_id",
        [refused],
    ).fetchall()


def test_quarantined_rows_are_kept_as_the_source_gives_them_and_go_with_the_next_load(
    postgres: PostgresResource,
) -> None:
    some: dict[str, list[dict[str, object]]] = {"unknown event_type": [{"what": "re␀turned", "amount": 5}]}
    with postgres.connect() as connection:
        load_shop_tables(connection, shop_of(ListSource(quarantined=some), quarantine_at_most=1))
        assert quarantined(connection) == [
            ("events", "unknown event_type", "events.csv, line 7", {"what": "re␀turned", "amount": 5})
        ]
    with postgres.connect() as connection:
        load_shop_tables(connection, shop_of(ListSource(version="2"), quarantine_at_most=1))
        assert quarantined(connection) == []


def test_a_load_over_the_threshold_changes_nothing_and_leaves_its_quarantine_to_be_looked_at(
    postgres: PostgresResource,
) -> None:
    load_or_refuse(postgres, shop_of(ListSource(quarantined={"kept": [{}]}), quarantine_at_most=0.5))
    worse = ListSource([user("def456")], event_rows=[event("def456")], quarantined=BROKEN, version="2")
    with pytest.raises(RefusedLoadError) as raised:
        load_or_refuse(postgres, shop_of(worse, quarantine_at_most=0.7))
    for told in (
        "3 of 4 rows for events (75.0%)", "70.0%", "unknown user (2); no usable timestamp (1)",
        "FROM ops.quarantine WHERE table_name = 'events' AND refused", "SHOP_QUARANTINE_AT_MOST",
    ):  # fmt: skip
        assert told in str(raised.value)
    assert "nobody" not in str(raised.value)
    with postgres.connect() as connection:
        assert connection.execute("SELECT user_id FROM users").fetchall() == [("abc123",)]
        assert rows_in_quarantine(connection, "events") == 1
        refused = [row[1] for row in quarantined(connection, refused=True)]
        assert refused == ["unknown user", "unknown user", "no usable timestamp"]
    # The source is as it was: what was refused is of no interest any more.
    load_or_refuse(postgres, shop_of(ListSource(), quarantine_at_most=0.5))
    with postgres.connect() as connection:
        assert quarantined(connection, refused=True) == []
        assert rows_in_quarantine(connection, "events") == 1
    load_or_refuse(postgres, shop_of(worse, quarantine_at_most=0.75))
    with postgres.connect() as connection:
        assert rows_in_quarantine(connection, "events") == 3


def test_a_first_load_over_the_threshold_leaves_the_tables_empty(postgres: PostgresResource) -> None:
    with pytest.raises(RefusedLoadError):
        load_or_refuse(postgres, shop_of(ListSource(quarantined=BROKEN)))
    with postgres.connect() as connection:
        assert [rows_in_table(connection, table) for table in TABLES] == [0, 0, 0]
        assert len(quarantined(connection, refused=True)) == 3


def test_what_is_new_changed_or_gone_in_a_source_is_told(postgres: PostgresResource) -> None:
    first = {"a.csv": Part(1, "x"), "b.csv": Part(2, "y")}
    second = {"b.csv": Part(2, "z"), "c.csv": Part(3, "x"), "d.csv": Part(1, "x")}
    loads = load_or_refuse(postgres, shop_of(ListSource(parts=first)))
    assert str(loads["users"].moved) == "2 files new, 0 changed, 0 gone"
    loads = load_or_refuse(postgres, shop_of(ListSource(parts=second, version="2")))
    assert str(loads["events"].moved) == "2 files new, 1 changed, 1 gone"
    assert load_or_refuse(postgres, shop_of(ListSource(parts=second, version="2")))["events"].moved is None
