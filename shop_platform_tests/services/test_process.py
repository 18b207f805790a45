"""What the embedded servers share holds when processes die, hang, or pids are given anew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from shop_platform.errors import ServiceError
from shop_platform.services import process
from shop_platform_tests.services.asking import alive


def test_a_process_that_is_dead_but_not_yet_taken_note_of_counts_as_gone() -> None:
    child = subprocess.Popen(["true"])
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    assert process.process_of(child.pid) is None
    child.wait()


def test_a_later_process_of_the_same_pid_is_told_apart() -> None:
    me = psutil.Process()
    boot, seconds = process.birth_of(me).split("/")
    assert process.born_at(me, f"{boot}/{seconds}")
    assert not process.born_at(me, f"{boot}/{float(seconds) - 60}")
    assert not process.born_at(me, f"another boot/{seconds}")


def test_what_does_not_end_when_asked_is_killed() -> None:
    stubborn = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = psutil.Process(child.pid)
        try:
            process.end([found], patience=0.2)
            assert not alive([found])
        finally:
            child.kill()


def test_what_is_gone_already_needs_no_ending() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        found = psutil.Process(child.pid)
        child.kill()
    process.end([found], patience=0.2)


def test_a_lock_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from shop_platform.services.process import server_lock\n"
        "with server_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
    with process.server_lock(tmp_path):
        assert (tmp_path / "server.lock").exists()


def test_a_lock_in_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError), process.server_lock(tmp_path / "file"):
        pass


def test_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    process.write_state(tmp_path / "server.json", {"pid": 1, "birth": "x/1"})
    assert process.read_state(tmp_path / "server.json") == {"pid": 1, "birth": "x/1"}
    assert os.listdir(tmp_path) == ["server.json"]  # noqa: PTH208  the names are what is meant


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_state_that_is_spoilt_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "server.json").write_bytes(content)
    assert process.read_state(tmp_path / "server.json") is None
