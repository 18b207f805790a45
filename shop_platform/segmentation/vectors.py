"""Users' vectors from their queries' embeddings. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def inverse_user_frequency(users: NDArray[np.int64], queries: NDArray[np.int64], count: int) -> Floats:
    """Weight of each query: log((1 + N) / (1 + n)) for N users of whom n search for it, and 0 at least.

    What everybody searches for says nothing about anybody. The weights are over users: a query that one user repeats
    weighs no less.

    Args:
        users: user of each (user, query) pair; pairs are distinct.
        queries: query of each pair.
        count: number of queries.
    """
    import numpy as np

    total = int(users.max()) + 1 if len(users) else 0
    return np.asarray(np.log((1 + total) / (1 + np.bincount(queries, minlength=count))))


def user_vectors(users: NDArray[np.int64], queries: NDArray[np.int64], embeddings: NDArray[np.float32]) -> Floats:
    """One vector a user: the mean of the embeddings of their distinct queries, weighted, of length 1.

    Not centred: centring fails when segments are of unequal size. No whitening: it looks best on made-up shops and
    collapses on real queries.

    Args:
        users: user of each distinct (user, query) pair, numbered from 0 without gaps.
        queries: query of each pair, a row of `embeddings`.
        embeddings: (queries, dimensions), rows of length 1.

    Returns:
        (users, dimensions). A user whose queries everybody has is weighted evenly.
    """
    import numpy as np
    from scipy.sparse import csr_matrix

    if len(users) == 0:
        return np.zeros((0, embeddings.shape[1]))
    weights = inverse_user_frequency(users, queries, len(embeddings))[queries]
    shape = (int(users.max()) + 1, len(embeddings))
    said = np.bincount(users, weights)
    weights = np.where(said[users] > 0, weights, 1.0)
    return unit_rows(csr_matrix((weights, (users, queries)), shape=shape) @ embeddings.astype(np.float64))


def prototype_vectors(phrases: Sequence[NDArray[np.float32]]) -> Floats:
    """One vector a segment: the mean of its phrases' embeddings, of length 1."""
    import numpy as np

    return unit_rows(np.stack([rows.mean(axis=0, dtype=np.float64) for rows in phrases]))


def unit_rows(rows: Floats) -> Floats:
    """Each row divided by its length; a row of zeros stays one."""
    import numpy as np

    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)
