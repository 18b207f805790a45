"""A changed source goes in by difference: what stays is not touched, and nobody else's row is ever lost."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shop_platform.commerce.difference import Difference
from shop_platform.commerce.loading import Load, load_shop_tables
from shop_platform.errors import DataError
from shop_platform.resources.postgres import PostgresResource

from .lists import ListSource, event, product, shop_of, user


def load(postgres: PostgresResource, source: ListSource) -> dict[str, Load]:
    with postgres.connect() as connection:
        return load_shop_tables(connection, shop_of(source, quarantine_at_most=1))


def run(postgres: PostgresResource, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with postgres.connect() as connection:
        done = connection.execute(statement, values or None)  # type: ignore[call-overload]
        return done.fetchall() if done.description else []


def add_event(postgres: PostgresResource, **changes: Any) -> int:
    """An event that somebody else adds; returns its id."""
    insert = "INSERT INTO events (user_id, product_id, event_type, timestamp) VALUES (%s, %s, %s, %s)"
    found = run(postgres, f"{insert} RETURNING event_id", *event(**changes).values())
    return int(found[0][0])


def ids(postgres: PostgresResource) -> list[int]:
    return [row[0] for row in run(postgres, "SELECT event_id FROM events ORDER BY 1")]


def test_events_that_stay_keep_their_ids_and_new_ones_follow(postgres: PostgresResource) -> None:
    load(postgres, ListSource(event_rows=[event(minute=1), event(minute=2), event(minute=3)]))
    theirs = add_event(postgres, minute=2)
    loads = load(postgres, ListSource(event_rows=[event(minute=0), event(minute=2), event(minute=3)], version="2"))
    assert loads["events"].difference == Difference(added=1, updated=0, removed=1, kept=0)
    assert theirs == 4
    assert ids(postgres) == [2, 3, 4, 5]
    assert loads["events"].last_id == 5
    noted = run(postgres, "SELECT ids::text, last_id FROM ops.loads WHERE table_name = 'events'")
    assert noted == [("{[2,4),[5,6)}", 5)]


def test_of_equal_events_as_many_stay_as_the_source_gives(postgres: PostgresResource) -> None:
    load(postgres, ListSource(event_rows=[event()] * 3))
    theirs = add_event(postgres)
    load(postgres, ListSource(event_rows=[event()] * 2, version="2"))
    assert ids(postgres) == [1, 2, theirs]
    load(postgres, ListSource(event_rows=[event()] * 4, version="3"))
    assert ids(postgres) == [1, 2, theirs, 5, 6]
    load(postgres, ListSource(event_rows=[], version="4"))
    assert ids(postgres) == [theirs]


def test_only_real_changes_are_noted_for_the_summaries(postgres: PostgresResource) -> None:
    rows = [event(minute=minute) for minute in range(20)]
    load(postgres, ListSource(event_rows=rows))
    run(postgres, "DELETE FROM ops.event_log")
    load(postgres, ListSource(event_rows=[*rows[1:], event(what="purchased", minute=30)], version="2"))
    assert run(postgres, "SELECT sign, product_id FROM ops.event_log ORDER BY 1") == [(-1, None), (1, "p01")]


def test_the_summaries_are_built_anew_where_most_events_differ(postgres: PostgresResource) -> None:
    load(postgres, ListSource(event_rows=[event(minute=minute) for minute in range(20)]))
    run(postgres, "DELETE FROM ops.event_log")
    load(postgres, ListSource(event_rows=[event(minute=minute) for minute in range(15, 35)], version="2"))
    assert run(postgres, "SELECT sign FROM ops.event_log") == [(0,)]
    run(postgres, "DELETE FROM ops.event_log")
    add_event(postgres)
    assert run(postgres, "SELECT sign FROM ops.event_log") == [(1,)]


def test_changed_users_and_products_are_updated_and_the_others_not_touched(postgres: PostgresResource) -> None:
    load(postgres, ListSource([user("a"), user("b")], [product("p01"), product("p02", "5.00")], []))
    before = dict(run(postgres, "SELECT user_id, xmin::text FROM users"))
    changed = [product("p01"), product("p02", "6.00")]
    loads = load(postgres, ListSource([user("a", city="Delft"), user("b")], changed, [], version="2"))
    after = dict(run(postgres, "SELECT user_id, xmin::text FROM users"))
    assert run(postgres, "SELECT city FROM users WHERE user_id = 'a'") == [("Delft",)]
    assert (before["a"] == after["a"], before["b"] == after["b"]) == (False, True)
    assert loads["products"].difference == Difference(added=0, updated=1, removed=0, kept=0)
    assert run(postgres, "SELECT DISTINCT product_id FROM ops.product_log") == [("p02",)]


def test_rows_of_others_stay_whether_they_came_before_or_after_a_load(postgres: PostgresResource) -> None:
    run(postgres, "INSERT INTO users (user_id, signup_date) VALUES ('early', now())")
    assert load(postgres, ListSource())["users"].adds_up
    run(postgres, "INSERT INTO users (user_id, signup_date) VALUES ('late', now())")
    load(postgres, ListSource([], [], [], version="2"))
    assert run(postgres, "SELECT user_id FROM users ORDER BY 1") == [("early",), ("late",)]
    assert run(postgres, "SELECT count(*) FROM products") == [(0,)]


def test_a_user_who_is_gone_stays_while_somebody_elses_event_needs_them(postgres: PostgresResource) -> None:
    load(postgres, ListSource([user("a"), user("b")], event_rows=[event("a"), event("b")]))
    theirs = add_event(postgres, user_id="b")
    without = ListSource([user("a")], event_rows=[event("a")], version="2")
    loads = load(postgres, without)
    assert loads["users"].difference == Difference(added=0, updated=0, removed=0, kept=1)
    assert (loads["users"].kept, loads["users"].rows_loaded) == (1, 1)
    assert ids(postgres) == [1, theirs]
    run(postgres, "DELETE FROM events WHERE event_id = %s", theirs)
    without.version = "3"
    assert load(postgres, without)["users"].difference == Difference(added=0, updated=0, removed=1, kept=0)
    assert run(postgres, "SELECT user_id FROM users") == [("a",)]


def test_an_event_that_somebody_is_adding_during_a_load_is_waited_for(postgres: PostgresResource) -> None:
    load(postgres, ListSource([user("a"), user("b")], event_rows=[]))
    with postgres.connect() as writer, postgres.connect() as connection, ThreadPoolExecutor(1) as pool:
        writer.execute(
            "INSERT INTO events (user_id, product_id, event_type, timestamp) VALUES ('b', 'p01', 'viewed', now())"
        )
        loading = pool.submit(
            load_shop_tables, connection, shop_of(ListSource([user("a")], event_rows=[], version="2"))
        )
        waiting = "SELECT 1 FROM pg_locks WHERE pid = %s AND NOT granted"
        while not writer.execute(waiting, [connection.info.backend_pid]).fetchone():
            assert not loading.done()
            time.sleep(0.01)
        writer.commit()
        assert loading.result()["users"].kept == 1
    assert run(postgres, "SELECT user_id FROM users ORDER BY 1") == [("a",), ("b",)]


def test_a_row_stays_that_another_table_refers_to(postgres: PostgresResource) -> None:
    load(postgres, ListSource([user("a"), user("b")], event_rows=[event("a"), event("a", minute=1)]))
    run(postgres, 'CREATE TABLE "my %n" (what bigint REFERENCES events ON DELETE CASCADE, who text REFERENCES users)')
    run(postgres, """INSERT INTO "my %n" VALUES (2, 'b')""")
    loads = load(postgres, ListSource([], [], [], version="2"))
    assert {table: loads[table].kept for table in loads} == {"users": 2, "products": 1, "events": 1}
    assert run(postgres, 'SELECT * FROM "my %n"') == [(2, "b")]


def test_a_row_that_somebody_removed_or_changed_is_put_back_while_the_source_gives_it(
    postgres: PostgresResource,
) -> None:
    load(postgres, ListSource([user("a"), user("b")], event_rows=[event("a"), event("b")]))
    run(postgres, "DELETE FROM events")
    run(postgres, "UPDATE users SET name = 'Eve' WHERE user_id = 'a'")
    run(postgres, "DELETE FROM users WHERE user_id = 'b'")
    load(postgres, ListSource([user("a"), user("b")], event_rows=[event("a"), event("b")], version="2"))
    assert run(postgres, "SELECT user_id, name FROM users ORDER BY 1") == [("a", "Ada"), ("b", "Ada")]
    assert ids(postgres) == [3, 4]


def test_a_key_that_somebody_else_has_taken_with_other_values_is_refused(postgres: PostgresResource) -> None:
    run(postgres, "INSERT INTO users (user_id, signup_date, name) VALUES ('abc123', now(), 'Mine')")
    with pytest.raises(DataError, match=r"gives 1 rows for users whose user_id somebody else has added"):
        load(postgres, ListSource())
    assert run(postgres, "SELECT name FROM users") == [("Mine",)]
    assert run(postgres, "SELECT count(*) FROM ops.loads") == [(0,)]


def test_an_equal_row_of_somebody_else_is_shared_and_stays_when_the_source_drops_it(
    postgres: PostgresResource,
) -> None:
    run(postgres, "INSERT INTO products VALUES ('p01', 'Headphones', 'Electronics', 59.9)")
    assert load(postgres, ListSource())["products"].rows_loaded == 1
    load(postgres, ListSource([], [], [], version="2"))
    assert run(postgres, "SELECT product_id FROM products") == [("p01",)]


def test_ids_that_somebody_gave_by_hand_are_not_given_again(postgres: PostgresResource) -> None:
    load(postgres, ListSource(event_rows=[event()]))
    run(postgres, "INSERT INTO events VALUES (2, 'abc123', 'p01', 'viewed', now())")
    load(postgres, ListSource(event_rows=[event(), event(minute=1)], version="2"))
    assert ids(postgres) == [1, 2, 3]


def test_users_that_nobody_can_tell_ours_or_theirs_are_kept(postgres: PostgresResource) -> None:
    """As the migration leaves a database in which somebody had added users before keys were noted."""
    load(postgres, ListSource(event_rows=[event(), event(minute=1)]))
    theirs = add_event(postgres)
    run(postgres, "DELETE FROM ops.loaded_keys WHERE table_name = 'users'")
    load(postgres, ListSource([], event_rows=[], version="2"))
    assert ids(postgres) == [theirs]
    assert run(postgres, "SELECT user_id FROM users") == [("abc123",)]
