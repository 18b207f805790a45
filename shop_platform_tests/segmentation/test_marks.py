"""How far the search logs are read: on each shard by itself, since operations are numbered there."""

from __future__ import annotations

from array import array

from shop_platform.resources.elasticsearch import ElasticsearchResource, create_index, write_bulk
from shop_platform.resources.snapshots import snapshot
from shop_platform.segmentation.marks import MODEL_FIELD, Mark, changed_since, history, later, mark_of
from shop_platform.segmentation.writeback import Pass, settled_mark

MAPPINGS = {"properties": {"n": {"type": "integer"}, MODEL_FIELD: {"type": "keyword"}}}


def settled(operations: dict[int, list[int]]) -> Pass:
    return Pass(documents=1, correct=1, operations={shard: array("q", some) for shard, some in operations.items()})


def test_a_mark_goes_on_over_our_own_operations_of_each_shard_up_to_the_first_of_somebody_else() -> None:
    passes = [settled({0: [4, 6], 1: [5, 4]}), settled({1: [6], 2: [9]})]
    assert settled_mark(passes, Mark("i", (3, 3, 7), 5)) == Mark("i", (4, 6, 7), 5)


def test_a_mark_survives_its_record_and_one_of_before_there_were_shards_is_none() -> None:
    mark = Mark("i", (3, 9), 5)
    assert mark_of({"read_to": mark.as_record()}) == mark
    assert mark_of({"read_to": {"index": "i", "seq_no": 3, "documents": 5}}) is None
    assert later(mark, Mark("i", (4, 9), 6), None) == Mark("i", (4, 9), 6)


def test_only_what_changed_on_its_own_shard_is_read_again(elasticsearch: ElasticsearchResource) -> None:
    alias = f"{elasticsearch.index_prefix}numbers"
    with elasticsearch.client() as client:
        create_index(client, f"{alias}-1", alias, MAPPINGS, shards=4)

        def write(*numbers: int, **segment: str) -> None:
            actions = ({"_op_type": "index", "_id": f"{number}", "n": number, **segment} for number in numbers)
            list(write_bulk(client, alias, actions))

        write(*range(40), *[0] * 30, segment_model="m")  # the shard of document 0 is far ahead of the others
        at = history(client, alias)
        assert at is not None
        assert len(at[1]) == 4
        assert max(at[1]) > min(at[1]) + 20
        mark = Mark(*at, 40)
        write(1, 2, 3, segment_model="another")
        write(40)
        with snapshot(client, alias) as taken:
            changed = changed_since(taken, mark, history(client, alias), ["n", MODEL_FIELD])
        assert changed is not None
        assert sorted(hit.source["n"] for hit in changed) == [1, 2, 3, 40]
        client.delete(index=alias, id="7")
        with snapshot(client, alias) as taken:
            assert changed_since(taken, mark, history(client, alias), ["n", MODEL_FIELD]) is None
