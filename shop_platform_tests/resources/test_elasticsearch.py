"""Reading snapshots and writing in bulk, on a real node."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from elasticsearch import Elasticsearch

from shop_platform.errors import DataError
from shop_platform.resources.elasticsearch import ElasticsearchResource, alias_target, create_index, write_bulk
from shop_platform.resources.snapshots import snapshot

MAPPINGS = {"dynamic": "strict", "properties": {"n": {"type": "integer"}}}


@pytest.fixture
def client(elasticsearch: ElasticsearchResource) -> Iterator[Elasticsearch]:
    with elasticsearch.client() as found:
        yield found


@pytest.fixture
def alias(client: Elasticsearch, elasticsearch: ElasticsearchResource) -> str:
    name = f"{elasticsearch.index_prefix}numbers"
    create_index(client, f"{name}-1", name, MAPPINGS)
    return name


def write(client: Elasticsearch, alias: str, *numbers: int, kind: str = "create") -> list[tuple[int, str]]:
    actions = ({"_op_type": kind, "_id": str(number), "n": number} for number in numbers)
    return [(written.status, written.error) for written in write_bulk(client, alias, actions, backoff=0.01)]


def test_a_snapshot_gives_every_document_once_whatever_the_page(client: Elasticsearch, alias: str) -> None:
    write(client, alias, *range(25))
    for page in (7, 25, 100):
        with snapshot(client, alias) as taken:
            hits = list(taken.hits(["n"], page=page))
        assert sorted(hit.source["n"] for hit in hits) == list(range(25))


def test_a_snapshot_is_unmoved_by_what_is_written_meanwhile(client: Elasticsearch, alias: str) -> None:
    write(client, alias, 1, 2, 3)
    with snapshot(client, alias) as taken:
        write(client, alias, 4)
        client.delete(index=alias, id="1", refresh=True)
        assert sorted(hit.id for hit in taken.hits([], page=2)) == ["1", "2", "3"]


def test_a_snapshot_of_nothing_is_empty(client: Elasticsearch, alias: str) -> None:
    with snapshot(client, alias) as taken:
        assert list(taken.hits(["n"])) == []


def test_a_hit_carries_the_version_that_guards_an_update(client: Elasticsearch, alias: str) -> None:
    write(client, alias, 1)
    with snapshot(client, alias) as taken:
        hit = next(taken.hits(["n"]))
    client.index(index=alias, id="1", document={"n": 2}, if_seq_no=hit.seq_no, if_primary_term=hit.primary_term)


def test_a_document_that_is_there_already_and_one_that_does_not_fit_are_told_by_status(
    client: Elasticsearch, alias: str
) -> None:
    assert write(client, alias, 1, 1) == [(201, ""), (409, "version_conflict_engine_exception")]
    unfit = [{"_op_type": "create", "_id": "2", "secret": "canary"}]
    (written,) = write_bulk(client, alias, unfit)
    assert (written.status, written.error) == (400, "strict_dynamic_mapping_exception")
    assert "canary" not in repr(written)


@pytest.mark.fault
def test_a_busy_node_is_asked_again(client: Elasticsearch, alias: str) -> None:
    client.indices.put_settings(index=alias, settings={"index.blocks.read_only_allow_delete": True})
    timer = threading.Timer(
        0.1,
        lambda: client.indices.put_settings(index=alias, settings={"index.blocks.read_only_allow_delete": None}),
    )
    timer.start()
    actions = [{"_op_type": "create", "_id": "1", "n": 1}]
    assert [written.status for written in write_bulk(client, alias, actions, backoff=0.1)] == [201]
    timer.join()


def test_nothing_is_written_to_what_is_no_alias(client: Elasticsearch, alias: str) -> None:
    for name in (f"{alias}-1", f"{alias}-none"):
        with pytest.raises(DataError, match="has no alias"):
            write(client, name, 1)
    assert not client.indices.exists(index=f"{alias}-none")


def test_an_alias_is_followed_to_its_index(client: Elasticsearch, alias: str) -> None:
    assert alias_target(client, alias) == f"{alias}-1"
    assert alias_target(client, f"{alias}-none") is None


def test_making_an_index_again_leaves_it_and_a_wrong_mapping_is_raised(client: Elasticsearch, alias: str) -> None:
    from elasticsearch import BadRequestError

    write(client, alias, 1)
    create_index(client, f"{alias}-1", alias, MAPPINGS)
    client.indices.refresh(index=alias)
    assert client.count(index=alias)["count"] == 1
    with pytest.raises(BadRequestError):
        create_index(client, f"{alias}-2", alias, {"properties": {"n": {"type": "no such type"}}})
