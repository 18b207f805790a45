"""Where the copy of the shop as Parquet files is, and its manifest: which files are valid, and what they hold."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from shop_platform.changes import EventState
from shop_platform.errors import DataError, SettingsError

MANIFEST = "manifest.json"

#: Raised when the files hold something else: all are then written anew.
FORMAT = 2


@dataclass(frozen=True)
class Partition:
    """One file: all users, all products, or the events or search logs of one month in UTC.

    Attributes:
        file: below the location.
        rows: how many it holds.
        size: in bytes.
        sha256: of its bytes.
    """

    file: str
    rows: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What is valid; files that it does not name are none of the copy.

    Attributes:
        id: of the copy, which `ops.exports` holds too.
        changes, last_change: the state of `ops.event_changes` that the copy was made from.
        logs: how far the search logs were copied, as `marks.Mark` records it; None where that can't be told.
        partitions: by table and month, such as `events` and `2025-01`; tables without months have one called `all`.
        format: of the files.
    """

    id: str
    changes: int
    last_change: int
    logs: dict[str, Any] | None = None
    partitions: dict[str, dict[str, Partition]] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def state(self) -> EventState:
        """State of the events that the copy was made from."""
        return EventState(self.changes, self.last_change)

    def files(self) -> set[str]:
        """All files that it names."""
        return {part.file for parts in self.partitions.values() for part in parts.values()}

    def rows(self, table: str) -> int:
        """Of a table, over all its partitions."""
        return sum(part.rows for part in self.partitions.get(table, {}).values())


class Lake:
    """A folder or URL with the copy.

    Attributes:
        location: as the user wrote it.
    """

    def __init__(self, location: str) -> None:
        """A folder, which is made when it is missing, or a URL that Arrow has a file system for.

        Raises:
            SettingsError: it is neither, or holds credentials.
        """
        self.location = location
        if "@" in location.partition("://")[2].partition("/")[0]:
            raise SettingsError(
                "SHOP_LAKE holds a user or password: leave them out, and give them as that store's clients take them."
            )
        try:
            if "://" in location:
                self.files, self._root = fs.FileSystem.from_uri(location)
            else:
                self.files, self._root = fs.LocalFileSystem(), str(Path(location).expanduser().resolve())
            self.files.create_dir(self._root, recursive=True)
        except (pa.ArrowException, OSError) as error:
            raise SettingsError(
                f"SHOP_LAKE={location} can't be used ({type(error).__name__}): name a folder or URL to write to."
            ) from error

    def path(self, file: str) -> str:
        """Of a file or folder below the location, for Arrow."""
        return f"{self._root}/{file}"

    def url(self, file: str) -> str:
        """The same for Spark, whose paths know no percent-encoding."""
        if "://" in self.location:
            return f"{self.location.replace('s3://', 's3a://')}/{file}"
        return f"file://{self.path(file)}"

    def manifest(self) -> Manifest | None:
        """The manifest; None where there is none, or one of another format.

        Raises:
            DataError: it is unreadable, or a file that it names is missing or of another size.
        """
        try:
            with self.files.open_input_stream(self.path(MANIFEST)) as stream:
                found: dict[str, Any] = json.loads(stream.read())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise DataError(f"{self.location}/{MANIFEST} is no JSON: remove it, and all is copied anew.") from error
        if found["format"] != FORMAT:
            return None
        tables = {
            table: {key: Partition(**part) for key, part in parts.items()}
            for table, parts in found.pop("partitions").items()
        }
        manifest = Manifest(**found, partitions=tables)
        self._require(manifest)
        return manifest

    def publish(self, manifest: Manifest) -> None:
        """Put a manifest in place of the one before, in one step, and remove what it does not name."""
        beside = self.path(f".{MANIFEST}.{uuid.uuid4().hex}")
        with self.files.open_output_stream(beside) as stream:
            stream.write(json.dumps(asdict(manifest), indent=1).encode())
        self.files.move(beside, self.path(MANIFEST))
        self._tidy(manifest)

    def remove(self) -> None:
        """Remove the copy, whatever of it there is; the manifest first."""
        for name in (MANIFEST, "users", "products", "events", "search_logs", "scratch"):
            found = self.files.get_file_info(self.path(name))
            if found.type == fs.FileType.Directory:
                self.files.delete_dir(found.path)
            elif found.type == fs.FileType.File:
                self.files.delete_file(found.path)

    @contextmanager
    def scratch(self) -> Iterator[str]:
        """A folder below the location for results on their way, removed when the block ends."""
        name = f"scratch/{uuid.uuid4().hex}"
        self.files.create_dir(self.path(name), recursive=True)
        try:
            yield name
        finally:
            self.files.delete_dir(self.path(name))

    def _require(self, manifest: Manifest) -> None:
        sizes = {part.file: part.size for parts in manifest.partitions.values() for part in parts.values()}
        found = self.files.get_file_info([self.path(file) for file in sizes])
        for (file, size), info in zip(sizes.items(), found, strict=True):
            if info.size != size:
                raise DataError(
                    f"{self.location}/{file} is missing or not what was written: remove {MANIFEST} beside it, and all "
                    "is copied anew."
                )

    def _tidy(self, manifest: Manifest) -> None:
        """Remove files of before, and of runs that died."""
        valid = {self.path(file) for file in manifest.files()}
        for table in manifest.partitions:
            selector = fs.FileSelector(self.path(table), recursive=True, allow_not_found=True)
            for info in self.files.get_file_info(selector):
                if info.is_file and info.path not in valid:
                    self.files.delete_file(info.path)
