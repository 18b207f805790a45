"""Who searched for what, each pair once: what the search logs come down to for segmenting."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shop_platform.segmentation.queries import query_of, searcher_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FIELDS = ("user_id", "search_query")


@dataclass(frozen=True)
class Pairs:
    """Distinct (user, normalised query) pairs, in the order of user, then query.

    Attributes:
        users: user ids, sorted.
        queries: normalised queries, sorted.
        user: user of each pair, an index into `users`.
        query: query of each pair, an index into `queries`.
    """

    users: tuple[str, ...]
    queries: tuple[str, ...]
    user: NDArray[np.int64]
    query: NDArray[np.int64]

    def digest(self) -> str:
        """Hash of the pairs: the same for the same pairs, however often and in whatever order they were searched."""
        state = hashlib.sha256("\0".join(self.users).encode())
        state.update(b"\0\0" + "\0".join(self.queries).encode())
        state.update(b"\0\0" + self.user.astype("<i8").tobytes() + self.query.astype("<i8").tobytes())
        return state.hexdigest()


def pairs_of(found: Iterable[tuple[str, str]]) -> Pairs:
    """Number users and queries of the pairs."""
    import numpy as np

    rows = sorted(set(found))
    users = sorted({user for user, _ in rows})
    queries = sorted({query for _, query in rows})
    user_at = {user: i for i, user in enumerate(users)}
    query_at = {query: i for i, query in enumerate(queries)}
    return Pairs(
        tuple(users),
        tuple(queries),
        np.array([user_at[user] for user, _ in rows], dtype=np.int64),
        np.array([query_at[query] for _, query in rows], dtype=np.int64),
    )


@dataclass
class Scan:
    """What one reading of the search logs found. Holds the distinct pairs, not the documents.

    Attributes:
        documents: documents read.
        blank: documents without a query that says anything; they have no embedding.
        nobody: documents with a query, but without a searcher that the database could hold.
        queries: distinct normalised queries.
        pairs: distinct (user, normalised query) pairs.
    """

    documents: int
    blank: int
    nobody: int
    queries: set[str]
    pairs: set[tuple[str, str]]


def scan_documents(documents: Iterable[Mapping[str, Any]]) -> Scan:
    """Read documents of the search logs down to distinct queries and pairs."""
    scan = Scan(0, 0, 0, set(), set())
    for document in documents:
        scan.documents += 1
        query, user = query_of(document), searcher_of(document)
        if not query:
            scan.blank += 1
            continue
        scan.queries.add(query)
        if user:
            scan.pairs.add((user, query))
        else:
            scan.nobody += 1
    return scan
