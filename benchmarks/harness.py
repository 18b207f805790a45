"""Times parties in turns and says how they compare: rows for a table, JSON with every time and the conditions."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import psutil
from rich import box
from rich.console import Console
from rich.table import Table

from shop_platform.performance.ladder import figure
from shop_platform.performance.rounds import Rule, take_rounds
from shop_platform.performance.statistics import LEAST_PAIRS, median, ratio_of_medians

T = TypeVar("T")

out = Console(highlight=False, width=None if Console().is_terminal else 180)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        at: the size that it was measured at.
        measure: what is compared with what.
        ratio: of medians; for memory, the measured value.
        low: end of the 95 % interval, of the smallest pair where there are too few for an interval.
        high: the other end.
        pairs: how many pairs of times the interval is made from.
        bound: what it must reach.
        at_least: whether the bound is a least or a most.
        unit: of ratio and bound.
        times: seconds by party, in order of the rounds.
    """

    at: str
    measure: str
    ratio: float
    low: float
    high: float
    pairs: int
    bound: float
    at_least: bool
    unit: str = "times"
    times: dict[str, list[float]] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Whether the ratio is on the right side of its bound."""
        return self.ratio >= self.bound if self.at_least else self.ratio <= self.bound


#: A turn of a warm party lasts at least so many seconds.
TURN = 0.05


def in_turns(
    parties: Mapping[str, Callable[[], T]],
    rounds: int,
    check: Callable[[str, T], None] = lambda _name, _result: None,
    warm_ups: int = 1,
) -> dict[str, list[float]]:
    """Seconds of each party in each round; in each round every party has one turn, in an order drawn anew."""

    @contextmanager
    def ready(party: Callable[[], T]) -> Iterator[Callable[[], T]]:
        yield party

    ways = {name: partial(ready, party) for name, party in parties.items()}
    return take_rounds(ways, check, Rule(warm_ups, least=rounds, most=rounds, seconds=0), seed=1)


def warm_in_turns(
    parties: Mapping[str, Callable[[], T]], rounds: int, check: Callable[[str, T], None]
) -> dict[str, list[float]]:
    """As `in_turns`, with a turn that runs its party once untimed, then again and again for at least `TURN` seconds.

    The time of a turn is the mean of its timed executions: what an answer takes where the caches of the processor
    hold what it needs, and not what the party before has left in them.
    """
    executions: dict[str, int] = {}

    def turn(name: str, party: Callable[[], T]) -> T:
        started, number = perf_counter(), 0
        while number == 0 or perf_counter() - started < TURN:
            result = party()
            number += 1
        executions[name] = number
        return result

    @contextmanager
    def ready(name: str, party: Callable[[], T]) -> Iterator[Callable[[], T]]:
        check(name, party())
        yield partial(turn, name, party)

    counted: dict[str, list[int]] = {name: [] for name in parties}

    def count(name: str, result: T) -> None:
        check(name, result)
        counted[name].append(executions[name])

    ways = {name: partial(ready, name, party) for name, party in parties.items()}
    times = take_rounds(ways, count, Rule(1, least=rounds, most=rounds, seconds=0), seed=1)
    return {
        name: [seconds / number for seconds, number in zip(taken, counted[name][1:], strict=True)]
        for name, taken in times.items()
    }


def compare(
    at: str,
    measure: str,
    times: Mapping[str, Sequence[float]],
    over: str,
    under: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Row:
    """A row for the median of one party over that of another."""
    first, second = list(times[over]), list(times[under])
    if len(first) >= LEAST_PAIRS:
        ratio = ratio_of_medians(first, second)
        value, low, high = ratio.value, ratio.low, ratio.high
    else:
        each = [a / b for a, b in zip(first, second, strict=True)]
        value, low, high = median(first) / median(second), min(each), max(each)
    bound = at_least if at_least is not None else at_most
    if bound is None:
        raise ValueError("a row needs at_least or at_most")
    return Row(
        at, measure, value, low, high, len(first), bound, at_least is not None, times={over: first, under: second}
    )


def show(rows: Sequence[Row]) -> None:
    """Print the table."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("at", "measure", "medians", "ratio", "interval", "pairs", "bound", ""):
        table.add_column(name, justify="left" if name in ("at", "measure", "") else "right")
    for row in rows:
        bound = f"{'at least' if row.at_least else 'no more than'} {row.bound:g} {row.unit}"
        medians = ", ".join(f"{name} {_seconds(median(times))}" for name, times in row.times.items())
        table.add_row(
            row.at,
            row.measure,
            medians,
            figure(row.ratio),
            f"{figure(row.low)} to {figure(row.high)}" + ("" if row.pairs >= LEAST_PAIRS else " (ends)"),
            str(row.pairs),
            bound,
            "met" if row.met else "MISSED",
        )
    out.print(table)


def _seconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def peak_gib(process: int | str = "self") -> float:
    """Highest resident size of a process, by default this one, in GiB, as Linux counts it.

    VmHWM is of that process alone; ru_maxrss would start at the peak of the one that started it.
    """
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) / 2**20


def conditions(server: Mapping[str, Any]) -> dict[str, Any]:
    """What the figures depend on, without anything that names the machine."""
    packages = ("shop-platform", "psycopg", "pgpq", "duckdb", "polars", "pandas", "numpy", "pyarrow",
                "elasticsearch", "onnxruntime", "sentence-transformers", "torch", "scikit-learn")  # fmt: skip
    return {
        "processors": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "postgresql": dict(server),
    }


def write(path: Path, rows: Sequence[Row], found: Mapping[str, Any]) -> None:
    """Write everything as JSON."""
    document = {"conditions": found, "rows": [asdict(row) | {"met": row.met} for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
