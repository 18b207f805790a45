"""How far the search logs have been read, and what changed in them since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from shop_platform.errors import ServiceError
from shop_platform.resources.snapshots import Hit, Snapshot

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

#: Where this many documents, and this share of them, have changed, reading all is as quick.
_MANY, _SHARE = 1_000, 0.25

#: Written on every document that has a segment; one without is new.
MODEL_FIELD = "segment_model"


@dataclass(frozen=True)
class Mark:
    """A point in the history of the search logs' index.

    Attributes:
        index: its unique id, another after the alias moved on.
        seq_nos: the last operation that has been read, on each of its shards.
        documents: how many documents there were.
    """

    index: str
    seq_nos: tuple[int, ...]
    documents: int

    def as_record(self) -> dict[str, Any]:
        """The same, JSON-able."""
        return asdict(self)


def mark_of(record: Mapping[str, Any] | None, name: str = "read_to") -> Mark | None:
    """The mark in a stored record; None where there is none, or one of before there were several shards."""
    found = (record or {}).get(name)
    return Mark(found["index"], tuple(found["seq_nos"]), found["documents"]) if found and "seq_nos" in found else None


def later(*marks: Mark | None) -> Mark | None:
    """The latest of several marks, as far as they are of one index; None otherwise."""
    known = [mark for mark in marks if mark is not None]
    return max(known, key=lambda mark: sum(mark.seq_nos)) if len({mark.index for mark in known}) == 1 else None


#: Unique id of an index, and the last operation that is complete on each of its shards.
Position = tuple[str, tuple[int, ...]]


def history(client: Elasticsearch, alias: str) -> Position | None:
    """How far the index behind the alias is: up to there every copy of a shard has the operations, in any order.

    Call before a snapshot is taken, of whichever copies: all operations up to it are in the snapshot, and none of them
    is lost with a node. None where one of several shards has no node just now.

    Raises:
        ServiceError: Elasticsearch has not taken the index up, half a minute after it was asked.
    """
    index = _stats(client, alias)
    if index is None:
        # A node that has just started tells nothing of shards that it has not taken up yet.
        client.options(ignore_status=408).cluster.health(index=alias, wait_for_status="yellow", timeout="30s")
        index = _stats(client, alias)
    if index is None:
        raise ServiceError(f"Elasticsearch can't read {alias} for now: wait until its health is yellow or green.")
    complete = {
        int(number): copy["seq_no"]["global_checkpoint"]
        for number, copies in index["shards"].items()
        for copy in copies
        if copy["routing"]["primary"]
    }
    (settings,) = client.indices.get_settings(index=alias, name="index.number_of_shards").body.values()
    shards = int(settings["settings"]["index"]["number_of_shards"])
    return (index["uuid"], tuple(complete[each] for each in range(shards))) if len(complete) == shards else None


def _stats(client: Elasticsearch, alias: str) -> Mapping[str, Any] | None:
    """What is told of the one index behind the alias; None where none of its shards is at work."""
    found = client.indices.stats(index=alias, level="shards", metric="docs")["indices"]
    return next(iter(found.values()), None)


def position_text(index: str, seq_nos: Sequence[int]) -> str:
    """A position as text that can be compared."""
    return f"{index}@{','.join(map(str, seq_nos))}"


def changed_since(taken: Snapshot, mark: Mark | None, at: Position | None, fields: Sequence[str]) -> list[Hit] | None:
    """Documents that came or changed since the mark; None where all have to be read.

    Operations are numbered, on each shard by itself, so that a document that changed has a later number. One that was
    deleted has none: then the documents are not those of before and the new ones, and all have to be read.

    Args:
        taken: of the search logs.
        mark: how far they have been read; None for not at all.
        at: `history`, from before the snapshot.
        fields: to read, `MODEL_FIELD` among them.
    """
    if mark is None or at is None or at[0] != mark.index:
        return None
    found: list[Hit] = []
    for hit in taken.since(mark.seq_nos, fields):
        found.append(hit)
        if len(found) > max(_MANY, _SHARE * mark.documents):
            return None
    return found if taken.count() == mark.documents + len(new_ones(found)) else None


def new_ones(hits: Sequence[Hit]) -> list[Hit]:
    """Those that no segment was ever written on."""
    return [hit for hit in hits if not hit.source.get(MODEL_FIELD)]
