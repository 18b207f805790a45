"""Loading search logs: every row once, complete or not at all, and nothing of anybody else's is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pyarrow as pa
import pytest

from shop_platform.errors import DataError, SchemaError
from shop_platform.quarantine import RefusedLoadError
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.segmentation import logs
from shop_platform.segmentation.freshness import LogState, log_state
from shop_platform.segmentation.logs import MAPPINGS, load_logs
from shop_platform.segmentation.rows import OWN, document_id
from shop_platform.sources.base import Extract

from .conftest import LogSource, add_log, documents, load, search, shop_of


def test_the_missions_example_is_stored_as_it_is(elasticsearch: ElasticsearchResource) -> None:
    load(elasticsearch, LogSource())
    assert list(documents(elasticsearch).values()) == [
        {
            "user_id": "abc123",
            "search_query": "wireless headphones",
            "clicked_product_ids": ["p01", "p02"],
            "timestamp": "2025-04-01T12:30:00Z",
        }
    ]


def test_rows_that_are_equal_are_documents_of_their_own(elasticsearch: ElasticsearchResource) -> None:
    done = load(elasticsearch, LogSource([search(), search(), search(user="def456")]))
    assert done.documents == 3
    assert len(documents(elasticsearch)) == 3


def test_an_id_follows_the_content() -> None:
    row = {"user_id": "u", "search_query": "q"}
    assert document_id(row, 0) == document_id(dict(reversed(row.items())), 0)
    assert len({document_id(row, 0), document_id(row, 1), document_id(row | {"search_query": "r"}, 0)}) == 3


@pytest.mark.fault
def test_loading_twice_changes_nothing_and_keeps_what_was_added(elasticsearch: ElasticsearchResource) -> None:
    first = load(elasticsearch, LogSource())
    added = add_log(elasticsearch, user_id="u", search_query="rug")
    before = documents(elasticsearch)
    second = load(elasticsearch, LogSource())
    assert first.changed
    assert not second.changed
    assert second.documents == 2
    assert documents(elasticsearch) == before
    assert added in before


def test_of_a_changed_source_what_is_new_comes_what_is_gone_goes_and_no_index_is_left_behind(
    elasticsearch: ElasticsearchResource,
) -> None:
    load(elasticsearch, LogSource())
    done = load(elasticsearch, LogSource([search(query="yoga mat")], version="2"))
    assert (done.added, done.removed, done.own, done.changed) == (1, 1, 1, True)
    with elasticsearch.client() as client:
        indexes = client.indices.get(index=f"{elasticsearch.index_prefix}*")
    assert [document["search_query"] for document in documents(elasticsearch).values()] == ["yoga mat"]
    assert len(indexes) == 1
    assert list(next(iter(indexes.values()))["aliases"]) == [f"{elasticsearch.index_prefix}user_logs"]


def test_documents_of_others_and_segments_of_those_that_stay_outlive_a_changed_source(
    elasticsearch: ElasticsearchResource,
) -> None:
    load(elasticsearch, LogSource([search(query="stays"), search(query="goes")]))
    with elasticsearch.client() as client:
        alias = f"{elasticsearch.index_prefix}user_logs"
        for key in documents(elasticsearch):
            client.update(index=alias, id=key, doc={"segment": "bargain_hunter"})
    added = add_log(elasticsearch, user_id="u", search_query="rug")
    load(elasticsearch, LogSource([search(query="comes"), search(query="stays"), search(query="stays")], version="2"))
    found = documents(elasticsearch)
    assert added in found
    assert sorted((str(each["search_query"]), each.get("segment", "")) for each in found.values()) == [
        ("comes", ""), ("rug", ""), ("stays", ""), ("stays", "bargain_hunter"),
    ]  # fmt: skip
    add_log(elasticsearch, user_id="u", search_query="the index still takes documents")


def test_a_new_mapping_is_refused_where_it_would_lose_documents_of_others(
    elasticsearch: ElasticsearchResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(elasticsearch, LogSource())
    add_log(elasticsearch, user_id="u", search_query="rug")
    monkeypatch.setattr(logs, "MAPPING_VERSION", 2)
    with pytest.raises(DataError, match="holds 1 search logs that were not loaded"):
        load(elasticsearch, LogSource(version="2"))
    add_log(elasticsearch, user_id="u", search_query="the index still takes documents")
    assert len(documents(elasticsearch)) == 3


def test_a_new_mapping_takes_over_the_alias_and_leaves_no_index_behind(
    elasticsearch: ElasticsearchResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(elasticsearch, LogSource())
    monkeypatch.setattr(logs, "MAPPING_VERSION", 2)
    load(elasticsearch, LogSource([search(query="yoga mat")], version="2"))
    with elasticsearch.client() as client:
        indexes = client.indices.get(index=f"{elasticsearch.index_prefix}*")
    assert [document["search_query"] for document in documents(elasticsearch).values()] == ["yoga mat"]
    assert [list(index["aliases"]) for index in indexes.values()] == [[f"{elasticsearch.index_prefix}user_logs"]]


@pytest.mark.fault
def test_readers_see_the_old_logs_or_the_new_ones(elasticsearch: ElasticsearchResource) -> None:
    alias = f"{elasticsearch.index_prefix}user_logs"
    old = [search(query=f"old {number}") for number in range(1_200)]
    new = [search(query=f"new {number}") for number in range(2_300)]
    seen: set[int] = set()
    load(elasticsearch, LogSource(old))
    loading = threading.Event()

    def read() -> None:
        with elasticsearch.client() as client:
            while not loading.is_set():
                seen.add(int(client.count(index=alias)["count"]))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        load(elasticsearch, LogSource(new, version="2"))
    finally:
        loading.set()
        reader.join()
    assert seen <= {1_200, 2_300}
    with elasticsearch.client() as client:
        assert "refresh_interval" not in client.indices.get(index=alias).body.popitem()[1]["settings"]["index"]


@pytest.mark.fault
def test_a_changed_source_that_breaks_off_leaves_the_logs_as_they_were(elasticsearch: ElasticsearchResource) -> None:
    class Breaking(LogSource):
        def searches(self) -> Extract:
            extract = super().searches()

            def batches() -> Iterator[pa.RecordBatch]:
                yield from extract.batches
                raise OSError("the disk is gone")

            return Extract(batches(), extract.rows_read)

    load(elasticsearch, LogSource())
    before = documents(elasticsearch)
    with pytest.raises(OSError, match="the disk is gone"):
        load(elasticsearch, Breaking([search(query=f"query {number}") for number in range(1_500)], version="2"))
    assert documents(elasticsearch) == before
    assert load(elasticsearch, LogSource([search(query="rug")], version="3")).own == 1


def test_too_many_rows_that_break_the_contract_leave_the_logs_as_they_were(
    elasticsearch: ElasticsearchResource,
) -> None:
    load(elasticsearch, LogSource())
    before = documents(elasticsearch)
    rows = [search(query=f"query {number}") for number in range(9)] + [search(user=None)]
    with (
        elasticsearch.client() as client,
        pytest.raises(RefusedLoadError, match="1 of 10 rows for user_logs") as caught,
    ):
        load_logs(client, elasticsearch.index_prefix, shop_of(LogSource(rows, version="2")))
    assert documents(elasticsearch) == before
    assert [row["reason"] for batch in caught.value.rows for row in batch.to_pylist()] == ["no user, query or time"]


@pytest.mark.fault
def test_a_load_that_died_half_way_is_gone_on_with(elasticsearch: ElasticsearchResource) -> None:
    class Dying(LogSource):
        def searches(self):  # type: ignore[no-untyped-def]  # noqa: ANN202  only for its failure
            extract = super().searches()

            def batches():  # type: ignore[no-untyped-def]  # noqa: ANN202
                yield from extract.batches
                raise KeyboardInterrupt

            return type(extract)(batches(), extract.rows_read)

    rows = [search(query=f"query {number}") for number in range(1_500)]
    with pytest.raises(KeyboardInterrupt):
        load(elasticsearch, Dying(rows))
    with elasticsearch.client() as client:
        assert not client.indices.exists_alias(name=f"{elasticsearch.index_prefix}user_logs")
        half = client.indices.get(index=f"{elasticsearch.index_prefix}user_logs-*")
    assert "refresh_interval" not in next(iter(half.values()))["settings"]["index"]
    done = load(elasticsearch, LogSource(rows))
    assert done.documents == done.rows_loaded == 1_500


def test_rows_without_user_query_or_time_are_quarantined_and_the_counts_add_up(
    elasticsearch: ElasticsearchResource,
) -> None:
    rows = [search(), search(user=None), search(query=None), search(timestamp=None), search(clicked_product_ids=None)]
    done = load(elasticsearch, LogSource(rows, left_out={"too old": 2}))
    assert done.rows_read == 7
    assert done.rows_loaded == done.documents == 2
    assert (done.left_out, done.quarantined) == ({"too old": 2}, {"no user, query or time": 3})
    assert done.adds_up


def test_a_row_that_elasticsearch_refuses_is_counted_with_its_reason(elasticsearch: ElasticsearchResource) -> None:
    rows = [search(query=f"query {number}") for number in range(200)] + [search(user="x" * 40_000)]
    done = load(elasticsearch, LogSource(rows))
    assert done.adds_up
    assert done.documents == 200
    assert done.quarantined == {"refused by Elasticsearch: document_parsing_exception": 1}


def test_nothing_is_published_when_elasticsearch_refuses_too_much(elasticsearch: ElasticsearchResource) -> None:
    with pytest.raises(DataError, match="refused 1 of 2 search logs") as caught:
        load(elasticsearch, LogSource([search(), search(user="x" * 40_000)]))
    assert "x" * 100 not in str(caught.value)
    with elasticsearch.client() as client:
        assert not client.indices.exists_alias(name=f"{elasticsearch.index_prefix}user_logs")


def test_a_very_long_query_is_kept(elasticsearch: ElasticsearchResource) -> None:
    load(elasticsearch, LogSource([search(query="word " * 20_000)]))
    assert len(documents(elasticsearch)) == 1


def test_an_index_of_that_name_is_not_touched(elasticsearch: ElasticsearchResource) -> None:
    with elasticsearch.client() as client:
        client.indices.create(index=f"{elasticsearch.index_prefix}user_logs")
    with pytest.raises(DataError, match="is an index of its own"):
        load(elasticsearch, LogSource())


def test_an_alias_of_somebody_else_is_not_touched(elasticsearch: ElasticsearchResource) -> None:
    alias = f"{elasticsearch.index_prefix}user_logs"
    with elasticsearch.client() as client:
        client.indices.create(index=f"{alias}-theirs", aliases={alias: {}})
    with pytest.raises(DataError, match="does not hold the search logs of the shop"):
        load(elasticsearch, LogSource())
    with elasticsearch.client() as client:
        assert client.indices.exists(index=f"{alias}-theirs")


def test_an_alias_of_two_indexes_is_refused(elasticsearch: ElasticsearchResource) -> None:
    alias = f"{elasticsearch.index_prefix}user_logs"
    with elasticsearch.client() as client:
        for name in ("one", "two"):
            client.indices.create(index=f"{alias}-{name}", aliases={alias: {}})
    with pytest.raises(DataError, match="has several indexes"):
        load(elasticsearch, LogSource())


def test_another_shops_logs_are_refused(elasticsearch: ElasticsearchResource) -> None:
    load(elasticsearch, LogSource())
    with elasticsearch.client() as client, pytest.raises(DataError, match="of the shop other"):
        load_logs(client, elasticsearch.index_prefix, shop_of(LogSource(), "other"))


def test_a_backup_that_somebody_made_beside_ours_stays(elasticsearch: ElasticsearchResource) -> None:
    with elasticsearch.client() as client:
        client.indices.create(index=f"{elasticsearch.index_prefix}user_logs-backup")
        load(elasticsearch, LogSource())
        load(elasticsearch, LogSource([search(query="rug")], version="2"))
        assert client.indices.exists(index=f"{elasticsearch.index_prefix}user_logs-backup")


def test_the_mapping_takes_no_field_that_it_does_not_know(elasticsearch: ElasticsearchResource) -> None:
    from elasticsearch import BadRequestError

    load(elasticsearch, LogSource())
    with pytest.raises(BadRequestError, match="strict_dynamic_mapping_exception"):
        add_log(elasticsearch, user_id="u", colour="red")
    assert set(MAPPINGS["properties"]) >= {"user_id", "search_query", "clicked_product_ids", "timestamp", "segment"}


def test_ids_of_the_source_and_of_others_can_be_told_apart(elasticsearch: ElasticsearchResource) -> None:
    load(elasticsearch, LogSource())
    added = add_log(elasticsearch, user_id="u", search_query="rug")
    assert [key for key in documents(elasticsearch) if not key.startswith(OWN)] == [added]


def test_the_state_counts_documents_and_those_with_a_segment(elasticsearch: ElasticsearchResource) -> None:
    with elasticsearch.client() as client:
        assert log_state(client, elasticsearch.index_prefix, "e", []) == LogState(0, 0)
        load(elasticsearch, LogSource())
        add_log(elasticsearch, user_id="u", search_query="rug", segment="bargain_hunter")
        state = log_state(client, elasticsearch.index_prefix, "e", [])
    assert (state.total, state.segmented) == (2, 1)
    assert str(state).startswith("2:1:")


def test_an_older_platform_leaves_the_index_of_a_newer_one_alone(elasticsearch: ElasticsearchResource) -> None:
    with pytest.MonkeyPatch.context() as newer:
        newer.setattr(logs, "MAPPING_VERSION", logs.MAPPING_VERSION + 1)
        load(elasticsearch, LogSource())
    before = documents(elasticsearch)
    for source in (LogSource(), LogSource([search(query="rug")], version="2")):
        with pytest.raises(SchemaError, match="made by a newer shop_platform, with version 2"):
            load(elasticsearch, source)
    assert documents(elasticsearch) == before
    with elasticsearch.client() as client:
        assert len(client.indices.get(index=f"{elasticsearch.index_prefix}*")) == 1
