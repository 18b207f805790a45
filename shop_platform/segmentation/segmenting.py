"""Brings the segments of users to the search logs: learns them once, then tells those whose searches are new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from shop_platform.records import find_record, write_record
from shop_platform.resources.snapshots import Hit, Snapshot, snapshot
from shop_platform.segmentation import artefact
from shop_platform.segmentation.drift import Crowd, Drift
from shop_platform.segmentation.embeddings import SEARCH, Text, present_ids, read_vectors, stored_ids
from shop_platform.segmentation.encoding import prototype_texts
from shop_platform.segmentation.logs import ALIAS as LOGS
from shop_platform.segmentation.marks import Mark, changed_since, history, later, mark_of, new_ones
from shop_platform.segmentation.model import VERSION, Model, fit_model
from shop_platform.segmentation.pairs import FIELDS, Pairs, Scan, scan_documents
from shop_platform.segmentation.profiles import profiles_of
from shop_platform.segmentation.publishing import Told, lock_segmentation, read_model, replace_segments, store_model
from shop_platform.segmentation.queries import searcher_of
from shop_platform.segmentation.segments import Segment, segments_digest

if TYPE_CHECKING:
    import numpy as np
    from elasticsearch import Elasticsearch
    from numpy.typing import NDArray

    from shop_platform.resources.encoder import EncoderResource
    from shop_platform.resources.postgres import Connection

RECORD, WRITTEN = "user_segments", "segmented_user_logs"

#: Users whose documents are asked for at a time.
_USERS = 500


@dataclass(frozen=True)
class Room:
    """Where everything is, and what the segments are made with.

    Attributes:
        client: of Elasticsearch.
        connection: of PostgreSQL, in a transaction.
        prefix: of the names of indexes.
        segments: the segments.
        encoder: whose embeddings are read.
        seed: of KMeans.
        run_id: of the run that does it.
    """

    client: Elasticsearch
    connection: Connection
    prefix: str
    segments: Sequence[Segment]
    encoder: EncoderResource
    seed: int
    run_id: str

    @property
    def basis(self) -> dict[str, Any]:
        """What a model depends on beside the searches: with another it is another one."""
        digest = segments_digest(self.segments)
        return {"method": VERSION, "encoder": self.encoder.model_name, "segments": digest, "seed": self.seed}

    def text(self, query: str) -> str:
        """Id of a query's embedding."""
        return Text(SEARCH, query).id(self.encoder.model_name)

    def vectors(self, texts: Sequence[Text]) -> NDArray[np.float32]:
        """Embeddings of texts."""
        return read_vectors(self.client, self.prefix, self.encoder.model_name, texts)


def model_name(encoder_name: str, version: str) -> str:
    """What is written on documents: the method, the encoder, the model that was learned."""
    return f"kmeans-{VERSION}/{encoder_name}/{version[:8]}"


def refresh_segments(room: Room, *, refit: bool = False) -> tuple[dict[str, Any], int]:
    """Bring `analytics.user_segments` to the search logs, in the caller's transaction.

    A model that was learned stays: users whose searches changed are told by it, from all of their searches, and nobody
    else is touched. It is learned anew where there is none by this encoder and for these segments, where there were too
    few users before, where the users have drifted away from it, and on demand; clusters then start where they were.
    Queries that came after the embeddings were made are left for the next refresh.

    Returns:
        the stored record, and how many users were told.

    Raises:
        DataError: embeddings are missing, or the stored model is none.
    """
    lock_segmentation(room.connection)
    before = find_record(room.connection, RECORD)
    model = None if before is None else _stored_model(room, before)
    if before is not None and model is not None and not refit:
        done = _tell_some(room, model, before)
        if done is not None and not Drift(**done[0]["drift"]).too_far:
            return done
    return _tell_all(room, model, before, refit=refit)


