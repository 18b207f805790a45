"""Rows that nobody should publish: each is in the quarantine with its reason, and what comes in is what goes out."""

from __future__ import annotations

from pathlib import Path

import pytest

from shop_platform.commerce.loading import load_or_refuse
from shop_platform.quarantine import keep_quarantine
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform.segmentation.logs import load_logs
from shop_platform.settings import Settings
from shop_platform.sources.load import load_shop

from ..segmentation.conftest import documents
from ..sources.test_files import EVENTS, SEARCHES, USERS, write_shop

#: Two good events, and one of each kind of bad ones.
BAD_EVENTS = [
    {**EVENTS[0], "who": "nobody"},
    {**EVENTS[0], "what": "p99"},
    {**EVENTS[0], "seen_at": "2099-01-01T00:00:00Z"},
    {**EVENTS[0], "seen_at": "soon"},
    {**EVENTS[0], "did": "returned"},
    {**EVENTS[0], "who": "abc\0123"},
    {**EVENTS[0], "who": "\ud800"},
    {**EVENTS[0], "who": None},
]
BAD_SEARCHES = [
    {**SEARCHES[0], "search_query": None},
    {**SEARCHES[0], "search_query": "rug\0", "user_id": "def"},
    {**SEARCHES[0], "search_query": "\udfff"},
    {**SEARCHES[0], "timestamp": "soon"},
    {**SEARCHES[0], "timestamp": "2099-01-01T00:00:00Z"},
    {**SEARCHES[0], "user_id": "nobody"},
    {**SEARCHES[0], "search_query": "rug " * 3_000_000},
]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a shop with bad rows in its files."""
    users = [
        *USERS,
        {"id": "abc123", "joined": "2025-02-01", "name": "Twice"},
        {"id": "x", "joined": "2099-01-01", "name": ""},
    ]
    config = write_shop(tmp_path, users=users, events=[*EVENTS, *BAD_EVENTS], searches=[*SEARCHES, *BAD_SEARCHES])
    return Settings(config=config, quarantine_at_most=1)


def test_what_breaks_the_contract_is_quarantined_with_its_reason_and_nothing_of_it_is_published(
    postgres: PostgresResource, settings: Settings
) -> None:
    loads = load_or_refuse(postgres, load_shop(settings))
    assert all(load.adds_up for load in loads.values())
    assert {table: load.rows_loaded for table, load in loads.items()} == {"users": 2, "products": 2, "events": 2}
    assert sum(loads["events"].quarantined.values()) == len(BAD_EVENTS)
    assert sum(loads["users"].quarantined.values()) == 2
    with postgres.connect() as connection:
        stored = dict(
            connection.execute(
                "SELECT table_name, count(*) FROM ops.quarantine WHERE reason <> '' GROUP BY 1"
            ).fetchall()
        )
        assert connection.execute("SELECT count(*), count(DISTINCT user_id) FROM events").fetchone() == (2, 1)
    assert stored == {"users": 2, "events": len(BAD_EVENTS)}


def test_searches_that_break_the_contract_are_no_documents_nor_is_one_of_twelve_megabytes(
    postgres: PostgresResource, elasticsearch: ElasticsearchResource, settings: Settings
) -> None:
    with elasticsearch.client() as client, postgres.connect() as connection:
        load = load_logs(
            client,
            elasticsearch.index_prefix,
            load_shop(settings),
            lambda rows: keep_quarantine(connection, "user_logs", rows),
        )
        stored = connection.execute("SELECT count(*) FROM ops.quarantine WHERE table_name = 'user_logs'").fetchone()
    assert load.adds_up
    assert load.rows_read == 1 + len(BAD_SEARCHES)
    assert load.rows_loaded == len(documents(elasticsearch)) == 1
    assert stored == (len(BAD_SEARCHES),)
