"""Whose the folders are: `SHOP_HOME`, and the account that PostgreSQL runs as where the platform runs as root.

PostgreSQL refuses to run as root. There, a service account without a login owns `SHOP_HOME` (mode 0700: root may
enter all the same) and the database's folder in it. For the account to get there, and to the PostgreSQL in our
virtual environment, each folder above that others may not pass is given the bit to pass through (`o+x`), and no more:
nothing in it can be listed or read by that. As any other user, nothing outside `SHOP_HOME` is changed.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from pathlib import Path

from shop_platform.errors import ServiceError
from shop_platform.settings import Settings

NAME = "shop_postgres"

#: What the platform keeps in `SHOP_HOME`.
_OURS = {"postgres", "elasticsearch", "shops"}


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


def own_home(settings: Settings) -> Path:
    """`SHOP_HOME`, which may not exist yet.

    Raises:
        ServiceError: it belongs to somebody else, or is no folder.
    """
    home = settings.home
    try:
        _require_ours(home, home.lstat())
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ServiceError(f"SHOP_HOME {home} can't be used ({error.strerror}): set it to another folder.") from error
    return home


def private_home(settings: Settings) -> Path:
    """Make `SHOP_HOME`, private to us, and the service account's where an embedded PostgreSQL needs that.

    Raises:
        ServiceError: it can't be made, belongs to somebody else, or holds what is not the platform's: a folder such
            as `/var/lib` must not be taken over by a slip of the hand.
    """
    home = own_home(settings)
    if home.exists():
        names = {entry.name for entry in home.iterdir()}
        known = any((home / name / "server.lock").exists() for name in _OURS)
        if not known and not names <= _OURS:
            raise ServiceError(
                f"SHOP_HOME {home} holds other things ({', '.join(sorted(names - _OURS)[:3])}): "
                "set it to a folder of its own; it is made where it does not exist."
            )
    return private_folder(home, shared=needed() and settings.database_url is None)


def private_folder(folder: Path, *, shared: bool | None = None) -> Path:
    """Make a folder of mode 0700.

    Args:
        folder: where; folders above it are made with the usual mode.
        shared: whether it is to be the service account's; None: where the platform runs as root.

    Raises:
        ServiceError: it can't be made, is no folder (a link is none), or belongs to somebody else.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        _require_ours(folder, found)
        if stat.S_IMODE(found.st_mode) != 0o700:
            folder.chmod(0o700)
        if needed() if shared is None else shared:
            os.chown(folder, account().pw_uid, account().pw_gid, follow_symlinks=False)
            let_traverse(folder.parent)
    except OSError as error:
        raise ServiceError(
            f"The folder {folder} can't be used ({error.strerror}): make it writable or set SHOP_HOME to another one."
        ) from error
    return folder


def let_traverse(folder: Path) -> None:
    """Let the service account pass through a folder and its parents: the bit for others to pass, no more.

    Raises:
        ServiceError: the bit can't be set.
    """
    for parent in (folder, *folder.parents):
        try:
            found = parent.stat()
            passes = found.st_mode & 0o001 or (found.st_uid == account().pw_uid and found.st_mode & 0o100)
            if not passes:
                parent.chmod(stat.S_IMODE(found.st_mode) | 0o001)
        except OSError as error:
            raise ServiceError(
                f"PostgreSQL runs as {NAME}, which can't pass through {parent} ({error.strerror}): "
                "allow it, or set SHOP_HOME to another folder."
            ) from error


def _require_ours(folder: Path, found: os.stat_result) -> None:
    if not stat.S_ISDIR(found.st_mode):
        raise ServiceError(f"{folder} is no folder: move it away, or set SHOP_HOME to another place.")
    if found.st_uid != os.geteuid() and not (needed() and _name(found.st_uid) == NAME):
        raise ServiceError(
            f"{folder} belongs to {_name(found.st_uid)}, and you are {_name(os.geteuid())}: "
            "run as its owner, or set SHOP_HOME to a folder of your own."
        )


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
