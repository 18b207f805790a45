"""The segmentation end to end, on arrays: pairs and embeddings in, users' segments and the segments' profiles out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shop_platform.segmentation.clusters import Clusters, cluster_users
from shop_platform.segmentation.pairs import Pairs
from shop_platform.segmentation.segments import Segment
from shop_platform.segmentation.vectors import prototype_vectors, user_vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Raised when the same input gives other segments than before.
VERSION = 1

#: Margin and share of users under which a segment is not supported by the data. Measured on synthetic
#: shops where the segment exists: margins of 0.13 and more; where nobody is in it: 0.05 and less, or 4 of 987 users.
#: It errs towards a warning: where only 40 % of searches are one's own, real segments fall to between 0.02 and 0.10.
LOW_MARGIN, LOW_SHARE = 0.10, 0.02

#: A query is shown only if this many users of a segment share it: no single person's words leave the data.
SHARED_BY = 5

#: How many times the share of others a query must have in a segment to say something about it.
LIFT = 2.0


@dataclass(frozen=True)
class Profile:
    """One segment of a segmentation, for people and for checks.

    Attributes:
        name, description: of the segment.
        users: how many are in it.
        share: of all users; 0 where there is none.
        mean_confidence: over its users; None where there is none.
        margin: cosine of its centroid to its own prototype, less the largest to another's.
        queries: what sets it apart: shared queries, the most distinguishing first.
    """

    name: str
    description: str
    users: int
    share: float
    mean_confidence: float | None
    margin: float
    queries: tuple[str, ...]

    @property
    def supported(self) -> bool:
        """Whether the data shows that there are such users."""
        return self.margin >= LOW_MARGIN and self.share >= LOW_SHARE


@dataclass(frozen=True)
class Segmentation:
    """Each user's segment and confidence, in the order of `Pairs.users`, and the segments' profiles."""

    clusters: Clusters
    profiles: tuple[Profile, ...]


def segment_users(
    pairs: Pairs,
    embeddings: NDArray[np.float32],
    segments: Sequence[Segment],
    phrases: Sequence[NDArray[np.float32]],
    seed: int,
) -> Segmentation:
    """Segment the users of the pairs.

    Args:
        pairs: who searched for what.
        embeddings: (queries, dimensions), of `pairs.queries`.
        segments: the segments.
        phrases: for each segment, the embeddings of its phrases.
        seed: of KMeans.
    """
    vectors = user_vectors(pairs.user, pairs.query, embeddings)
    clusters = cluster_users(vectors, prototype_vectors(phrases), seed)
    return Segmentation(clusters, _profiles(pairs, clusters, segments))


def _profiles(pairs: Pairs, clusters: Clusters, segments: Sequence[Segment]) -> tuple[Profile, ...]:
    total = len(pairs.users)
    queries = distinguishing_queries(pairs, clusters.segment, len(segments))
    profiles = []
    for number, segment in enumerate(segments):
        members = clusters.segment == number
        users = int(members.sum())
        profiles.append(
            Profile(
                name=segment.name,
                description=segment.description,
                users=users,
                share=users / total if total else 0.0,
                mean_confidence=round(float(clusters.confidence[members].mean()), 4) if users else None,
                margin=round(float(clusters.margins[number]), 4),
                queries=queries[number],
            )
        )
    return tuple(profiles)


def distinguishing_queries(
    pairs: Pairs, segment: NDArray[np.int64], count: int, *, shared_by: int = SHARED_BY, most: int = 8
) -> tuple[tuple[str, ...], ...]:
    """For each segment, the queries that set its users apart, `most` of them at the most.

    Those that at least `shared_by` of its users have, and at least `LIFT` times the share of them that others have;
    in the order of share x log(lift), so that neither what everybody has nor what hardly anybody has comes first.
    Others' share counts one more of them than there are, so that a lift is finite.
    """
    import numpy as np

    if len(pairs.users) == 0:
        return ((),) * count
    having = np.zeros((count, len(pairs.queries)))
    np.add.at(having, (segment[pairs.user], pairs.query), 1)
    sizes = np.bincount(segment, minlength=count)[:, None]
    others = sizes.sum() - sizes
    share = having / np.maximum(sizes, 1)
    lift = share / ((having.sum(axis=0) - having + 1) / (others + 1))
    score = np.where((having >= shared_by) & (lift >= LIFT), share * np.log(np.maximum(lift, 1.0)), 0.0)
    best = np.argsort(-score, axis=1, kind="stable")[:, :most]
    return tuple(tuple(pairs.queries[i] for i in best[s] if score[s, i] > 0) for s in range(count))
