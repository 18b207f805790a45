"""Taking times in rounds, against a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_platform.performance.rounds import Rule, take_rounds


class Bench:
    """Variants that take a known time on a clock of their own, and a protocol of what ran."""

    def __init__(self, **seconds: float) -> None:
        self.now = 0.0
        self.seconds = seconds
        self.ran: list[str] = []
        self.checked: list[str] = []

    def take(
        self, rule: Rule, seed: int = 0, enough: Callable[[Mapping[str, list[float]]], bool] = lambda _: True
    ) -> dict[str, list[float]]:
        def variant(name: str) -> Callable[[], AbstractContextManager[Callable[[], str]]]:
            @contextmanager
            def prepare() -> Iterator[Callable[[], str]]:
                self.now += 25  # preparing and clearing up take long, and are not timed
                yield execute
                self.now += 25

            def execute() -> str:
                self.now += self.seconds[name]
                self.ran.append(name)
                return name

            return prepare

        def check(name: str, result: str) -> None:
            assert name == result
            self.checked.append(name)

        variants = {name: variant(name) for name in self.seconds}
        return take_rounds(variants, check, rule, seed, lambda: self.now, enough)


def test_each_variant_is_timed_once_a_round_without_its_preparation() -> None:
    taken = Bench(a=2.0, b=3.0).take(Rule(warm_ups=1, least=4, most=4, seconds=0))
    assert taken == {"a": pytest.approx([2.0] * 4), "b": pytest.approx([3.0] * 4)}


def test_warm_ups_are_executed_and_checked_but_not_counted() -> None:
    bench = Bench(a=1.0)
    taken = bench.take(Rule(warm_ups=3, least=5, most=5, seconds=0))
    assert (len(taken["a"]), len(bench.ran), len(bench.checked)) == (5, 8, 8)


@given(st.integers(1, 20), st.integers(0, 20), st.floats(0, 5_000), st.floats(0.1, 10), st.integers(0, 3))
def test_the_number_of_rounds_stays_within_the_rule(
    least: int, more: int, limit: float, each: float, warm_ups: int
) -> None:
    taken = Bench(a=each, b=each).take(Rule(warm_ups, least, least + more, limit))
    assert least <= len(taken["a"]) == len(taken["b"]) <= least + more


def test_rounds_end_when_the_time_is_up() -> None:
    taken = Bench(a=10.0).take(Rule(warm_ups=0, least=2, most=1_000, seconds=300))
    assert len(taken["a"]) == 5  # of 60 seconds each, preparation included


def test_the_order_within_rounds_varies_and_follows_from_the_seed() -> None:
    rule = Rule(warm_ups=0, least=30, most=30, seconds=0)
    first, again, other = (Bench(a=1, b=1, c=1) for _ in range(3))
    first.take(rule, seed=1)
    again.take(rule, seed=1)
    other.take(rule, seed=2)
    orders = {tuple(first.ran[i : i + 3]) for i in range(0, 90, 3)}
    assert len(orders) == 6
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert first.ran == again.ran != other.ran


def test_there_are_further_stretches_until_there_is_enough_to_tell() -> None:
    rule = Rule(warm_ups=0, least=2, most=1_000, seconds=300, stretches=3)
    assert len(Bench(a=10.0).take(rule)["a"]) == 5
    assert len(Bench(a=10.0).take(rule, enough=lambda times: len(times["a"]) >= 8)["a"]) == 10
    assert len(Bench(a=10.0).take(rule, enough=lambda _: False)["a"]) == 15
