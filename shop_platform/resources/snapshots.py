"""What an Elasticsearch index holds at one point in time, read page by page, unmoved by what is written meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shop_platform.errors import DataError, ServiceError

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

#: How long a point in time outlives the last page that was asked for.
_KEEP_ALIVE = "5m"

#: Seconds between attempts to read an index of which a shard has no node, until a replica has taken over.
_TAKE_OVER = (0.5, 1, 2, 4, 8, 16)


class LostSnapshotError(ServiceError):
    """A node left the cluster with its part of a snapshot, or the snapshot was not asked for long. Run again."""


@dataclass(frozen=True)
class Hit:
    """One document as a snapshot holds it; `seq_no` and `primary_term` say which version on its shard."""

    id: str
    seq_no: int
    primary_term: int
    source: Mapping[str, Any]
    shard: int = 0


class Snapshot:
    """What an index or alias held at one point in time; made by `snapshot`."""

    def __init__(self, client: Elasticsearch, point: str, shards: int = 1) -> None:
        self._client = client
        self.point = point
        self.shards = shards

    def hits(
        self,
        fields: Sequence[str],
        *,
        query: Mapping[str, Any] | None = None,
        page: int = 2_000,
        part: tuple[int, int] | None = None,
    ) -> Iterator[Hit]:
        """All documents, each once, with the given fields; holds one page of them in memory.

        Args:
            fields: of the documents.
            query: which documents; None for all.
            page: how many are asked for at a time.
            part: number of a slice, from 0, and how many there are: each document is in one of them.

        Raises:
            LostSnapshotError: a part of the snapshot is gone; never are the documents of the rest taken for all.
        """
        source: bool | dict[str, Any] = {"includes": list(fields), "exclude_vectors": False} if fields else False
        after: list[Any] | None = None
        while True:
            found = self._search(
                query=query,
                slice=None if part is None else {"id": part[0], "max": part[1]},
                size=page,
                sort=["_shard_doc"],
                search_after=after,
                source=source,
                seq_no_primary_term=True,
                track_total_hits=False,
                # Only with an explanation is it told on which shard a document is; the explanation itself is not sent.
                explain=self.shards > 1,
                filter_path="-hits.hits._explanation",
            )["hits"]["hits"]
            for hit in found:
                shard = int(hit["_shard"].rpartition("[")[2][:-1]) if self.shards > 1 else 0
                yield Hit(hit["_id"], hit["_seq_no"], hit["_primary_term"], hit.get("_source", {}), shard)
            if len(found) < page:
                return
            after = found[-1]["sort"]

    def since(self, seq_nos: Sequence[int], fields: Sequence[str]) -> Iterator[Hit]:
        """Documents whose last operation has a later number than the one given for their shard."""
        for hit in self.hits(fields, query={"range": {"_seq_no": {"gt": min(seq_nos)}}}):
            if hit.seq_no > seq_nos[hit.shard]:
                yield hit

    def by_month(self, field: str) -> dict[str, int]:
        """How many documents there are by month in UTC of a field, such as 2025-01; "none" for those without one."""
        months = {
            "date_histogram": {"field": field, "calendar_interval": "month", "format": "uuuu-MM", "min_doc_count": 1}
        }
        found = self._search(size=0, aggs={"months": months, "none": {"missing": {"field": field}}})
        counts = {each["key_as_string"]: each["doc_count"] for each in found["aggregations"]["months"]["buckets"]}
        none = found["aggregations"]["none"]["doc_count"]
        return counts | ({"none": none} if none else {})

    def count(self) -> int:
        """How many documents there are."""
        return int(self._search(size=0, track_total_hits=True)["hits"]["total"]["value"])

    def _search(self, **asked: Any) -> Any:  # noqa: ANN401  as the client takes and answers it
        from elasticsearch import ApiError, ConnectionError  # noqa: A004  its name

        pit = {"id": self.point, "keep_alive": _KEEP_ALIVE}
        try:
            answer = self._client.search(pit=pit, allow_partial_search_results=False, **asked)
        except ApiError as error:
            if error.status_code != 404 and error.status_code < 500:
                raise
            raise _lost(error.error) from error
        except ConnectionError as error:
            # The last attempt may have gone to the node that left; where others answer, it has taken its part along.
            self._client.cluster.health()
            raise _lost(type(error).__name__) from error
        self.point = answer["pit_id"]
        return answer


def _lost(why: str) -> LostSnapshotError:
    return LostSnapshotError(
        f"Elasticsearch lost a part of what was being read ({why}): a node left the cluster, or the reading paused for "
        "over five minutes. Run again."
    )


@contextmanager
def snapshot(client: Elasticsearch, alias: str) -> Iterator[Snapshot]:
    """Everything that was written to an alias or index so far, unmoved by what is written meanwhile.

    Where a shard has no node just now it waits for a replica to take over, for half a minute.

    Raises:
        DataError: there is no such alias.
        ServiceError: a shard stays without a node.
    """
    from elasticsearch import NotFoundError

    try:
        taken = next(filter(None, (_open(client, alias, wait) for wait in (*_TAKE_OVER, None))))
    except NotFoundError:
        raise DataError(
            f"Elasticsearch has no {alias}: materialise the asset that makes it first, from user_logs on."
        ) from None
    try:
        yield taken
    finally:
        client.options(ignore_status=(404, 500, 502, 503)).close_point_in_time(id=taken.point)


def _open(client: Elasticsearch, alias: str, wait: float | None) -> Snapshot | None:
    """A snapshot of every shard; where one has no node, None after some seconds, or an error where there are none."""
    from elasticsearch import ApiError

    try:
        if not client.indices.refresh(index=alias)["_shards"]["failed"]:
            opened = client.open_point_in_time(index=alias, keep_alive=_KEEP_ALIVE)
            return Snapshot(client, opened["id"], opened["_shards"]["total"])
    except ApiError as error:
        if error.status_code < 500:
            raise
    if wait is None:
        raise ServiceError(f"Elasticsearch can't read all shards of {alias}: see its cluster health, then run again.")
    time.sleep(wait)
    return None
