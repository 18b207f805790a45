"""Clocks that go wrong, by libfaketime: of a process that is started, and of a PostgreSQL of its own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shop_platform.services import account, postgres_server
from shop_platform.services import postgres as postgres_service
from shop_platform.services.postgres_commands import binaries
from shop_platform.settings import Settings

DAY, YEAR = 86_400, 365 * 86_400

_LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)

needs_faketime = pytest.mark.skipif(_LIBRARY is None, reason="Debian's package faketime is not installed")


class Clock:
    """The clock of the processes that have its variables: right, until it is set to be slow.

    As where somebody sets a machine's clock, what counts seconds since the boot goes on, and files keep their times.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.be_slow_by(0)
        self._file.chmod(0o644)

    @property
    def variables(self) -> dict[str, str]:
        """Of the environment."""
        assert _LIBRARY is not None
        return {
            "LD_PRELOAD": str(_LIBRARY), "FAKETIME_TIMESTAMP_FILE": str(self._file), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
        }  # fmt: skip

    def be_slow_by(self, seconds: int) -> None:
        """Go back, or forth to what is right, also under processes that run already."""
        # In one piece: a process that reads an empty file would have the right time.
        new = self._file.with_name("clock.new")
        new.write_text(f"-{seconds}s\n")
        new.chmod(0o644)
        new.replace(self._file)


@contextmanager
def postgres_by(clock: Clock, settings: Settings) -> Iterator[None]:
    """The embedded PostgreSQL of these settings, by that clock; stopped at the end."""
    folder = settings.home / "postgres"
    # Makes the data.
    postgres_service.url(settings, "shop")
    postgres_service.stop(settings)
    user = account.account() if account.needed() else None
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(
            [binaries() / "postgres", "-D", str(folder / "data")],
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"} | clock.variables,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder / "data",
            user=None if user is None else user.pw_uid, group=None if user is None else user.pw_gid, extra_groups=[],
        )  # fmt: skip
    try:
        while postgres_server.find_ready(folder) is None:
            assert server.poll() is None, (folder / "server.log").read_text()[-2_000:]
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        server.wait(60)
        postgres_service.stop(settings)
