"""The files that a mapped source reads: its own, those that were turned into UTF-8, and copies from servers."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import shutil
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from shop_platform.errors import SourceError
from shop_platform.settings import Settings
from shop_platform.sources.base import Part
from shop_platform.sources.mapping import Mapping
from shop_platform.sources.reading import open_files
from shop_platform.sources.servers import copy_index, copy_table, reading, reading_documents

if TYPE_CHECKING:
    import duckdb

_CHUNK = 1 << 20


@dataclass
class Copies:
    """Tables and indices of servers, copied once, so that all kinds of rows are read from the same moment.

    Attributes:
        paths: file of each, by name.
        types: type of each column of a table, by name.
        folder: that holds the files; goes with this object.
    """

    paths: dict[str, Path] = field(default_factory=dict)
    types: dict[str, dict[str, str]] = field(default_factory=dict)
    folder: tempfile.TemporaryDirectory[str] | None = None

    def take(self, mapping: Mapping, settings: Settings) -> None:
        """Copy what the mapping names, unless that was done.

        Raises:
            SourceError: a server can't be reached, or lacks what is named.
        """
        if self.folder is not None or not (mapping.postgres_tables or mapping.indices):
            return
        taken = tempfile.TemporaryDirectory(prefix="shop_platform_copies_")
        paths: dict[str, Path] = {}
        if mapping.postgres_tables:
            with reading(settings) as connection:
                for name, table in mapping.postgres_tables.items():
                    paths[name] = Path(taken.name) / f"{name}.csv"
                    self.types[name] = copy_table(connection, table, paths[name])
        if mapping.indices:
            with reading_documents(settings) as client:
                for name, index in mapping.indices.items():
                    paths[name] = Path(taken.name) / f"{name}.jsonl"
                    copy_index(client, index, paths[name])
        self.paths, self.folder = paths, taken

    def parts(self, mapping: Mapping) -> dict[str, Part]:
        """Size and content of each copy; rows in another order are the same content."""
        named = mapping.postgres_tables | mapping.indices
        return {f"{name}: {named[name]}": _part(path) for name, path in sorted(self.paths.items())}

    def open(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
        """Make each copy a view of its name."""
        for name, path in self.paths.items():
            open_copy(connection, name, path, self.types.get(name), folder)


def open_copy(
    connection: duckdb.DuckDBPyConnection, name: str, path: Path, types: dict[str, str] | None, folder: Path
) -> None:
    """Make a copy of a table, with the types that the server has, or of an index a view of the given name.

    Raises:
        SourceError: the index holds nothing.
    """
    if types is None:
        if not path.stat().st_size:
            raise SourceError(f"The index of {name!r} holds no documents, so nothing is known of its fields.")
        open_files(connection, name, [path], folder)
        return
    open_files(connection, f"__{name}", [path], folder)
    casts = (f"TRY_CAST({_name(column)} AS {type_}) AS {_name(column)}" for column, type_ in types.items())
    connection.execute(f"CREATE VIEW {_name(name)} AS SELECT {', '.join(casts)} FROM {_name('__' + name)}")  # noqa: S608


def in_utf8(path: Path, encoding: str, folder: Path) -> Path:
    """A copy of a text file, gzipped or not, in UTF-8, under the file's own name.

    Raises:
        SourceError: the file is not of that encoding.
    """
    place = Path(tempfile.mkdtemp(dir=folder)) / path.name.removesuffix(".gz")
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
        with opener(path, "rb") as source, place.open("w", encoding="utf-8", newline="") as target:
            while chunk := source.read(_CHUNK):
                target.write(decoder.decode(chunk))
            target.write(decoder.decode(b"", final=True))
    except (UnicodeError, LookupError, OSError, EOFError, zlib.error) as error:
        shutil.rmtree(place.parent)
        told = f"it is no {encoding}" if isinstance(error, UnicodeError) else str(error)
        raise SourceError(f"{path} can't be read as [files] encodings says: {told}.") from None
    return place


def _part(path: Path) -> Part:
    total = 0
    with path.open("rb") as file:
        for line in file:
            total += int.from_bytes(hashlib.blake2b(line, digest_size=16).digest())
    return Part(path.stat().st_size, f"{total % (1 << 128):032x}")


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
