"""Elasticsearch: the one that `ELASTICSEARCH_URL` names, or an embedded node on loopback."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import psutil

from shop_platform.errors import ServiceError, SettingsError
from shop_platform.services.account import private_home
from shop_platform.services.elasticsearch_jars import Jars, Progress, ensure_jars, pinned_version
from shop_platform.services.process import (
    ServiceStatus,
    living,
    read_state,
    server_lock,
    write_state,
)
from shop_platform.settings import Settings

#: Seconds that a node gets to answer after its start, and to end after SIGTERM.
START_TIMEOUT, STOP_TIMEOUT = 90.0, 30.0

_MODULE = "shop_platform.services.elasticsearch_node"

_PLUGIN_DESCRIPTOR = """\
name=transport-netty4
description=HTTP and transport by Netty
version={version}
elasticsearch.version={version}
java.version=21
classname=org.elasticsearch.transport.netty4.Netty4Plugin
extended.plugins=
has.native.controller=false
"""


def url(settings: Settings, progress: Progress | None = None) -> str:
    """URL for curl and any other client; starts the embedded node when `ELASTICSEARCH_URL` is unset.

    Raises:
        ServiceError: the node's jars can't be had, or the node does not start; the message ends with its log.
    """
    if settings.elasticsearch_url is not None:
        return settings.elasticsearch_url.get_secret_value()
    folder = _folder(settings)
    found = _running_url(folder)
    if found is not None:
        return found
    private_home(settings)
    folder.mkdir(mode=0o700, exist_ok=True)
    with server_lock(folder):
        return _running_url(folder) or _start(folder, settings.elasticsearch_heap, ensure_jars(progress))


def client_options(settings: Settings) -> dict[str, Any]:
    """Arguments for `Elasticsearch(...)`: where, who, and bounded patience. Credentials never stay inside a URL.

    Raises:
        SettingsError: the URL, or the credentials beside it, can't be used.
    """
    address = urlsplit(url(settings))
    if address.scheme not in ("http", "https") or not address.hostname:
        raise SettingsError("ELASTICSEARCH_URL must look like https://host:9200.")
    return {
        "hosts": [_without_credentials(settings)],
        "request_timeout": 60,
        "retry_on_timeout": True,
        "max_retries": 3,
        **_identity(settings, unquote(address.username or ""), unquote(address.password or "")),
        **(_tls(settings) if address.scheme == "https" else {}),
    }


def _identity(settings: Settings, username: str, password: str) -> dict[str, Any]:
    """Who we are: an API key before a user of the URL, before a user of the settings."""
    if settings.elasticsearch_api_key is not None:
        return {"api_key": settings.elasticsearch_api_key.get_secret_value()}
    username = username or settings.elasticsearch_username or ""
    if not password and settings.elasticsearch_password is not None:
        password = settings.elasticsearch_password.get_secret_value()
    if not username:
        return {}
    if not password:
        raise SettingsError("Elasticsearch has a user but no password: set ELASTICSEARCH_PASSWORD.")
    return {"basic_auth": (username, password)}


def _tls(settings: Settings) -> dict[str, Any]:
    """How the server's certificate is verified."""
    if not settings.elasticsearch_verify_certs:
        return {"verify_certs": False, "ssl_show_warn": False}
    if settings.elasticsearch_ca_certs is None:
        return {"verify_certs": True}
    if not settings.elasticsearch_ca_certs.is_file():
        raise SettingsError(f"ELASTICSEARCH_CA_CERTS: there is no file {settings.elasticsearch_ca_certs}.")
    return {"verify_certs": True, "ca_certs": str(settings.elasticsearch_ca_certs)}


def stop(settings: Settings) -> bool:
    """Stop the embedded node; returns whether one ran. Kills it when it does not end in time."""
    folder = _folder(settings)
    if settings.elasticsearch_url is not None or not folder.exists():
        return False
    with server_lock(folder):
        process = _process(folder)
        if process is not None:
            process.terminate()
            _, alive = psutil.wait_procs([process], timeout=STOP_TIMEOUT)
            for late in alive:
                late.kill()
            psutil.wait_procs(alive, timeout=STOP_TIMEOUT)
        (folder / "server.json").unlink(missing_ok=True)
        return process is not None


def status(settings: Settings) -> ServiceStatus:
    """How the server stands. Starts nothing."""
    if settings.elasticsearch_url is not None:
        where = _without_credentials(settings)
        return ServiceStatus(
            "elasticsearch", embedded=False, running=_health(client_options(settings)) is not None, url=where
        )
    folder = _folder(settings)
    process = _process(folder)
    found = _running_url(folder)
    return ServiceStatus(
        name="elasticsearch",
        embedded=True,
        running=found is not None,
        version=pinned_version(),
        url=found,
        pid=None if process is None else process.pid,
        data=str(folder / "data"),
    )


