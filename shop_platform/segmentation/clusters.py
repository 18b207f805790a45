"""Clusters of users, started at the segments' prototypes, and whether a segment is really there. Pure arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shop_platform.segmentation.vectors import unit_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


def can_cluster(vectors: Floats, segments: int) -> bool:
    """Whether there are at least as many different users as segments."""
    import numpy as np

    # Not np.unique(axis=0), which sorts whole rows: hashing them is enough to know that there are a few.
    return len({row.tobytes() for row in np.round(vectors, 9)}) >= segments


def cluster_users(vectors: Floats, starts: Floats, prototypes: Floats, seed: int) -> Ints:
    """The segment of each user, by KMeans with one cluster a segment.

    Started near the prototypes, a cluster's number is its segment's, whatever the order of users; `assign_names` makes
    sure of it.

    Args:
        vectors: (users, dimensions), rows of length 1.
        starts: (segments, dimensions), where the clusters start: the prototypes, or where they were before.
        prototypes: (segments, dimensions), rows of length 1.
        seed: of KMeans, which draws only where a cluster would be left empty.
    """
    import numpy as np
    from sklearn.cluster import KMeans

    kmeans = KMeans(n_clusters=len(starts), init=starts, n_init=1, random_state=seed).fit(vectors)
    return np.asarray(assign_names(kmeans.cluster_centers_, prototypes)[kmeans.labels_])


def assign_names(centroids: Floats, prototypes: Floats) -> Ints:
    """The segment of each cluster, each once: the assignment with the largest sum of cosines (Hungarian method)."""
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    segments: Ints = np.asarray(linear_sum_assignment(unit_rows(centroids) @ prototypes.T, maximize=True)[1])
    return segments


def margins_of(centroids: Floats, prototypes: Floats, numbers: Ints) -> Floats:
    """Cosine of each centroid to its own segment's prototype, less the largest to any other's.

    High where the segment exists, near 0 or below where nobody is in it.

    Args:
        centroids: (n, dimensions).
        prototypes: (segments, dimensions), rows of length 1.
        numbers: (n,), the segment of each centroid.
    """
    import numpy as np

    cosines = unit_rows(centroids) @ prototypes.T
    rows = np.arange(len(numbers))
    own = cosines[rows, numbers].copy()
    cosines[rows, numbers] = -np.inf
    return np.asarray(own - cosines.max(axis=1))
