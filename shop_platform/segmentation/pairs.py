"""Who searched for what, each pair once: what the search logs come down to for segmenting."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shop_platform.segmentation.marks import MODEL_FIELD
from shop_platform.segmentation.queries import query_of, searcher_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FIELDS = ("user_id", "search_query", MODEL_FIELD)


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
    scan = Scan()
    for user, query in found:
        scan.note(user, query)
    return scan.pairs()


@dataclass
class Scan:
    """What one reading of the search logs found. Holds numbers for the documents, not the documents.

    Attributes:
        documents: documents read.
        blank: documents without a query that says anything; they have no embedding.
        nobody: documents with a query, but without a searcher that the database could hold.
        by_user: documents of each searcher, those without a query among them.
        queries: distinct normalised queries, with their numbers.
    """

    documents: int = 0
    blank: int = 0
    nobody: int = 0
    by_user: Counter[str] = field(default_factory=Counter)
    queries: dict[str, int] = field(default_factory=dict)
    _users: dict[str, int] = field(default_factory=dict)
    _found: array[int] = field(default_factory=lambda: array("q"))

    def note(self, user: str, query: str) -> None:
        """Note that a user searched for something."""
        number = self.queries.setdefault(query, len(self.queries))
        # Both numbers in one, 8 bytes a search: a tuple of two texts takes 200.
        self._found.append(self._users.setdefault(user, len(self._users)) << 32 | number)

    def pairs(self, known: Collection[str] | None = None) -> Pairs:
        """The distinct pairs, of known queries only where these are given."""
        import numpy as np

        found = np.unique(np.frombuffer(self._found, dtype=np.int64)) if self._found else np.zeros(0, dtype=np.int64)
        user, query = found >> 32, found & 0xFFFFFFFF
        if known is not None:
            kept = np.fromiter((each in known for each in self.queries), dtype=bool, count=len(self.queries))[query]
            user, query = user[kept], query[kept]
        users, user = _sorted(list(self._users), user)
        queries, query = _sorted(list(self.queries), query)
        order = np.lexsort((query, user))
        return Pairs(users, queries, user[order], query[order])


def scan_documents(documents: Iterable[Mapping[str, Any]]) -> Scan:
    """Read documents of the search logs down to distinct queries and pairs."""
    scan = Scan()
    for document in documents:
        scan.documents += 1
        query, user = query_of(document), searcher_of(document)
        if user:
            scan.by_user[user] += 1
        if not query:
            scan.blank += 1
        elif user:
            scan.note(user, query)
        else:
            scan.nobody += 1
            scan.queries.setdefault(query, len(scan.queries))
    return scan


def _sorted(texts: list[str], number: NDArray[np.int64]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Those of the texts that are used, sorted, and their numbers in that order."""
    import numpy as np

    used = sorted(np.unique(number).tolist(), key=texts.__getitem__)
    place = np.zeros(len(texts), dtype=np.int64)
    place[used] = np.arange(len(used))
    return tuple(texts[each] for each in used), place[number]
