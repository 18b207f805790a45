"""What `shop-platform init` does: look at files or servers, and write a mapping to begin with."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from shop_platform.errors import ShopPlatformError, SourceError
from shop_platform.settings import Settings
from shop_platform.sources.copies import open_copy
from shop_platform.sources.examining import Table, examine, patterns
from shop_platform.sources.proposing import Proposal, propose
from shop_platform.sources.reading import open_duckdb, open_files
from shop_platform.sources.servers import (
    copy_index,
    copy_table,
    list_indices,
    list_tables,
    reading,
    reading_documents,
)

#: Rows of a server's table that are looked at.
_ROWS = 50_000


def propose_for_files(folder: Path) -> Proposal:
    """A mapping of the files in a folder, and in the folders below it.

    Raises:
        SourceError: there are none.
    """
    found = patterns(folder)
    if not found:
        raise SourceError(
            f"{folder} holds no Parquet, CSV, TSV or JSON file: give the folder that holds the shop's data."
        )
    return propose(list(_examine_files(folder, found)), folder.resolve().name)


def propose_for_servers(settings: Settings, *, postgres: bool, elasticsearch: bool) -> Proposal:
    """A mapping of what the source's PostgreSQL and Elasticsearch hold.

    Raises:
        ShopPlatformError: one can't be reached, or holds nothing that may be read.
    """
    tables: list[Table] = []
    with tempfile.TemporaryDirectory(prefix="shop_platform_") as folder:
        if postgres:
            tables += _examine_tables(settings, Path(folder))
        if elasticsearch:
            tables += _examine_indices(settings, Path(folder))
    if not tables:
        raise SourceError("There is nothing that may be read: no table, view or index.")
    return propose(tables, "my_shop")


def _examine_files(folder: Path, found: dict[str, str]) -> Iterator[Table]:
    with tempfile.TemporaryDirectory(prefix="shop_platform_") as scratch:
        for name, pattern in found.items():
            connection = open_duckdb()
            paths = sorted(path for path in folder.glob(pattern) if path.is_file())
            try:
                open_files(connection, name, paths, Path(scratch))
                yield examine(connection, name, "file", pattern)
            except ShopPlatformError:
                continue  # a file that can't be read is doctor's business


def _examine_tables(settings: Settings, folder: Path) -> list[Table]:
    found: list[Table] = []
    with reading(settings) as source:
        for place in list_tables(source):
            name = _name(place, {table.name for table in found})
            path = folder / f"{name}.csv"
            types = copy_table(source, place, path, _ROWS)
            connection = open_duckdb()
            open_copy(connection, name, path, types, folder)
            found.append(examine(connection, name, "postgres", place))
    return found


def _examine_indices(settings: Settings, folder: Path) -> list[Table]:
    found: list[Table] = []
    with reading_documents(settings) as client:
        for place in list_indices(client):
            name = _name(place, {table.name for table in found})
            path = folder / f"{name}.jsonl"
            copy_index(client, place, path, _ROWS)
            if path.stat().st_size:
                connection = open_duckdb()
                open_copy(connection, name, path, None, folder)
                found.append(examine(connection, name, "elasticsearch", place))
    return found


def _name(place: str, taken: set[str]) -> str:
    """A name that the mapping may use, and that no other table has."""
    plain = "".join(letter if letter.isalnum() else "_" for letter in place.split(".")[-1].lower()).strip("_")
    plain = plain if plain.isascii() and plain[:1].isalpha() else f"t_{len(taken)}"
    return plain if plain not in taken else f"{plain}_{len(taken)}"
