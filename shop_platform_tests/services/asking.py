"""What the tests of the embedded servers share: asking for a server in processes of their own, and killing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil

from shop_platform.settings import Settings

#: Prints the server's URL and pid once it runs.
_ASK = (
    "import sys; from shop_platform.services import {0} as s; from shop_platform.settings import load_settings as l; "
    "print(s.url(l()), s.status(l()).pid)"
)


def ask(server: str, settings: Settings, **variables: str) -> subprocess.Popen[str]:
    """A process that asks for a server, and prints its URL and pid; variables go into its environment."""
    environment = os.environ | {
        "SHOP_HOME": str(settings.home),
        "SHOP_ELASTICSEARCH_HEAP": settings.elasticsearch_heap,
        **variables,
    }
    command = [sys.executable, "-c", _ASK.format(server)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def answers(processes: list[subprocess.Popen[str]]) -> set[str]:
    """What such processes printed; all must have ended well."""
    printed = {process.communicate(timeout=180)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0] * len(processes)
    return printed


def kill(pid: int | None) -> None:
    """Kill a process as the kernel does when memory runs out, and wait until it is gone."""
    assert pid is not None
    process = psutil.Process(pid)
    process.send_signal(signal.SIGKILL)
    while alive([process]):
        time.sleep(0.01)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; what is dead and not yet taken note of by its parent does not."""
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def family(pid: int | None) -> list[psutil.Process]:
    """A process and all its descendants."""
    assert pid is not None
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]
