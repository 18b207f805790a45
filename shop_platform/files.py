"""Writes artefacts in one piece: whoever reads sees the old file or the new one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psutil

from shop_platform.errors import StorageError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file beside its place, then put it there; nothing is left behind when that fails.

    What a process left that was killed while it did so goes with the next write.

    Raises:
        StorageError: the disk is full, or the folder takes no file; the file of before stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        for left in path.parent.glob(f".{path.name}.*"):
            pid = left.name.rpartition(".")[2]
            if pid.isdecimal() and not psutil.pid_exists(int(pid)):
                left.unlink(missing_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path} can't be written: {error.strerror}. Make room, or check whose folder it is; what was there stays."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
