"""Takes times: every variant once a round, in a new random order each round, until a stated rule says enough."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import ceil
from time import perf_counter
from typing import TypeVar

from shop_platform.progress import track

T = TypeVar("T")


@dataclass(frozen=True)
class Rule:
    """When there are enough rounds: after `most`; or after `seconds` of measuring, but never before `least`.

    Where that is not enough to tell, there are further stretches of `seconds`, up to `stretches` in all. Rounds before
    all these, `warm_ups` of them, are not counted: they fill caches.
    """

    warm_ups: int
    least: int
    most: int
    seconds: float
    stretches: int = 1


def interleaved(seconds: float) -> Rule:
    """Several ways to answer in turns: for a stretch of so many seconds, and up to three more where that can't tell.

    With 4 s and six or seven ways, both queries take some 8 s at 50,000 events; at 5 million some 5 minutes.
    """
    return Rule(warm_ups=2, least=11, most=300, seconds=seconds, stretches=4)


INTERLEAVED = interleaved(4)

#: One variant alone: for its own median, which no ratio is made from.
ALONE = Rule(warm_ups=2, least=11, most=51, seconds=1.0)


def take_rounds(
    variants: Mapping[str, Callable[[], AbstractContextManager[Callable[[], T]]]],
    check: Callable[[str, T], None],
    rule: Rule,
    seed: int,
    clock: Callable[[], float] = perf_counter,
    enough: Callable[[Mapping[str, list[float]]], bool] = lambda _: True,
    what: str = "measuring",
) -> dict[str, list[float]]:
    """Seconds that each variant took in each round.

    Args:
        variants: by name, what makes the conditions of an execution (not timed) and gives what executes it (timed).
        check: called with the name and the result of every execution, outside of the timed part; raises when the
            result is wrong.
        rule: when to stop.
        seed: of the order within the rounds.
        clock: seconds, monotonic.
        enough: whether the times taken so far are enough to tell; asked at the end of each stretch.
        what: is measured, for those who wait for it.
    """
    order = random.Random(seed)  # noqa: S311  no secret hangs on it
    names = list(variants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    started, stretch = clock(), 1
    with track(what, rule.most if rule.least == rule.most else None, "rounds") as advance:
        for number in range(-rule.warm_ups, rule.most):
            if number == 0:
                started = clock()
            if number >= rule.least and clock() - started >= stretch * rule.seconds:
                if stretch >= rule.stretches or enough(seconds):
                    break
                stretch += 1
            order.shuffle(names)
            for name in names:
                with variants[name]() as execute:
                    before = clock()
                    result = execute()
                    after = clock()
                check(name, result)
                if number >= 0:
                    seconds[name].append(after - before)
            if number >= 0:
                advance(total=_expected(rule, number + 1, clock() - started, stretch))
    return seconds


def _expected(rule: Rule, rounds: int, seconds: float, stretch: int) -> int:
    """Rounds to the end of this stretch, when they go on as so far; whether there are more is known only there."""
    by_time = ceil(rounds * stretch * rule.seconds / seconds) if seconds > 0 else rule.most
    return max(rounds, rule.least, min(by_time, rule.most))
