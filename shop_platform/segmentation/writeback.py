"""Writing segments onto the documents of the search logs: only what changed, never over something newer."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shop_platform.errors import DataError
from shop_platform.progress import TOLD_EVERY, Advance, track
from shop_platform.resources.elasticsearch import Written, once, write_bulk
from shop_platform.resources.snapshots import Hit, LostSnapshotError, Snapshot, snapshot
from shop_platform.segmentation.marks import Mark
from shop_platform.segmentation.publishing import Label
from shop_platform.segmentation.queries import query_of, searcher_of

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

_WRITTEN = ("segment", "query_segment", "segment_confidence", "segment_model")
FIELDS = ("user_id", "search_query", *_WRITTEN)

#: Passes at most. Two are enough unless somebody else writes meanwhile: one that writes, one that finds all right.
PASSES = 4


@dataclass(frozen=True)
class Labels:
    """The segment of each user, of each query, and of documents whose searcher has none.

    A search that says nothing, or that nobody made, shows no interest of its own: such a document goes with the
    largest segment, at confidence 0, unless its searcher is known by other searches.

    Attributes:
        users: by user id.
        unknown: for documents about whose searcher nothing is known.
        queries: segments of queries, by `text`.
        text: what a normalised query is known by.
    """

    users: Mapping[str, Label]
    unknown: Label
    queries: Mapping[str, str] = field(default_factory=dict)
    text: Callable[[str], str] = str

    def of(self, document: Mapping[str, Any]) -> dict[str, object] | None:
        """The fields that a document should carry; None for a searcher who came after the users were segmented."""
        user, query = searcher_of(document), query_of(document)
        label = self.users.get(user)
        if label is None:
            if user and query:
                return None
            label = self.unknown
        return {
            "segment": label.segment,
            "query_segment": self.queries.get(self.text(query)) if query else None,
            "segment_confidence": label.confidence,
            "segment_model": label.model,
        }


@dataclass
class Pass:
    """One reading of documents, and what it wrote.

    Attributes:
        documents: documents read.
        segments: of them, by the segment that they should carry.
        correct: documents that carried it already.
        waiting: documents of searchers who came after the users were segmented; the next refresh is theirs.
        updated, conflicts, gone: documents written; changed by somebody else meanwhile; deleted meanwhile.
        operations: numbers of the operations that wrote them, by shard.
        total: documents in the index.
        lost: whether a node left with its part of the snapshot, so that not all were read.
    """

    documents: int = 0
    segments: Counter[str] = field(default_factory=Counter)
    correct: int = 0
    waiting: int = 0
    updated: int = 0
    conflicts: int = 0
    gone: int = 0
    operations: dict[int, array[int]] = field(default_factory=lambda: defaultdict(lambda: array("q")))
    total: int = 0
    lost: bool = False

    @property
    def settled(self) -> bool:
        """Whether every document that could carry a segment was found to carry the right one."""
        return not self.lost and self.correct + self.waiting == self.documents


#: Chooses the documents that a pass reads.
Choose = Callable[[Snapshot], Iterable[Hit]]


#: Reads documents once and writes the segment of those that carry another one; `write_once`, or an engine's own.
WriteOnce = Callable[["Elasticsearch", str, Callable[[], Labels], Choose], Pass]


def all_documents(taken: Snapshot) -> Iterator[Hit]:
    """Every document."""
    return taken.hits(FIELDS)


def write_segments(
    client: Elasticsearch,
    alias: str,
    read: Callable[[], Labels],
    choose: Choose = all_documents,
    write: WriteOnce | None = None,
) -> list[Pass]:
    """Bring documents to their searchers' segments; returns the passes that it took.

    The last pass is the proof: it read every document and found nothing to write. When somebody else keeps changing
    documents it gives up after `PASSES`, and the last pass is not `settled`. A node that leaves the cluster takes its
    part of a snapshot along: what was written by then stays, and another pass reads again.
    """
    # An index of before knows no such field; what has it already stays as it is.
    client.options(ignore_status=404).indices.put_mapping(
        index=alias, properties={"query_segment": {"type": "keyword"}}
    )
    passes: list[Pass] = []
    while len(passes) < PASSES and not (passes and passes[-1].settled):
        passes.append((write or write_once)(client, alias, read, choose))
    return passes


def write_once(client: Elasticsearch, alias: str, read: Callable[[], Labels], choose: Choose = all_documents) -> Pass:
    """Read documents once and write the segment of those that carry another one.

    The snapshot is taken before the segments are read. A run that publishes later segments, and writes them, after
    that moves the documents' sequence numbers on, so that our older segments are refused as conflicts.

    Raises:
        DataError: the alias is missing, or Elasticsearch refuses a segment.
    """
    done = Pass()
    with snapshot(client, alias) as taken:
        labels = read()
        done.total = taken.count()

        # Of some documents it is not known how many they are.
        with track("writing segments", done.total if choose is all_documents else None, "documents") as advance:
            write_hits(client, alias, labels, choose(taken), done, advance)
    return done


def write_hits(
    client: Elasticsearch, alias: str, labels: Labels, hits: Iterable[Hit], done: Pass, advance: Advance
) -> None:
    """Write the segment of those documents that carry another one, unless they changed since; notes it in `done`.

    Raises:
        DataError: the alias is missing, or Elasticsearch refuses a segment.
    """
    shard_of: dict[str, int] = {}

    def actions() -> Iterator[dict[str, Any]]:
        for hit in _until_lost(hits, done):
            done.documents += 1
            if done.documents % TOLD_EVERY == 0:
                advance(TOLD_EVERY)
            fields = labels.of(hit.source)
            if fields is None:
                done.waiting += 1
                continue
            done.segments[str(fields["segment"])] += 1
            if _carries(hit.source, fields):
                done.correct += 1
                continue
            shard_of[hit.id] = hit.shard
            guard = {"if_seq_no": hit.seq_no, "if_primary_term": hit.primary_term}
            yield {"_op_type": "update", "_id": hit.id, **guard, "_source": {"doc": fields}}

    for written in write_bulk(client, alias, actions()):
        _note(done, written, shard_of.pop(written.id), alias)


def _until_lost(hits: Iterable[Hit], done: Pass) -> Iterator[Hit]:
    try:
        yield from hits
    except LostSnapshotError:
        done.lost = True


def update_one(client: Elasticsearch, alias: str, document_id: str, labels: Labels) -> str:
    """Bring one document to its searcher's segment, by a single guarded `_update`.

    Returns:
        "updated", "unchanged", "waiting" (its searcher has no segment yet), "conflict" (changed meanwhile; ask
        again), or "gone" (there is no such document; it is not made).
    """
    from elasticsearch import ConflictError, NotFoundError

    try:
        found = client.get(index=alias, id=document_id, source_includes=list(FIELDS))
        fields = labels.of(found["_source"])
        if fields is None:
            return "waiting"
        if _carries(found["_source"], fields):
            return "unchanged"
        once(
            client,
            lambda client: client.update(
                index=alias,
                id=document_id,
                doc=fields,
                if_seq_no=found["_seq_no"],
                if_primary_term=found["_primary_term"],
                require_alias=True,
            ),
        )
    except ConflictError:
        return "conflict"
    except NotFoundError as error:
        if error.error == "index_not_found_exception":
            raise DataError(f"Elasticsearch has no alias {alias}: materialise user_logs first.") from None
        return "gone"
    return "updated"


def segment_counts(client: Elasticsearch, alias: str) -> dict[str, int]:
    """Documents by segment, as a reader counts them."""
    client.indices.refresh(index=alias)
    aggs = {"segments": {"terms": {"field": "segment", "size": 1_000}}}
    answer = client.search(index=alias, size=0, aggs=aggs, allow_partial_search_results=False)
    return {bucket["key"]: bucket["doc_count"] for bucket in answer["aggregations"]["segments"]["buckets"]}


def settled_mark(passes: list[Pass], base: Mark | None) -> Mark | None:
    """How far the search logs are read and written, so that the next refresh need not look at what this one wrote.

    From what the embeddings were made from, on over all operations that were ours, on each shard up to the first that
    was not; None where documents still wait, or did not settle.
    """
    if base is None or not passes[-1].settled or passes[-1].waiting:
        return None
    last = list(base.seq_nos)
    for shard in range(len(last)):
        for operation in sorted(operation for each in passes for operation in each.operations.get(shard, ())):
            if operation > last[shard] + 1:
                break
            last[shard] = max(last[shard], operation)
    # Up to there nobody came or went: there are as many documents as there were.
    return Mark(base.index, tuple(last), base.documents)


def _carries(document: Mapping[str, Any], fields: Mapping[str, object]) -> bool:
    return all(document.get(name) == value for name, value in fields.items())


def _note(done: Pass, written: Written, shard: int, alias: str) -> None:
    if written.status == 409:
        done.conflicts += 1
    elif written.status == 404:
        done.gone += 1
    elif written.status >= 400:
        raise DataError(f"Elasticsearch refused a segment for a document of {alias}: {written.error}.")
    else:
        done.updated += 1
        if written.seq_no is not None:
            done.operations[shard].append(written.seq_no)
