"""Reads single searches: how much each says about who made it, and the sum over a user's. Arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Iterations of the solver in between, where the next fit goes on from this one, and in the last fit.
_SOME, _MANY = 30, 300

#: Weight of a query in a segment under which it is left out of a fit; a posterior is never quite 0.
_LEAST = 1e-3

#: Intercept of a segment that no query speaks for.
_NEVER = -30.0


@dataclass(frozen=True)
class Reader:
    """A multinomial logistic regression from a query's embedding to its searcher's segment, and the segments' shares.

    Attributes:
        weights: (segments, dimensions).
        intercepts: (segments,).
        query_shares: (segments,), of all pairs of user and query that it was fitted to.
        user_shares: (segments,), of all users.
    """

    weights: Floats
    intercepts: Floats
    query_shares: Floats
    user_shares: Floats

    def of_queries(self, embeddings: NDArray[np.floating]) -> Floats:
        """Probability of each segment given one query alone: (queries, segments), rows that sum to 1."""
        import numpy as np

        return np.exp(self._log_odds(embeddings))

    def evidence(self, embeddings: NDArray[np.floating]) -> Floats:
        """By how much a query raises each segment's log probability: log(P(segment | query) / P(segment)).

        Near 0 for what anybody searches for, so that no list of stop words is needed.

        Returns:
            (queries, segments).
        """
        import numpy as np

        return np.asarray(self._log_odds(embeddings) - np.log(self.query_shares))

    def of_users(self, evidence: Floats) -> Floats:
        """Probability of each segment given all of a user's distinct queries (naive Bayes).

        Args:
            evidence: (users, segments), summed over each user's distinct queries.
        """
        import numpy as np
        from scipy.special import softmax

        return np.asarray(softmax(evidence + np.log(self.user_shares), axis=1))

    def _log_odds(self, embeddings: NDArray[np.floating]) -> Floats:
        import numpy as np
        from scipy.special import log_softmax

        # In blocks: 100,000 queries as float64 would take 300 MB at once.
        blocks = [
            log_softmax(embeddings[first : first + 8_192].astype(np.float64) @ self.weights.T + self.intercepts, axis=1)
            for first in range(0, len(embeddings), 8_192)
        ]
        return np.concatenate(blocks) if blocks else np.zeros((0, len(self.intercepts)))


def fit_reader(
    embeddings: NDArray[np.floating],
    counts: Floats,
    user_shares: Floats,
    start: Reader | None = None,
    *,
    last: bool = True,
) -> Reader:
    """Fit a reader to how many users of each segment search for each query.

    scikit-learn's logistic regression with its own regularisation (C = 1), on embeddings of length 1.

    Args:
        embeddings: (queries, dimensions).
        counts: (queries, segments), at least 0; of expected users, so not always whole.
        user_shares: (segments,).
        start: from where the solver goes on.
        last: False for a rough fit in between.
    """
    import warnings

    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    segments, dimensions = counts.shape[1], embeddings.shape[1]
    query_shares = (counts.sum(axis=0) + _LEAST) / (counts.sum() + segments * _LEAST)
    users = np.maximum(user_shares, 1e-6) / np.maximum(user_shares, 1e-6).sum()
    query, segment = np.nonzero(counts > _LEAST)
    present = np.unique(segment)
    weights, intercepts = np.zeros((segments, dimensions)), np.full(segments, _NEVER)
    if len(present) < 2:  # nothing to tell apart
        return Reader(weights, np.where(np.isin(np.arange(segments), present), 0.0, _NEVER), query_shares, users)
    regression = LogisticRegression(C=1.0, max_iter=_MANY if last else _SOME, warm_start=True)
    if start is not None and len(present) == segments > 2:
        regression.coef_, regression.intercept_ = start.weights, start.intercepts
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression.fit(embeddings[query], segment, sample_weight=counts[query, segment].astype(embeddings.dtype))
    if len(regression.coef_) == 1:  # scikit-learn's form for two classes
        weights[present[1]], intercepts[present] = regression.coef_[0], (0.0, regression.intercept_[0])
    else:
        weights[present], intercepts[present] = regression.coef_, regression.intercept_
    return Reader(weights, intercepts, query_shares, users)
