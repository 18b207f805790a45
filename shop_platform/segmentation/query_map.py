"""The queries that several users share, laid out in two dimensions: what means the same lies together. Arrays in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from shop_platform.segmentation.pairs import Pairs
from shop_platform.segmentation.profiles import SHARED_BY

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: More points than this can't be told apart on a page.
MOST = 400

#: With fewer, no neighbourhood can be drawn.
_LEAST = 5


def query_map(
    pairs: Pairs, embeddings: NDArray[np.float32], segments: Sequence[str], seed: int
) -> list[dict[str, Any]]:
    """Places of the most shared queries, by t-SNE of their cosine distances (van der Maaten and Hinton, 2008).

    Neighbours mean the same; how far groups are from each other means nothing.

    Args:
        pairs: who searched for what.
        embeddings: (queries, dimensions), of `pairs.queries`.
        segments: what each query looks like by itself.
        seed: of the layout.

    Returns:
        For each query that at least `SHARED_BY` users share, `MOST` of them at most and the most shared first: `query`,
        `users`, `segment`, and `x` and `y` in [0, 1]. Nothing where there are too few.
    """
    import numpy as np

    users = np.bincount(pairs.query, minlength=len(pairs.queries))
    shown = [int(each) for each in np.argsort(-users, kind="stable")[:MOST] if users[each] >= SHARED_BY]
    if len(shown) < _LEAST:
        return []
    places = _layout(embeddings[shown], seed)
    return [
        {
            "query": pairs.queries[each], "users": int(users[each]), "segment": segments[each],
            "x": round(float(x), 3), "y": round(float(y), 3),
        }
        for each, (x, y) in zip(shown, places, strict=True)
    ]  # fmt: skip


def _layout(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    import numpy as np
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):  # so that the same queries lie at the same place every time
        layout = TSNE(
            metric="cosine", init="random", perplexity=min(20.0, (len(vectors) - 1) / 3), random_state=seed
        )  # fmt: skip
        places = np.asarray(layout.fit_transform(vectors), dtype=np.float64)
    low, high = places.min(axis=0), places.max(axis=0)
    return np.asarray((places - low) / np.maximum(high - low, 1e-9))
