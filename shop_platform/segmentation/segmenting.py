"""Refreshes the segments of users: reads logs and embeddings, clusters, publishes; does nothing when nothing is new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from shop_platform.errors import DataError
from shop_platform.records import read_record, write_record
from shop_platform.resources.elasticsearch import snapshot
from shop_platform.segmentation.embeddings import SEARCH, Text, read_vectors, stored_ids
from shop_platform.segmentation.encoding import prototype_texts
from shop_platform.segmentation.logs import ALIAS as LOGS
from shop_platform.segmentation.model import VERSION, segment_users
from shop_platform.segmentation.pairs import FIELDS, Pairs, pairs_of, scan_documents
from shop_platform.segmentation.publishing import lock_segmentation, replace_segments
from shop_platform.segmentation.segments import Segment, segments_digest

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from shop_platform.resources.encoder import EncoderResource
    from shop_platform.resources.postgres import Connection

RECORD = "user_segments"


def model_id(encoder_name: str, segments: Sequence[Segment]) -> str:
    """Name of a way to segment: the method, the encoder, the segments. What is written on documents."""
    return f"kmeans-{VERSION}/{encoder_name}/{segments_digest(segments)}"


def refresh_segments(
    client: Elasticsearch,
    connection: Connection,
    prefix: str,
    segments: Sequence[Segment],
    encoder: EncoderResource,
    seed: int,
    run_id: str,
) -> tuple[dict[str, Any], bool]:
    """Bring `analytics.user_segments` to the search logs, in the caller's transaction.

    Queries that came after the embeddings were made are left for the next refresh.

    Returns:
        the stored record, and whether anything was computed: the same pairs, model and seed give the same segments,
        so that nothing is.

    Raises:
        DataError: embeddings are missing.
    """
    lock_segmentation(connection)
    pairs, later = _known_pairs(client, prefix, encoder.model_name)
    model = model_id(encoder.model_name, segments)
    made_from = {"pairs": pairs.digest(), "model": model, "seed": seed}
    before = _record(connection)
    row = connection.execute("SELECT count(*) FROM analytics.user_segments").fetchone()
    if before is not None and before["made_from"] == made_from and row == (len(pairs.users),):
        return before, False
    texts = [Text(SEARCH, query) for query in pairs.queries]
    embeddings, *phrases = (
        read_vectors(client, prefix, encoder.model_name, each, encoder.dimensions)
        for each in (texts, *prototype_texts(segments))
    )
    found = segment_users(pairs, embeddings, segments, phrases, seed)
    replace_segments(connection, pairs, found.clusters, [segment.name for segment in segments], model)
    record = {
        "made_from": made_from,
        "users": len(pairs.users),
        "queries": len(pairs.queries),
        "later_queries": later,
        "fitted": found.clusters.fitted,
        "segments": [asdict(profile) | {"supported": profile.supported} for profile in found.profiles],
    }
    write_record(connection, RECORD, run_id, record)
    return record, True


def _known_pairs(client: Elasticsearch, prefix: str, encoder_name: str) -> tuple[Pairs, int]:
    """Pairs whose query has an embedding, and the number of distinct queries that have none yet."""
    stored = stored_ids(client, prefix)
    with snapshot(client, f"{prefix}{LOGS}") as taken:
        scan = scan_documents(hit.source for hit in taken.hits(FIELDS))
    known = {query for query in scan.queries if Text(SEARCH, query).id(encoder_name) in stored}
    return pairs_of((user, query) for user, query in scan.pairs if query in known), len(scan.queries) - len(known)


def _record(connection: Connection) -> dict[str, Any] | None:
    try:
        return read_record(connection, RECORD)
    except DataError:
        return None
