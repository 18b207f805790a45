"""Clusters of users, which segment each one is, how sure that is. Arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shop_platform.segmentation.vectors import unit_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Clusters:
    """A segmentation of users.

    Attributes:
        segment: segment of each user.
        confidence: of each user, in [0, 1].
        centroids: (segments, dimensions), in the segments' order.
        margins: of each segment, in [-2, 2].
        fitted: False where there were too few users, or too few different ones, for KMeans.
    """

    segment: Ints
    confidence: Floats
    centroids: Floats
    margins: Floats
    fitted: bool


def cluster_users(vectors: Floats, prototypes: Floats, seed: int) -> Clusters:
    """Segment users by KMeans with one cluster a segment, started at the segments' prototypes.

    Started there, a cluster's number is its segment's, whatever the order of users; `assign_names` makes sure of it,
    and margins say how far to trust it. With fewer different users than segments there is nothing to cluster: each
    user gets the nearest prototype.

    Args:
        vectors: (users, dimensions), rows of length 1.
        prototypes: (segments, dimensions), rows of length 1.
        seed: of KMeans, which draws only where a cluster would be left empty.
    """
    import numpy as np

    count = len(prototypes)
    # Not np.unique(axis=0), which sorts whole rows: hashing them is enough to know that there are a few.
    different = len({row.tobytes() for row in np.round(vectors, 9)})
    if different < count:
        return _described(vectors, prototypes, prototypes, fitted=False)
    from sklearn.cluster import KMeans

    kmeans = KMeans(n_clusters=count, init=prototypes, n_init=1, random_state=seed).fit(vectors)
    centroids = np.empty_like(prototypes)
    centroids[assign_names(kmeans.cluster_centers_, prototypes)] = kmeans.cluster_centers_
    return _described(vectors, centroids, prototypes, fitted=True)


def assign_names(centroids: Floats, prototypes: Floats) -> Ints:
    """The segment of each cluster, each once: the assignment with the largest sum of cosines (Hungarian method)."""
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    segments: Ints = np.asarray(linear_sum_assignment(unit_rows(centroids) @ prototypes.T, maximize=True)[1])
    return segments


def margins_of(centroids: Floats, prototypes: Floats) -> Floats:
    """Cosine of each segment's centroid to its own prototype, less the largest to another's.

    High where the segment exists, near 0 or below where nobody is in it; `model.LOW_MARGIN` holds measured values.
    """
    import numpy as np

    cosines = unit_rows(centroids) @ prototypes.T
    own = np.diag(cosines).copy()
    np.fill_diagonal(cosines, -np.inf)
    return np.asarray(own - cosines.max(axis=1))


def confidence_of(distances: Floats) -> Floats:
    """(d2 - d1) / d2 of the distances to the two nearest centroids: 0 on the border between them, 1 at a centroid.

    Args:
        distances: (users, segments), Euclidean.
    """
    import numpy as np

    nearest, second = np.partition(distances, 1, axis=1)[:, :2].T
    return np.asarray(np.where(second > 0, (second - nearest) / np.where(second > 0, second, 1.0), 0.0))


def _described(vectors: Floats, centroids: Floats, prototypes: Floats, *, fitted: bool) -> Clusters:
    import numpy as np

    # |a - b|^2 = |a|^2 + |b|^2 - 2ab: one product of matrices, no array of users x segments x dimensions.
    squares = (vectors**2).sum(axis=1)[:, None] + (centroids**2).sum(axis=1) - 2 * vectors @ centroids.T
    distances = np.sqrt(np.maximum(squares, 0.0))
    return Clusters(
        segment=np.asarray(distances.argmin(axis=1)),
        confidence=confidence_of(distances),
        centroids=centroids,
        margins=margins_of(centroids, prototypes),
        fitted=fitted,
    )
