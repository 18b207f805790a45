"""The account that PostgreSQL runs as where the platform runs as root, and the folder that both share.

PostgreSQL refuses to run as root. There, a service account without a login owns `SHOP_HOME` (mode 0700: root may
enter all the same) and the database's folder in it; it is let pass through the folders above, with the bit for others
to enter and no more.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

from shop_platform.errors import ServiceError
from shop_platform.settings import Settings

NAME = "shop_postgres"


def needed() -> bool:
    """Whether the platform runs as root."""
    return os.geteuid() == 0


def account() -> pwd.struct_passwd:
    """The service account; made on its first use.

    Raises:
        ServiceError: it can't be made.
    """
    try:
        return pwd.getpwnam(NAME)
    except KeyError:
        pass
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", NAME]
    try:
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603  our own command
    except subprocess.CalledProcessError as error:
        if error.returncode != 9:  # 9: somebody made it meanwhile
            raise ServiceError(
                f"PostgreSQL does not run as root, and the account {NAME} for it can't be made: "
                f"{error.stderr.decode(errors='replace').strip()}"
            ) from error
    except FileNotFoundError as error:
        raise ServiceError(
            f"PostgreSQL does not run as root, and there is no `useradd` to make the account {NAME}: "
            "make it, or run as another user."
        ) from error
    return pwd.getpwnam(NAME)


def private_folder(folder: Path) -> Path:
    """Make a folder of mode 0700, with its parents; the service account's where one is needed.

    Raises:
        ServiceError: it can't be made, or belongs to somebody else.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        if needed():
            os.chown(folder, account().pw_uid, account().pw_gid)
    except OSError as error:
        raise ServiceError(
            f"The folder {folder} can't be used ({error.strerror}): make it writable or set SHOP_HOME to another one."
        ) from error
    return folder


def private_home(settings: Settings) -> Path:
    """Make `SHOP_HOME`, private to us and to the service account.

    Raises:
        ServiceError: it can't be made, or belongs to somebody else.
    """
    home = private_folder(settings.home)
    if needed():
        let_traverse(home.parent)
    return home


def let_traverse(folder: Path) -> None:
    """Let the service account pass through a folder and its parents: the bit for others to enter, no more."""
    for parent in (folder, *folder.parents):
        mode = parent.stat().st_mode
        if not mode & 0o001:
            parent.chmod(mode | 0o001)
