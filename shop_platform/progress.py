"""How far long work is: what works says so here, the command shows it; where nobody listens it costs nothing.

One listener for the whole process, not for a context: an asset may run in a thread other than the command's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console


#: Documents that are read one by one, between two times that somebody is told.
TOLD_EVERY = 1_000


class Advance(Protocol):
    """Told how many more units are done; once a batch, from any thread."""

    def __call__(self, count: int = 1, *, total: int | None = None, what: str | None = None) -> None:
        """Also told a total that is known better by now, and what is being done now."""
        ...


class Reporter(Protocol):
    """Shows how far work is."""

    def track(self, what: str, total: int | None, unit: str, *, even: bool) -> AbstractContextManager[Advance]:
        """See `track`."""
        ...

    def screen(self, out: Console) -> Console:
        """See `screen`."""
        ...


_reporter: Reporter | None = None


@contextmanager
def reporting(reporter: Reporter | None) -> Iterator[None]:
    """Within it, all work of this process is told to the reporter."""
    global _reporter
    before, _reporter = _reporter, reporter
    try:
        yield
    finally:
        _reporter = before


@contextmanager
def track(what: str, total: int | None, unit: str, *, even: bool = True) -> Iterator[Advance]:
    """A piece of work, while it lasts.

    Args:
        what: such as "loading users"; nothing from the data.
        total: units that there are to do; None where that is not known.
        unit: such as "rows".
        even: whether units take about as long as each other, so that a rate and the time left can be told.
    """
    if _reporter is None:
        yield unheard
    else:
        with _reporter.track(what, total, unit, even=even) as advance:
            yield advance


def screen(out: Console) -> Console:
    """What to print to instead of a console, so that lines do not run across bars on the same terminal."""
    return out if _reporter is None else _reporter.screen(out)


@contextmanager
def undiverted(console: Console) -> Iterator[Console]:
    """A console that prints to where this one prints to now, until the block ends.

    Within its steps Dagster leads stdout and stderr to files. What comes there it passes on by `tail`, which it ends
    with the step, so that the last lines of a step are lost where the machine is busy.
    """
    from rich.console import Console

    try:
        descriptor = os.dup(console.file.fileno())
    except OSError:  # it is no file
        yield console
        return
    with os.fdopen(descriptor, "w", encoding=console.encoding, errors="replace") as file:
        yield Console(file=file, stderr=console.stderr, quiet=console.quiet, highlight=False, soft_wrap=True)


def unheard(count: int = 1, *, total: int | None = None, what: str | None = None) -> None:
    """Where nobody listens."""
