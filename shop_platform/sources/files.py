"""A shop read from files by a mapping: CSV, JSON lines and Parquet through DuckDB, row by row accounted for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shop_platform.errors import SourceError
from shop_platform.settings import Settings
from shop_platform.sources.base import Extract, Shop
from shop_platform.sources.mapping import Mapping, read_mapping

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

Kind = Literal["users", "products", "events", "searches"]

_BATCH = 100_000

#: Type of each column, in DuckDB's names. A value that does not fit its type becomes NULL, and the row is left out.
_TYPES: dict[Kind, dict[str, str]] = {
    "users": {
        "user_id": "VARCHAR",
        "signup_date": "TIMESTAMPTZ",
        "name": "VARCHAR",
        "email": "VARCHAR",
        "city": "VARCHAR",
        "country": "VARCHAR",
    },
    "products": {"product_id": "VARCHAR", "name": "VARCHAR", "category": "VARCHAR", "price": "DECIMAL(12, 2)"},
    "events": {"user_id": "VARCHAR", "product_id": "VARCHAR", "event_type": "VARCHAR", "timestamp": "TIMESTAMPTZ"},
    "searches": {
        "user_id": "VARCHAR",
        "search_query": "VARCHAR",
        "clicked_product_ids": "VARCHAR[]",
        "timestamp": "TIMESTAMPTZ",
    },
}

#: What the platform itself requires of each kind, after what the mapping leaves out: reason and condition.
_CONTRACT: dict[Kind, tuple[tuple[str, str], ...]] = {
    "users": (
        ("no user_id", "coalesce(user_id, '') = ''"),
        ("no usable signup_date", "signup_date IS NULL"),
        ("user_id stands more than once", "occurrence > 1"),
    ),
    "products": (
        ("no product_id", "coalesce(product_id, '') = ''"),
        ("no name or category", "name IS NULL OR category IS NULL"),
        ("no usable price", "price IS NULL OR price < 0"),
        ("product_id stands more than once", "occurrence > 1"),
    ),
    "events": (
        ("no usable timestamp", "timestamp IS NULL"),
        ("unknown event_type", "coalesce(event_type NOT IN ('viewed', 'add_to_cart', 'purchased'), true)"),
        ("unknown user", "user_id IS NULL OR user_id NOT IN (SELECT user_id FROM users WHERE reason IS NULL)"),
        (
            "unknown product",
            "product_id IS NULL OR product_id NOT IN (SELECT product_id FROM products WHERE reason IS NULL)",
        ),
    ),
    "searches": (
        ("no user_id", "coalesce(user_id, '') = ''"),
        ("no search_query", "coalesce(trim(search_query), '') = ''"),
        ("no usable timestamp", "timestamp IS NULL"),
    ),
}

#: What identifies a row, where only one may have it.
_KEYS: dict[Kind, str] = {"users": "user_id", "products": "product_id"}

_ORDER: dict[Kind, str] = {
    "users": "signup_date, user_id",
    "products": "product_id",
    "events": "timestamp, user_id, product_id, event_type",
    "searches": "timestamp, user_id, search_query",
}


def files_shop(config: Path, settings: Settings) -> Shop:
    """The shop that a mapping describes.

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
        source=FilesSource(mapping, base.resolve(), config),
        searchers_are_users=section.searchers_are_users,
        notes=section.notes,
    )


