"""A shop read by a mapping from files, tables and indices, row by row accounted for."""

from __future__ import annotations

import datetime as dt
import hashlib
import tempfile
from collections.abc import Iterator
from collections.abc import Mapping as Mapped
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from shop_platform.errors import SourceError
from shop_platform.settings import Settings
from shop_platform.sources.base import Extract, Part, Shop, Source
from shop_platform.sources.contract import KEYS, ORDER, TYPES, Kind, duplicate, in_the_future, reasons
from shop_platform.sources.copies import Copies, in_utf8
from shop_platform.sources.expressions import expressions_of, first_of, own_reasons, query_of, quoted
from shop_platform.sources.mapping import AnyKind, Mapping, read_mapping
from shop_platform.sources.quarantine import add_rejected, quarantine_batches
from shop_platform.sources.reading import explained, open_duckdb, open_files, tables_of
from shop_platform.sources.servers import index_state, reading_documents, tables_state
from shop_platform.sources.textfiles import Rejected

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

#: Raised whenever the same data give other rows than before.
VERSION = 3

_BATCH = 100_000

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

#: Kinds that must be known before a kind: what it refers to.
_BEFORE: dict[Kind, tuple[Kind, ...]] = {
    "users": (),
    "products": (),
    "events": ("users", "products"),
    "searches": ("users", "products"),
}


def mapped_shop(config: Path, settings: Settings) -> Shop:
    """The shop that a mapping describes. `settings.data` takes the place of the folder that it names.

    Raises:
        SourceError: the mapping can't be used.
    """
    mapping = read_mapping(config)
    base = settings.data or (config.parent / (mapping.files.base if mapping.files else "."))
    section = mapping.shop
    return Shop(
        name=section.name,
        title=section.title,
        time_zone=settings.time_zone or section.time_zone,
        currency=section.currency,
        source=MappedSource(mapping, _folder(base, config), config, settings),
        searchers_are_users=section.searchers_are_users,
        notes=section.notes,
        quarantine_at_most=(
            section.quarantine_at_most if settings.quarantine_at_most is None else settings.quarantine_at_most
        ),
    )


def _folder(base: Path, config: Path) -> Path:
    try:
        return base.expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # too long, ~somebody who has no home, a NUL character
        raise SourceError(f"The folder {str(base)!r}, in which {config} looks for files, is none: {error}.") from error


