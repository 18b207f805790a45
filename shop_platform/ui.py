"""Dagster's UI and daemon on loopback: started together, ended together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import psutil
from rich.console import Console

from shop_platform.errors import ServiceError
from shop_platform.housekeeping import forget_later_looks
from shop_platform.runs import dagster_home, dagster_instance
from shop_platform.settings import load_settings

#: Seconds that the processes get to end by themselves; then they are killed.
GRACE = 6.0


def serve(out: Console, port: int) -> int:
    """Run `dagster dev` until it ends or a signal arrives; returns its exit code, 0 after a signal.

    Every process that it started is gone when this returns: `dagster dev` has been seen to ignore SIGTERM for
    minutes, so what does not end within `GRACE` seconds is killed.

    Raises:
        ServiceError: the port is taken.
    """
    settings = load_settings()
    _require_free(port)
    home = dagster_home(settings)
    with dagster_instance(settings) as instance:
        forget_later_looks(instance)
    environment = os.environ | {
        "DAGSTER_HOME": os.environ.get("DAGSTER_HOME", str(home)),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "SHOP_HOME": str(settings.home),
    }
    command = [
        *(str(Path(sys.executable).with_name("dagster")), "dev", "--host", "127.0.0.1", "--port", str(port)),
        *("--workspace", str(home / "workspace.yaml"), "--log-level", "warning"),
    ]
    out.print(f"Dagster's UI opens on http://127.0.0.1:{port} in about half a minute; Ctrl-C stops it.", markup=False)
    # A session of its own: Ctrl-C reaches this process alone, which then ends the others in order.
    process = subprocess.Popen(command, env=environment, start_new_session=True)  # noqa: S603  our own command
    signals: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        signals.append(number)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while process.poll() is None and not signals:
            time.sleep(0.2)
    finally:
        end_session(process)
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0 if signals else process.returncode


def end_session(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a session of its own, and all in it: SIGKILL for what is left after `GRACE` seconds.

    By the session, not by parents: who was started late, or outlived its parent, is found as well.
    """
    members = _session(process.pid)
    for member in members:
        _signal(member, signal.SIGINT if member.pid == process.pid else signal.SIGTERM)
    psutil.wait_procs(members, timeout=GRACE)
    late = _session(process.pid)
    for member in late:
        _signal(member, signal.SIGKILL)
    psutil.wait_procs(late, timeout=5)
    process.wait(timeout=5)


def _session(leader: int) -> list[psutil.Process]:
    """Living processes of a session."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (OSError, psutil.Error):
            continue  # it has ended meanwhile
    return found


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _require_free(port: int) -> None:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServiceError(f"Port {port} on 127.0.0.1 is taken: choose another with `--port`.") from error
