"""Portable drawing: the same seed gives the same bytes on any machine.

PCG64's `random` and `integers` are defined bit by bit, and so are + - * / and comparisons on floats. Logarithms,
powers and numpy's pairwise sums are not: their last bits depend on the C library and on the processor's vector units.
So every draw here is a uniform number looked up in a table of cumulated weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


def generator(seed: int, *stream: int) -> np.random.Generator:
    """A generator of its own for each stream, independent of how much others draw."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *stream])))


def cumulated(weights: Sequence[float] | Floats) -> Floats:
    """Weights summed up from left to right and scaled to end at 1."""
    import numpy as np

    sums: Floats = np.cumsum(np.asarray(weights, dtype=np.float64))
    sums /= sums[-1]
    return sums


def pick(cumulative: Floats, uniform: Floats) -> Ints:
    """Index drawn for each uniform number in [0, 1), by cumulated weights."""
    import numpy as np

    return np.minimum(np.searchsorted(cumulative, uniform, side="right"), len(cumulative) - 1).astype(np.int64)


def apportion(total: int, weights: Floats) -> Ints:
    """Split a whole number by weights into whole numbers that sum to it exactly (by rounding the cumulated shares)."""
    import numpy as np

    if len(weights) == 0:
        return np.zeros(0, dtype=np.int64)
    shares = cumulated(weights)
    shares *= total  # in place: there may be millions
    bounds = np.floor(shares, out=shares).astype(np.int64)
    del shares
    bounds[-1] = total
    counts = bounds.copy()
    counts[1:] -= bounds[:-1]
    return counts


def laid_out(lengths: Ints) -> tuple[Ints, Ints]:
    """For groups of the given lengths laid end to end: each element's group, and its place within the group."""
    import numpy as np

    group = np.repeat(np.arange(len(lengths)), lengths)
    offset = np.arange(len(group)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return group, offset
