"""Elasticsearch as a Dagster resource: where it is, clients that never show a secret, writing in bulk."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from dagster import ConfigurableResource

from shop_platform.errors import DataError, ServiceError, StorageError
from shop_platform.progress import Advance, track, unheard
from shop_platform.settings import load_settings

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

#: Answers of a node that did not do what it was asked for, and may do it later.
_TURNED_AWAY = (429, 502, 503, 504)

#: Actions of one bulk request, and requests at a time: with two, the node works while the client reads and writes.
_ACTIONS, _REQUESTS = 2_000, 2

#: What the node tells of each action: all of it would take a tenth of the time of an update.
_TOLD = "errors,items.*._id,items.*.status,items.*.error,items.*._seq_no"

#: A busy node, and a shard whose primary is lost: both are over after a while.
_BUSY = (429, 503)

#: What an index answers, with status 429, whose node's disk is over the flood-stage watermark.
_CLOSED = "cluster_block_exception"


class ElasticsearchResource(ConfigurableResource[Any]):
    """Clients for the search logs' Elasticsearch.

    URL and credentials come from the environment, or from the embedded server, when first needed; they are no
    part of the resource's configuration. `index_prefix` goes before every index and alias name.
    """

    index_prefix: str = ""

    @contextmanager
    def client(self) -> Iterator[Elasticsearch]:
        """A client, closed when the block ends.

        It makes requests again that got no answer, or were turned away, after random pauses that grow, for a limited
        number of times: each that the platform makes may be made twice, but for those of `once`.

        Raises:
            SettingsError: the URL can't be used, or leads to another host without verified TLS.
            ServiceError: the embedded server could not be started; a server's certificate is refused; or a request got
                no answer, or was turned away, as often as it was made.
            StorageError: it was turned away as Elasticsearch's disk is nearly full.
        """
        from elasticsearch import (
            ApiError,
            ConnectionError,  # noqa: A004  its name
            ConnectionTimeout,
            Elasticsearch,
        )

        from shop_platform.services import elasticsearch
        from shop_platform.services.elasticsearch_http import RefusedCertificateError

        try:
            with Elasticsearch(**elasticsearch.client_options(load_settings())) as client:
                yield client
        except RefusedCertificateError:
            raise ServiceError(
                "Elasticsearch's certificate is refused: it has expired, is for another host name, or no authority in "
                "ELASTICSEARCH_CA_CERTS (unset: those of this system) has signed it."
            ) from None
        except (ConnectionError, ConnectionTimeout) as error:
            raise ServiceError(
                f"Elasticsearch does not answer ({type(error).__name__}). Check ELASTICSEARCH_URL, or run "
                "`shop-platform status` if the embedded node is used; then run it again: it goes on where it stopped."
            ) from error
        except ApiError as error:
            if error.status_code not in _TURNED_AWAY:
                raise
            if (error.status_code, error.error) == (429, _CLOSED):
                raise _without_room(error.info["error"]["reason"]) from error
            raise ServiceError(
                f"Elasticsearch turns requests away for now (status {error.status_code}, {error.error}): it is too "
                "busy, or starts. Run it again later: it goes on where it stopped."
            ) from error


def _without_room(reason: str) -> StorageError:
    return StorageError(
        f"Elasticsearch takes no documents, since its disk is nearly full: {reason.rstrip(';')} Make room there. The "
        "index opens by itself then; where nothing watches the disk, by PUT /{index}/_settings with "
        '{"index.blocks.read_only_allow_delete": null}. Then run it again: it goes on where it stopped.'
    )


def once(client: Elasticsearch, request: Callable[[Elasticsearch], object]) -> None:
    """Make a request that must not be made twice.

    Where its answer is lost, nobody knows whether it was done, and made again it would fail, or undo what somebody did
    meanwhile. A node that no connection is made to has been sent nothing: then others of the cluster are asked, each
    as often as there are nodes at most.

    Args:
        client: of one node or several.
        request: makes the request by the client that it is given.
    """
    from elasticsearch import ConnectionError  # noqa: A004  its name
    from urllib3.exceptions import NewConnectionError

    asking = client.options(max_retries=0, retry_on_timeout=False)
    for left in reversed(range(len(client.transport.node_pool))):
        try:
            request(asking)
        except ConnectionError as error:
            # The client marks the node as dead, and takes another the next time.
            if left == 0 or not isinstance(error.__cause__, NewConnectionError):
                raise
        else:
            return


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

    Nothing makes an index by accident: the target must be an alias. Actions that a busy node turns away (429), or
    whose shard has lost its primary (503), are sent again, after about 0.5, 1, 2, ... seconds, seven times.

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
        StorageError: its disk stayed nearly full.
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
            retry_on_status=_BUSY,
            # Of random length, so that requests that were turned away together do not come back together.
            initial_backoff=backoff * random.uniform(0.5, 1.5),  # noqa: S311  no secret
            max_backoff=30,
            filter_path=_TOLD,
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
    if (item["status"], kind) == (429, _CLOSED):
        raise _without_room(str(item["error"]["reason"]))
    if item["status"] in _BUSY:
        raise ServiceError(
            f"Elasticsearch stayed too busy to take documents for {alias}, or lacks a node. Run again later."
        )
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


def create_index(client: Elasticsearch, name: str, alias: str, mappings: Mapping[str, Any], *, shards: int = 1) -> None:
    """Make an index with an alias, unless it exists already.

    It is replicated as `SHOP_ELASTICSEARCH_REPLICAS` says; else once, where there is a second node.
    """
    from elasticsearch import BadRequestError

    replicas = load_settings().elasticsearch_replicas
    copies: dict[str, Any] = {"auto_expand_replicas": "0-1"} if replicas is None else {"number_of_replicas": replicas}
    try:
        client.indices.create(
            index=name,
            aliases={alias: {}},
            mappings=mappings,
            settings={"number_of_shards": shards, **copies},
        )
    except BadRequestError as error:
        if error.error != "resource_already_exists_exception":
            raise
