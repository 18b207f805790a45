"""The index of embeddings: one document for each distinct query and example phrase, for clustering and kNN search."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shop_platform.errors import DataError, SchemaError
from shop_platform.resources.elasticsearch import alias_target, create_index, once, write_bulk
from shop_platform.resources.snapshots import snapshot
from shop_platform.settings import load_settings

if TYPE_CHECKING:
    import numpy as np
    from elasticsearch import Elasticsearch
    from numpy.typing import NDArray

ALIAS = "search_embeddings"

#: Raised when the mapping changes: the embeddings then go into another index.
MAPPING_VERSION = 2

#: Noted on the index, whose name tells nobody which version it is of.
_META = {"shop_platform": {"mapping_version": MAPPING_VERSION}}

#: Origin of a text: a search of somebody's, or an example phrase of a segment. kNN search filters on the first.
SEARCH, PROTOTYPE = "search", "prototype"

#: From so many vectors on, the graph for kNN search holds them in 8 bits a component: a quarter of the memory.
QUANTISED_FROM = 100_000

#: Documents asked for by id at a time.
_PAGE = 1_000


@dataclass(frozen=True)
class Text:
    """A normalised text that has, or needs, an embedding."""

    origin: str
    text: str

    def id(self, model: str) -> str:
        """Id of its document: the same text by another model is another document."""
        content = "\0".join((model, self.origin, self.text))
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def index_of(prefix: str, model: str) -> str:
    """Name of the index of a model's embeddings."""
    return f"{prefix}{ALIAS}-{hashlib.sha256(f'{MAPPING_VERSION} {model}'.encode()).hexdigest()[:12]}"


def ensure_index(client: Elasticsearch, prefix: str, model: str, dimensions: Callable[[], int]) -> bool:
    """Make the model's index where it is missing; returns whether it still has to be published.

    Args:
        client: where to.
        prefix: of the names of indexes.
        model: name of the model.
        dimensions: of its vectors; asked only where the index is missing, since that may load the model.

    Raises:
        SchemaError: a newer version of the platform has made the index that is published; nothing was written.
    """
    index = index_of(prefix, model)
    published = alias_target(client, f"{prefix}{ALIAS}")
    if published == index:
        return False
    if published is not None:
        _refuse_newer(client, published)
    # What a killed run by another model left behind: only one index can be written through an alias.
    for name in client.options(ignore_status=404).indices.get_alias(name=_loading(prefix)).body:
        if name.startswith(f"{prefix}{ALIAS}-") and name != index:
            client.indices.delete(index=name)
    if not client.indices.exists(index=index):
        embedding = {"type": "dense_vector", "dims": dimensions(), "index": True, "similarity": "dot_product"}
        properties = {
            "query": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},
            "origin": {"type": "keyword"},
            "model": {"type": "keyword"},
            "embedding": embedding | {"index_options": {"type": "hnsw"}},
            # The same as bytes: read back exactly, and twenty times as fast as 384 numbers in JSON.
            "vector": {"type": "binary"},
        }
        mappings = {"dynamic": "strict", "_meta": _META, "properties": properties}
        shards = load_settings().elasticsearch_embedding_shards
        create_index(client, index, _loading(prefix), mappings, shards=shards)
    return True


def _refuse_newer(client: Elasticsearch, index: str) -> None:
    mapping = client.indices.get_mapping(index=index)[index]["mappings"]
    found = mapping.get("_meta", {}).get("shop_platform", {}).get("mapping_version", MAPPING_VERSION)
    if found > MAPPING_VERSION:
        raise SchemaError(
            f"The index {index} was made by a newer shop_platform, with version {found} of its mapping, where this one "
            f"knows version {MAPPING_VERSION}: upgrade this one, or use another Elasticsearch. Nothing was written."
        )


def publish_index(client: Elasticsearch, prefix: str, model: str) -> int:
    """Let readers see what was written, by this model and no other; returns the number of embeddings."""
    alias, index = f"{prefix}{ALIAS}", index_of(prefix, model)
    with snapshot(client, index) as taken:
        count = taken.count()
    if count >= QUANTISED_FROM:
        _quantise(client, index)
    old = alias_target(client, alias)
    if old != index:
        actions: list[dict[str, Any]] = [{"add": {"index": index, "alias": alias}}]
        actions.append({"remove": {"index": index, "alias": _loading(prefix), "must_exist": False}})
        if old is not None:
            # Deleted in the same step: no reader finds neither.
            actions.append({"remove_index": {"index": old}})
        once(client, lambda client: client.indices.update_aliases(actions=actions))
    return count


def stored_ids(client: Elasticsearch, prefix: str, model: str) -> set[str]:
    """Ids of everything that has an embedding by the model."""
    with snapshot(client, index_of(prefix, model)) as taken:
        return {hit.id for hit in taken.hits([], page=5_000)}