@dataclass(frozen=True)
class MappedSource(Source):
    """A shop in files, tables and indices. Reads nothing until a method is called.

    Each method raises `SourceError` when a file, table or index is missing or can't be read, or an expression can't be
    applied.

    Attributes:
        mapping: what means what.
        base: folder of the files.
        config: path of the mapping, for messages.
        settings: where the servers are.
        moment: what is later has not happened yet; one for all kinds, so that they fit one another.
        copies: of the servers' tables and indices, taken when they are first needed.
    """

    mapping: Mapping
    base: Path
    config: Path
    settings: Settings
    moment: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    copies: Copies = field(default_factory=Copies, compare=False, repr=False)

    def at(self, moment: dt.datetime) -> MappedSource:
        """The same data and copies, judged by another clock than this machine's."""
        return replace(self, moment=moment)

    def fingerprint(self) -> str:
        """Hash of the mapping and of the content of every file, table and index."""
        digest = hashlib.blake2b(f"{VERSION} {self.mapping.model_dump_json()}".encode(), digest_size=8)
        for name, part in self.manifest().items():
            digest.update(f"\n{name} {part.digest}".encode())
        return digest.hexdigest()

    def state(self) -> str:
        """Hash of the mapping, of each file's name, size and time of change, and of the servers' own counters."""
        digest = hashlib.blake2b(f"{VERSION} {self.mapping.model_dump_json()}".encode(), digest_size=8)
        for name, path in self._files():
            found = path.stat()
            digest.update(f"\n{name} {found.st_size} {found.st_mtime_ns}".encode())
        if self.mapping.postgres_tables:
            digest.update(tables_state(self.settings, self.mapping.postgres_tables).encode())
        if self.mapping.indices:
            with reading_documents(self.settings) as client:
                for index in self.mapping.indices.values():
                    digest.update(index_state(client, index).encode())
        return digest.hexdigest()

    def manifest(self) -> dict[str, Part]:
        """Each file, table and index with its size and a hash of its content, by both its names."""
        self.copies.take(self.mapping, self.settings)
        parts = self.copies.parts(self.mapping)
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
        """Search logs in the order of time; none where the mapping has no section for them."""
        return self._extract("searches") if self.mapping.searches else Extract(iter(()), 0)

    def truth(self) -> None:
        """Nothing: nobody knows what a real shop was drawn from."""
        return

    def _files(self) -> Iterator[tuple[str, Path]]:
        for table in sorted(self.mapping.file_tables):
            for path in self.paths_of(table):
                yield f"{table}: {path.relative_to(self.base).as_posix()}", path

    def paths_of(self, name: str) -> list[Path]:
        """Files of a name.

        Raises:
            SourceError: there is none.
        """
        pattern = self.mapping.file_tables[name]
        try:
            paths = sorted(path for path in self.base.glob(pattern) if path.is_file())
        except (OSError, ValueError, NotImplementedError) as error:
            raise SourceError(f"{self.config}: {pattern!r} can't be looked for in {self.base}: {error}.") from error
        if not paths:
            raise SourceError(
                f"There is no file {pattern} in {self.base}, where {self.config} looks for {name!r}. Set SHOP_DATA to "
                f"the folder that holds it, or run `make demo CONFIG={self.config} DATA=folder`."
            )
        return paths

    def _extract(self, kind: Kind) -> Extract:
        connection = open_duckdb()
        with tempfile.TemporaryDirectory(prefix="shop_platform_") as folder:
            rejected = self.open_tables(connection, Path(folder))
            with self.shops_time(connection):
                for each in (*_BEFORE[kind], kind):
                    self.map_kind(connection, each, rejected)
        counts = connection.execute(
            f"SELECT own, reason, count(*) FROM shop.{kind} GROUP BY ALL ORDER BY 3 DESC, 2"  # noqa: S608  one of four names
        ).fetchall()
        return Extract(
            _batches(connection, kind),
            rows_read=sum(count for _, _, count in counts),
            left_out={reason: count for own, reason, count in counts if own},
            quarantined={reason: count for own, reason, count in counts if reason is not None and not own},
            quarantine=quarantine_batches(connection, kind),
            due=min(filter(None, (_due(connection, each) for each in (*_BEFORE[kind], kind))), default=None),
        )

    def open_tables(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> dict[str, list[Rejected]]:
        """Make every file, table and index that the mapping names a view of its name.

        Args:
            connection: in which the views are made.
            folder: for files that are made on the way; must stay as long as the views are read.

        Returns:
            The lines of files that can't be read, and are in no view, by the name of the table.
        """
        rejected: dict[str, list[Rejected]] = {}
        encodings = self.mapping.files.encodings if self.mapping.files else {}
        for name, pattern in self.mapping.file_tables.items():
            with explained(f"{pattern} in {self.base} can't be read"):
                paths = {path: path for path in self.paths_of(name)}
                if name in encodings:
                    paths = {in_utf8(path, encodings[name], folder): path for path in paths}
                found = open_files(connection, name, list(paths), folder)
                rejected[name] = [Rejected(paths[line.path], line.damaged) for line in found]
        self.copies.take(self.mapping, self.settings)
        with explained("A copy of a server's table can't be read"):
            self.copies.open(connection, folder)
        return rejected

    @contextmanager
    def shops_time(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Within it, times without a zone are the shop's own; and there is a schema for what is mapped."""
        connection.execute(f"SET GLOBAL TimeZone = {quoted(self.mapping.naive_times)}")
        # A schema of its own, so that files may be called users or events, too.
        connection.execute("CREATE SCHEMA IF NOT EXISTS shop")
        yield
        connection.execute("SET GLOBAL TimeZone = 'UTC'")

    def map_kind(
        self, connection: duckdb.DuckDBPyConnection, kind: Kind, rejected: Mapped[str, list[Rejected]]
    ) -> None:
        """Make the table `shop.<kind>`; those of the kinds that it refers to must be there.

        Raises:
            SourceError: an expression can't be applied.
        """
        with explained(f"[{kind}] of {self.config} can't be applied to the data"):
            self._map(connection, kind)
        read = sorted(tables_of(query_of(self.section(kind).source)))
        add_rejected(connection, kind, self.base, [line for name in read for line in rejected.get(name, ())])

    def section(self, kind: Kind) -> AnyKind:
        """The mapping's section of a kind that it has."""
        section = self.mapping.kind(kind)
        if section is None:
            raise AssertionError("only a kind that the mapping has is read")
        return section

    def _map(self, connection: duckdb.DuckDBPyConnection, kind: Kind) -> None:
        """Make a table of one kind.

        Its columns: the mapped ones; the `reason` why a row is not given, NULL where it is; whether that is one of the
        mapping's `own`; the `row` as the source gives it, as JSON, where it is quarantined; and its `origin`.
        """
        section = self.section(kind)
        if kind == "users" and self.mapping.users.without_signup == "first event":
            self._find_first_events(connection)
        expressions = expressions_of(self.mapping, kind)
        mapped = ", ".join(f"{expressions[name]} AS {name}" for name in TYPES[kind])
        own = own_reasons(self.mapping, kind)
        found = reasons(kind, searchers_are_users=self.mapping.shop.searchers_are_users, moment=self.moment)
        contract = [(reason.text, reason.condition) for reason in found]
        names = ", ".join(TYPES[kind])
        # Only rows that are fine otherwise count as the first of their key.
        key = KEYS.get(kind)
        place = f"row_number() OVER (PARTITION BY judged, {key} ORDER BY {names})" if key else "1"
        connection.execute(
            f"CREATE TABLE shop.{kind} AS WITH raw AS ({query_of(section.source)}),"  # noqa: S608  a mapping is SQL by design
            f" mapped AS (SELECT {mapped}, {first_of(own)} AS own_reason, shop_row FROM raw AS shop_row),"
            f" judged AS (SELECT *, coalesce(own_reason, {first_of(contract)}) AS judged FROM mapped),"
            f" reasoned AS (SELECT *, coalesce(judged, {first_of([(duplicate(kind) or '', f'{place} > 1')])}) AS reason"
            " FROM judged)"
            f" SELECT {names}, reason, own_reason IS NOT NULL AS own,"
            " CASE WHEN reason IS NOT NULL AND own_reason IS NULL THEN CAST(to_json(shop_row) AS VARCHAR) END AS row,"
            f" CAST({self._origin(section.source)} AS VARCHAR) AS origin"
            " FROM reasoned"
        )

    def _find_first_events(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make a table of the time of each user's first event, among those that are not left out on purpose."""
        expressions = expressions_of(self.mapping, "events")
        connection.execute(
            f"CREATE TABLE shop.first_events AS WITH raw AS ({query_of(self.mapping.events.source)})"  # noqa: S608
            f" SELECT {expressions['user_id']} AS who, min({expressions['timestamp']}) AS first_at FROM raw"
            f" WHERE {expressions['timestamp']} >= TIMESTAMPTZ '1900-01-01'"
            f" AND {first_of(own_reasons(self.mapping, 'events'))} IS NULL GROUP BY 1"
        )

    def _origin(self, source: str) -> str:
        """The file that the rows come from, where it is one that is read as it is: a text in SQL, or NULL."""
        paths = self.paths_of(source) if source in self.mapping.file_tables else []
        return quoted(paths[0].relative_to(self.base).as_posix()) if len(paths) == 1 else "NULL"


def _due(connection: duckdb.DuckDBPyConnection, kind: Kind) -> dt.datetime | None:
    """When the first of the rows happens that lie in the future."""
    times = [
        connection.execute(f"SELECT min(epoch_us({column})) FROM shop.{kind} WHERE reason = ?", [reason]).fetchone()  # noqa: S608  our names
        for column, reason in in_the_future(kind).items()
    ]
    micros = [row[0] for row in times if row and row[0] is not None]
    return EPOCH + dt.timedelta(microseconds=min(micros)) if micros else None


def _batches(connection: duckdb.DuckDBPyConnection, kind: Kind) -> Iterator[pa.RecordBatch]:
    numbered = f"row_number() OVER (ORDER BY {ORDER[kind]}) AS event_id, " if kind == "events" else ""
    order = "event_id" if numbered else ORDER[kind]
    with connection.cursor() as cursor:
        yield from cursor.sql(
            f"SELECT {numbered}{', '.join(TYPES[kind])} FROM shop.{kind} WHERE reason IS NULL ORDER BY {order}"  # noqa: S608  our names
        ).to_arrow_reader(_BATCH)
