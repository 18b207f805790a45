"""The embedded Elasticsearch node of one folder: its files, its process, its port.

The folder holds what Elasticsearch expects (`config`, `data`, `logs`, `modules`, `plugins`, `tmp`), `server.json`,
which says what was started last, and `server.lock`. A process is ours if its command line is that of a node of this
folder; the pid in `server.json` is only a hint, since after a crash it may be anybody's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from shop_platform.errors import ServiceError
from shop_platform.services.elasticsearch_jars import Jars
from shop_platform.services.process import birth_of, born_at, end, process_of, read_state, write_state

#: Seconds that a node gets to answer after its start, and to end after SIGTERM.
START_TIMEOUT, STOP_TIMEOUT = 120.0, 30.0

#: Ports tried when a folder's node is started first; later, the port it had is tried before others.
_PORTS = range(9200, 9400)

_MODULE = "shop_platform.services.elasticsearch_node"

#: Not handed on to a process that lives long and needs none of it: secrets, and what would change the Java machine.
_KEPT_BACK = (
    "DATABASE_URL",
    "ELASTICSEARCH_",
    "SHOP_SOURCE_",
    "SHOP_ALERT_",
    "DAGSTER_",
    "AWS_",
    "JAVA_",
    "JDK_",
    "_JAVA_OPTIONS",
    "CLASSPATH",
    "ES_",
    "PG",
)

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


@dataclass(frozen=True)
class Server:
    """A living node that has answered: its process, address and version."""

    process: psutil.Process
    url: str
    version: str


def find_ready(folder: Path) -> Server | None:
    """The node of this folder, if it lives and has answered once; None otherwise."""
    state = read_state(folder / "server.json")
    if state is None:
        return None
    pid, birth, url = state.get("pid"), state.get("birth"), state.get("url")
    if not isinstance(pid, int) or not isinstance(birth, str) or not isinstance(url, str):
        return None
    process = process_of(pid)
    if process is None or not _is_node(process, folder) or not _born_at(process, birth):
        return None
    return Server(process, url, str(state.get("version")))


def start(folder: Path, heap: str, jars: Jars, java_options: str | None) -> Server:
    """Start the node and wait until it answers. Call with the lock held, when `find_ready` finds none.

    Raises:
        ServiceError: it does not start; the message ends with its log.
    """
    # Whoever started such a node died before it answered, or the note of it is gone.
    end(_nodes(folder), patience=STOP_TIMEOUT)
    before = read_state(folder / "server.json") or {}
    lay_out(folder, jars)
    (folder / "logs" / "http.ports").unlink(missing_ok=True)
    http_port = _port_range(before.get("port"))
    command = [sys.executable, "-m", _MODULE, str(folder), cluster_name(folder), heap, http_port]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_KEPT_BACK)}
    with (folder / "logs" / "process.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  our own command
            [*command, *map(str, jars.lib)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=folder,
            env=environment | ({"JAVA_TOOL_OPTIONS": java_options} if java_options else {}),
        )
    try:
        found = psutil.Process(process.pid)
        state = {"pid": found.pid, "birth": birth_of(found), "version": jars.version, "command": command}
        write_state(folder / "server.json", state | {"port": before.get("port")})
        port = _wait_until_ready(folder, process)
        url = f"http://127.0.0.1:{port}"
        write_state(folder / "server.json", state | {"port": port, "url": url})
    except BaseException:  # Ctrl-C, too, leaves no node behind that nobody knows of
        process.kill()
        process.wait()
        raise
    return Server(found, url, jars.version)


def stop(folder: Path) -> bool:
    """Stop every node of this folder; returns whether one ran. Call with the lock held.

    A node that does not end in time is killed. That loses nothing: what was acknowledged is in its log on disk.

    Raises:
        ServiceError: it can't be ended.
    """
    nodes = _nodes(folder)
    end([*nodes, *(child for node in nodes for child in node.children(recursive=True))], patience=STOP_TIMEOUT)
    state = read_state(folder / "server.json")
    if state is not None and "port" in state:
        write_state(folder / "server.json", {"port": state["port"]})  # to be found at the same address the next time
    return bool(nodes)


def cluster_name(folder: Path) -> str:
    """Name of the cluster in this folder: told apart from any other node on loopback by it."""
    return f"shop-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"


def health(options: dict[str, Any]) -> dict[str, Any] | None:
    """The cluster's health as it answers now; None when it does not.

    `GET /` would be the usual question, but the embedded node, made from its jars alone, does not know it.
    """
    from elasticsearch import ApiError, Elasticsearch, TransportError

    try:
        with Elasticsearch(**_impatient(options)) as client:
            return dict(client.cluster.health())
    except (ApiError, TransportError):
        return None


def version(options: dict[str, Any]) -> str | None:
    """Version of a whole Elasticsearch; None where it does not tell."""
    from elasticsearch import ApiError, Elasticsearch, TransportError

    try:
        with Elasticsearch(**_impatient(options)) as client:
            return str(client.info()["version"]["number"])
    except (ApiError, TransportError, KeyError):
        return None


def _impatient(options: dict[str, Any]) -> dict[str, Any]:
    return options | {"request_timeout": 5, "max_retries": 0, "retry_on_timeout": False}


def _is_node(process: psutil.Process, folder: Path) -> bool:
    """Whether a process is a node of this folder, by its command line."""
    try:
        arguments = process.cmdline()
        at = arguments.index(_MODULE)
    except (psutil.Error, ValueError):
        return False
    return arguments[at - 1 : at + 2] == ["-m", _MODULE, str(folder)]


def _born_at(process: psutil.Process, birth: str) -> bool:
    try:
        return born_at(process, birth)
    except ValueError:  # whoever wrote that into the file
        return False


def _nodes(folder: Path) -> list[psutil.Process]:
    """Every node of this folder that lives, noted or not."""
    return [p for p in psutil.process_iter() if _is_node(p, folder) and process_of(p.pid) is not None]


def _port_range(before: object) -> str:
    """The port of the run before, so that a printed URL stays good, and some after it in case it is taken."""
    first = before if isinstance(before, int) and 0 < before < 65_336 else _PORTS.start
    return f"{first}-{first + len(_PORTS) - 1}"


def lay_out(folder: Path, jars: Jars) -> None:
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


def _wait_until_ready(folder: Path, process: subprocess.Popen[bytes]) -> int:
    """Wait until the node answers as ours with all its indices in reach; returns its HTTP port."""
    status = None
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServiceError(f"Elasticsearch ended with exit code {process.returncode}. {_log_end(folder)}")
        port = _port(folder)
        if port is not None:
            status = _status_of_ours(port, cluster_name(folder))
            if status in ("green", "yellow"):
                return port
        time.sleep(0.1)
    if status == "red":
        raise ServiceError(
            f"Elasticsearch runs, but can't read all of its indices after {START_TIMEOUT:.0f} s. {_log_end(folder)}"
        )
    raise ServiceError(f"Elasticsearch did not answer within {START_TIMEOUT:.0f} s. {_log_end(folder)}")


def _port(folder: Path) -> int | None:
    """The HTTP port from the file that the node writes once it listens: a line an address."""
    try:
        return int((folder / "logs" / "http.ports").read_text(encoding="utf-8").split()[0].rpartition(":")[2])
    except (OSError, ValueError, IndexError):
        return None


def _status_of_ours(port: int, cluster: str) -> str | None:
    """Colour of the cluster that answers on this port, if it is the one of this name."""
    answer = health({"hosts": [f"http://127.0.0.1:{port}"]})
    return str(answer["status"]) if answer is not None and answer["cluster_name"] == cluster else None


def _log_end(folder: Path) -> str:
    log = folder / "logs" / "process.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]
    return f"The end of {log}:\n" + "\n".join(lines)
