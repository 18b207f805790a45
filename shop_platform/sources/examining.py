"""What is there: tables of files, of a PostgreSQL or of an Elasticsearch, and what their columns look like."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shop_platform.sources.hints import FORMATS

if TYPE_CHECKING:
    import duckdb

#: Rows of a table that are looked at.
_ROWS = 50_000

_ENDINGS = (".parquet", ".csv", ".tsv", ".json", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class Column:
    """One column, by a sample of its rows.

    Attributes:
        name: as it stands there.
        filled: share of rows that have a value.
        distinct: distinct values over rows with a value.
        numeric, timely, mail: shares of values that are a number, a time, a mail address.
        form: how times are written where DuckDB does not read them by itself; None otherwise.
        values: the most frequent values, at most 30, with their numbers; empty where there are more.
    """

    name: str
    filled: float
    distinct: float
    numeric: float
    timely: float
    mail: float
    form: str | None
    values: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Table:
    """One table: the name that it gets in the mapping, where it comes from, and its columns."""

    name: str
    kind: Literal["file", "postgres", "elasticsearch"]
    place: str
    rows: int
    columns: tuple[Column, ...]

    def column(self, name: str) -> Column:
        """The column of this name."""
        return next(column for column in self.columns if column.name == name)


def patterns(folder: Path) -> dict[str, str]:
    """Files of a folder by a name for each, like ones together: events-2025-01.csv.gz and its kin as a pattern."""
    like: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_file() and _ending(relative) and not any(part.startswith(".") for part in path.parts[-3:]):
            like.setdefault(re.sub(r"\d+", "*", relative), []).append(relative)
    found: dict[str, str] = {}
    for pattern, paths in like.items():
        found[_free(pattern, found)] = paths[0] if len(paths) == 1 else re.sub(r"\*([-_.]?\*)+", "*", pattern)
    return found


def _ending(name: str) -> bool:
    return name.lower().removesuffix(".gz").endswith(_ENDINGS)


def _free(pattern: str, taken: dict[str, str]) -> str:
    """A name for a table, from its file's."""
    stem = pattern.rsplit("/", 1)[-1].split(".")[0]
    name = re.sub(r"[^a-z0-9]+", "_", stem.lower().replace("*", "")).strip("_")
    if not name and "/" in pattern:
        name = re.sub(r"[^a-z0-9]+", "_", pattern.split("/")[-2].lower()).strip("_")
    name = f"t_{name}" if not name or name[0].isdigit() else name
    return name if name not in taken else _free_number(name, taken)


def _free_number(name: str, taken: dict[str, str]) -> str:
    return next(f"{name}_{number}" for number in range(2, 1_000) if f"{name}_{number}" not in taken)


def examine(
    connection: duckdb.DuckDBPyConnection, name: str, kind: Literal["file", "postgres", "elasticsearch"], place: str
) -> Table:
    """Look at a view of the given name."""
    sample = f'(SELECT * FROM "{name}" LIMIT {_ROWS})'  # noqa: S608  a name that we gave
    rows = connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()  # noqa: S608
    described = connection.execute(f'DESCRIBE "{name}"').fetchall()
    columns = tuple(_column(connection, sample, row[0], row[1]) for row in described)
    return Table(name, kind, place, rows[0] if rows else 0, columns)


def _column(connection: duckdb.DuckDBPyConnection, sample: str, name: str, type_: str) -> Column:
    quoted = '"' + name.replace('"', '""') + '"'
    text = f"CAST({quoted} AS VARCHAR)"
    row = connection.execute(
        f"SELECT count(*), count({quoted}), count(DISTINCT {text}), count(TRY_CAST({text} AS DOUBLE)),"  # noqa: S608
        f" count(TRY_CAST({text} AS TIMESTAMPTZ)),"
        f" count(*) FILTER (WHERE regexp_full_match({text}, '[^@ ]+@[^@ ]+\\.[a-zA-Z]+')) FROM {sample}"
    ).fetchone()
    rows, filled, distinct, numeric, timely, mail = row or (0,) * 6
    share = 1 / max(filled, 1)
    times, form = (timely * share, None) if "TIME" not in type_ and type_ != "DATE" else (1.0, None)
    # A number is no time, though 2025 and 20250101 can be read as one.
    if type_ == "VARCHAR" and times < 0.9 and numeric * share < 0.9:
        times, form = max(_written(connection, sample, text, filled), (times, None), key=lambda each: each[0])
    elif numeric * share > 0.9:
        times = 0.0
    values = _values(connection, sample, text) if distinct <= 30 else ()
    return Column(name, filled / max(rows, 1), distinct * share, numeric * share, times, mail * share, form, values)


def _written(connection: duckdb.DuckDBPyConnection, sample: str, text: str, filled: int) -> tuple[float, str | None]:
    """Share of values that are times written in the way that most of them are, and that way."""
    tries = ", ".join(f"count(try_strptime({text}, '{form}'))" for form in FORMATS)
    row: Sequence[int] = connection.execute(f"SELECT {tries} FROM {sample}").fetchone() or ()  # noqa: S608  our formats
    best = max(range(len(FORMATS)), key=lambda place: row[place])
    return row[best] / max(filled, 1), FORMATS[best]


def _values(connection: duckdb.DuckDBPyConnection, sample: str, text: str) -> tuple[tuple[str, int], ...]:
    query = f"SELECT {text}, count(*) FROM {sample} GROUP BY 1 HAVING {text} IS NOT NULL ORDER BY 2 DESC, 1"  # noqa: S608
    return tuple((value, count) for value, count in connection.execute(query).fetchall())


def words(name: str) -> Iterator[str]:
    """Words of a column's or table's name: CustomerID and customer_id are customer and id."""
    yield from re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
