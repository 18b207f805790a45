"""The embedded PostgreSQL of one folder: its data, its process, its socket.

The folder holds `data/`, `socket/`, `server.log` and `server.lock`. Data is made under another name and renamed, so an
interrupted `initdb` leaves nothing that looks whole. Who asks for the server reads `data/postmaster.pid`, and believes
it only where that process is a postgres that works in `data/`: after a crash, the pid may be anybody's.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Container
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from shop_platform.errors import ServiceError
from shop_platform.services import account
from shop_platform.services.postgres_commands import execute
from shop_platform.services.process import end, log, process_of, wait_until_gone

#: Part of the socket's name; nothing listens on a port of this number.
PORT = 5432

#: Longest path of a Unix socket, less one for the ending zero, on the system where it is shortest (macOS).
_SOCKET_PATH_LIMIT = 103

#: Seconds that a server gets to recover from a crash and take connections, and to write all down and end.
START_TIMEOUT, STOP_TIMEOUT = 300, 120

#: Size over which the server's log is put aside at a start.
_LOG_LIMIT = 10 * 2**20

#: Everything else is PostgreSQL's default: what the platform measures should be what people have.
_SERVER_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
    "cluster_name": "shop_platform",
}

_INCLUDE = "include_if_exists = 'shop_platform.conf'"


@dataclass(frozen=True)
class Server:
    """A living postmaster: its process, where its socket is, and whether it takes connections."""

    process: psutil.Process
    socket_folder: Path
    ready: bool


def find(folder: Path) -> Server | None:
    """The living server of this folder, be it ready, starting or stopping; None where there is none."""
    data = folder / "data"
    try:
        # pid, data folder, start time, port, socket folder, address, shared memory, status.
        lines = (data / "postmaster.pid").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        process = process_of(int(lines[0]))
    except (OSError, ValueError, IndexError):
        return None
    if process is None or not _works_in(process, {str(data)}):
        return None
    ready = len(lines) > 7 and lines[7].strip() == "ready"
    return Server(process, Path(lines[4]) if ready else folder / "socket", ready)


def find_ready(folder: Path) -> Server | None:
    """The server of this folder, if it takes connections."""
    server = find(folder)
    return server if server is not None and server.ready else None


def version(folder: Path) -> str | None:
    """Major version of the PostgreSQL that made the data; None where there is none yet."""
    try:
        return (folder / "data" / "PG_VERSION").read_text(encoding="ascii").strip()
    except OSError:
        return None


def start(folder: Path) -> Server:
    """Start the server, making its data first where there is none. Call with the lock held.

    Raises:
        ServiceError: it does not start; the message ends with its log.
    """
    data = folder / "data"
    # Whoever started it may have died before it was ready, or it was told to stop by somebody else.
    _wait_until(lambda: (found := find(folder)) is None or found.ready, START_TIMEOUT)
    server = find(folder)
    if server is None:
        socket_folder = _make_socket_folder(folder)
        _clear(folder)
        # PostgreSQL would refuse to start, were the pid in the socket's lock file a living stranger's.
        for stale in socket_folder.glob(f".s.PGSQL.{PORT}*"):
            stale.unlink()
        if not (data / "PG_VERSION").exists():
            _initialise(data)
        _configure(data, socket_folder)
        _launch(folder)
        server = find(folder)
    if server is None or not server.ready:
        raise ServiceError(f"PostgreSQL on {data} does not become ready. {_log_end(folder)}")
    return server


def stop(folder: Path) -> bool:
    """Stop the server and all of its processes; returns whether any ran. Call with the lock held.

    Clients are disconnected and their transactions rolled back. A server that can't write all down in time is stopped
    at once, which loses nothing either: it recovers from its log at the next start.

    Raises:
        ServiceError: it can't be stopped.
    """
    server = find(folder)
    if server is not None:
        try:
            execute(folder, "pg_ctl", "stop", "-m", "fast", "-w", "-t", str(STOP_TIMEOUT))
        except ServiceError as error:
            if find(folder) is not None:
                log.warning("%s Stopping it without a checkpoint; the next start recovers.", error)
                execute(folder, "pg_ctl", "stop", "-m", "immediate", "-w", "-t", "30")
        wait_until_gone([server.process], 10)  # it removes its pid file a moment before it ends
        if server.socket_folder != folder / "socket":
            with suppress(OSError):
                server.socket_folder.rmdir()
    left = _processes(folder)
    _clear(folder)
    return server is not None or bool(left)


def _wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _works_in(process: psutil.Process, folders: Container[str]) -> bool:
    """Whether this is one of PostgreSQL's processes in these folders: each of a server's works in its data folder."""
    try:
        return process.name() in ("postgres", "initdb", "pg_ctl") and process.cwd() in folders
    except psutil.Error:
        return False


def _processes(folder: Path) -> list[psutil.Process]:
    """The living processes of a server, and the commands that we ran for it."""
    folders = {str(folder), str(folder / "data"), *map(str, _half_made(folder))}
    return [p for p in psutil.process_iter() if _works_in(p, folders) and process_of(p.pid) is not None]


def _half_made(folder: Path) -> list[Path]:
    return list(folder.glob("data.new.*"))


def _clear(folder: Path) -> None:
    """Remove what a killed server left, or whoever was killed while starting it. Call with the lock held.

    That is processes, half-made data, and a `postmaster.pid` that names a dead server. A server's processes notice by
    themselves that it is gone, unless they are in the middle of a long query: then they are ended, since they hold its
    shared memory and keep a new one from starting. Nothing that was committed is lost.
    """
    if not _wait_until(lambda: not _processes(folder), 3):
        end(_processes(folder), patience=5)
    (folder / "data" / "postmaster.pid").unlink(missing_ok=True)
    for half in _half_made(folder):
        shutil.rmtree(half)


def _initialise(data: Path) -> None:
    """Make the data: UTF-8, and sorted by code point, which is the same on every machine."""
    if data.exists() and any(data.iterdir()):
        raise ServiceError(
            f"{data} is not empty and holds no PostgreSQL data: move it away, or set SHOP_HOME to another folder."
        )
    # A new name each time: an `initdb` whose caller was killed may still write.
    temporary = data.with_name(f"data.new.{uuid.uuid4().hex}")
    execute(
        *(data.parent, "initdb", "-D", str(temporary), "-U", "postgres", "--auth=trust", "--encoding=UTF8"),
        *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
    )
    temporary.rename(data)


def _configure(data: Path, socket_folder: Path) -> None:
    """Write our settings into a file that `postgresql.conf` includes first: what a user sets there goes before ours."""
    lines = [
        f"{name} = '{_quoted(value)}'"
        for name, value in (_SERVER_SETTINGS | {"unix_socket_directories": str(socket_folder)}).items()
    ]
    path = data / "shop_platform.conf"
    path.write_text("\n".join(["# Written at every start by shop_platform.", *lines, ""]), encoding="utf-8")
    path.chmod(0o644)  # the service account reads it; the folder is private
    main = data / "postgresql.conf"
    text = main.read_text(encoding="utf-8")
    if _INCLUDE not in text.splitlines():
        main.write_text(f"{_INCLUDE}\n{text}", encoding="utf-8")


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def _launch(folder: Path) -> None:
    server_log = folder / "server.log"
    if server_log.exists() and server_log.stat().st_size > _LOG_LIMIT:
        server_log.replace(folder / "server.log.1")
    try:
        execute(folder, "pg_ctl", "start", "-l", "server.log", "-w", "-t", str(START_TIMEOUT))
    except ServiceError as error:
        raise ServiceError(f"{error} {_log_end(folder)}") from error


def _log_end(folder: Path) -> str:
    server_log = folder / "server.log"
    try:
        lines = server_log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]
    except OSError:
        return "It wrote no log."
    return f"The end of {server_log}:\n" + "\n".join(lines)


def _make_socket_folder(folder: Path) -> Path:
    """Where the socket goes: beside the data, or where that path would not do into a private temporary folder.

    A socket's path has a greatest length, and clients take a comma as the end of a host.
    """
    inside = folder / "socket"
    outside = f"shop_platform_{os.geteuid()}_{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"
    for candidate in (inside, Path(tempfile.gettempdir()) / outside, Path("/tmp") / outside):  # noqa: S108  private below
        fits = len(os.fsencode(candidate / f".s.PGSQL.{PORT}")) <= _SOCKET_PATH_LIMIT
        if fits and re.fullmatch(r"[\w./+@ -]+", str(candidate)):
            return account.private_folder(candidate)
    raise ServiceError(f"Neither {folder} nor a temporary folder has room for a socket: set SHOP_HOME to a short path.")
