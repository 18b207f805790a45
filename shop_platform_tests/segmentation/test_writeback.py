"""Writing segments back: only what changed, never over something newer, never a deleted document."""

from __future__ import annotations

import pytest

from shop_platform.errors import DataError
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.segmentation.publishing import Label
from shop_platform.segmentation.writeback import Labels, segment_counts, update_one, write_once, write_segments

from .conftest import LogSource, add_log, documents, load, search

NAMES = ("tech_enthusiast", "lifestyle_shopper", "fitness_focused", "bargain_hunter")


def labels(**users: str) -> Labels:
    of = {user: Label(segment, 0.5, "test") for user, segment in users.items()}
    return Labels(of, Label(NAMES[2], 0.0, "test"), {"rug": NAMES[1]})


def alias(elasticsearch: ElasticsearchResource) -> str:
    return f"{elasticsearch.index_prefix}user_logs"


def test_every_document_gets_its_searchers_segment_and_is_read_back(elasticsearch: ElasticsearchResource) -> None:
    load(elasticsearch, LogSource([search(user="a"), search(user="b"), search(user="a", query="rug")]))
    with elasticsearch.client() as client:
        passes = write_segments(client, alias(elasticsearch), lambda: labels(a=NAMES[0], b=NAMES[3]))
        counts = segment_counts(client, alias(elasticsearch))
    assert [done.updated for done in passes] == [3, 0]
    assert passes[-1].settled
    assert passes[-1].segments == counts == {NAMES[0]: 2, NAMES[3]: 1}
    document = next(d for d in documents(elasticsearch).values() if d["user_id"] == "b")
    assert document["segment"] == "bargain_hunter"
    assert document["segment_confidence"] == 0.5
    assert document["segment_model"] == "test"
    assert document["query_segment"] is None
    assert next(d for d in documents(elasticsearch).values() if d["search_query"] == "rug")["query_segment"] == NAMES[1]
    assert document["clicked_product_ids"] == ["p01", "p02"]


def test_only_documents_that_carry_something_else_are_written(elasticsearch: ElasticsearchResource) -> None:
    load(elasticsearch, LogSource([search(user="a"), search(user="b")]))
    with elasticsearch.client() as client:
        write_segments(client, alias(elasticsearch), lambda: labels(a=NAMES[0], b=NAMES[3]))
        again = write_segments(client, alias(elasticsearch), lambda: labels(a=NAMES[0], b=NAMES[3]))
        moved = write_segments(client, alias(elasticsearch), lambda: labels(a=NAMES[0], b=NAMES[1]))
    assert [done.updated for done in again] == [0]
    assert [done.updated for done in moved] == [1, 0]


@pytest.mark.fault
def test_what_somebody_changed_meanwhile_is_kept_and_counted(elasticsearch: ElasticsearchResource) -> None:
    load(elasticsearch, LogSource())
    key = next(iter(documents(elasticsearch)))

    with elasticsearch.client() as client:

        def read_while_a_newer_run_writes() -> Labels:
            client.update(index=alias(elasticsearch), id=key, doc={"segment": "fitness_focused"})
            return labels(abc123=NAMES[0])

        done = write_once(client, alias(elasticsearch), read_while_a_newer_run_writes)
    assert (done.conflicts, done.updated) == (1, 0)
    assert documents(elasticsearch)[key]["segment"] == "fitness_focused"


@pytest.mark.fault
def test_what_somebody_deleted_meanwhile_stays_deleted(elasticsearch: ElasticsearchResource) -> None:
    load(elasticsearch, LogSource())
    key = next(iter(documents(elasticsearch)))

    with elasticsearch.client() as client:

        def read_while_it_is_deleted() -> Labels:
            client.delete(index=alias(elasticsearch), id=key)
            return labels(abc123=NAMES[0])

        done = write_once(client, alias(elasticsearch), read_while_it_is_deleted)
    assert done.conflicts + done.gone == 1
    assert done.updated == 0
    assert documents(elasticsearch) == {}


def test_somebody_who_came_after_the_clustering_waits_for_the_next_refresh(
    elasticsearch: ElasticsearchResource,
) -> None:
    load(elasticsearch, LogSource())
    added = add_log(elasticsearch, user_id="new", search_query="rug")
    with elasticsearch.client() as client:
        passes = write_segments(client, alias(elasticsearch), lambda: labels(abc123=NAMES[0]))
    assert passes[-1].settled
    assert passes[-1].waiting == 1
    assert "segment" not in documents(elasticsearch)[added]


@pytest.mark.parametrize(
    "document", [{"user_id": "new", "search_query": "  "}, {"search_query": "rug"}, {"user_id": "new"}]
)
def test_a_search_that_says_nothing_or_that_nobody_made_goes_with_the_largest_segment(
    document: dict[str, str], elasticsearch: ElasticsearchResource
) -> None:
    load(elasticsearch, LogSource())
    added = add_log(elasticsearch, **document)
    with elasticsearch.client() as client:
        write_segments(client, alias(elasticsearch), lambda: labels(abc123=NAMES[1]))
    assert documents(elasticsearch)[added] == document | {
        "segment": NAMES[2],
        "query_segment": NAMES[1] if document.get("search_query") == "rug" else None,
        "segment_confidence": 0.0,
        "segment_model": "test",
    }


def test_a_search_that_says_nothing_by_a_known_searcher_gets_their_segment(
    elasticsearch: ElasticsearchResource,
) -> None:
    load(elasticsearch, LogSource([search(), search(query="  ")]))
    with elasticsearch.client() as client:
        passes = write_segments(client, alias(elasticsearch), lambda: labels(abc123=NAMES[3]))
    assert passes[-1].segments == {NAMES[3]: 2}


def test_no_index_is_made_where_the_alias_is_missing(elasticsearch: ElasticsearchResource) -> None:
    with elasticsearch.client() as client:
        with pytest.raises(DataError, match="materialise"):
            write_once(client, alias(elasticsearch), labels)
        with pytest.raises(DataError, match="has no alias"):
            update_one(client, alias(elasticsearch), "x", labels())
        assert not client.indices.exists(index=alias(elasticsearch))


@pytest.mark.fault
def test_an_alias_that_vanishes_meanwhile_is_an_error_and_no_gone_document(
    elasticsearch: ElasticsearchResource,
) -> None:
    load(elasticsearch, LogSource())
    with elasticsearch.client() as client:

        def read_while_the_alias_goes() -> Labels:
            client.indices.delete_alias(index=f"{alias(elasticsearch)}-*", name=alias(elasticsearch))
            return labels(abc123=NAMES[0])

        with pytest.raises(DataError, match="has no alias"):
            write_once(client, alias(elasticsearch), read_while_the_alias_goes)


def test_one_document_is_brought_up_to_date_by_a_single_update(elasticsearch: ElasticsearchResource) -> None:
    load(elasticsearch, LogSource())
    key = next(iter(documents(elasticsearch)))
    with elasticsearch.client() as client:
        outcomes = [
            update_one(client, alias(elasticsearch), which, given)
            for which, given in [
                (key, labels(other=NAMES[0])),
                (key, labels(abc123=NAMES[0])),
                (key, labels(abc123=NAMES[0])),
                ("no such document", labels(abc123=NAMES[0])),
            ]
        ]
    assert outcomes == ["waiting", "updated", "unchanged", "gone"]
    assert [document["segment"] for document in documents(elasticsearch).values()] == [NAMES[0]]
