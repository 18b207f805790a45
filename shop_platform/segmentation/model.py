"""What a segmentation learns, once, and how it tells a user's segment ever after. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shop_platform.segmentation.clusters import can_cluster, cluster_users, margins_of
from shop_platform.segmentation.pairs import Pairs
from shop_platform.segmentation.reader import Reader, fit_reader
from shop_platform.segmentation.vectors import prototype_vectors, unit_rows, user_vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    Floats = NDArray[np.float64]
    Vectors = NDArray[np.float32]

#: Raised when the same input gives other segments than before.
VERSION = 2

#: Margin under which a segment is a phantom: between what was measured where a segment exists (0.11 and more, where its
#: users also have a favourite topic and say only half of what they are after; else 0.18 and more) and where nobody is
#: in it (0.11 and less). A phantom also gathers hardly anybody (from 0.1 to 4 % of the users): a segment of so few is
#: not supported either.
LOW_MARGIN, LOW_SHARE = 0.10, 0.02

#: Rounds of reading and assigning at most, and the mean change of a user's probabilities under which they end.
_ROUNDS, _SETTLED = 10, 1e-3


@dataclass(frozen=True)
class Model:
    """What a segmentation learned.

    Attributes:
        supported: numbers of the segments that the data show to exist, in order; the reader's columns.
        margins: the best of each segment, in [-2, 2]; None where there were too few users.
        reader: tells the supported segments apart.
        fitted: False where there were too few different users to learn from: then the reader is learned from the
            example phrases alone, and `supported` are all.
    """

    supported: tuple[int, ...]
    margins: tuple[float, ...] | None
    reader: Reader
    fitted: bool

    def users(self, pairs: Pairs, embeddings: Vectors) -> tuple[NDArray[np.int64], Floats]:
        """The segment of each user of the pairs, by its number, and its probability.

        Args:
            pairs: who searched for what.
            embeddings: (queries, dimensions), of `pairs.queries`.
        """
        return self._named(self.reader.of_users(_sums(pairs, self.reader.evidence(embeddings))))

    def probabilities(self, pairs: Pairs, embeddings: Vectors, segments: int) -> Floats:
        """Probability of each of so many segments for each user, 0 for unsupported ones: (users, segments)."""
        import numpy as np

        found = np.zeros((len(pairs.users), segments))
        found[:, list(self.supported)] = self.reader.of_users(_sums(pairs, self.reader.evidence(embeddings)))
        return found

    def queries(self, embeddings: Vectors) -> tuple[NDArray[np.int64], Floats]:
        """The segment that each query looks like by itself, by its number, and its probability."""
        return self._named(self.reader.of_queries(embeddings))

    def _named(self, probabilities: Floats) -> tuple[NDArray[np.int64], Floats]:
        import numpy as np

        if not len(probabilities):
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        return np.asarray(self.supported)[probabilities.argmax(axis=1)], probabilities.max(axis=1)


def fit_model(
    pairs: Pairs, embeddings: Vectors, phrases: Sequence[Vectors], seed: int, before: Model | None = None
) -> Model:
    """Learn the segments from the users of the pairs.

    KMeans over users' vectors, started at the prototypes, tells roughly who is in which segment. From that a reader
    learns what each query says about its searcher; reading all of a user's queries tells better who is in which
    segment; and so on until it settles (expectation maximisation of a mixture whose components share the reader). A
    segment whose telling queries are no nearer to its own example phrases than to another's, or that hardly anybody is
    in, is given up, the weakest first, and the rest learned anew.

    Args:
        pairs: who searched for what.
        embeddings: (queries, dimensions), of `pairs.queries`, rows of length 1.
        phrases: for each segment, the embeddings of its phrases.
        seed: of KMeans.
        before: an earlier model by the same encoder and segments: clusters start where it puts the users, so that
            names stay.
    """
    from threadpoolctl import threadpool_limits

    # A fit is thousands of small products of matrices: where another process wants the processor too, threads that wait
    # for each other at every one of them take thirty times as long as one thread.
    with threadpool_limits(limits=1):
        return _fit(pairs, embeddings, phrases, seed, before)


def _fit(pairs: Pairs, embeddings: Vectors, phrases: Sequence[Vectors], seed: int, before: Model | None) -> Model:
    import numpy as np

    prototypes = prototype_vectors(phrases)
    vectors = user_vectors(pairs.user, pairs.query, embeddings)
    if not can_cluster(vectors, len(phrases)):
        return _of_phrases(phrases)
    starts = prototypes.copy()
    if before is not None and before.fitted:
        number, _ = before.users(pairs, embeddings)
        for each in np.unique(number):
            starts[each] = vectors[number == each].mean(axis=0)
    alive = np.arange(len(phrases))
    margins = np.full(len(phrases), -np.inf)
    while True:
        first = cluster_users(vectors, starts[alive], prototypes[alive], seed)
        reader, centroids, shares = _refine(pairs, embeddings, vectors, first, len(alive))
        # A segment that was clear stays so: without another, whose users are then spread over the rest, it may not be.
        margins[alive] = np.maximum(margins[alive], margins_of(centroids, prototypes, alive))
        weak = np.flatnonzero((margins[alive] < LOW_MARGIN) | (shares < LOW_SHARE))
        if not len(weak):
            break
        weakest = int(weak[margins[alive[weak]].argmin()])
        if len(alive) == 1:
            alive = alive[:0]
            break
        alive = np.delete(alive, weakest)
    return Model(tuple(alive.tolist()), tuple(margins.tolist()), reader, fitted=True)


def _refine(
    pairs: Pairs, embeddings: Vectors, vectors: Floats, first: NDArray[np.int64], count: int
) -> tuple[Reader, Floats, Floats]:
    """What a first assignment of users leads to.

    Returns:
        the reader; and of each segment the centroid of the queries that tell it, and the share of users whom it is
        likeliest for.
    """
    import numpy as np

    users = np.eye(count)[first]
    reader: Reader | None = None
    for _ in range(_ROUNDS):
        reader = fit_reader(embeddings, _counts(pairs, users), users.mean(axis=0), reader, last=False)
        found = reader.of_users(_sums(pairs, reader.evidence(embeddings)))
        moved, users = np.abs(found - users).sum(axis=1).mean() / 2, found
        if moved < _SETTLED:
            break
    reader = fit_reader(embeddings, _counts(pairs, users), users.mean(axis=0), reader)
    shares = np.bincount(users.argmax(axis=1), minlength=count) / len(users)
    if count == 1:
        return reader, unit_rows(vectors.mean(axis=0, keepdims=True)), shares
    searchers = np.bincount(pairs.query, minlength=len(embeddings))[:, None]
    telling = np.maximum(reader.evidence(embeddings), 0.0) * searchers
    return reader, unit_rows(np.asarray(telling.T @ embeddings, dtype=np.float64)), shares


def _of_phrases(phrases: Sequence[Vectors]) -> Model:
    import numpy as np

    count = len(phrases)
    number = np.repeat(np.arange(count), [len(rows) for rows in phrases])
    reader = fit_reader(np.concatenate(phrases), np.eye(count)[number], np.full(count, 1 / count))
    return Model(tuple(range(count)), None, reader, fitted=False)


def _sums(pairs: Pairs, of_queries: Floats) -> Floats:
    """Sum of the queries' rows over each user's distinct queries: (users, columns)."""
    import numpy as np

    return np.asarray(_matrix(pairs, len(of_queries)) @ of_queries)


def _counts(pairs: Pairs, of_users: Floats) -> Floats:
    """Sum of the users' rows over each query's searchers: (queries, columns)."""
    import numpy as np

    return np.asarray(_matrix(pairs, len(pairs.queries)).T @ of_users)


def _matrix(pairs: Pairs, queries: int) -> csr_matrix:
    import numpy as np
    from scipy.sparse import csr_matrix

    return csr_matrix((np.ones(len(pairs.user)), (pairs.user, pairs.query)), shape=(len(pairs.users), queries))
