"""A terminal to run commands on."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import termios


def on_a_terminal(command: list[str], environment: dict[str, str]) -> str:
    """All that a command writes to a terminal, without escape codes."""
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (50, 160))
    process = subprocess.Popen(command, env=os.environ | environment, stdin=child, stdout=child, stderr=child)
    os.close(child)
    written = b""
    # Linux says by an error that nobody writes any more.
    with contextlib.suppress(OSError):
        while found := os.read(parent, 65_536):
            written += found
    os.close(parent)
    assert process.wait(timeout=60) == 0, written.decode()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode())
