"""Processes that do what the platform does, to be killed: forked off one that has everything imported already.

What runs in a child stands here too. A child has the environment that it is given and none of the test's own.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "shop_platform_tests.faults.children", "shop_platform.definitions", "shop_platform.runs", "sklearn.cluster",
        "elasticsearch.helpers", "pyarrow", "duckdb", "pgpq",
    ]
)  # fmt: skip


class Child:
    """A process, and what it says."""

    def __init__(self, process: ForkServerProcess, pipe: Pipe) -> None:
        self.process, self.pipe = process, pipe

    def hear(self, seconds: float = 120) -> object:
        """What it says next."""
        assert self.pipe.poll(seconds), "the child says nothing"
        return self.pipe.recv()

    def tell(self, word: object) -> None:
        """Say something to it."""
        self.pipe.send(word)

    def kill(self) -> None:
        """SIGKILL, as the kernel does it when memory runs out; returns when it is gone."""
        self.process.kill()
        self.process.join()


@contextmanager
def child(does: Callable[..., None], environment: Mapping[str, str], *arguments: object) -> Iterator[Child]:
    """A process that calls a function of this module, with its end of a pipe first; killed when the block ends."""
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_run, args=(dict(environment), does, theirs, arguments), daemon=True)
    process.start()
    theirs.close()
    made = Child(process, ours)
    try:
        yield made
    finally:
        made.kill()
        ours.close()


def _run(environment: dict[str, str], does: Callable[..., None], pipe: Pipe, arguments: Sequence[object]) -> None:
    # The server that forks has the environment of the test that was the first to need it.
    os.environ.clear()
    os.environ.update(environment)
    does(pipe, *arguments)


# ------------------------------------------------------------------------------------------------- what children do


def materialise(pipe: Pipe, prefix: str, assets: Sequence[str]) -> None:
    """Materialise assets as the command does; say that it begins, and what failed."""
    from shop_platform.definitions import build_defs, default_resources
    from shop_platform.errors import ShopPlatformError
    from shop_platform.resources.elasticsearch import ElasticsearchResource
    from shop_platform.runs import dagster_instance, run_assets
    from shop_platform.settings import load_settings

    defs = build_defs(default_resources() | {"elasticsearch": ElasticsearchResource(index_prefix=prefix)})
    pipe.send("ready")
    pipe.recv()
    try:
        outcome = run_assets(defs, dagster_instance(load_settings()), assets, lambda _step, _state: None)
    except ShopPlatformError as error:
        pipe.send([(type(error).__name__, str(error))])
    else:
        pipe.send([(failure.what, failure.why) for failure in outcome.failures])


def write_file(pipe: Pipe, path: str, size: int, limit: int, user: int) -> None:
    """Write a file as artefacts are written, where files may have so many bytes, as that user; say what went wrong."""
    from shop_platform.errors import StorageError
    from shop_platform.files import write_atomically

    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    # Without it the process would be killed.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    os.setuid(user)
    try:
        write_atomically(Path(path), b"x" * size)
    except StorageError as error:
        pipe.send(str(error))
    else:
        pipe.send("written")


def write_and_wait(pipe: Pipe, path: str) -> None:
    """Leave what a process leaves that is killed while it writes an artefact."""
    Path(path).with_name(f".{Path(path).name}.{os.getpid()}").write_bytes(b"half")
    pipe.send("half")
    pipe.recv()


def load_and_wait(pipe: Pipe, events: int, version: str) -> None:
    """Load a shop of so many events, say so before the commit, and wait there to be told."""
    from shop_platform.commerce.loading import load_shop_tables
    from shop_platform.resources.postgres import PostgresResource

    from .shops import shop_of_events

    with PostgresResource().connect() as connection:
        load_shop_tables(connection, shop_of_events(events, version))
        pipe.send("copied")
        pipe.recv()
    pipe.send("committed")


def keep_busy(pipe: Pipe, key: int) -> None:
    """Hold a lock in the middle of a long statement."""
    from shop_platform.resources.locks import be_the_only_one
    from shop_platform.resources.postgres import PostgresResource

    with PostgresResource().connect() as connection:
        be_the_only_one(connection, key, "testing")
        pipe.send("held")
        connection.execute("SELECT pg_sleep(600)")


class _Paper:
    """Takes the place of a pipe, where nobody is at its other end."""

    said: object = None

    def send(self, word: object) -> None:
        self.said = word

    def recv(self) -> None:
        pass


def main(prefix: str, *assets: str) -> None:
    """Materialise assets in a process that was started by itself, with a locale, a time zone or a clock of its own."""
    if "FAKETIME_TIMESTAMP_FILE" in os.environ:
        # libfaketime does not know how Python sleeps: until a moment of the clock that counts from the boot.
        time.sleep = lambda seconds: select.select([], [], [], seconds)  # type: ignore[assignment]
    paper = _Paper()
    materialise(paper, prefix, assets)  # type: ignore[arg-type]
    sys.exit("; ".join(f"{what}: {why}" for what, why in paper.said) or 0)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(*sys.argv[1:])
