"""Opens data files by name with DuckDB: Parquet, CSV, TSV and JSON lines, gzipped or not. Nothing is downloaded."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from shop_platform.errors import SourceError
from shop_platform.sources.sieving import is_blank
from shop_platform.sources.textfiles import Rejected, open_csv, sieve_damaged_json

if TYPE_CHECKING:
    import duckdb

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_JSON = (".json", ".jsonl", ".ndjson")

#: Beginnings of DuckDB's messages about files that are no such files; others may quote what stands in a row.
_ABOUT_FORM = re.compile(r"(CSV Error on Line|Malformed JSON|Error when sniffing|File '|No magic bytes)")

#: Further lines of such a message that may be shown; the one that begins with "Original Line" quotes the row.
_ABOUT_LINE = ("  file = ", "Invalid unicode", "Expected Number of Columns", "Value with unterminated quote")


def open_duckdb() -> duckdb.DuckDBPyConnection:
    """A database in memory, which spills to the system's folder for temporary files; times without a zone are UTC."""
    import duckdb

    spill = Path(tempfile.gettempdir()) / f"shop_platform_duckdb_{os.getpid()}"
    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "temp_directory": str(spill),
        }
    )
    connection.execute("SET GLOBAL TimeZone = 'UTC'")  # cursors have sessions of their own
    return connection


def open_files(connection: duckdb.DuckDBPyConnection, name: str, paths: Sequence[Path], folder: Path) -> list[Rejected]:
    """Make files of one format a view of the given name; columns are matched by their names.

    The columns of CSV and TSV are texts, and an empty field is NULL. Parquet and JSON keep their types; a JSON
    column whose values are of different types is a text. Files that hold nothing give no rows.

    Args:
        connection: in which the view is made.
        name: of the view.
        paths: of the files.
        folder: for what is left of damaged files; must stay as long as the view is read.

    Returns:
        The lines of CSV, TSV and JSON that can't be read, and are not in the view.

    Raises:
        SourceError: the files are of several formats, or of one that is not known; all of them hold nothing.
    """
    suffixes = {Path(path.name.lower().removesuffix(".gz")).suffix for path in paths}
    suffix = suffixes.pop()
    files = [str(path) for path in paths]
    if suffixes:
        raise SourceError(f"The files for {name!r}, {files[0]} and others, are not all of one format by their names.")
    if suffix == ".parquet":
        connection.read_parquet(files, union_by_name=True).create_view(name)
        return []
    if suffix not in _SEPARATORS and suffix not in _JSON:
        raise SourceError(f"{files[0]} is neither Parquet, CSV, TSV nor JSON by its name.")
    paths = [path for path in paths if not is_blank(path)]
    if not paths:
        raise SourceError(f"{files[0]} holds nothing{', nor do the others' if len(files) > 1 else ''}.")
    if suffix in _SEPARATORS:
        return open_csv(connection, name, paths, _SEPARATORS[suffix], folder)
    paths, rejected = sieve_damaged_json(connection, name, paths, folder)
    # All rows decide on the types: a guess from the first ones fails at the row that differs.
    relation = connection.read_json([str(path) for path in paths], sample_size=-1, union_by_name=True)
    columns = zip(relation.columns, map(str, relation.types), strict=True)
    relation.project(", ".join(_plain(column, type_) for column, type_ in columns)).create_view(name)
    return rejected


def tables_of(query: str) -> set[str]:
    """Names of the tables that a query reads."""
    import duckdb

    # Where there are views of these names, DuckDB looks into them, and fails at those of files.
    with duckdb.connect() as connection:
        return set(connection.get_table_names(query))


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn DuckDB's errors into ours.

    Raises:
        SourceError: with DuckDB's message where it is about the SQL or the form of a file; a message that may quote
            a row's values is not passed on, neither in the text nor as the cause.
    """
    import duckdb

    try:
        yield
    except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException, duckdb.IOException) as error:
        raise SourceError(f"{what}: {error}") from error
    except duckdb.InvalidInputException as error:
        message = str(error).removeprefix("Invalid Input Error: ")
        if _ABOUT_FORM.match(message):
            first, *others = message.splitlines()
            lines = [first, *(line for line in others if line.startswith(_ABOUT_LINE))]
            raise SourceError(f"{what}: {'; '.join(map(str.strip, lines))}") from None
        raise SourceError(f"{what}: {_HIDDEN.format(type(error).__name__)}") from None
    except duckdb.Error as error:
        raise SourceError(f"{what}: {_HIDDEN.format(type(error).__name__)}") from None


_HIDDEN = (
    "an expression fails on a value ({}). Use functions that give NULL instead, such as TRY_CAST and try_strptime: "
    "rows whose values are NULL where they must not be are left out and counted."
)


def _plain(column: str, type_: str) -> str:
    name = '"' + column.replace('"', '""') + '"'
    if type_ != "JSON":
        return name
    return f"CASE json_type({name}) WHEN 'VARCHAR' THEN {name} ->> '$' ELSE CAST({name} AS VARCHAR) END AS {name}"
