"""Three Elasticsearch nodes on loopback, each a process of its own that can be killed; from the embedded node's jars.

As a program it is one of these nodes: SETTINGS HEAP JARS..., the settings as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from elasticsearch import ApiError, Elasticsearch, TransportError

from shop_platform.services.elasticsearch_jars import Jars, ensure_jars
from shop_platform.services.elasticsearch_node import node_settings, start_node
from shop_platform.services.elasticsearch_server import lay_out
from shop_platform_tests.services.asking import kill
from shop_platform_tests.services.ports import free_ports

NAMES = ("one", "two", "three")

#: Seconds for three nodes to find each other, also where the machine does other things.
_TIMEOUT = 180

#: A node that lives for seconds is up sooner without the compiler for those that live long.
_QUICK = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1"}


class Cluster:
    """Three nodes; `urls` by their names."""

    def __init__(self, folder: Path, jars: Jars) -> None:
        ports = free_ports(2 * len(NAMES))
        self._folder, self._jars = folder, jars
        self._http = dict(zip(NAMES, ports, strict=False))
        self._transport = dict(zip(NAMES, ports[len(NAMES) :], strict=True))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in self._http.items()}

    @property
    def url(self) -> str:
        """All nodes, as `ELASTICSEARCH_URL` takes them."""
        return ",".join(self.urls.values())

    def start(self, *names: str) -> None:
        """Start nodes, and wait until the cluster has all three and each of its shards every copy."""
        for name in names:
            home = self._folder / name
            home.mkdir(exist_ok=True)
            lay_out(home, self._jars)
            settings = node_settings(home, "three", str(self._http[name])) | {
                "node.name": name,
                "discovery.type": "multi-node",
                "transport.port": str(self._transport[name]),
                "discovery.seed_hosts": ",".join(f"127.0.0.1:{port}" for port in self._transport.values()),
                "cluster.initial_master_nodes": ",".join(NAMES),
            }
            command = [sys.executable, "-m", __name__, json.dumps(settings), "256m", *map(str, self._jars.lib)]
            with (home / "logs" / "process.log").open("ab") as log:
                self._processes[name] = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | _QUICK)
        with self.client() as client:
            deadline = time.monotonic() + _TIMEOUT
            while not _complete(client):
                assert time.monotonic() < deadline, self._logs()
                time.sleep(0.2)

    def client(self) -> Elasticsearch:
        """A client of all nodes."""
        return Elasticsearch(list(self.urls.values()), request_timeout=60, retry_on_timeout=True)

    def master(self) -> str:
        """Name of the node that is elected."""
        with self.client() as client:
            return str(client.cat.master(format="json")[0]["node"])

    def reading(self) -> str:
        """Name of a node that holds a part of a snapshot."""
        with self.client() as client:
            nodes = client.nodes.stats(metric="indices", index_metric="search")["nodes"].values()
        held = {node["name"]: node["indices"]["search"]["open_contexts"] for node in nodes}
        assert any(held.values()), held
        return max(held, key=lambda name: held[name])

    def kill(self, name: str) -> None:
        """SIGKILL."""
        process = self._processes.pop(name)
        kill(process.pid)
        process.wait()

    def mend(self) -> None:
        """Start the nodes that were killed, if any."""
        if killed := set(NAMES) - set(self._processes):
            self.start(*killed)

    def stop(self) -> None:
        """End all that still run. Their data are thrown away, so they need not end cleanly."""
        for name in list(self._processes):
            self.kill(name)

    def _logs(self) -> str:
        return "\n".join((self._folder / name / "logs" / "process.log").read_text("utf-8")[-2_000:] for name in NAMES)


@contextmanager
def three_nodes(folder: Path) -> Iterator[Cluster]:
    """A cluster that runs until the block ends."""
    cluster = Cluster(folder, ensure_jars())
    try:
        cluster.start(*NAMES)
        yield cluster
    finally:
        cluster.stop()


def _complete(client: Elasticsearch) -> bool:
    try:
        health = client.options(request_timeout=5, max_retries=0).cluster.health()
    except (ApiError, TransportError):
        return False
    return health["number_of_nodes"] == len(NAMES) and health["status"] == "green"


def main() -> None:
    """Run one node for as long as whoever started it lives."""
    settings, heap, *classpath = sys.argv[1:]
    parent = psutil.Process(os.getppid())
    start_node(json.loads(settings), heap, classpath)
    while parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
