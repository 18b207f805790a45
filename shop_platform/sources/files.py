"""A shop read from files by a mapping, row by row accounted for."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from shop_platform.errors import SourceError
from shop_platform.settings import Settings
from shop_platform.sources.base import Extract, Part, Shop, Source
from shop_platform.sources.contract import KEYS, ORDER, TYPES, Kind, duplicate, reasons
from shop_platform.sources.mapping import Mapping, read_mapping
from shop_platform.sources.quarantine import add_rejected, quarantine_batches
from shop_platform.sources.reading import explained, open_duckdb, open_files, tables_of
from shop_platform.sources.textfiles import Rejected

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

#: Raised whenever the same files give other rows than before.
VERSION = 2

_BATCH = 100_000

#: Kinds that must be known before a kind: what it refers to.
_BEFORE: dict[Kind, tuple[Kind, ...]] = {
    "users": (),
    "products": (),
    "events": ("users", "products"),
    "searches": ("users", "products"),
}


def files_shop(config: Path, settings: Settings) -> Shop:
    """The shop that a mapping describes. `settings.data` takes the place of the folder that it names.

    Raises:
        SourceError: the mapping can't be used.
    """
    mapping = read_mapping(config)
    base = settings.data or (config.parent / mapping.files.base)
    section = mapping.shop
    return Shop(
        name=section.name,
        title=section.title,
        time_zone=settings.time_zone or section.time_zone,
        currency=section.currency,
        source=FilesSource(mapping, base.expanduser().resolve(), config),
        searchers_are_users=section.searchers_are_users,
        notes=section.notes,
        quarantine_at_most=(
            section.quarantine_at_most if settings.quarantine_at_most is None else settings.quarantine_at_most
        ),
    )


@dataclass(frozen=True)
class FilesSource(Source):
    """A shop in files. Reads nothing until a method is called.

    Each method raises `SourceError` when a file is missing or can't be read, or an expression can't be applied.

    Attributes:
        moment: what is later has not happened yet; one for all kinds, so that they fit one another.
    """

    mapping: Mapping
    base: Path
    config: Path
    moment: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))

    def fingerprint(self) -> str:
        """Hash of the mapping and of the content of every file."""
        digest = hashlib.blake2b(f"{VERSION} {self.mapping.model_dump_json()}".encode(), digest_size=8)
        for name, part in self.manifest().items():
            digest.update(f"\n{name} {part.digest}".encode())
        return digest.hexdigest()

    def state(self) -> str:
        """Hash of the mapping and of each file's name, size and time of change: reads no file."""
        digest = hashlib.blake2b(f"{VERSION} {self.mapping.model_dump_json()}".encode(), digest_size=8)
        for name, path in self._files():
            found = path.stat()
            digest.update(f"\n{name} {found.st_size} {found.st_mtime_ns}".encode())
        return digest.hexdigest()

    def manifest(self) -> dict[str, Part]:
        """Each file with its size and a hash of its content, by the name of its table and its own."""
        parts = {}
        for name, path in self._files():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
                parts[name] = Part(file.tell(), digest)
        return parts

    def users(self) -> Extract:
        """Users in the order of their signup."""
        return self._extract("users")

    def products(self) -> Extract:
        """Products in the order of their id."""
        return self._extract("products")

    def events(self) -> Extract:
        """Events in the order of time, numbered from 1."""
        return self._extract("events")

    def searches(self) -> Extract:
        """Search logs in the order of time."""
        return self._extract("searches")

    def truth(self) -> None:
        """Nothing: nobody knows what a real shop was drawn from."""
        return

    def _files(self) -> Iterator[tuple[str, Path]]:
        for table in sorted(self.mapping.files.tables):
            for path in self._paths(table):
                yield f"{table}: {path.relative_to(self.base).as_posix()}", path

    def _paths(self, name: str) -> list[Path]:
        pattern = self.mapping.files.tables[name]
        paths = sorted(path for path in self.base.glob(pattern) if path.is_file())
        if not paths:
            raise SourceError(
                f"There is no file {pattern} in {self.base}, where {self.config} looks for {name!r}. Set SHOP_DATA to "
                f"the folder that holds it, or run `make demo CONFIG={self.config} DATA=folder`."
            )
        return paths

    def _extract(self, kind: Kind) -> Extract:
        connection = open_duckdb()
        rejected: dict[str, list[Rejected]] = {}
        with tempfile.TemporaryDirectory(prefix="shop_platform_") as folder:
            for name in self.mapping.files.tables:
                with explained(f"{self.mapping.files.tables[name]} in {self.base} can't be read"):
                    rejected[name] = open_files(connection, name, self._paths(name), Path(folder))
            # A schema of its own, so that files may be called users or events, too.
            connection.execute("CREATE SCHEMA shop")
            for each in (*_BEFORE[kind], kind):
                with explained(f"[{each}] of {self.config} can't be applied to the files in {self.base}"):
                    self._map(connection, each)
                read = sorted(tables_of(_query(self.mapping.kind(each).source)))
                add_rejected(connection, each, self.base, [line for name in read for line in rejected.get(name, ())])
        counts = connection.execute(
            f"SELECT own, reason, count(*) FROM shop.{kind} GROUP BY ALL ORDER BY 3 DESC, 2"  # noqa: S608  one of four names
        ).fetchall()
        return Extract(
            _batches(connection, kind),
            rows_read=sum(count for _, _, count in counts),
            left_out={reason: count for own, reason, count in counts if own},
            quarantined={reason: count for own, reason, count in counts if reason is not None and not own},
            quarantine=quarantine_batches(connection, kind),
        )

    def _map(self, connection: duckdb.DuckDBPyConnection, kind: Kind) -> None:
        """Make a table of one kind.

        Its columns: the mapped ones; the `reason` why a row is not given, NULL where it is; whether that is one of the
        mapping's `own`; the `row` as the source gives it, as JSON, where it is quarantined; and its `origin`.
        """
        section = self.mapping.kind(kind)
        columns = section.columns.model_dump()
        mapped = ", ".join(_cast(columns[name], type_) + f" AS {name}" for name, type_ in TYPES[kind].items())
        own = [(rule.reason, rule.where) for rule in section.leave_out]
        found = reasons(kind, searchers_are_users=self.mapping.shop.searchers_are_users, moment=self.moment)
        contract = [(reason.text, reason.condition) for reason in found]
        names = ", ".join(TYPES[kind])
        # Only rows that are fine otherwise count as the first of their key.
        key = KEYS.get(kind)
        place = f"row_number() OVER (PARTITION BY judged, {key} ORDER BY {names})" if key else "1"
        connection.execute(
            f"CREATE TABLE shop.{kind} AS WITH raw AS ({_query(section.source)}),"  # noqa: S608  a mapping is SQL by design
            f" mapped AS (SELECT {mapped}, {_first(own)} AS own_reason, shop_row FROM raw AS shop_row),"
            f" judged AS (SELECT *, coalesce(own_reason, {_first(contract)}) AS judged FROM mapped),"
            f" reasoned AS (SELECT *, coalesce(judged, {_first([(duplicate(kind) or '', f'{place} > 1')])}) AS reason"
            " FROM judged)"
            f" SELECT {names}, reason, own_reason IS NOT NULL AS own,"
            " CASE WHEN reason IS NOT NULL AND own_reason IS NULL THEN CAST(to_json(shop_row) AS VARCHAR) END AS row,"
            f" CAST({self._origin(section.source)} AS VARCHAR) AS origin"
            " FROM reasoned"
        )

    def _origin(self, source: str) -> str:
        """The file that the rows come from, where it is one that is read as it is: a text in SQL, or NULL."""
        paths = self._paths(source) if source in self.mapping.files.tables else []
        return _quoted(paths[0].relative_to(self.base).as_posix()) if len(paths) == 1 else "NULL"


