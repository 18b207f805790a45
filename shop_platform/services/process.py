"""What the embedded servers share: their state, whether a pid is still the process that we started, locks, folders."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from shop_platform.errors import ServiceError

#: Seconds to wait while another process starts or stops a server.
LOCK_TIMEOUT = 180.0


@dataclass(frozen=True)
class ServiceStatus:
    """How a server stands.

    Attributes:
        name: "postgres" or "elasticsearch".
        embedded: whether it is ours to start; otherwise a URL in the environment names it.
        running: whether it runs (embedded), or answers (the user's own).
        version: version of the embedded server.
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
        ServiceError: somebody else held it for too long.
    """
    try:
        with FileLock(folder / "server.lock", timeout=LOCK_TIMEOUT, mode=0o600):
            yield
    except Timeout as error:
        raise ServiceError(
            f"Another process has been starting or stopping the server in {folder} for {LOCK_TIMEOUT:.0f} s. "
            "If none is, end the one that holds server.lock there."
        ) from error


def living(pid: int, create_time: float | None, marker: str) -> psutil.Process | None:
    """The process of this pid if it is still the one meant; None when it is gone or the pid is somebody else's now.

    Args:
        pid: process id.
        create_time: when it started, seconds since the epoch; None where that is not known.
        marker: text that stands in its command line.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE or not any(marker in part for part in process.cmdline()):
            return None
        if create_time is not None and abs(process.create_time() - create_time) > 1:
            return None
    except psutil.Error:
        return None
    return process


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a small JSON file in one piece: a reader sees the old or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(state), encoding="utf-8")
    temporary.replace(path)


def read_state(path: Path) -> dict[str, Any] | None:
    """Read such a file; None when it is missing or no JSON object."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None
