"""How many times faster one of two things is, how sure that is, and the word for it. Times in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shop_platform.errors import MeasurementError

Verdict = Literal["helps", "no effect", "hurts", "unsure"]

CONFIDENCE = 0.95
RESAMPLES = 5_000

#: A factor closer to 1 than this is called no effect, however sure it is: nobody keeps an index for it.
NEGLIGIBLE = 1.05

#: Fewer pairs than this give no interval worth stating.
LEAST_PAIRS = 10


@dataclass(frozen=True)
class Ratio:
    """How many times faster: time before divided by time after, with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def median(times: Sequence[float]) -> float:
    """Median of some times, in their unit."""
    import numpy as np

    return float(np.median(times))


def ratio_of_medians(before: Sequence[float], after: Sequence[float], seed: int = 0) -> Ratio:
    """Median of `before` divided by median of `after`, with its bootstrap interval over pairs.

    The i-th times of both were taken in the same round, so whole rounds are drawn with replacement, 5,000 times, and
    the interval reaches from the 2.5th to the 97.5th percentile of the ratios (percentile bootstrap; Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). What slows a whole round down slows both of its
    times and stays out of the interval.

    Args:
        before: times of the first variant, positive, any unit.
        after: times of the second, of equal length and unit.
        seed: of the resampling; the same seed gives the same interval.

    Raises:
        MeasurementError: the times are too few, not paired, or not positive.
    """
    import numpy as np

    if len(before) != len(after) or len(before) < LEAST_PAIRS:
        raise MeasurementError(
            f"A ratio needs at least {LEAST_PAIRS} pairs of times, but there are {len(before)} and {len(after)}: "
            "measure again with more rounds."
        )
    pairs = np.array([before, after], dtype=float)
    if not (np.isfinite(pairs).all() and (pairs > 0).all()):
        raise MeasurementError("A ratio needs times above zero: the clock that measured them can't be trusted.")
    draws = np.random.default_rng(seed).integers(0, pairs.shape[1], size=(RESAMPLES, pairs.shape[1]))
    first, second = np.median(pairs[:, draws], axis=2)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(first / second, [tail, 1 - tail])
    value = float(np.median(pairs[0]) / np.median(pairs[1]))
    # With few different values the sample's own ratio can lie a rounding error outside.
    return Ratio(value, min(float(low), value), max(float(high), value))


def verdict(ratio: Ratio) -> Verdict:
    """The word for a ratio.

    `no effect`: the whole interval lies between 1/1.05 and 1.05. Otherwise `helps`: the interval lies above 1;
    `hurts`: it lies below 1; `unsure`: it holds 1 and reaches further than 5 %.
    """
    if ratio.low >= 1 / NEGLIGIBLE and ratio.high <= NEGLIGIBLE:
        return "no effect"
    if ratio.low > 1:
        return "helps"
    if ratio.high < 1:
        return "hurts"
    return "unsure"
