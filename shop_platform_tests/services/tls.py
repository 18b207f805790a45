"""Real TLS for tests: a PostgreSQL with TLS of its own, and proxies that end it before servers that have none.

The embedded PostgreSQL is built without TLS, as is the embedded Elasticsearch.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import socketserver
import ssl
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import trustme

from shop_platform.services import account

from .ports import free_ports

#: What a PostgreSQL client asks before anything else: may we speak TLS, or GSSAPI?
_SSL_REQUEST, _GSS_REQUEST = struct.pack("!ii", 8, 80_877_103), struct.pack("!ii", 8, 80_877_104)

#: PostgreSQL as Debian packages it, which speaks TLS; the newest one.
SYSTEM_POSTGRES = max(Path("/usr/lib/postgresql").glob("*/bin/postgres"), default=None)


class PostgresServer:
    """A PostgreSQL of the system's own, with TLS, on a port of loopback; takes plain text as well."""

    def __init__(self, folder: Path, certificate: trustme.LeafCert) -> None:
        assert SYSTEM_POSTGRES is not None
        self._data = folder / "data"
        self._user = account.account().pw_uid if account.needed() else None
        if self._user is not None:
            os.chown(folder, self._user, -1)
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "--auth=trust", "--no-sync", "--locale=C")
        self._write(certificate)
        (self.port,) = free_ports(1)
        options = f"-k {folder} -p {self.port} -c listen_addresses=127.0.0.1 -c ssl=on -c fsync=off"
        self._run("pg_ctl", "start", "-D", str(self._data), "-w", "-l", str(folder / "log"), "-o", options)

    def serve(self, certificate: trustme.LeafCert) -> None:
        """Show this certificate to whoever connects from now on."""
        before = self._loaded()
        self._write(certificate)
        os.kill(int((self._data / "postmaster.pid").read_text().splitlines()[0]), signal.SIGHUP)
        while self._loaded() == before:
            time.sleep(0.02)

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-D", str(self._data), "-m", "immediate", "-w")

    def _write(self, certificate: trustme.LeafCert) -> None:
        certificate.cert_chain_pems[0].write_to_path(os.fspath(self._data / "server.crt"))
        certificate.private_key_pem.write_to_path(os.fspath(self._data / "server.key"))
        for name in ("server.crt", "server.key"):
            (self._data / name).chmod(0o600)
            if self._user is not None:
                shutil.chown(self._data / name, self._user)

    def _loaded(self) -> object:
        """When the server had last read its files as it took a new connection."""
        with psycopg.connect(host="127.0.0.1", port=self.port, user="postgres", sslmode="disable") as connection:
            return connection.execute("SELECT pg_conf_load_time()").fetchone()

    def _run(self, command: str, *arguments: str) -> None:
        assert SYSTEM_POSTGRES is not None
        with tempfile.TemporaryFile() as output:
            subprocess.run(
                [str(SYSTEM_POSTGRES.with_name(command)), *arguments],
                user=self._user, group=None if self._user is None else account.account().pw_gid,
                extra_groups=None if self._user is None else [],
                cwd=self._data.parent, env={"LC_ALL": "C"}, stdout=output, stderr=output, check=True,
            )  # fmt: skip


class TlsProxy(socketserver.ThreadingTCPServer):
    """Ends TLS on a port of loopback, and hands on what comes either way to a server without it."""

    daemon_threads = True
    block_on_close = False

    def __init__(
        self, reach: Callable[[], socket.socket], certificate: trustme.LeafCert, *, postgres: bool = False
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Pump)
        self.port = int(self.server_address[1])
        self.reach = reach
        self.postgres = postgres
        self.serve(certificate)

    def serve(self, certificate: trustme.LeafCert) -> None:
        """Show this certificate to whoever connects from now on."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(context)
        self.context = context


class _Pump(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with suppress(OSError):
            client = self._begun()
            with client, self.server.reach() as inside:  # type: ignore[attr-defined]
                back = threading.Thread(target=_copy, args=(inside, client), daemon=True)
                back.start()
                _copy(client, inside)
                back.join()

    def _begun(self) -> socket.socket:
        """The client's side: after PostgreSQL's question for TLS, where it is that; plain where the client wants it."""
        server = self.server
        assert isinstance(server, TlsProxy)
        while server.postgres:
            asked = self.request.recv(8, socket.MSG_PEEK | socket.MSG_WAITALL)
            if asked not in (_SSL_REQUEST, _GSS_REQUEST):
                assert isinstance(self.request, socket.socket)
                return self.request
            self.request.recv(8, socket.MSG_WAITALL)
            self.request.sendall(b"S" if asked == _SSL_REQUEST else b"N")
            if asked == _SSL_REQUEST:
                break
        return server.context.wrap_socket(self.request, server_side=True)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def running(proxy: TlsProxy) -> Iterator[TlsProxy]:
    """The proxy, which serves until the block ends."""
    with proxy:
        threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.shutdown()


def unix_socket(path: Path) -> socket.socket:
    """A connection to a Unix socket."""
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(os.fspath(path))
    return connected


def written(authority: trustme.CA, path: Path) -> Path:
    """The authority's certificate as a PEM file."""
    authority.cert_pem.write_to_path(os.fspath(path))
    return path
