"""A small TCP proxy between the platform and a server, which cuts, delays, swallows and resets."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from contextlib import suppress
from types import TracebackType

_CHUNK = 65_536

#: Closing with it sends a reset instead of a polite end.
_RESET = struct.pack("ii", 1, 0)


class Link:
    """One connection through the proxy: two threads that carry bytes."""

    def __init__(self, proxy: Proxy, near: socket.socket, far: socket.socket, *, flows: bool) -> None:
        self.proxy, self.near, self.far = proxy, near, far
        self.flows = threading.Event()
        if flows:
            self.flows.set()
        for source, target, forth in ((near, far, True), (far, near, False)):
            threading.Thread(target=self._carry, args=(source, target, forth), daemon=True).start()

    def reset(self) -> None:
        """Break the connection off at both ends."""
        for end in (self.near, self.far):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.flows.set()

    def _carry(self, source: socket.socket, target: socket.socket, forth: bool) -> None:
        try:
            while data := source.recv(_CHUNK):
                time.sleep(self.proxy.delay)
                self.flows.wait()
                if forth and self.proxy.ends_within(len(data)):
                    self.flows.clear()  # else the server's answer could be quicker than the cut
                target.sendall(data)
                if forth:
                    self.proxy.count(len(data))
            target.shutdown(socket.SHUT_WR)
        except OSError:
            self.reset()


class Proxy:
    """Listens on loopback and carries to a server what comes, until it is told to do otherwise.

    Attributes:
        port: where it listens.
        delay: seconds by which each piece is late, in either direction.
        resets: how many of the next connections are broken off at once.
        accepted: connections so far.
        sent: bytes carried to the server so far.
    """

    def __init__(self, server: tuple[str, int] | str) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self.delay = 0.0
        self.resets = self.accepted = self.sent = 0
        self._swallows_new = False
        self._cut_at: int | None = None
        self._hole_at: int | None = None
        self._hole_takes_new = False
        self._lock = threading.Lock()
        self._links: list[Link] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def keep_little(self) -> None:
        """Of what comes by new connections, keep some ten thousand bytes, where the system would keep millions."""
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _CHUNK)

    def cut(self) -> None:
        """Reset all connections of the moment; new ones are welcome."""
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            link.reset()

    def cut_after(self, count: int) -> None:
        """Reset all connections once so many more bytes were carried to the server."""
        self._cut_at = self.sent + count

    def swallow(self, *, new: bool) -> None:
        """Half-open: from now on nothing comes through, and nobody is told; new connections too, if asked for."""
        self._swallows_new = new
        for link in self._links:
            link.flows.clear()

    def swallow_after(self, count: int, *, new: bool = False) -> None:
        """The same, once so many more bytes were carried to the server."""
        self._hole_at, self._hole_takes_new = self.sent + count, new

    def heal(self) -> None:
        """Carry everything again, also what was kept."""
        self._swallows_new, self.delay, self.resets = False, 0.0, 0
        for link in self._links:
            link.flows.set()

    def ends_within(self, count: int) -> bool:
        """Whether something is to be done once so many more bytes were carried to the server."""
        return any(at is not None and self.sent + count >= at for at in (self._cut_at, self._hole_at))

    def count(self, carried: int) -> None:
        """Note bytes that were carried to the server, and do what was to be done after so many."""
        with self._lock:
            self.sent += carried
            cut = self._cut_at is not None and self.sent >= self._cut_at
            hole = self._hole_at is not None and self.sent >= self._hole_at
            self._cut_at = None if cut else self._cut_at
            self._hole_at = None if hole else self._hole_at
        if cut:
            self.cut()
        if hole:
            self.swallow(new=self._hole_takes_new)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self.resets > 0:
                self.resets -= 1
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                near.close()
                continue
            try:
                far = self._connect()
            except OSError:
                near.close()
                continue
            with self._lock:
                self._links.append(Link(self, near, far, flows=not self._swallows_new))

    def _connect(self) -> socket.socket:
        if isinstance(self._server, tuple):
            return socket.create_connection(self._server)
        far = socket.socket(socket.AF_UNIX)
        far.connect(os.fspath(self._server))
        return far
