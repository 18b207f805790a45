"""Finds the SQL files of the project, in a checkout or inside an installed wheel, and reads their headers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shop_platform.errors import SettingsError


def sql_root() -> Path:
    """Folder that holds `schema/`, `indexes/` and `queries/`."""
    package = Path(__file__).resolve().parent
    for candidate in (package / "sql", package.parent / "sql"):
        if candidate.is_dir():
            return candidate
    raise SettingsError(f"No folder sql/ in {package} or beside it: the installation is incomplete, install it again.")


@dataclass(frozen=True)
class SqlFile:
    """One SQL file: its name without `.sql`, its statement(s), and the words of its header comment."""

    name: str
    text: str
    header: str


def read_sql(relative: str) -> SqlFile:
    """Read `sql/<relative>.sql`, for example `queries/weekly_active_users`.

    Raises:
        SettingsError: there is no such file.
    """
    path = sql_root() / f"{relative}.sql"
    if not path.is_file():
        raise SettingsError(f"No SQL file {relative}.sql in {sql_root()}.")
    return parse_sql(path)


def parse_sql(path: Path) -> SqlFile:
    """Read any SQL file, in UTF-8.

    Raises:
        SettingsError: it can't be read, or is no UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} can't be read as a text in UTF-8: {error}.") from error
    lines = text.splitlines()
    count = next((i for i, line in enumerate(lines) if not line.startswith("--")), len(lines))
    header = "\n".join(line.removeprefix("--").strip() for line in lines[:count])
    return SqlFile(path.stem, text, header)


def list_sql(folder: str) -> list[SqlFile]:
    """All files of one folder of `sql/`, ordered by name."""
    return [read_sql(f"{folder}/{path.stem}") for path in sorted((sql_root() / folder).glob("*.sql"))]
