"""A shop read from files by a mapping, row by row accounted for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shop_platform.errors import SourceError
from shop_platform.settings import Settings
from shop_platform.sources.base import Extract, Shop
from shop_platform.sources.contract import KEYS, ORDER, TYPES, Kind, reasons
from shop_platform.sources.mapping import Mapping, read_mapping
from shop_platform.sources.reading import explained, open_duckdb, open_files

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

#: Raised whenever the same files give other rows than before.
VERSION = 1

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
    )


@dataclass(frozen=True)
class FilesSource:
    """A shop in files. Implements `Source`; reads nothing until a method is called.

    Each method raises `SourceError` when a file is missing or can't be read, or an expression can't be applied.
    """

    mapping: Mapping
    base: Path
    config: Path

    def fingerprint(self) -> str:
        """Hash of the mapping and of the content of every file."""
        digest = hashlib.blake2b(f"{VERSION} {self.mapping.model_dump_json()}".encode(), digest_size=8)
        for name in sorted(self.mapping.files.tables):
            for path in self._paths(name):
                digest.update(f"\n{name} {path.name} ".encode())
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "blake2b").digest())
        return digest.hexdigest()

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
        for name in self.mapping.files.tables:
            with explained(f"{self.mapping.files.tables[name]} in {self.base} can't be read"):
                open_files(connection, name, self._paths(name))
        # A schema of its own, so that files may be called users or events, too.
        connection.execute("CREATE SCHEMA shop")
        for each in (*_BEFORE[kind], kind):
            with explained(f"[{each}] of {self.config} can't be applied to the files in {self.base}"):
                self._map(connection, each)
        counts = connection.execute(
            f"SELECT reason, count(*) FROM shop.{kind} GROUP BY 1 ORDER BY 2 DESC, 1"  # noqa: S608  one of four names
        ).fetchall()
        left_out = {reason: count for reason, count in counts if reason is not None}
        return Extract(_batches(connection, kind), sum(count for _, count in counts), left_out)

    def _map(self, connection: duckdb.DuckDBPyConnection, kind: Kind) -> None:
        """Make a table of one kind: the mapped columns, and the reason why a row is left out, NULL where it is not."""
        section = self.mapping.kind(kind)
        columns = section.columns.model_dump()
        mapped = ", ".join(_cast(columns[name], type_) + f" AS {name}" for name, type_ in TYPES[kind].items())
        own = [(rule.reason, rule.where) for rule in section.leave_out]
        contract = reasons(kind, searchers_are_users=self.mapping.shop.searchers_are_users)
        names = ", ".join(TYPES[kind])
        # Only rows that are fine otherwise count as the first of their key.
        key = KEYS.get(kind)
        place = f"row_number() OVER (PARTITION BY judged, {key} ORDER BY {names})" if key else "1"
        connection.execute(
            f"CREATE TABLE shop.{kind} AS WITH raw AS ({_query(section.source)}),"  # noqa: S608  a mapping is SQL by design
            f" mapped AS (SELECT {mapped}, {_first(own)} AS own_reason FROM raw),"
            f" judged AS (SELECT *, coalesce(own_reason, {_first(contract)}) AS judged FROM mapped)"
            f" SELECT {names}, coalesce(judged, {_first([(f'{key} stands more than once', f'{place} > 1')])}) AS reason"
            " FROM judged"
        )


def _batches(connection: duckdb.DuckDBPyConnection, kind: Kind) -> Iterator[pa.RecordBatch]:
    numbered = f"row_number() OVER (ORDER BY {ORDER[kind]}) AS event_id, " if kind == "events" else ""
    order = "event_id" if numbered else ORDER[kind]
    with connection:
        yield from connection.sql(
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
