"""The command's habits: how it ends, what it says when something goes wrong, what shells and pipes get."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from shop_platform.cli import run
from shop_platform.errors import DataError

COMMAND = str(Path(sys.executable).with_name("shop-platform"))


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `status` raise."""

    def load() -> None:
        raise error

    monkeypatch.setattr("shop_platform.cli.servers.load_settings", load)


@pytest.mark.parametrize("options", [[], ["--debug"]])
@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (DataError("The data are odd."), 3, "shop-platform: The data are odd."),
        (RuntimeError("a secret"), 4, "shop-platform: an unexpected RuntimeError: this is a fault of the platform's."),
        (KeyboardInterrupt(), 130, "shop-platform: interrupted."),
        (click.UsageError("Which one?"), 2, "Error: Which one?"),
    ],
)
def test_each_end_has_its_code_and_a_sentence_and_a_trace_on_demand_alone(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    error: BaseException,
    code: int,
    sentence: str,
) -> None:
    failing(monkeypatch, error)
    assert run([*options, "status"]) == code
    said = capsys.readouterr().err
    assert sentence in said
    traced = bool(options) and code in (3, 4)
    assert ("Traceback" in said) == traced
    assert traced or "a secret" not in said


def test_wrong_usage_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demmo"]) == 2
    assert "No such command 'demmo'" in capsys.readouterr().err


def shell(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | variables | {"PATH": f"{Path(COMMAND).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_reader_that_goes_away_gets_no_trace(tmp_path: Path) -> None:
    done = shell("shop-platform env | head -1", SHOP_HOME=str(tmp_path))
    assert done.stdout.startswith("export DAGSTER_HOME=")
    assert done.stderr == ""


def test_colours_are_for_terminals_and_no_color_turns_them_off(tmp_path: Path) -> None:
    wrong = {"SHOP_HOME": str(tmp_path), "SHOP_SCALE": "huge"}
    plain = shell("shop-platform status", **wrong).stderr
    assert "\x1b[" not in plain
    assert "\x1b[31m" in shell("shop-platform status", **wrong, FORCE_COLOR="1").stderr
    assert "\x1b[31m" not in shell("shop-platform status", **wrong, FORCE_COLOR="1", NO_COLOR="1").stderr


def test_shells_complete_commands() -> None:
    done = shell(
        "shop-platform", _SHOP_PLATFORM_COMPLETE="complete_bash", COMP_WORDS="shop-platform re", COMP_CWORD="1"
    )
    assert done.stdout.split() == ["refresh", "results", "report"]
