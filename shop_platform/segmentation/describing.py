"""Describes the published segments: what their users do, and how good the segmentation is."""

from __future__ import annotations

from typing import Any

from shop_platform.errors import DataError
from shop_platform.records import find_record, read_record
from shop_platform.resources.snapshots import snapshot
from shop_platform.segmentation import artefact
from shop_platform.segmentation.behaviour import association, bought_categories, clicked_categories
from shop_platform.segmentation.embeddings import SEARCH, Text
from shop_platform.segmentation.encoding import prototype_texts
from shop_platform.segmentation.logs import ALIAS as LOGS
from shop_platform.segmentation.pairs import FIELDS, scan_documents
from shop_platform.segmentation.publishing import read_model
from shop_platform.segmentation.quality import SAMPLE, measure_quality
from shop_platform.segmentation.query_map import query_map
from shop_platform.segmentation.segmenting import RECORD, Room, documents_of

PROFILES = "segment_profiles"


def describe_segments(room: Room) -> dict[str, Any]:
    """What the users of each segment click and buy, and, once a model, how good it is and a map; to be stored.

    Raises:
        DataError: no users were segmented yet, by this encoder and for these segments.
    """
    told = read_record(room.connection, RECORD)
    if told.get("basis") != room.basis:
        raise DataError("The segments were told by another encoder or for others: materialise user_segments first.")
    before = find_record(room.connection, PROFILES)
    names = [segment.name for segment in room.segments]
    clicked = clicked_categories(room.client, f"{room.prefix}{LOGS}", room.connection)
    same = before is not None and before["version"] == told["version"] and "map" in before
    of_model = {name: before[name] for name in ("quality", "map")} if same and before else _of_model(room, told)
    return {
        "version": told["version"],
        "users": told["users"],
        "segments": names,
        "clicked": clicked,
        "bought": bought_categories(room.connection),
        "clicks_by_segment": association(clicked, names),
        **of_model,
    }


def _of_model(room: Room, told: dict[str, Any]) -> dict[str, Any]:
    """How good the model is, and the map of the queries, from all searches of users drawn at random."""
    data = read_model(room.connection, told["version"])
    if data is None:
        return {"quality": None, "map": []}
    rows = room.connection.execute(
        "SELECT user_id FROM (SELECT user_id FROM analytics.user_segments ORDER BY md5(user_id || %s) LIMIT %s)"
        " AS sample ORDER BY user_id",
        [str(room.seed), SAMPLE],
    )
    users = [row[0] for row in rows]
    with snapshot(room.client, f"{room.prefix}{LOGS}") as taken:
        scan = scan_documents(hit.source for hit in documents_of(taken, users, FIELDS))
    ids = {room.text(query): query for query in scan.queries}
    known = room.connection.execute(
        "SELECT query_id, segment FROM analytics.query_segments WHERE query_id = ANY(%s)", [list(ids)]
    )
    segment_of = {ids[query_id]: segment for query_id, segment in known}
    pairs = scan.pairs(set(segment_of))
    if not pairs.users:
        return {"quality": None, "map": []}
    embeddings = room.vectors([Text(SEARCH, query) for query in pairs.queries])
    phrases = [room.vectors(texts) for texts in prototype_texts(room.segments)]
    found = measure_quality(pairs, embeddings, phrases, artefact.unpack(data, told["version"]), room.seed)
    return {
        "quality": None if found is None else found.as_record() | {"good": found.good},
        "map": query_map(pairs, embeddings, [segment_of[query] for query in pairs.queries], room.seed),
    }
