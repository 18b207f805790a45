"""Which of the measured indexes to keep, and what building one costs those who work meanwhile."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from shop_platform.performance.advice.candidates import Candidate
from shop_platform.performance.advice.quoting import quoted
from shop_platform.performance.statistics import NEGLIGIBLE, Ratio

#: So many trials are searched for the best set, 2 to the power of this at worst; of more, the most useful ones.
MOST_TRIALS = 16


@dataclass(frozen=True)
class Trial:
    """A candidate that was built on a copy and measured.

    Attributes:
        name: of the candidate; no two trials share one.
        size_bytes: of the index.
        build_ms: how long its build took, in milliseconds.
        speedups: by query, how many times faster it was with this index alone.
    """

    name: str
    size_bytes: int
    build_ms: float
    speedups: Mapping[str, Ratio]


@dataclass(frozen=True)
class _Useful:
    """A trial that sped something up: the logarithm of how much, by query."""

    name: str
    size_bytes: int
    gains: Mapping[str, float]

    def is_no_better_than(self, other: _Useful) -> bool:
        """Whether another does as much for every query in no more bytes; of two alike, the first name stays."""
        if any(gain > other.gains.get(query, 0.0) for query, gain in self.gains.items()):
            return False
        mine, others = (self.size_bytes, self.name), (other.size_bytes, other.name)
        alike = self.gains == other.gains
        return others < mine if alike else other.size_bytes <= self.size_bytes


def choose(trials: Sequence[Trial], budget_bytes: int) -> list[str]:
    """The set of indexes that speeds the queries up most within a budget of bytes.

    Each was measured alone, so nobody knows what two of them do together for one query: of a set, each query counts
    with its best index, and what is added up are the logarithms of these speedups. An index that serves no query
    better than the others of the set do, such as one whose keys another one begins with, is therefore left out. Only
    speedups that are sure count: the interval's low end above 1 and the speedup more than NEGLIGIBLE. What an index
    slows down does not count; look at it before building.

    A factor of NEGLIGIBLE in all is worth no byte: of the sets that come so near to the best one, the smallest is
    taken. So is a small index where a large one is no faster but for the noise of measuring.

    Args:
        trials: in any order.
        budget_bytes: for all indexes of the set together.

    Returns:
        Names in alphabetical order: of sets that do about equally well the one of fewest bytes, then of fewest
        indexes, then the one worth most, then the first by name. Empty where nothing helps or fits.
    """
    useful = _undominated([each for each in map(_useful, trials) if each.gains and each.size_bytes <= budget_bytes])
    most = max(map(_worth, _sets(useful, budget_bytes)))
    near = [chosen for chosen in _sets(useful, budget_bytes) if _worth(chosen) >= most - math.log(NEGLIGIBLE)]
    ranks = (
        (sum(each.size_bytes for each in chosen), len(chosen), -_worth(chosen), [each.name for each in chosen])
        for chosen in near
    )
    return min(ranks)[3]


def _useful(trial: Trial) -> _Useful:
    gains = {
        query: math.log(ratio.value)
        for query, ratio in trial.speedups.items()
        if ratio.low > 1 and ratio.value > NEGLIGIBLE
    }
    return _Useful(trial.name, trial.size_bytes, gains)


def _undominated(useful: list[_Useful]) -> list[_Useful]:
    """Those that no single other one makes superfluous, sorted by name; the most useful ones where they are many."""
    kept = [each for each in useful if not any(other is not each and each.is_no_better_than(other) for other in useful)]
    kept.sort(key=lambda each: (-math.fsum(each.gains.values()), each.size_bytes, each.name))
    return sorted(kept[:MOST_TRIALS], key=lambda each: each.name)


def _sets(useful: Sequence[_Useful], budget: int) -> Iterator[tuple[_Useful, ...]]:
    """All sets within the budget."""
    if not useful:
        yield ()
        return
    first, rest = useful[0], useful[1:]
    yield from _sets(rest, budget)
    if first.size_bytes <= budget:
        for further in _sets(rest, budget - first.size_bytes):
            yield (first, *further)


def _worth(chosen: Sequence[_Useful]) -> float:
    """Sum, over queries, of the best gain. Rounded, so that the order of adding up decides nothing."""
    queries = {query for each in chosen for query in each.gains}
    return round(math.fsum(max(each.gains.get(query, 0.0) for each in chosen) for query in queries), 9)


def lock_note(candidate: Candidate) -> str:
    """What building an index on a live table does to those who work there, with the statements to paste."""
    return (
        f"A plain CREATE INDEX takes a SHARE lock on {candidate.table}: others read, but whoever writes waits until it "
        "is built. CONCURRENTLY takes SHARE UPDATE EXCLUSIVE: others read and write. It scans the table twice, waits "
        "for older transactions to end, and can't run inside a transaction. Where it fails it leaves an invalid index, "
        "which slows writes down and serves nobody: drop it, then build again.\n"
        f"{candidate.create(concurrently=True)}\n"
        f"-- only where it failed: DROP INDEX CONCURRENTLY {quoted(candidate.name)};"
    )
