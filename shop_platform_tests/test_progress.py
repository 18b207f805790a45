"""How far work is: told to nobody by default, in lines now and then, and not when it shall be quiet."""

from __future__ import annotations

import io
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from rich.console import Console

from shop_platform import progress
from shop_platform.cli import bars, run
from shop_platform.errors import DataError

from .terminal import on_a_terminal


class Lines:
    """A reporter of lines, on a clock that the test moves."""

    def __init__(self, every: float = 5) -> None:
        self.now = 0.0
        self.file = io.StringIO()
        self.reporter = bars.Lines(Console(file=self.file, soft_wrap=True), every, lambda: self.now)

    @property
    def said(self) -> list[str]:
        return self.file.getvalue().splitlines()


def test_nobody_listens_unless_asked_to(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.track("loading users", 10, "rows") as advance:
        advance(10)
    assert advance is progress.unheard
    assert capsys.readouterr() == ("", "")


def test_a_line_says_count_rate_and_time_left_and_the_next_comes_no_sooner_than_it_may() -> None:
    lines = Lines()
    with progress.reporting(lines.reporter), progress.track("loading events", 5_000_000, "rows") as advance:
        for _ in range(12):
            lines.now += 1
            advance(200_000)
    assert lines.said == [
        "loading events: 1,000,000 of 5,000,000 rows, 200,000/s, 20 s left",
        "loading events: 2,000,000 of 5,000,000 rows, 200,000/s, 15 s left",
    ]


def test_work_that_is_over_soon_has_no_line_whenever_it_begins() -> None:
    lines = Lines()
    with progress.reporting(lines.reporter):
        for _ in range(5):
            lines.now += 100
            with progress.track("loading users", 10, "rows") as advance:
                lines.now += 4
                advance(10)
    assert lines.said == []


def test_without_a_total_there_is_no_time_left() -> None:
    lines = Lines()
    with progress.reporting(lines.reporter), progress.track("writing segments", None, "documents") as advance:
        lines.now += 8
        advance(20)
    assert lines.said == ["writing segments: 20 documents, 2.5/s"]


def test_steps_that_differ_have_no_rate_and_no_line() -> None:
    lines = Lines(every=0)
    with progress.reporting(lines.reporter), progress.track("starting", 3, "steps", even=False) as advance:
        lines.now += 8
        advance(what="users")
    assert lines.said == []


def test_any_thread_may_tell() -> None:
    lines = Lines()
    with progress.reporting(lines.reporter), progress.track("encoding texts", 8_000, "texts") as advance:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: advance(), range(7_999)))
        lines.now += 10
        advance()
    assert lines.said == ["encoding texts: 8,000 of 8,000 texts, 800/s, 0 s left"]


@pytest.mark.parametrize("quiet", [False, True])
def test_the_command_tells_on_stderr_unless_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, quiet: bool
) -> None:
    def work() -> None:
        with progress.track("loading users", 10, "rows") as advance:
            advance(10)
        raise DataError("There is no more.")

    monkeypatch.setattr("shop_platform.cli.servers.load_settings", work)
    monkeypatch.setattr(bars, "EVERY", 0)
    assert run([*(["--quiet"] if quiet else []), "status"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert ("loading users: 10 of 10 rows" in err) is not quiet
    with progress.track("after", 1, "rows") as advance:
        assert advance is progress.unheard


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (119, "119 s"), (121, "2 min"), (7_100, "118 min"), (7_260, "2 h 1 min")]
)
def test_durations_are_for_people(seconds: float, words: str) -> None:
    assert bars.duration(seconds) == words


BARS = """
import os, time
from shop_platform import progress
from shop_platform.cli.app import err, talk
from shop_platform.cli.bars import showing
with showing(err), progress.track("starting", 3, "steps", even=False) as step:
    screen = progress.screen(talk)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with progress.track("loading [users]", 40, "rows") as advance:
        for _ in range(20):
            time.sleep(0.05)
            advance()
        screen.print("a line")
        time.sleep(0.5)
    step()
talk.print("the end")
"""


def test_bars_go_on_where_dagster_leads_output_elsewhere_and_lines_stand_above_them() -> None:
    screen = on_a_terminal([sys.executable, "-c", BARS], {"COLUMNS": "160"})
    before, after = screen.split("a line")
    for part in (before, after):
        assert re.search(r"loading \[users\] \S+ \d+ of 40 rows, \d+/s, \d s left", part)
        assert re.search(r"starting +\S+ 0 of 3 steps, \d s", part)
    assert after.splitlines()[-1].strip() == "the end"