def documents_of(taken: Snapshot, users: Sequence[str], fields: Sequence[str] = FIELDS) -> list[Hit]:
    """All documents of some users, whatever they hold."""
    found: list[Hit] = []
    for first in range(0, len(users), _USERS):
        found += taken.hits(fields, query={"terms": {"user_id": list(users[first : first + _USERS])}})
    return found


def _stored_model(room: Room, before: dict[str, Any]) -> Model | None:
    """The model of the record, where it still serves."""
    if before.get("basis") != room.basis or not before["fitted"]:
        return None
    data = read_model(room.connection, before["version"])
    return None if data is None else artefact.unpack(data, before["version"])


def _tell_some(room: Room, model: Model, before: dict[str, Any]) -> tuple[dict[str, Any], int] | None:
    """Tell the users whose searches changed; None where all have to be read."""
    alias = f"{room.prefix}{LOGS}"
    since = later(mark_of(before), mark_of(find_record(room.connection, WRITTEN)))
    at = history(room.client, alias)
    with snapshot(room.client, alias) as taken:
        changed = changed_since(taken, since, at, FIELDS)
        if changed is None or at is None:
            return None
        total = taken.count()
        users = sorted({user for hit in changed if (user := searcher_of(hit.source))})
        scan = scan_documents(hit.source for hit in documents_of(taken, users))
    ids = {query: room.text(query) for query in scan.queries}
    present = present_ids(room.client, room.prefix, room.encoder.model_name, ids.values())
    pairs = scan.pairs({query for query, key in ids.items() if key in present})
    known = _segmented(room.connection, users)
    replace_segments(room.connection, _told(room, model, before["version"], pairs, scan), users)
    nobody = before["nobody"] + _more_of_nobody(new_ones(changed), known, set(pairs.users), scan)
    if total != nobody + _one(room.connection, "SELECT sum(documents) FROM analytics.user_segments"):
        return None
    read = {"nobody": nobody, "later_queries": len(ids) - len(present), "read_to": Mark(*at, total).as_record()}
    record = before | read | _published(room.connection, before)
    write_record(room.connection, RECORD, room.run_id, record)
    return record, len(users)


def _tell_all(
    room: Room, model: Model | None, before: dict[str, Any] | None, *, refit: bool
) -> tuple[dict[str, Any], int]:
    """Read all search logs, learn a model where there is none that serves, and tell all users."""
    alias = f"{room.prefix}{LOGS}"
    at = history(room.client, alias)
    stored = stored_ids(room.client, room.prefix, room.encoder.model_name)
    with snapshot(room.client, alias) as taken:
        scan = scan_documents(hit.source for hit in taken.hits(FIELDS))
        total = taken.count()
    known = {query for query in scan.queries if room.text(query) in stored}
    pairs = scan.pairs(known)
    embeddings = room.vectors([Text(SEARCH, query) for query in pairs.queries])
    told, learned, version = None, None, ""
    if before is not None and model is not None and not refit:
        learned, version = Crowd(**before["learned"]), before["version"]
        told = _told(room, model, version, pairs, scan, embeddings)
    if model is None or told is None or learned is None or Drift.between(learned, Crowd.told(told)).too_far:
        phrases = [room.vectors(texts) for texts in prototype_texts(room.segments)]
        model = fit_model(pairs, embeddings, phrases, room.seed, model)
        about = room.basis | {"users": len(pairs.users), "queries": len(pairs.queries), "pairs": pairs.digest()}
        about |= {"window": _window(room.client, alias)}
        data = artefact.pack(model, about)
        version = artefact.version_of(data)
        told, learned = None, None
        if model.supported:
            store_model(room.connection, version, data)
            told = _told(room, model, version, pairs, scan, embeddings)
            learned = Crowd.told(told)
    record = {
        "basis": room.basis,
        "version": version,
        "model": model_name(room.encoder.model_name, version),
        "generation": room.run_id,
        "fitted": model.fitted,
        "nobody": total - sum(scan.by_user[user] for user in pairs.users),
        "later_queries": len(scan.queries) - len(known),
        "read_to": None if at is None else Mark(*at, total).as_record(),
        "segments": [asdict(each) for each in profiles_of(told, model, room.segments)],
    }
    if told is None or learned is None:
        # Nothing that could be published: what was published before stays, and the check says so.
        now = {"users": Crowd.published(room.connection).users, "queries": 0, "provisional": 0}
        return record | now | {"drift": asdict(Drift(1.0, 0.0, 0.0))}, 0
    replace_segments(room.connection, told)
    record |= {"learned": learned.as_record()}
    record |= _published(room.connection, record)
    write_record(room.connection, RECORD, room.run_id, record)
    return record, len(pairs.users)


