"""Draws docs/images/users_not_documents.png: the same shop seen by its searches, and by its users.

python -m benchmarks.users_not_documents
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from shop_platform.segmentation.vectors import user_vectors
from shop_platform.sources.parameters import PERSONAS
from shop_platform_tests.segmentation.worlds import world

if TYPE_CHECKING:
    from numpy.typing import NDArray

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "users_not_documents.png"

#: Okabe and Ito's colours, which can be told apart by people who see fewer.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")


def main() -> None:
    """Draw the picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    shop = world(42, searches=20_000)
    reader = shop.fit().reader
    said = np.zeros((len(shop.pairs.users), 4))
    np.add.at(said, shop.pairs.user, reader.evidence(shop.vectors)[shop.pairs.query])
    searches = np.random.default_rng(1).permutation(len(shop.pairs.query))[:2_000]
    panels = (
        ("searches", shop.vectors[shop.pairs.query[searches]], shop.truth[shop.pairs.user[searches]],
         _index(shop.truth, shop.by_kmeans_over_documents())),
        ("users: mean of their searches", user_vectors(shop.pairs.user, shop.pairs.query, shop.vectors), shop.truth,
         _index(shop.truth, shop.by_kmeans_over_users())),
        ("users: sum of what their searches say", said, shop.truth, _index(shop.truth, shop.found())),
    )  # fmt: skip
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), layout="constrained")
    for axis, (title, points, kind, index) in zip(axes, panels, strict=True):
        flat = PCA(2, random_state=0).fit_transform(points)
        for number, name in enumerate(PERSONAS):
            some = flat[kind == number]
            axis.scatter(some[:, 0], some[:, 1], s=7, alpha=0.6, color=_COLOURS[number], label=name, linewidths=0)
        axis.set_title(f"{title}\nadjusted Rand index {index:.2f}", fontsize=11)
        axis.set_xticks([])
        axis.set_yticks([])
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, markerscale=2.5)
    figure.savefig(PICTURE, dpi=110)


def _index(truth: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    return float(adjusted_rand_score(truth, found))


if __name__ == "__main__":
    main()
