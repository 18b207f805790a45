"""Shows how far long work is: bars on a terminal, now and then a line elsewhere. On stderr: results stay alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from shop_platform.progress import Advance, Reporter, reporting, undiverted

#: Seconds from the start of a piece of work, or from the line before, to a line.
EVERY = 5.0

#: Times a second that bars are drawn again. Few: queries are measured meanwhile.
_REFRESHES = 4


@contextmanager
def showing(err: Console) -> Iterator[None]:
    """Within it, work is shown where `err` prints to now."""
    with undiverted(err) as console, reporting(reporter_for(console)):
        yield


def reporter_for(console: Console) -> Reporter:
    """Bars where the console is a terminal that can show them, else lines."""
    return Bars(console) if console.is_interactive and console.file.isatty() else Lines(console)


def sentence(done: float, total: float | None, unit: str, rate: float | None) -> str:
    """Such as "1,200,000 of 5,000,000 rows, 210,000/s, 18 s left", as far as it is known.

    Args:
        done: units that are done.
        total: units that there are to do.
        unit: their name.
        rate: units a second.
    """
    words = [f"{done:,.0f} {unit}" if total is None else f"{done:,.0f} of {total:,.0f} {unit}"]
    if rate:
        words.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s")
        if total is not None:
            words.append(f"{duration(max(0.0, total - done) / rate)} left")
    return ", ".join(words)


def duration(seconds: float) -> str:
    """For people: seconds below two minutes, minutes below two hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


class Lines:
    """A line at most every few seconds; none about work that is over sooner."""

    def __init__(
        self, console: Console, every: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Print to a console.

        Args:
            console: what to print to.
            every: seconds between lines; by default `EVERY`.
            clock: seconds, monotonic.
        """
        self._console, self._clock = console, clock
        self._every = EVERY if every is None else every
        self._said = clock()
        self._lock = Lock()

    @contextmanager
    def track(self, what: str, total: int | None, unit: str, *, even: bool) -> Iterator[Advance]:
        """A piece of work; of one whose units differ the steps themselves are told elsewhere."""
        work = _Work(what, total)
        started = self._clock()

        def advance(count: int = 1, *, total: int | None = None, what: str | None = None) -> None:
            with self._lock:
                work.done += count
                work.total = work.total if total is None else total
                work.what = what or work.what
                now = self._clock()
                if even and now - max(started, self._said) >= self._every:
                    self._said = now
                    rate = work.done / (now - started) if now > started else None
                    self._console.print(f"{work.what}: {sentence(work.done, work.total, unit, rate)}", markup=False)

        yield advance

    def screen(self, out: Console) -> Console:
        """The console itself: there is nothing to run across."""
        return out


class _Work:
    def __init__(self, what: str, total: int | None) -> None:
        self.what, self.total, self.done = what, total, 0


class Bars:
    """A bar for each piece of work under way, gone when it is done."""

    def __init__(self, console: Console) -> None:
        """Draw on a console, which is a terminal."""
        self._console = console
        self._lock = Lock()
        self._shown: Progress | None = None
        self._under_way = 0

    @contextmanager
    def track(self, what: str, total: int | None, unit: str, *, even: bool) -> Iterator[Advance]:
        """A piece of work, below those that were under way before."""
        with self._lock:
            # A new display each time: one that was stopped does not know what was printed since.
            shown = self._shown = self._shown or self._display()
            task = shown.add_task(what, total=total, unit=unit, even=even)
            self._under_way += 1
            shown.start()

        def advance(count: int = 1, *, total: int | None = None, what: str | None = None) -> None:
            shown.update(task, advance=count, total=total, description=what)

        try:
            yield advance
        finally:
            with self._lock:
                self._under_way -= 1
                if self._under_way == 0:
                    self._shown = None
                    shown.stop()
                else:
                    shown.remove_task(task)

    def screen(self, out: Console) -> Console:
        """The console with the bars, where that is the same terminal: it puts lines above them."""
        return self._console if out.is_terminal and out.file.isatty() else out

    def _display(self) -> Progress:
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            _Words(),
            console=self._console,
            transient=True,
            refresh_per_second=_REFRESHES,
            # What is printed to a file stays there.
            redirect_stdout=sys.stdout.isatty(),
        )


class _Words(ProgressColumn):
    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        """Count, rate and time left; for steps that differ the time so far."""
        unit, elapsed = task.fields["unit"], task.elapsed or 0.0
        if not task.fields["even"]:
            count = f"{sentence(task.completed, task.total, unit, None)}, " if task.total is not None else ""
            return Text(f"{count}{duration(elapsed)}")
        # Rich knows the rate of the last half minute; not before the second batch, nor where the total is a guess.
        rate = task.speed or (task.completed / elapsed if elapsed else None)
        return Text(sentence(task.completed, task.total, unit, rate))