def _batches(connection: duckdb.DuckDBPyConnection, kind: Kind) -> Iterator[pa.RecordBatch]:
    numbered = f"row_number() OVER (ORDER BY {ORDER[kind]}) AS event_id, " if kind == "events" else ""
    order = "event_id" if numbered else ORDER[kind]
    with connection.cursor() as cursor:
        yield from cursor.sql(
            f"SELECT {numbered}{', '.join(TYPES[kind])} FROM shop.{kind} WHERE reason IS NULL ORDER BY {order}"  # noqa: S608  our names
        ).to_arrow_reader(_BATCH)


def _query(source: str) -> str:
    """A query as it is; the name of a table as a query of it."""
    return source if re.match(r"\s*(select|with|from)\b", source, re.IGNORECASE) else f"FROM {source}"


def _cast(expression: str, type_: str) -> str:
    """An expression in the type of its column, NULL where it does not fit; a list that is not there is empty."""
    cast = f"TRY_CAST(({expression}) AS {type_})"
    return f"CASE WHEN ({expression}) IS NULL THEN [] ELSE {cast} END" if type_.endswith("[]") else cast


def _first(cases: list[tuple[str, str]] | tuple[tuple[str, str], ...]) -> str:
    """The reason of the first condition that holds."""
    whens = "".join(f" WHEN {where} THEN {_quoted(reason)}" for reason, where in cases)
    return f"CASE{whens} ELSE NULL END" if whens else "CAST(NULL AS VARCHAR)"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
