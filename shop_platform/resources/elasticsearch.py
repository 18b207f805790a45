"""Elasticsearch as a Dagster resource: where it is, clients that never show a secret, reading and writing in bulk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from dagster import ConfigurableResource

from shop_platform.errors import DataError, ServiceError
from shop_platform.progress import Advance, track, unheard
from shop_platform.settings import load_settings

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

#: How long a point in time outlives the last page that was asked for.
_KEEP_ALIVE = "5m"

#: Actions of one bulk request, and requests at a time: with two, the node works while the client reads and writes.
_ACTIONS, _REQUESTS = 2_000, 2


class ElasticsearchResource(ConfigurableResource[Any]):
    """Clients for the search logs' Elasticsearch.

    URL and credentials come from the environment, or from the embedded server, when first needed; they are no
    part of the resource's configuration. `index_prefix` goes before every index and alias name.
    """

    index_prefix: str = ""

    @contextmanager
    def client(self) -> Iterator[Elasticsearch]:
        """A client, closed when the block ends.

        Raises:
            ServiceError: the embedded server could not be started.
        """
        from elasticsearch import Elasticsearch

        from shop_platform.services import elasticsearch

        with Elasticsearch(**elasticsearch.client_options(load_settings())) as client:
            yield client


@dataclass(frozen=True)
class Hit:
    """One document as a snapshot holds it; `seq_no` and `primary_term` say which version of it that is."""

    id: str
    seq_no: int
    primary_term: int
    source: Mapping[str, Any]


class Snapshot:
    """What an index or alias held at one point in time; made by `snapshot`."""

    def __init__(self, client: Elasticsearch, point: str) -> None:
        self._client = client
        self.point = point

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
        """
        source: bool | dict[str, Any] = {"includes": list(fields), "exclude_vectors": False} if fields else False
        after: list[Any] | None = None
        while True:
            answer = self._client.search(
                pit={"id": self.point, "keep_alive": _KEEP_ALIVE},
                query=query,
                slice=None if part is None else {"id": part[0], "max": part[1]},
                size=page,
                sort=["_shard_doc"],
                search_after=after,
                source=source,
                seq_no_primary_term=True,
                track_total_hits=False,
            )
            self.point = answer["pit_id"]
            found = answer["hits"]["hits"]
            for hit in found:
                yield Hit(hit["_id"], hit["_seq_no"], hit["_primary_term"], hit.get("_source", {}))
            if len(found) < page:
                return
            after = found[-1]["sort"]

    def count(self) -> int:
        """How many documents there are."""
        answer = self._client.search(pit={"id": self.point, "keep_alive": _KEEP_ALIVE}, size=0, track_total_hits=True)
        self.point = answer["pit_id"]
        return int(answer["hits"]["total"]["value"])


@contextmanager
def snapshot(client: Elasticsearch, alias: str) -> Iterator[Snapshot]:
    """Everything that was written to an alias or index so far, unmoved by what is written meanwhile.

    Raises:
        DataError: there is no such alias.
    """
    from elasticsearch import NotFoundError

    try:
        client.indices.refresh(index=alias)
        taken = Snapshot(client, client.open_point_in_time(index=alias, keep_alive=_KEEP_ALIVE)["id"])
    except NotFoundError:
        raise DataError(
            f"Elasticsearch has no {alias}: materialise the asset that makes it first, from user_logs on."
        ) from None
    try:
        yield taken
    finally:
        client.options(ignore_status=404).close_point_in_time(id=taken.point)


@dataclass(frozen=True)
class Written:
    """What became of one action of a bulk request.

    Attributes:
        id: of the document.
        status: as of HTTP.
        error: its type, where it failed.
        seq_no: number of the operation on its shard, where there was one.
    """

    id: str
    status: int
    error: str = ""
    seq_no: int | None = None


def write_bulk(
    client: Elasticsearch,
    alias: str,
    actions: Iterable[Mapping[str, Any]],
    *,
    what: str | None = None,
    total: int | None = None,
    backoff: float = 0.5,
) -> Iterator[Written]:
    """Send actions in bulk through an alias, and tell of each what became of it, in their order.

    Nothing makes an index by accident: the target must be an alias. Actions that a busy node turns away (429) are
    sent again, after 0.5, 1, 2, ... seconds, seven times.

    Args:
        client: where to.
        alias: what to write through.
        actions: as for `elasticsearch.helpers`, without `_index`.
        what: is being done, to be told to those who wait for it; None where the caller tells more itself.
        total: number of actions, where it is known.
        backoff: seconds before the first repetition.

    Raises:
        DataError: there is no such alias.
        ServiceError: the node stayed too busy.
    """
    from elasticsearch import helpers

    def send(part: list[dict[str, Any]]) -> list[Written]:
        results = helpers.streaming_bulk(
            client,
            part,
            index=alias,
            require_alias=True,
            chunk_size=_ACTIONS,
            max_chunk_bytes=10 * 2**20,
            raise_on_error=False,
            max_retries=7,
            initial_backoff=backoff,
            max_backoff=30,
        )
        return [_written(next(iter(outcome.values())), alias) for _, outcome in results]

    parts = iter(dict(action) for action in actions)
    with ThreadPoolExecutor(_REQUESTS) as threads, _told(what, total) as advance:
        under_way: deque[Future[list[Written]]] = deque()

        def finished() -> list[Written]:
            written = under_way.popleft().result()
            advance(len(written))
            return written

        while part := list(islice(parts, _ACTIONS)):
            under_way.append(threads.submit(send, part))
            if len(under_way) > _REQUESTS:
                yield from finished()
        while under_way:
            yield from finished()


def _told(what: str | None, total: int | None) -> AbstractContextManager[Advance]:
    return nullcontext(unheard) if what is None or total == 0 else track(what, total, "documents")


def _written(item: Mapping[str, Any], alias: str) -> Written:
    error = item.get("error")
    kind = error.get("type", "unknown") if isinstance(error, dict) else str(error or "")
    if kind == "index_not_found_exception":
        raise DataError(f"Elasticsearch has no alias {alias}: it was removed meanwhile. Run again from user_logs on.")
    if item["status"] == 429:
        raise ServiceError(f"Elasticsearch stayed too busy to take documents for {alias}. Run again later.")
    return Written(item["_id"], item["status"], kind, item.get("_seq_no"))


def alias_target(client: Elasticsearch, alias: str) -> str | None:
    """The one index behind an alias; None where there is no such alias.

    Raises:
        DataError: the name is an index's own, or the alias has several indexes.
    """
    found = client.options(ignore_status=404).indices.get_alias(name=alias)
    indexes = [name for name in found.body if name not in ("error", "status")]
    if len(indexes) > 1:
        raise DataError(f"The alias {alias} has several indexes: {', '.join(sorted(indexes))}. Leave it only one.")
    if not indexes and client.indices.exists(index=alias):
        raise DataError(
            f"{alias} is an index of its own in this Elasticsearch, where the platform needs the name for an alias. "
            "Rename that index, or use another Elasticsearch."
        )
    return indexes[0] if indexes else None


def create_index(client: Elasticsearch, name: str, alias: str, mappings: Mapping[str, Any]) -> None:
    """Make an index with an alias, of one shard, replicated where there is a second node; none if it exists already."""
    from elasticsearch import BadRequestError

    try:
        client.indices.create(
            index=name,
            aliases={alias: {}},
            mappings=mappings,
            settings={"number_of_shards": 1, "auto_expand_replicas": "0-1"},
        )
    except BadRequestError as error:
        if error.error != "resource_already_exists_exception":
            raise
