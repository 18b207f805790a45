"""Are the segments any good? How clear-cut, how stable, how sure, and what another method says. Pure arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from shop_platform.segmentation.model import Model, fit_model
from shop_platform.segmentation.pairs import Pairs
from shop_platform.segmentation.vectors import user_vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Users that are looked at, at most: more would take minutes and say the same.
SAMPLE = 2_000

#: A user is unsure under this probability.
UNSURE = 0.5

#: What is still good: users that another four fifths of the users would put elsewhere, and unsure ones. The first is
#: what a data team can live with from one learning to the next, the second one user in four; neither was measured.
MOVED_AT_MOST, UNSURE_AT_MOST = 0.05, 0.25

_RANDOM_STARTS, _RESAMPLES, _SHARE = 20, 3, 0.8


@dataclass(frozen=True)
class Quality:
    """How good a segmentation is, on a sample of its users.

    Attributes:
        users: how many were looked at.
        silhouette: mean silhouette of users' vectors by cosine, in [-1, 1] (P. J. Rousseeuw, J. Comput. Appl. Math. 20,
            1987); low where segments overlap, as interests do. None where there is one segment.
        random_starts: mean adjusted Rand index of KMeans from 20 random starts with the segments: 1 where the clusters
            are so clear that names and prototypes were not needed to find them.
        resampled: share of users who are told otherwise by a model learned from four fifths of the users, mean of 3.
        unsure: share of users with a probability under one half.
        second_method: adjusted Rand index of a Gaussian mixture with tied covariances with the segments.
        overlap: (segments, segments), mean probability of the columns' segments over the users of the rows'; None for a
            segment without users.
    """

    users: int
    silhouette: float | None
    random_starts: float
    resampled: float
    unsure: float
    second_method: float
    overlap: list[list[float] | None]

    @property
    def good(self) -> bool:
        """Whether users stay where they are and most are sure."""
        return self.resampled <= MOVED_AT_MOST and self.unsure <= UNSURE_AT_MOST

    def as_record(self) -> dict[str, Any]:
        """The same, JSON-able."""
        return asdict(self)


def sample_users(pairs: Pairs, most: int, seed: int) -> tuple[Pairs, NDArray[np.int64]]:
    """The pairs of some users, drawn at random, and the numbers of their queries among all."""
    import numpy as np

    count = len(pairs.users)
    users = np.sort(np.random.default_rng(seed).permutation(count)[:most])
    kept = np.isin(pairs.user, users)
    query, number = np.unique(pairs.query[kept], return_inverse=True)
    some = Pairs(
        tuple(pairs.users[each] for each in users),
        tuple(pairs.queries[each] for each in query),
        np.searchsorted(users, pairs.user[kept]),
        number,
    )
    return some, query


def measure_quality(
    pairs: Pairs,
    embeddings: NDArray[np.float32],
    phrases: Sequence[NDArray[np.float32]],
    model: Model,
    seed: int,
) -> Quality | None:
    """Measure a model on users; None where there are too few to learn from.

    Args:
        pairs: who searched for what.
        embeddings: (queries, dimensions), of `pairs.queries`.
        phrases: for each segment, the embeddings of its phrases.
        model: to measure.
        seed: of what is drawn.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):  # as in `fit_model`
        return _measure(pairs, embeddings, phrases, model, seed)


def _measure(
    pairs: Pairs, embeddings: NDArray[np.float32], phrases: Sequence[NDArray[np.float32]], model: Model, seed: int
) -> Quality | None:
    import numpy as np
    from sklearn.metrics import adjusted_rand_score, silhouette_score

    probability = model.probabilities(pairs, embeddings, len(phrases))
    number = probability.argmax(axis=1)
    vectors = user_vectors(pairs.user, pairs.query, embeddings)
    if not model.fitted or len(vectors) <= len(phrases):
        return None
    several = 1 < len(np.unique(number)) < len(number)
    return Quality(
        users=len(pairs.users),
        silhouette=round(float(silhouette_score(vectors, number, metric="cosine")), 4) if several else None,
        random_starts=round(float(np.mean(_random_starts(vectors, number, len(model.supported), seed))), 4),
        resampled=round(_resampled(pairs, embeddings, phrases, model, number, seed), 4),
        unsure=round(float((probability.max(axis=1) < UNSURE).mean()), 4),
        second_method=round(float(adjusted_rand_score(number, _mixture(vectors, number, seed))), 4),
        overlap=[_mean(probability[number == row]) for row in range(len(phrases))],
    )


def _mean(rows: NDArray[np.float64]) -> list[float] | None:
    """Mean of the rows; None where there are none."""
    return [round(each, 4) for each in rows.mean(axis=0).tolist()] if len(rows) else None


def _random_starts(vectors: NDArray[np.float64], number: NDArray[np.int64], count: int, seed: int) -> list[float]:
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score

    return [
        float(adjusted_rand_score(number, KMeans(count, n_init=1, random_state=seed + each).fit_predict(vectors)))
        for each in range(_RANDOM_STARTS)
    ]


def _resampled(
    pairs: Pairs,
    embeddings: NDArray[np.float32],
    phrases: Sequence[NDArray[np.float32]],
    model: Model,
    number: NDArray[np.int64],
    seed: int,
) -> float:
    """Share of the users who move when the model is learned, from itself on, from a part of them."""
    import numpy as np

    moved = []
    for each in range(_RESAMPLES):
        some, queries = sample_users(pairs, int(_SHARE * len(pairs.users)), seed + each)
        again = fit_model(some, embeddings[queries], phrases, seed, model)
        moved.append(np.mean(again.probabilities(pairs, embeddings, len(phrases)).argmax(axis=1) != number))
    return float(np.mean(moved))


def _mixture(vectors: NDArray[np.float64], number: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Users by a Gaussian mixture with tied covariances, started at the segments' means."""
    import numpy as np
    from sklearn.mixture import GaussianMixture

    means = np.stack([vectors[number == each].mean(axis=0) for each in np.unique(number)])
    mixture = GaussianMixture(
        len(means), covariance_type="tied", means_init=means, reg_covar=1e-4, random_state=seed, max_iter=30
    )
    return np.asarray(mixture.fit(vectors).predict(vectors))
