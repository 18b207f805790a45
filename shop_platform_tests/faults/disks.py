"""Small file systems in memory, which are truly full when a test fills them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MIB = 2**20


class Disk:
    """A file system of its own, mounted on a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, leaving: int = 0) -> None:
        """Take all of its room but so many bytes."""
        free = os.statvfs(self.folder)
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - leaving)

    def make_room(self) -> None:
        """Give it back."""
        self._filler.unlink()


@contextmanager
def disk(folder: Path, size: int) -> Iterator[Disk]:
    """Mount one of so many bytes, taken away at the end; skips the test where nobody may."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounts a file system, which only root may, and not in every container")
    try:
        yield Disk(folder)
    finally:
        # What still has a file open in it, keeps it until then.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
