"""PostgreSQL: the one that `DATABASE_URL` names, or an embedded PostgreSQL 18 on a Unix socket."""

from __future__ import annotations

import re
import time
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from shop_platform.errors import ServiceError, SettingsError
from shop_platform.services import account, postgres_server
from shop_platform.services.process import ServiceStatus, server_lock
from shop_platform.services.transport import safe_conninfo
from shop_platform.settings import Settings

#: Seconds for which a server that runs may refuse connections: while it recovers from the crash of a backend, say.
_PATIENCE = 30.0


def url(settings: Settings, database: str = "shop") -> str:
    """URL of a database for psql and any other client; starts the embedded server when `DATABASE_URL` is unset.

    Args:
        settings: where the server is, or where its data lies.
        database: made on the embedded server when missing; `DATABASE_URL` names its own.

    Raises:
        ServiceError: the embedded server can't be started, in which case the message ends with its log, or takes no
            connections.
        SettingsError: the database's name can't be one.
    """
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", database):
        raise SettingsError(f"{database!r} can't be a shop's name: use lower-case letters, digits and underscores.")
    folder = _folder(settings)
    deadline = time.monotonic() + _PATIENCE
    while True:
        server = postgres_server.find_ready(folder) or _start(settings, folder)
        try:
            _create_database(_url(server, "postgres"), database)
        except psycopg.OperationalError as error:
            # It may have been stopped or killed since it was found; then the next round starts it.
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"The embedded PostgreSQL runs but does not serve: {error}. Its log is {folder / 'server.log'}."
                ) from error
            time.sleep(0.2)
        else:
            return _url(server, database)


def stop(settings: Settings) -> bool:
    """Stop the embedded server; returns whether one ran. Clients are disconnected, their transactions rolled back.

    Raises:
        ServiceError: it can't be stopped.
    """
    folder = _folder(settings)
    if settings.database_url is not None or not folder.exists():
        return False
    with server_lock(folder):
        return postgres_server.stop(folder)


def status(settings: Settings) -> ServiceStatus:
    """How the server stands. Starts nothing.

    Raises:
        SettingsError: `DATABASE_URL` is malformed; the message does not show it.
        ServiceError: `SHOP_HOME` is somebody else's.
    """
    if settings.database_url is not None:
        return _external_status(settings.database_url.get_secret_value(), settings)
    folder = _folder(settings)
    server = postgres_server.find_ready(folder)
    return ServiceStatus(
        name="postgres",
        embedded=True,
        running=server is not None,
        version=postgres_server.version(folder),
        url=None if server is None else _url(server, "shop"),
        pid=None if server is None else server.process.pid,
        data=str(folder / "data"),
    )


def _start(settings: Settings, folder: Path) -> postgres_server.Server:
    account.private_home(settings)
    account.private_folder(folder)
    with server_lock(folder):
        return postgres_server.find_ready(folder) or postgres_server.start(folder)


def _external_status(database_url: str, settings: Settings) -> ServiceStatus:
    conninfo = safe_conninfo(database_url, "DATABASE_URL", settings)
    parts = psycopg.conninfo.conninfo_to_dict(conninfo)
    host = quote(str(parts.get("host", "localhost")), safe=":,[]")
    where = f"postgresql://{host}:{parts.get('port', postgres_server.PORT)}/{quote(str(parts.get('dbname', '')))}"
    try:
        with psycopg.connect(conninfo, connect_timeout=5) as connection:
            number = connection.info.server_version
    except psycopg.Error:
        return ServiceStatus("postgres", embedded=False, running=False, url=where)
    return ServiceStatus(
        "postgres", embedded=False, running=True, version=f"{number // 10000}.{number % 10000}", url=where
    )


def _folder(settings: Settings) -> Path:
    # Whose the home is does not matter where it is not used.
    home = settings.home if settings.database_url is not None else account.own_home(settings)
    return home / "postgres"


def _create_database(admin_url: str, database: str) -> None:
    with psycopg.connect(admin_url, autocommit=True, connect_timeout=10) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone():
            return
        try:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            return  # another process was faster


def _url(server: postgres_server.Server, database: str) -> str:
    return f"postgresql://postgres@/{database}?host={quote(str(server.socket_folder), safe='')}"
