"""Ratios, their intervals and the words for them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_platform.errors import MeasurementError
from shop_platform.performance.statistics import Ratio, ratio_of_medians, verdict

times = st.floats(0.001, 1_000)
pairs = st.lists(st.tuples(times, times), min_size=10, max_size=60)


@given(pairs)
def test_the_interval_holds_the_ratio_of_the_medians(measured: list[tuple[float, float]]) -> None:
    before, after = zip(*measured, strict=True)
    ratio = ratio_of_medians(before, after)
    assert ratio.low <= ratio.value <= ratio.high
    assert ratio.value == pytest.approx(np.median(before) / np.median(after))


@given(pairs, st.floats(0.01, 100))
def test_the_unit_of_time_does_not_matter(measured: list[tuple[float, float]], unit: float) -> None:
    before, after = zip(*measured, strict=True)
    one = ratio_of_medians(before, after)
    other = ratio_of_medians([unit * time for time in before], [unit * time for time in after])
    assert (other.value, other.low, other.high) == pytest.approx((one.value, one.low, one.high))


@given(st.lists(times, min_size=10, max_size=60), st.floats(0.1, 10))
def test_a_constant_factor_is_found_whatever_slows_whole_rounds_down(before: list[float], factor: float) -> None:
    ratio = ratio_of_medians(before, [time / factor for time in before])
    assert (ratio.low, ratio.high) == pytest.approx((factor, factor))


@given(pairs)
def test_the_same_times_and_seed_give_the_same_interval(measured: list[tuple[float, float]]) -> None:
    before, after = zip(*measured, strict=True)
    assert ratio_of_medians(before, after, seed=5) == ratio_of_medians(before, after, seed=5)


def noisy(random: np.random.Generator, factor: float, rounds: int = 60) -> Ratio:
    """Two variants, the second `factor` times faster, with right-skewed noise and slow rounds, as machines have."""
    slow = random.choice([1.0, 1.5], size=rounds, p=[0.9, 0.1])
    noise = 1 + random.gamma(2, 0.01, size=(2, rounds))
    return ratio_of_medians(list(10 * slow * noise[0]), list(10 / factor * slow * noise[1]))


def test_the_interval_holds_the_true_factor_in_at_least_93_of_100_cases() -> None:
    random = np.random.default_rng(7)
    ratios = [noisy(random, 2.0) for _ in range(300)]
    assert sum(ratio.low <= 2.0 <= ratio.high for ratio in ratios) >= 0.93 * 300


def test_a_thing_against_itself_has_no_effect_in_at_least_95_of_100_cases() -> None:
    random = np.random.default_rng(8)
    verdicts = [verdict(noisy(random, 1.0)) for _ in range(200)]
    assert verdicts.count("no effect") >= 190


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (2.9, 3.2, "helps"),
        (1.01, 1.2, "helps"),
        (0.3, 0.4, "hurts"),
        (0.8, 0.99, "hurts"),
        (0.98, 1.03, "no effect"),
        (1.01, 1.04, "no effect"),
        (0.9, 1.01, "unsure"),
        (0.99, 1.3, "unsure"),
        (1.0, 1.3, "unsure"),
    ],
)
def test_the_word_follows_from_the_interval(low: float, high: float, word: str) -> None:
    assert verdict(Ratio((low + high) / 2, low, high)) == word


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([1.0] * 9, [1.0] * 9),
        ([1.0] * 12, [1.0] * 11),
        ([1.0] * 12, [0.0] * 12),
        ([1.0] * 12, [float("nan")] * 12),
    ],
)
def test_times_that_no_interval_can_be_made_from_are_refused(before: list[float], after: list[float]) -> None:
    with pytest.raises(MeasurementError):
        ratio_of_medians(before, after)
