"""The index of embeddings: one document for each distinct query and model, for clustering and for kNN search."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shop_platform.errors import DataError
from shop_platform.resources.elasticsearch import alias_target, create_index, snapshot, write_bulk

if TYPE_CHECKING:
    import numpy as np
    from elasticsearch import Elasticsearch
    from numpy.typing import NDArray

ALIAS = "search_embeddings"

#: Origin of a text: a search of somebody's, or an example phrase of a segment. kNN search filters on the first.
SEARCH, PROTOTYPE = "search", "prototype"


@dataclass(frozen=True)
class Text:
    """A normalised text that has, or needs, an embedding."""

    origin: str
    text: str

    def id(self, model: str) -> str:
        """Id of its document: the same text by another model is another document."""
        content = "\0".join((model, self.origin, self.text))
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def ensure_index(client: Elasticsearch, prefix: str, dimensions: int) -> str:
    """Make the index where it is missing; returns its alias."""
    alias = f"{prefix}{ALIAS}"
    if alias_target(client, alias) is None:
        embedding = {"type": "dense_vector", "dims": dimensions, "index": True, "similarity": "dot_product"}
        # Plain HNSW: a distinct query takes 1.5 KB, so that quantising pays only from some hundred thousand on.
        embedding["index_options"] = {"type": "hnsw"}
        properties = {
            "query": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},
            "origin": {"type": "keyword"},
            "model": {"type": "keyword"},
            "embedding": embedding,
        }
        create_index(client, f"{alias}-000001", alias, {"dynamic": "strict", "properties": properties})
    return alias


def stored_ids(client: Elasticsearch, prefix: str) -> set[str]:
    """Ids of everything that has an embedding."""
    with snapshot(client, f"{prefix}{ALIAS}") as taken:
        return {hit.id for hit in taken.hits([], page=5_000)}


def store(client: Elasticsearch, prefix: str, model: str, texts: Sequence[Text], vectors: NDArray[np.float32]) -> None:
    """Store embeddings; those that are there already stay.

    Raises:
        DataError: Elasticsearch refuses one.
    """

    def actions() -> Iterator[dict[str, Any]]:
        for text, vector in zip(texts, vectors, strict=True):
            document = {"query": text.text, "origin": text.origin, "model": model, "embedding": vector.tolist()}
            yield {"_op_type": "create", "_id": text.id(model), **document}

    _send(client, f"{prefix}{ALIAS}", actions(), expected=409)


def remove(client: Elasticsearch, prefix: str, ids: Iterable[str]) -> None:
    """Remove embeddings of what nobody searches for any more, or of a model that is not used any more."""
    _send(client, f"{prefix}{ALIAS}", ({"_op_type": "delete", "_id": each} for each in ids), expected=404)


def read_vectors(
    client: Elasticsearch, prefix: str, model: str, texts: Sequence[Text], dimensions: int
) -> NDArray[np.float32]:
    """Embeddings of the texts, in their order: (texts, dimensions), exactly as they were stored.

    Raises:
        DataError: one has none.
    """
    import numpy as np

    row_of = {text.id(model): row for row, text in enumerate(texts)}
    vectors = np.zeros((len(texts), dimensions), dtype=np.float32)
    found: set[str] = set()
    with snapshot(client, f"{prefix}{ALIAS}") as taken:
        for hit in taken.hits(["embedding"], query={"term": {"model": model}}, page=500):
            if hit.id in row_of:
                vectors[row_of[hit.id]] = hit.source["embedding"]
                found.add(hit.id)
    if len(found) != len(row_of):
        raise DataError(
            f"{len(row_of) - len(found):,} of {len(row_of):,} texts have no embedding by {model}: materialise "
            "search_embeddings first."
        )
    return vectors


def _send(client: Elasticsearch, alias: str, actions: Iterable[dict[str, Any]], *, expected: int) -> None:
    for written in write_bulk(client, alias, actions):
        if written.status >= 400 and written.status != expected:
            raise DataError(f"Elasticsearch refused an embedding for {alias}: {written.error or written.status}.")
