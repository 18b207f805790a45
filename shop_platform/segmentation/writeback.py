"""Writing segments onto the documents of the search logs: only what changed, never over something newer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shop_platform.errors import DataError
from shop_platform.resources.elasticsearch import Written, snapshot, write_bulk
from shop_platform.segmentation.publishing import Label
from shop_platform.segmentation.queries import query_of, searcher_of

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

_WRITTEN = ("segment", "segment_confidence", "segment_model")
_FIELDS = ("user_id", "search_query", *_WRITTEN)

#: Passes at most. Two are enough unless somebody else writes meanwhile: one that writes, one that finds all right.
PASSES = 4


@dataclass(frozen=True)
class Labels:
    """The segment of each user, and the one of documents whose searcher has none.

    A search that says nothing, or that nobody made, shows no interest of its own: such a document goes with the
    largest segment, at confidence 0, unless its searcher is known by other searches.
    """

    users: Mapping[str, Label]
    names: tuple[str, ...]

    @property
    def unknown(self) -> Label:
        """For documents about whose searcher nothing is known."""
        sizes = Counter(label.segment for label in self.users.values())
        # The first of equals, in the segments' order: the same on every run.
        largest = max(self.names, key=lambda name: sizes[name])
        model = next(iter(self.users.values())).model if self.users else "none"
        return Label(largest, 0.0, model)

    def of(self, document: Mapping[str, Any], unknown: Label) -> Label | None:
        """What a document should carry; None for a searcher who came after the users were segmented."""
        user = searcher_of(document)
        if user in self.users:
            return self.users[user]
        return None if user and query_of(document) else unknown


@dataclass
class Pass:
    """One reading of all documents, and what it wrote.

    Attributes:
        documents: documents read.
        segments: documents by the segment that they should carry.
        correct: documents that carried it already.
        waiting: documents of searchers who came after the users were segmented; the next refresh is theirs.
        updated, conflicts, gone: documents written; changed by somebody else meanwhile; deleted meanwhile.
    """

    documents: int = 0
    segments: Counter[str] = field(default_factory=Counter)
    correct: int = 0
    waiting: int = 0
    updated: int = 0
    conflicts: int = 0
    gone: int = 0

    @property
    def settled(self) -> bool:
        """Whether every document that could carry a segment was found to carry the right one."""
        return self.correct + self.waiting == self.documents


def write_segments(client: Elasticsearch, alias: str, read: Callable[[], Labels]) -> list[Pass]:
    """Bring all documents to their searchers' segments; returns the passes that it took.

    The last pass is the proof: it read every document and found nothing to write. When somebody else keeps changing
    documents it gives up after `PASSES`, and the last pass is not `settled`.
    """
    passes: list[Pass] = []
    while len(passes) < PASSES and not (passes and passes[-1].settled):
        passes.append(write_once(client, alias, read))
    return passes


def write_once(client: Elasticsearch, alias: str, read: Callable[[], Labels]) -> Pass:
    """Read all documents once and write the segment of those that carry another one.

    The snapshot is taken before the segments are read. A run that publishes later segments, and writes them, after
    that moves the documents' sequence numbers on, so that our older segments are refused as conflicts.

    Raises:
        DataError: the alias is missing, or Elasticsearch refuses a segment.
    """
    done = Pass()
    with snapshot(client, alias) as taken:
        labels = read()
        unknown = labels.unknown

        def actions() -> Iterator[dict[str, Any]]:
            for hit in taken.hits(_FIELDS):
                done.documents += 1
                label = labels.of(hit.source, unknown)
                if label is None:
                    done.waiting += 1
                    continue
                done.segments[label.segment] += 1
                if _carries(hit.source, label):
                    done.correct += 1
                    continue
                guard = {"if_seq_no": hit.seq_no, "if_primary_term": hit.primary_term}
                yield {"_op_type": "update", "_id": hit.id, **guard, "_source": {"doc": _fields(label)}}

        for written in write_bulk(client, alias, actions()):
            _note(done, written, alias)
    return done


def update_one(client: Elasticsearch, alias: str, document_id: str, labels: Labels) -> str:
    """Bring one document to its searcher's segment, by a single guarded `_update`.

    Returns:
        "updated", "unchanged", "waiting" (its searcher has no segment yet), "conflict" (changed meanwhile; ask
        again), or "gone" (there is no such document; it is not made).
    """
    from elasticsearch import ConflictError, NotFoundError

    try:
        found = client.get(index=alias, id=document_id, source_includes=list(_FIELDS))
        label = labels.of(found["_source"], labels.unknown)
        if label is None:
            return "waiting"
        if _carries(found["_source"], label):
            return "unchanged"
        client.update(
            index=alias,
            id=document_id,
            doc=_fields(label),
            if_seq_no=found["_seq_no"],
            if_primary_term=found["_primary_term"],
            require_alias=True,
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
    answer = client.search(index=alias, size=0, aggs={"segments": {"terms": {"field": "segment", "size": 1_000}}})
    return {bucket["key"]: bucket["doc_count"] for bucket in answer["aggregations"]["segments"]["buckets"]}


def _fields(label: Label) -> dict[str, object]:
    return {"segment": label.segment, "segment_confidence": label.confidence, "segment_model": label.model}


def _carries(document: Mapping[str, Any], label: Label) -> bool:
    return all(document.get(name) == value for name, value in _fields(label).items())


def _note(done: Pass, written: Written, alias: str) -> None:
    if written.status == 409:
        done.conflicts += 1
    elif written.status == 404:
        done.gone += 1
    elif written.status >= 400:
        raise DataError(f"Elasticsearch refused a segment for a document of {alias}: {written.error}.")
    else:
        done.updated += 1
