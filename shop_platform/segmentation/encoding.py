"""Gives every distinct query, and every example phrase of the segments, an embedding; encodes only what has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shop_platform.resources.elasticsearch import snapshot
from shop_platform.segmentation.embeddings import (
    PROTOTYPE,
    SEARCH,
    Text,
    ensure_index,
    remove,
    store,
    stored_ids,
)
from shop_platform.segmentation.logs import ALIAS as LOGS
from shop_platform.segmentation.pairs import FIELDS, scan_documents
from shop_platform.segmentation.segments import Segment

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from shop_platform.resources.encoder import EncoderResource

#: Texts that are encoded and then stored together; a run that dies loses no more than these.
_CHUNK = 2_048


@dataclass(frozen=True)
class Encoding:
    """What the index of embeddings holds, and what was done for it.

    Attributes:
        documents: search logs read.
        blank: search logs whose query says nothing; there is nothing to encode in them.
        distinct: distinct normalised queries.
        prototypes: example phrases of the segments.
        encoded: texts that were encoded now.
        removed: embeddings removed, of what nobody searches for any more.
        stored: embeddings in the index afterwards.
    """

    documents: int
    blank: int
    distinct: int
    prototypes: int
    encoded: int
    removed: int
    stored: int


def prototype_texts(segments: Sequence[Segment]) -> list[list[Text]]:
    """The example phrases of each segment."""
    return [[Text(PROTOTYPE, phrase) for phrase in segment.phrases] for segment in segments]


def encode_missing(
    client: Elasticsearch,
    prefix: str,
    segments: Sequence[Segment],
    encoder: EncoderResource,
    report: Callable[[str], None],
) -> Encoding:
    """Bring the index of embeddings to the search logs: afterwards it holds what they hold, once each, and no more.

    When nothing is missing the encoder is not touched, so that no model is loaded.
    """
    alias = ensure_index(client, prefix, encoder.dimensions)
    with snapshot(client, f"{prefix}{LOGS}") as taken:
        scan = scan_documents(hit.source for hit in taken.hits(FIELDS))
    prototypes = {text for texts in prototype_texts(segments) for text in texts}
    wanted = {text.id(encoder.model_name): text for text in prototypes | {Text(SEARCH, q) for q in scan.queries}}
    stored = stored_ids(client, prefix)
    # Texts of like length together, for the encoder; by text within, for the same order on every run.
    missing = sorted((wanted[each] for each in wanted.keys() - stored), key=lambda t: (len(t.text), t.text, t.origin))
    if missing:
        report(f"Encoding {len(missing):,} of {len(wanted):,} texts with {encoder.model_name}.")
    for first in range(0, len(missing), _CHUNK):
        part = missing[first : first + _CHUNK]
        store(client, prefix, encoder.model_name, part, encoder.encode([text.text for text in part]))
        report(f"Encoded {first + len(part):,} of {len(missing):,} texts.")
    stale = stored - wanted.keys()
    remove(client, prefix, stale)
    client.indices.refresh(index=alias)
    return Encoding(
        documents=scan.documents,
        blank=scan.blank,
        distinct=len(scan.queries),
        prototypes=len(prototypes),
        encoded=len(missing),
        removed=len(stale),
        stored=int(client.count(index=alias)["count"]),
    )
