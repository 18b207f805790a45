"""A load that is killed leaves the old rows, or the new ones, and nothing else; readers see nothing between."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from psycopg import sql

from shop_platform.commerce.loading import load_or_refuse
from shop_platform.resources.postgres import PostgresResource

from .children import child, load_and_wait
from .shops import leftovers, shop_of_events, tables

EVENTS = 3_000


def wait_until_alone(postgres: PostgresResource) -> list[str]:
    """What is left of others, once the server has noticed that they are gone, or after half a minute."""
    left: list[str] = []
    with postgres.connect(autocommit=True) as connection:
        for _ in range(300):
            left = leftovers(connection)
            if not left:
                break
            connection.execute("SELECT pg_sleep(0.1)")
    return left


@pytest.mark.parametrize("loaded", [False, True], ids=["first load", "changed source"])
def test_killed_after_copy_and_before_commit_the_old_rows_stay_and_the_rerun_succeeds(
    postgres: PostgresResource, loaded: bool
) -> None:
    if loaded:
        load_or_refuse(postgres, shop_of_events(EVENTS, "old"))
    before = tables(postgres)
    with child(load_and_wait, os.environ, EVENTS + 500, "new") as loading:
        assert loading.hear() == "copied"
        loading.kill()
    assert tables(postgres) == before
    assert wait_until_alone(postgres) == []
    load_or_refuse(postgres, shop_of_events(EVENTS + 500, "new"))
    after = tables(postgres)
    assert after["events"][0] == EVENTS + 500
    assert after["users"] != before["users"]


def test_the_same_source_twice_gives_equal_hashes(postgres: PostgresResource) -> None:
    load_or_refuse(postgres, shop_of_events(EVENTS, "new"))
    once = tables(postgres)
    load_or_refuse(postgres, shop_of_events(EVENTS, "new"))
    assert tables(postgres) == once


@contextmanager
def reader(url: str, query: str, seen: set[tuple[object, ...]], failed: list[psycopg.Error]) -> Iterator[None]:
    """Somebody who asks the same over and over, in a thread."""
    over = threading.Event()

    def read() -> None:
        try:
            with psycopg.connect(url, autocommit=True) as connection:
                while not over.is_set():
                    seen.update(connection.execute(query).fetchall())  # type: ignore[call-overload]
        except psycopg.Error as error:
            failed.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_four_readers_through_fifty_rebuilds_see_the_old_rows_or_the_new_ones(postgres: PostgresResource) -> None:
    few, many = 200, 500
    both = "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM users), (SELECT min(name) FROM users)"
    role = f"reader_of_{postgres.url().rpartition('test_')[2][:8]}"
    load_or_refuse(postgres, shop_of_events(few, "few"))
    with postgres.connect() as connection:
        connection.execute("CREATE VIEW busy AS SELECT user_id, count(*) AS events FROM events GROUP BY user_id")
        connection.execute(
            sql.SQL("CREATE ROLE {0} LOGIN; GRANT SELECT ON events, busy TO {0}").format(sql.Identifier(role))
        )
    seen: set[tuple[object, ...]] = set()
    failed: list[psycopg.Error] = []
    url = postgres.url()
    try:
        with ExitStack() as readers:
            for _ in range(4):
                readers.enter_context(reader(url, both, seen, failed))
            for _ in range(25):
                load_or_refuse(postgres, shop_of_events(many, "many"))
                load_or_refuse(postgres, shop_of_events(few, "few"))
        assert failed == []
        # Both at least once: somebody who never looked would see nothing wrong either.
        assert seen == {(few, few // 10 + 1, "name few"), (many, many // 10 + 1, "name many")}
        with psycopg.connect(url, user=role) as restricted:
            assert restricted.execute("SELECT sum(events) FROM busy").fetchone() == (few,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                restricted.execute("DELETE FROM events")
    finally:
        with postgres.connect() as connection:
            connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))