def _told(
    room: Room,
    model: Model,
    version: str,
    pairs: Pairs,
    scan: Scan,
    embeddings: NDArray[np.float32] | None = None,
) -> Told:
    """What a model says of the users and queries of the pairs; embeddings are read where they are not given."""
    vectors = room.vectors([Text(SEARCH, query) for query in pairs.queries]) if embeddings is None else embeddings
    names = [segment.name for segment in room.segments]
    of_users, of_queries = model.users(pairs, vectors), model.queries(vectors)
    return Told(
        pairs=pairs,
        documents=[scan.by_user[user] for user in pairs.users],
        users=([names[each] for each in of_users[0]], of_users[1]),
        query_ids=[room.text(query) for query in pairs.queries],
        queries=([names[each] for each in of_queries[0]], of_queries[1]),
        model=model_name(room.encoder.model_name, version),
    )


def _segmented(connection: Connection, users: Sequence[str]) -> set[str]:
    """Those of the users who have a segment."""
    rows = connection.execute("SELECT user_id FROM analytics.user_segments WHERE user_id = ANY(%s)", [list(users)])
    return {row[0] for row in rows}


def _more_of_nobody(new: Sequence[Hit], before: set[str], after: set[str], scan: Scan) -> int:
    """By how much the documents become more whose searcher has no segment.

    Args:
        new: documents that are new.
        before: those of the users read who had a segment.
        after: those of them who have one now.
        scan: of all documents of these users.
    """
    of = [searcher_of(hit.source) for hit in new]
    past = {user: count - of.count(user) for user, count in scan.by_user.items() if user in before ^ after}
    moved = sum(count if user in before else -count for user, count in past.items())
    return sum(user not in after for user in of) + moved


def _published(connection: Connection, record: dict[str, Any]) -> dict[str, Any]:
    """What the tables hold now: numbers of users and queries, the segments' sizes, how far they have drifted."""
    now = Crowd.published(connection)
    rows = connection.execute("SELECT segment, avg(confidence) FROM analytics.user_segments GROUP BY segment")
    sure = {segment: round(confidence, 4) for segment, confidence in rows}
    of = {each["name"]: now.segments.get(each["name"], 0) for each in record["segments"]}
    return {
        "users": now.users,
        "queries": _one(connection, "SELECT count(*) FROM analytics.query_segments"),
        "provisional": _one(connection, "SELECT count(*) FROM analytics.user_segments WHERE provisional"),
        "drift": asdict(Drift.between(Crowd(**record["learned"]), now)),
        "segments": [
            each | {"users": count, "share": count / max(now.users, 1), "mean_confidence": sure.get(each["name"])}
            for each, count in zip(record["segments"], of.values(), strict=True)
        ],
    }


def _window(client: Elasticsearch, alias: str) -> list[str | None]:
    """Time of the first and of the last search log; None where none has a time."""
    aggregations = {name: {name: {"field": "timestamp"}} for name in ("min", "max")}
    found = client.search(index=alias, size=0, aggs=aggregations)["aggregations"]
    return [found[name].get("value_as_string") for name in ("min", "max")]


def _one(connection: Connection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0] or 0) if row else 0
