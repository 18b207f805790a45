"""Opens CSV, TSV and JSON lines with DuckDB; files that it can't read are sieved first, line by line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shop_platform.sources.sieving import Damaged, header_of, lines_of, sieve_csv, sieve_json

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Rejected:
    """A line of a file that can't be read."""

    path: Path
    damaged: Damaged


def open_csv(
    connection: duckdb.DuckDBPyConnection, name: str, paths: Sequence[Path], separator: str, folder: Path
) -> list[Rejected]:
    """Make files with a header each a view of the given name, of texts; columns are matched by their names.

    Args:
        connection: in which the view is made.
        name: of the view.
        paths: at least one, none of them blank.
        separator: between fields.
        folder: for what is left of damaged files; must stay as long as the view is read.

    Returns:
        The lines that can't be read, and are not in the view.
    """
    import duckdb

    # Read here and not guessed by DuckDB, which may take another line for the header, or leave lines out.
    by_header: dict[tuple[str, ...], list[Path]] = {}
    for path in paths:
        by_header.setdefault(tuple(header_of(path, separator)), []).append(path)
    queries: list[str] = []
    rejected: list[Rejected] = []
    for names, files in by_header.items():
        sound = []
        for path in files:
            query = _csv([path], names, separator)
            try:
                connection.execute(f"SELECT max(hash(whole)) FROM ({query}) AS whole")  # noqa: S608  our own
            except duckdb.InvalidInputException:
                clean = folder / f"{name}_{len(list(folder.iterdir()))}.jsonl"
                rejected += _sieved(path, clean, _csv_rows(path, names, separator))
                queries.append(_jsonl(clean, names))
            else:
                sound.append(path)
        if sound:
            queries.append(_csv(sound, names, separator))
    connection.execute(f"CREATE VIEW {_name(name)} AS {' UNION ALL BY NAME '.join(queries)}")
    return rejected


def sieve_damaged_json(
    connection: duckdb.DuckDBPyConnection, name: str, paths: Sequence[Path], folder: Path
) -> tuple[list[Path], list[Rejected]]:
    """What to read in place of files of JSON lines of which some are damaged, and the lines that are left out.

    A file that is not one object a line is given back as it is.
    """
    import duckdb

    readable: list[Path] = []
    rejected: list[Rejected] = []
    for path in paths:
        try:
            connection.read_json([str(path)], sample_size=-1)
        except duckdb.InvalidInputException:
            if next(line for line in lines_of(path) if line.strip()).lstrip().startswith(b"["):
                readable.append(path)
                continue
            clean = folder / f"{name}_{len(list(folder.iterdir()))}.jsonl"
            rejected += _sieved(path, clean, lambda path=path: sieve_json(lines_of(path)))  # type: ignore[misc]
            if clean.stat().st_size:
                readable.append(clean)
        else:
            readable.append(path)
    return readable, rejected


def _sieved(path: Path, clean: Path, rows: Callable[[], Iterator[str | Damaged]]) -> Iterator[Rejected]:
    """Write the rows that can be read as JSON lines, and give the others."""
    with clean.open("w", encoding="utf-8") as file:
        for row in rows():
            if isinstance(row, Damaged):
                yield Rejected(path, row)
            else:
                file.write(row + "\n")


def _csv_rows(path: Path, names: Sequence[str], separator: str) -> Callable[[], Iterator[str | Damaged]]:
    def rows() -> Iterator[str | Damaged]:
        records = sieve_csv(lines_of(path), separator)
        next(records)  # the header
        for record in records:
            if isinstance(record, Damaged):
                yield record
            else:
                yield json.dumps({name: value or None for name, value in zip(names, record, strict=True)})

    return rows


def _csv(paths: Sequence[Path], names: Sequence[str], separator: str) -> str:
    columns = ", ".join(f"{_text(name)}: 'VARCHAR'" for name in names)
    return (
        f"SELECT * FROM read_csv([{', '.join(_text(str(path)) for path in paths)}], auto_detect = false,"  # noqa: S608
        f" header = true, delim = {_text(separator)}, quote = '\"', escape = '\"', columns = {{{columns}}})"
    )


def _jsonl(path: Path, names: Sequence[str]) -> str:
    columns = ", ".join(f"{_text(name)}: 'VARCHAR'" for name in names)
    return (
        f"SELECT * FROM read_json({_text(str(path))}, auto_detect = false, format = 'newline_delimited',"  # noqa: S608
        f" columns = {{{columns}}})"
    )


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
