"""Search logs older than they are kept go from the index, whoever wrote them, and do not come back."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.segmentation.keeping import REASON, first_kept, keeping_since, remove_older
from shop_platform.segmentation.logs import LogLoad, load_logs

from .conftest import NOON, LogSource, add_log, documents, search, shop_of

ROWS = [search(query=f"rug {day}", timestamp=NOON + dt.timedelta(days=day)) for day in range(10)]


def refresh(elasticsearch: ElasticsearchResource, first: dt.datetime | None) -> tuple[LogLoad, int]:
    """What the asset does."""
    shop = keeping_since(replace(shop_of(LogSource(ROWS)), quarantine_at_most=1), first)
    with elasticsearch.client() as client:
        return load_logs(client, elasticsearch.index_prefix, shop), remove_older(
            client, elasticsearch.index_prefix, first
        )


def kept(elasticsearch: ElasticsearchResource) -> set[str]:
    return {str(document["search_query"]) for document in documents(elasticsearch).values()}


@pytest.mark.fault
def test_older_ones_are_not_loaded_and_go_later_and_no_load_brings_them_back(
    elasticsearch: ElasticsearchResource,
) -> None:
    load, _ = refresh(elasticsearch, NOON + dt.timedelta(days=4))
    assert kept(elasticsearch) == {f"rug {day}" for day in range(4, 10)}
    assert (load.left_out, load.adds_up) == ({REASON: 4}, True)
    again, expired = refresh(elasticsearch, NOON + dt.timedelta(days=4))
    assert (again.changed, expired) == (False, 0)
    later, _ = refresh(elasticsearch, NOON + dt.timedelta(days=8))
    assert (later.removed, later.added, later.left_out) == (4, 0, {REASON: 8})
    assert kept(elasticsearch) == {"rug 8", "rug 9"}


@pytest.mark.fault
def test_those_that_others_added_go_as_well(elasticsearch: ElasticsearchResource) -> None:
    refresh(elasticsearch, None)
    for query, day in (("mine, old", 1), ("mine, new", 9)):
        moment = (NOON + dt.timedelta(days=day)).isoformat()
        add_log(elasticsearch, user_id="u", search_query=query, timestamp=moment)
    assert len(kept(elasticsearch)) == 12
    _, expired = refresh(elasticsearch, NOON + dt.timedelta(days=8))
    assert expired == 1
    assert kept(elasticsearch) == {"rug 8", "rug 9", "mine, new"}


def test_unset_all_are_kept(elasticsearch: ElasticsearchResource) -> None:
    assert first_kept(None, NOON) is None
    load, expired = refresh(elasticsearch, None)
    assert (load.rows_loaded, expired) == (10, 0)


def test_the_moment_moves_once_a_day() -> None:
    morning, night = NOON.replace(hour=0, minute=1), NOON.replace(hour=23)
    assert first_kept(2, morning) == first_kept(2, night) == dt.datetime(2025, 3, 30, tzinfo=dt.UTC)
