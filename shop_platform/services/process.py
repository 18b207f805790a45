"""What the embedded servers share: their status, locks, small state files, and what a process is known by."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from shop_platform.errors import ServiceError
from shop_platform.files import write_atomically

#: Seconds to wait while another process starts or stops a server.
LOCK_TIMEOUT = 300.0

#: Linux tells each boot of a machine by an id.
_BOOT = Path("/proc/sys/kernel/random/boot_id")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServiceStatus:
    """How a server stands.

    Attributes:
        name: "postgres" or "elasticsearch".
        embedded: whether it is ours to start; otherwise a URL in the environment names it.
        running: whether it runs (embedded), or answers (the user's own).
        version: version of the server, where it is known.
        url: where it is, without any secret; None while an embedded server does not run.
        pid: of the embedded server.
        data: folder of the embedded server's data.
    """

    name: str
    embedded: bool
    running: bool
    version: str | None = None
    url: str | None = None
    pid: int | None = None
    data: str | None = None


@contextmanager
def server_lock(folder: Path) -> Iterator[None]:
    """Hold the right to start or stop the server of this folder; the lock ends with its process, however it ends.

    Raises:
        ServiceError: somebody else held it for too long, or it can't be made.
    """
    lock = FileLock(folder / "server.lock", timeout=LOCK_TIMEOUT, mode=0o600)
    try:
        lock.acquire()
    except Timeout as error:
        raise ServiceError(
            f"Another process has been starting or stopping the server in {folder} for {LOCK_TIMEOUT:.0f} s. "
            "If none is, end the one that holds server.lock there."
        ) from error
    except OSError as error:
        raise ServiceError(f"{folder / 'server.lock'} can't be locked ({error.strerror}): check its owner.") from error
    try:
        yield
    finally:
        lock.release()


def process_of(pid: int) -> psutil.Process | None:
    """The living process of this pid; None when there is none, or only what a dead one left for its parent to read."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except (psutil.Error, ValueError, OverflowError):
        return None


def birth_of(process: psutil.Process) -> str:
    """When a process began: which boot of the machine, where it tells, and seconds from there.

    psutil tells the seconds since the epoch by the clock as it is now. Were they kept, a clock that is set would make
    another process of each that lives: a run would count as killed, and a node be started a second time.

    Raises:
        psutil.Error: it is gone.
    """
    # Asked anew: an object remembers what the clock made of it when it was asked first.
    since = psutil.Process(process.pid).create_time() - psutil.boot_time()
    try:
        boot = _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return f"{boot}/{since:.2f}"


def born_at(process: psutil.Process, birth: str) -> bool:
    """Whether this is the process that was seen with its pid before, and not a later one.

    Args:
        process: a process.
        birth: of the one seen before, as `birth_of` tells it.

    Raises:
        ValueError: that is no birth.
    """
    try:
        boot, since = birth_of(process).split("/")
    except psutil.Error:
        return False
    before, _, seconds = birth.partition("/")
    return abs(float(since) - float(seconds)) <= 1 and boot == before


def wait_until_gone(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until processes have ended; returns those that still live.

    What has ended and only waits for its parent to take note counts as gone: in a container nobody may ever do so.
    """
    deadline = time.monotonic() + seconds
    while (alive := [p for p in processes if not _is_gone(p)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


def _is_gone(process: psutil.Process) -> bool:
    try:
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            return False
        process.wait(0)  # takes note of its end, where we are its parent
    except (psutil.NoSuchProcess, psutil.TimeoutExpired):
        pass
    return True


def end(processes: Sequence[psutil.Process], *, patience: float) -> None:
    """End processes by SIGTERM, and by SIGKILL those that still live after some seconds; returns when all are gone.

    Raises:
        ServiceError: one belongs to somebody else, or outlives even that.
    """
    alive = list(processes)
    for method in ("terminate", "kill"):
        for process in alive:
            try:
                getattr(process, method)()
            except psutil.NoSuchProcess:
                continue
            except psutil.AccessDenied as error:
                raise ServiceError(
                    f"Process {process.pid} belongs to somebody else: end it, then try again."
                ) from error
        alive = wait_until_gone(alive, patience)
        if not alive:
            return
        if method == "terminate":
            log.warning("Killed %s: not ended %.0f s after SIGTERM.", [process.pid for process in alive], patience)
    raise ServiceError(f"Processes {[process.pid for process in alive]} can't be ended, not even by SIGKILL.")


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a small JSON file in one piece: a reader sees the old or the new one."""
    write_atomically(path, (json.dumps(state) + os.linesep).encode())


def read_state(path: Path) -> dict[str, Any] | None:
    """Read such a file; None when it is missing or no JSON object."""
    try:
        state = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None
