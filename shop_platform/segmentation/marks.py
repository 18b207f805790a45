"""How far the search logs have been read, and what changed in them since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from shop_platform.errors import ServiceError
from shop_platform.resources.elasticsearch import Hit, Snapshot

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
        seq_no: the last operation on its one shard that has been read.
        documents: how many documents there were.
    """

    index: str
    seq_no: int
    documents: int

    def as_record(self) -> dict[str, Any]:
        """The same, JSON-able."""
        return asdict(self)


def mark_of(record: Mapping[str, Any] | None, name: str = "read_to") -> Mark | None:
    """The mark in a stored record; None where there is none."""
    found = (record or {}).get(name)
    return Mark(**found) if found else None


def later(*marks: Mark | None) -> Mark | None:
    """The latest of several marks, as far as they are of one index; None otherwise."""
    known = [mark for mark in marks if mark is not None]
    return max(known, key=lambda mark: mark.seq_no) if len({mark.index for mark in known}) == 1 else None


def history(client: Elasticsearch, alias: str) -> tuple[str, int] | None:
    """Unique id of the index behind the alias, and the last operation that is complete on its shard.

    Call before a snapshot is taken: all operations up to it are in the snapshot. None where the index has several
    shards: their operations have no order.

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
    primaries = [copy for shard in index["shards"].values() for copy in shard if copy["routing"]["primary"]]
    return (index["uuid"], primaries[0]["seq_no"]["local_checkpoint"]) if len(primaries) == 1 else None


def _stats(client: Elasticsearch, alias: str) -> Mapping[str, Any] | None:
    """What is told of the one index behind the alias; None where none of its shards is at work."""
    found = client.indices.stats(index=alias, level="shards", metric="docs")["indices"]
    return next(iter(found.values()), None)


def changed_since(
    taken: Snapshot, mark: Mark | None, at: tuple[str, int] | None, fields: Sequence[str]
) -> list[Hit] | None:
    """Documents that came or changed since the mark; None where all have to be read.

    Operations are numbered, so that a document that changed has a later number. One that was deleted has none: then
    the documents are not those of before and the new ones, and all have to be read.

    Args:
        taken: of the search logs.
        mark: how far they have been read; None for not at all.
        at: `history`, from before the snapshot.
        fields: to read, `MODEL_FIELD` among them.
    """
    if mark is None or at is None or at[0] != mark.index:
        return None
    found: list[Hit] = []
    for hit in taken.hits(fields, query={"range": {"_seq_no": {"gt": mark.seq_no}}}):
        found.append(hit)
        if len(found) > max(_MANY, _SHARE * mark.documents):
            return None
    return found if taken.count() == mark.documents + len(new_ones(found)) else None


def new_ones(hits: Sequence[Hit]) -> list[Hit]:
    """Those that no segment was ever written on."""
    return [hit for hit in hits if not hit.source.get(MODEL_FIELD)]