@dataclass(frozen=True)
class FilesSource:
    """A shop in files. Implements `Source`; reads nothing until a method is called."""

    mapping: Mapping
    base: Path
    config: Path

    def fingerprint(self) -> str:
        """Hash of the mapping and of the content of every file.

        Raises:
            SourceError: a file is missing.
        """
        digest = hashlib.blake2b(self.mapping.model_dump_json().encode(), digest_size=8)
        for name in sorted(self.mapping.files.tables):
            for path in self._paths(name):
                digest.update(path.name.encode())
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
        paths = sorted(self.base.glob(pattern))
        if not paths:
            raise SourceError(
                f"There is no file {pattern} in {self.base}, where {self.config} looks for {name!r}. Set SHOP_DATA, or "
                "`--data` or `DATA=`, to the folder that holds it."
            )
        return paths

    def _extract(self, kind: Kind) -> Extract:
        import duckdb

        connection = duckdb.connect()
        try:
            connection.execute("SET TimeZone = 'UTC'")
            for name in self.mapping.files.tables:
                self._read_file(connection, name)
            needed: tuple[Kind, ...] = ("users", "products", "events") if kind == "events" else (kind,)
            for each in needed:
                self._map(connection, each)
            counts = connection.execute(f"SELECT reason, count(*) FROM {kind} GROUP BY 1 ORDER BY 2 DESC, 1").fetchall()  # noqa: S608  one of four names
        except duckdb.ConversionException as error:
            raise SourceError(
                f"A value in {self.base} can't be converted as {self.config} says: {error}. With TRY_CAST in place of "
                "CAST the value becomes NULL and its row is left out with a reason."
            ) from error
        except duckdb.Error as error:
            raise SourceError(f"{self.config} can't be applied to the files in {self.base}: {error}") from error
        left_out = {reason: count for reason, count in counts if reason is not None}
        return Extract(self._batches(connection, kind), sum(count for _, count in counts), left_out)

    def _read_file(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        """Make a file, or several by a pattern, a view of the given name."""
        paths = [str(path) for path in self._paths(name)]
        kind = Path(paths[0].removesuffix(".gz")).suffix.lower()
        if kind == ".parquet":
            relation = connection.read_parquet(paths)
        elif kind in (".csv", ".tsv"):
            relation = connection.read_csv(paths, header=True, sep="\t" if kind == ".tsv" else ",", all_varchar=True)
        elif kind in (".json", ".jsonl", ".ndjson"):
            relation = connection.read_json(paths)
        else:
            raise SourceError(f"{paths[0]} is neither Parquet, CSV, TSV nor JSON by its name.")
        relation.create_view(name)

    def _map(self, connection: duckdb.DuckDBPyConnection, kind: Kind) -> None:
        """Make a table of one kind: the mapped columns, and the reason why a row is left out, NULL where it is not."""
        section = self.mapping.kind(kind)
        columns = section.columns.model_dump()
        mapped = ", ".join(f"TRY_CAST(({columns[name]}) AS {type_}) AS {name}" for name, type_ in _TYPES[kind].items())
        own = "".join(f" WHEN {rule.where} THEN {_quoted(rule.reason)}" for rule in section.leave_out)
        # The key is counted among the rows that are not left out already.
        key = _KEYS.get(kind)
        names = ", ".join(_TYPES[kind])
        occurrence = f"row_number() OVER (PARTITION BY own_reason, {key} ORDER BY {names})" if key else "1"
        contract = "".join(f" WHEN {condition} THEN {_quoted(reason)}" for reason, condition in _CONTRACT[kind])
        connection.execute(
            f"CREATE TABLE {kind} AS WITH raw AS (FROM ({_relation(section.source)})),"  # noqa: S608  the mapping is SQL
            f" mapped AS (SELECT {mapped}, CASE{own or ' WHEN false THEN NULL'} END AS own_reason FROM raw),"
            f" counted AS (SELECT *, {occurrence} AS occurrence FROM mapped)"
            f" SELECT {names}, coalesce(own_reason, CASE{contract} END) AS reason FROM counted"
        )

    def _batches(self, connection: duckdb.DuckDBPyConnection, kind: Kind) -> Iterator[pa.RecordBatch]:
        numbered = f"row_number() OVER (ORDER BY {_ORDER[kind]}) AS event_id, " if kind == "events" else ""
        names = ", ".join(_TYPES[kind])
        with connection:
            yield from connection.sql(
                f"SELECT {numbered}{names} FROM {kind} WHERE reason IS NULL ORDER BY {_ORDER[kind]}"  # noqa: S608  our names
            ).to_arrow_reader(_BATCH)


def _relation(source: str) -> str:
    """A query as it is; a name as a query of it."""
    return source if source.lstrip().upper().startswith(("SELECT", "WITH", "FROM")) else f"FROM {source}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
