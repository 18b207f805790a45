"""Which documents of the search logs have to carry another segment: all, or those that a refresh is about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from shop_platform.records import find_record, read_record
from shop_platform.resources.snapshots import Hit, Snapshot, snapshot
from shop_platform.segmentation.embeddings import SEARCH, Text
from shop_platform.segmentation.logs import ALIAS as LOGS
from shop_platform.segmentation.marks import MODEL_FIELD, changed_since, history, mark_of
from shop_platform.segmentation.publishing import (
    label_of_unknown,
    read_labels,
    read_query_segments,
)
from shop_platform.segmentation.queries import searcher_of
from shop_platform.segmentation.segmenting import RECORD, WRITTEN, documents_of
from shop_platform.segmentation.writeback import (
    FIELDS,
    Choose,
    Labels,
    Pass,
    WriteOnce,
    all_documents,
    segment_counts,
    settled_mark,
    write_segments,
)

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from shop_platform.resources.postgres import Connection

#: Opens a connection to PostgreSQL.
Connect = Callable[[], AbstractContextManager["Connection"]]


@dataclass(frozen=True)
class Labelled:
    """What became of the documents.

    Attributes:
        passes: readings of documents that it took.
        all_read: whether they were all documents.
        expected: documents by segment, by what the users' segments ask for.
        found: documents by segment, as Elasticsearch counts them.
        record: to store.
    """

    passes: Sequence[Pass]
    all_read: bool
    expected: Mapping[str, int]
    found: Mapping[str, int]
    record: dict[str, Any]


def label_documents(
    client: Elasticsearch,
    connect: Connect,
    prefix: str,
    encoder_name: str,
    names: Sequence[str],
    *,
    everything: bool = False,
    write: WriteOnce | None = None,
) -> Labelled:
    """Bring documents to their searchers' segments: only those that changed since the last time, where that is enough.

    It is not where all users were told anew since, where somebody deleted documents meanwhile, or where `everything`
    is to be looked at. `write` is what reads and writes documents, where it is not this process.

    Raises:
        DataError: no users were segmented yet, or the search logs are missing.
    """
    alias = f"{prefix}{LOGS}"
    with connect() as connection:
        told = read_record(connection, RECORD)
        before = find_record(connection, WRITTEN) or {}
        base = mark_of(find_record(connection, "search_embeddings"))
        unknown = label_of_unknown(connection, names, told["model"])
    published = {"generation": told["generation"], "unknown": asdict(unknown)}
    since = mark_of(before) if published.items() <= before.items() and not everything else None
    at = history(client, alias)
    with snapshot(client, alias) as taken:
        changed = changed_since(taken, since, at, ("user_id", MODEL_FIELD))
    users = None if changed is None else sorted({user for hit in changed if (user := searcher_of(hit.source))})
    choose = all_documents if users is None or since is None else _of(users, since.seq_nos)

    def read() -> Labels:
        with connect() as connection:
            return Labels(
                read_labels(connection, users),
                unknown,
                read_query_segments(connection, users),
                lambda query: Text(SEARCH, query).id(encoder_name),
            )

    passes = write_segments(client, alias, read, choose, write)
    found = segment_counts(client, alias)
    mark = settled_mark(passes, base)
    with connect() as connection:
        expected = _expected(connection, unknown.segment, told["nobody"])
    record = published | {
        "documents": passes[-1].total,
        "segments": found,
        "waiting": passes[-1].waiting,
        "updated": sum(each.updated for each in passes),
        "read_to": mark and mark.as_record(),
    }
    return Labelled(passes, users is None, expected, found, record)


def _of(users: Sequence[str], seq_nos: Sequence[int]) -> Choose:
    """Documents with later operations, and those of some users; each once."""

    def choose(taken: Snapshot) -> Iterator[Hit]:
        seen: set[str] = set()
        for hit in taken.since(seq_nos, FIELDS):
            seen.add(hit.id)
            yield hit
        yield from (hit for hit in documents_of(taken, users, FIELDS) if hit.id not in seen)

    return choose


def _expected(connection: Connection, unknown: str, nobody: int) -> dict[str, int]:
    """Documents by segment, by the segments of their searchers."""
    rows = connection.execute("SELECT segment, sum(documents) FROM analytics.user_segments GROUP BY segment").fetchall()
    counts = Counter({segment: int(documents) for segment, documents in rows})
    counts[unknown] += nobody
    return {segment: count for segment, count in sorted(counts.items()) if count}
