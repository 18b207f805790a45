"""Ports of loopback for servers that a test starts, or that nobody listens on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


def free_ports(count: int) -> list[int]:
    """Different ports that nobody used a moment ago."""
    with ExitStack() as stack:
        return [stack.enter_context(closed_port()) for _ in range(count)]


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections, and that nobody else gets, until the block ends."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])