def present_ids(client: Elasticsearch, prefix: str, model: str, ids: Iterable[str]) -> set[str]:
    """Those of some ids that have an embedding by the model."""
    return {each["_id"] for each in _get(client, index_of(prefix, model), ids, source=False)}


def store(client: Elasticsearch, prefix: str, model: str, texts: Sequence[Text], vectors: NDArray[np.float32]) -> None:
    """Store embeddings; those that are there already stay.

    Raises:
        DataError: Elasticsearch refuses one.
    """

    def actions() -> Iterator[dict[str, Any]]:
        for text, vector in zip(texts, vectors, strict=True):
            document = {"query": text.text, "origin": text.origin, "model": model, "embedding": vector.tolist()}
            packed = base64.b64encode(vector.astype("<f4").tobytes()).decode()
            yield {"_op_type": "create", "_id": text.id(model), **document, "vector": packed}

    _send(client, _writable(client, prefix, model), actions(), "storing embeddings", len(texts), expected=409)


def remove(client: Elasticsearch, prefix: str, model: str, ids: Iterable[str]) -> None:
    """Remove embeddings of what nobody searches for any more."""
    actions = [{"_op_type": "delete", "_id": each} for each in ids]
    _send(client, _writable(client, prefix, model), actions, "removing embeddings", len(actions), expected=404)


def read_vectors(client: Elasticsearch, prefix: str, model: str, texts: Sequence[Text]) -> NDArray[np.float32]:
    """Embeddings of the texts, in their order: (texts, dimensions), exactly as they were stored.

    Raises:
        DataError: one has none.
    """
    import numpy as np

    row_of = {text.id(model): row for row, text in enumerate(texts)}
    vectors = np.zeros((len(texts), _dimensions(client, prefix, model)), dtype=np.float32)
    found = 0
    for key, packed in _vectors(client, index_of(prefix, model), row_of):
        vectors[row_of[key]] = np.frombuffer(base64.b64decode(packed), dtype="<f4")
        found += 1
    if found != len(row_of):
        raise DataError(
            f"{len(row_of) - found:,} of {len(row_of):,} texts have no embedding by {model}: materialise "
            "search_embeddings first."
        )
    return vectors


def _vectors(client: Elasticsearch, index: str, wanted: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Ids and packed vectors of those that are wanted and there."""
    if len(wanted) <= _PAGE:
        yield from ((each["_id"], each["_source"]["vector"]) for each in _get(client, index, wanted, source=["vector"]))
        return
    with snapshot(client, index) as taken:
        yield from ((hit.id, hit.source["vector"]) for hit in taken.hits(["vector"]) if hit.id in wanted)


def _get(
    client: Elasticsearch, index: str, ids: Iterable[str], *, source: bool | list[str]
) -> Iterator[Mapping[str, Any]]:
    """Documents by their ids; those that are missing are left out."""
    keys = list(ids)
    for first in range(0, len(keys), _PAGE):
        answer = client.mget(index=index, ids=keys[first : first + _PAGE], source=source)
        yield from (each for each in answer["docs"] if each.get("found"))


def _dimensions(client: Elasticsearch, prefix: str, model: str) -> int:
    from elasticsearch import NotFoundError

    index = index_of(prefix, model)
    try:
        mapping = client.indices.get_mapping(index=index)[index]
    except NotFoundError:
        raise DataError(f"There are no embeddings by {model} yet: materialise search_embeddings first.") from None
    return int(mapping["mappings"]["properties"]["embedding"]["dims"])


def _quantise(client: Elasticsearch, index: str) -> None:
    field = client.indices.get_mapping(index=index)[index]["mappings"]["properties"]["embedding"]
    if field["index_options"]["type"] == "hnsw":
        quantised = {**field, "index_options": {**field["index_options"], "type": "int8_hnsw"}}
        client.indices.put_mapping(index=index, properties={"embedding": quantised})


def _loading(prefix: str) -> str:
    return f"{prefix}{ALIAS}-loading"


def _writable(client: Elasticsearch, prefix: str, model: str) -> str:
    """The alias through which the model's index is written: nothing makes an index by accident."""
    published = alias_target(client, f"{prefix}{ALIAS}") == index_of(prefix, model)
    return f"{prefix}{ALIAS}" if published else _loading(prefix)


def _send(
    client: Elasticsearch, alias: str, actions: Iterable[dict[str, Any]], what: str, total: int, *, expected: int
) -> None:
    for written in write_bulk(client, alias, actions, what=what, total=total):
        if written.status >= 400 and written.status != expected:
            raise DataError(f"Elasticsearch refused an embedding for {alias}: {written.error or written.status}.")
