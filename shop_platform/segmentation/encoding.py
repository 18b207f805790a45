"""Gives every distinct query, and every example phrase of the segments, an embedding; encodes only what has none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shop_platform.progress import Advance, track
from shop_platform.resources.snapshots import Snapshot, snapshot
from shop_platform.segmentation.embeddings import (
    PROTOTYPE,
    SEARCH,
    Text,
    ensure_index,
    present_ids,
    publish_index,
    remove,
    store,
    stored_ids,
)
from shop_platform.segmentation.logs import ALIAS as LOGS
from shop_platform.segmentation.marks import Mark, Position, changed_since, history
from shop_platform.segmentation.pairs import FIELDS, Scan, scan_documents
from shop_platform.segmentation.segments import Segment

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from shop_platform.resources.encoder import EncoderResource

#: Texts that are encoded and then stored together; a run that dies loses no more than these.
_CHUNK = 2_048


#: Encodes texts and stores their embeddings, and tells how far it is.
Store = Callable[["Elasticsearch", Sequence[Text], Advance], None]


@dataclass(frozen=True)
class Engine:
    """What reads and encodes in place of this process.

    Attributes:
        scan: reads all of a snapshot of the search logs down to how many documents there are, how many of them say
            nothing, and the distinct queries; told the `history` from before the snapshot.
        store: encodes texts and stores their embeddings.
    """

    scan: Callable[[Elasticsearch, Snapshot, Position | None], Scan]
    store: Store


@dataclass(frozen=True)
class Encoding:
    """What the index of embeddings holds, and what was done for it.

    Attributes:
        documents: search logs read; all of them, or those that changed.
        blank: of them, those whose query says nothing; there is nothing to encode in them.
        wanted: embeddings that there should be: one a distinct query, and one an example phrase.
        encoded: texts that were encoded now.
        removed: embeddings removed, of what nobody searches for any more.
        stored: embeddings in the index afterwards.
        all_read: whether all search logs were read.
        read_to: how far they were read; None where that can't be told.
    """

    documents: int
    blank: int
    wanted: int
    encoded: int
    removed: int
    stored: int
    all_read: bool
    read_to: Mark | None

    def as_record(self) -> dict[str, Any]:
        """The same, JSON-able."""
        return vars(self) | {"read_to": self.read_to and self.read_to.as_record()}


def prototype_texts(segments: Sequence[Segment]) -> list[list[Text]]:
    """The example phrases of each segment."""
    return [[Text(PROTOTYPE, phrase) for phrase in segment.phrases] for segment in segments]


def encode_missing(
    client: Elasticsearch,
    prefix: str,
    segments: Sequence[Segment],
    encoder: EncoderResource,
    report: Callable[[str], None],
    *,
    since: Mark | None = None,
    before: Mapping[str, Any] | None = None,
    engine: Engine | None = None,
) -> Encoding:
    """Bring the index of embeddings to the search logs: afterwards it holds what they hold, once each.

    Where only some documents changed since the mark, only these are read, and nothing is removed. When nothing is
    missing the encoder is not touched, so that no model is loaded. Another model's embeddings go into an index of
    their own, which takes the alias when it is complete.

    Args:
        client: where to.
        prefix: of the names of indexes.
        segments: whose example phrases need an embedding too.
        encoder: by which.
        report: told how far the work is.
        since: how far the search logs were read, by the same encoder and for the same segments.
        before: the record of the run that read them so far.
        engine: what reads all documents, encodes texts and stores their embeddings, where it is not this process.
    """
    name = encoder.model_name
    fresh = ensure_index(client, prefix, name, lambda: encoder.dimensions)
    at = history(client, f"{prefix}{LOGS}")
    with snapshot(client, f"{prefix}{LOGS}") as taken:
        some = None if fresh or before is None or engine else changed_since(taken, since, at, FIELDS)
        if engine is not None:
            scan = engine.scan(client, taken, at)
        else:
            scan = scan_documents(hit.source for hit in (taken.hits(FIELDS) if some is None else some))
        total = taken.count()
    texts = {Text(SEARCH, query) for query in scan.queries}
    if some is None:
        texts |= {text for texts in prototype_texts(segments) for text in texts}
    wanted = {text.id(name): text for text in texts}
    stored = stored_ids(client, prefix, name) if some is None else present_ids(client, prefix, name, wanted)
    # Texts of like length together, for the encoder; by text within, for the same order on every run.
    missing = sorted((wanted[each] for each in wanted.keys() - stored), key=lambda t: (len(t.text), t.text, t.origin))
    if missing:
        report(f"Encoding {len(missing):,} of {len(wanted):,} texts with {name}.")
        with track("encoding texts", len(missing), "texts") as advance:
            (engine.store if engine else _storing(prefix, encoder, report))(client, missing, advance)
    stale = stored - wanted.keys() if some is None else set()
    remove(client, prefix, name, stale)
    return Encoding(
        documents=scan.documents,
        blank=scan.blank,
        wanted=len(wanted) if some is None or before is None else before["stored"] + len(missing),
        encoded=len(missing),
        removed=len(stale),
        stored=publish_index(client, prefix, name),
        all_read=some is None,
        read_to=None if at is None else Mark(*at, total),
    )


def _storing(prefix: str, encoder: EncoderResource, report: Callable[[str], None]) -> Store:
    """By this process, a part after the other."""

    def encode(client: Elasticsearch, texts: Sequence[Text], advance: Advance) -> None:
        for first in range(0, len(texts), _CHUNK):
            part = texts[first : first + _CHUNK]
            vectors = encoder.encode([text.text for text in part], done=advance)
            store(client, prefix, encoder.model_name, part, vectors)
            report(f"Encoded {first + len(part):,} of {len(texts):,} texts.")

    return encode