def _without_credentials(settings: Settings) -> str:
    address = urlsplit(url(settings))
    host = f"[{address.hostname}]" if ":" in (address.hostname or "") else address.hostname
    port = address.port or (443 if address.scheme == "https" else 80)
    return urlunsplit((address.scheme, f"{host}:{port}", address.path, "", ""))


def _health(options: dict[str, Any]) -> dict[str, Any] | None:
    """The cluster's health as it answers now; None when it does not."""
    from elasticsearch import ApiError, Elasticsearch, TransportError

    options = options | {"request_timeout": 5, "max_retries": 0, "retry_on_timeout": False}
    try:
        with Elasticsearch(**options) as client:
            return dict(client.cluster.health())
    except (ApiError, TransportError):
        return None


def _folder(settings: Settings) -> Path:
    return settings.home / "elasticsearch"


def _cluster(folder: Path) -> str:
    """Name of the cluster in this folder: told apart from any other node on loopback by it."""
    return f"shop-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"


def _process(folder: Path) -> psutil.Process | None:
    state = read_state(folder / "server.json")
    if state is None or not isinstance(state.get("pid"), int):
        return None
    return living(state["pid"], state.get("create_time"), _MODULE)


def _running_url(folder: Path) -> str | None:
    """URL of the node if it runs and is the one of this folder; None otherwise."""
    state = read_state(folder / "server.json")
    if state is None or "url" not in state or _process(folder) is None:
        return None
    return str(state["url"])


def _start(folder: Path, heap: str, jars: Jars) -> str:
    """Start the node and wait until it answers. Call with the lock held, when none runs."""
    leftover = _process(folder)
    if leftover is not None:  # it was started, and whoever waited for it died before it answered
        leftover.kill()
        psutil.wait_procs([leftover], timeout=STOP_TIMEOUT)
    before = read_state(folder / "server.json") or {}
    _lay_out(folder, jars)
    ports = folder / "logs" / "http.ports"
    ports.unlink(missing_ok=True)
    # The address of the run before, while it is free; the next free one of the range otherwise.
    http_port = f"{before['port']}-{before['port'] + 200}" if isinstance(before.get("port"), int) else "9200-9299"
    command = [sys.executable, "-m", _MODULE, str(folder), _cluster(folder), heap, http_port, *map(str, jars.lib)]
    with (folder / "logs" / "process.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  our own command
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=folder
        )
    state = {"pid": process.pid, "create_time": psutil.Process(process.pid).create_time(), "version": jars.version}
    write_state(folder / "server.json", state)
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServiceError(f"Elasticsearch ended with exit code {process.returncode}. {_log_end(folder)}")
        port = _port(ports)
        if port is not None and _is_ours(port, _cluster(folder)):
            address = f"http://127.0.0.1:{port}"
            write_state(folder / "server.json", state | {"port": port, "url": address})
            return address
        time.sleep(0.1)
    process.kill()
    process.wait()
    raise ServiceError(f"Elasticsearch did not answer within {START_TIMEOUT:.0f} s. {_log_end(folder)}")


def _lay_out(folder: Path, jars: Jars) -> None:
    """Make the folders that the node expects: its configuration, and the module with its HTTP transport."""
    for name in ("config", "data", "logs", "plugins", "tmp"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    module = folder / "modules" / "transport-netty4"
    shutil.rmtree(folder / "modules", ignore_errors=True)
    module.mkdir(parents=True)
    for jar in jars.netty:
        shutil.copyfile(jar, module / jar.name)
    (module / "plugin-descriptor.properties").write_text(
        _PLUGIN_DESCRIPTOR.format(version=jars.version), encoding="utf-8"
    )


def _port(ports: Path) -> int | None:
    """The HTTP port from the file that the node writes once it listens: a line an address."""
    try:
        return int(ports.read_text(encoding="utf-8").split()[0].rpartition(":")[2])
    except (OSError, ValueError, IndexError):
        return None


def _is_ours(port: int, cluster: str) -> bool:
    """Whether the cluster that answers on this port is the one of this folder, and ready."""
    health = _health({"hosts": [f"http://127.0.0.1:{port}"]})
    return health is not None and health["cluster_name"] == cluster and health["status"] in ("green", "yellow")


def _log_end(folder: Path) -> str:
    log = folder / "logs" / "process.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]
    return f"The end of {log}:\n" + "\n".join(lines)
