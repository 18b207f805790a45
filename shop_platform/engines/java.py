"""Finds the Java that Spark would take, and says whether Spark can run on it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from shop_platform.errors import ServiceError

#: Spark asks for this module at its start; a runtime that was cut down to what it serves may lack it.
MODULE = "jdk.incubator.vector"

_ADVICE = (
    f"Install a JDK 17 or newer that has the module {MODULE}, such as OpenJDK or Temurin, and set JAVA_HOME to it."
)


def require_java() -> Path:
    """The program `java` that Spark's scripts take: of JAVA_HOME, else the first on the PATH.

    Raises:
        ServiceError: there is none, or it lacks a module that Spark needs.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin") if home else None)
    if found is None:
        where = f"in JAVA_HOME ({home})" if home else "on the PATH, and JAVA_HOME is not set"
        raise ServiceError(f"Spark needs Java, and there is none {where}. {_ADVICE}")
    listed = subprocess.run(  # noqa: S603  the user's own Java
        [found, "--list-modules"], capture_output=True, text=True, check=False
    )
    if MODULE not in listed.stdout:
        raise ServiceError(f"Spark cannot run on {found}: it lacks the module {MODULE}. {_ADVICE}")
    return Path(found)
