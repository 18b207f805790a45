"""Files of any bytes, rows of any values: each is loaded, left out or quarantined, or the file is refused."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shop_platform.commerce.loading import load_shop_tables
from shop_platform.resources.postgres import PostgresResource
from shop_platform.settings import Settings
from shop_platform.sources.base import Shop
from shop_platform.sources.contract import Kind
from shop_platform.sources.load import load_shop

from .cases import SHARES, TEXT, TOTAL, cases, count, damaged, taken, write

pytestmark = pytest.mark.timeout(300 + TOTAL)

TOML = """
[shop]
name = "fuzzed"
title = "Fuzzed"
quarantine_at_most = 1.0
[files.tables]
rows = "{pattern}"
[users]
from = "rows"
leave_out = [{{ reason = "of no country", where = "b = 'nowhere'" }}]
columns = {{ user_id = "a", signup_date = "d", name = "b", email = "c" }}
[products]
from = "rows"
columns = {{ product_id = "a", name = "b", category = "b", price = "c" }}
[events]
from = "rows"
columns = {{ user_id = "a", product_id = "a", event_type = "b", timestamp = "d" }}
[searches]
from = "rows"
columns = {{ user_id = "a", search_query = "b", clicked_product_ids = "{clicked}", timestamp = "d" }}
"""

ROWS = [
    {"a": "u1", "b": "viewed", "c": "9.90", "d": "2025-04-01T12:30:00Z"},
    {"a": "u2", "b": 'say "so", twice', "c": "x@y.example", "d": "2025-04-02 12:30:00"},
    {"a": "ü3", "b": "nowhere", "c": "", "d": "31/12/2025"},
]

KINDS = st.sampled_from(["users", "products", "events", "searches"])

VALUES = st.one_of(
    st.none(),
    TEXT,
    st.sampled_from(["u1", "u2", "viewed", "purchased", "nowhere", "9.90", "2025-04-01T12:30:00Z", "1900-01-01"]),
)

ANY_VALUES = st.recursive(
    VALUES | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)

Rows = list[dict[str, Any]]
Format = Literal["csv", "jsonl", "parquet"]


def as_csv(rows: Rows) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["a", "b", "c", "d"], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode(errors="surrogatepass")


def as_json(rows: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_parquet(rows: Rows) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def shop_in(folder: Path, name: str, content: bytes) -> Shop:
    """A shop of one file, from which all four kinds of rows are read."""
    write(folder / name, content)
    clicked = "[CAST(c AS VARCHAR)]"
    config = write(folder / "shop.toml", TOML.format(pattern=name, clicked=clicked).encode())
    return load_shop(Settings(config=config))


def check_bytes(folder: Path, name: str, content: bytes, kind: Kind) -> None:
    def read() -> None:
        source = shop_in(folder, name, content).source
        source.state(), source.fingerprint()
        count(getattr(source, kind)())

    taken(read)


CSVS = [as_csv(ROWS), as_csv(ROWS).replace(b",", b"\t"), gzip.compress(as_csv(ROWS), mtime=0), b""]


@cases("csv")
@given(st.sampled_from(CSVS).flatmap(damaged), st.sampled_from(["csv", "tsv", "csv.gz", "CSV"]), KINDS)
@example(CSVS[2][:12] + b"\xff\xff" + CSVS[2][14:], "csv.gz", "users")
@example(b'a,b,c,d\n"' + b"x," * 9_000, "csv", "users")
def test_csv_of_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes, ends: str, kind: Kind) -> None:
    name = f"rows.{ends}"
    check_bytes(folder_of(tmp_path_factory), name, content, kind)


JSONS = [as_json(ROWS), json.dumps(ROWS).encode(), gzip.compress(as_json(ROWS), mtime=0), b""]


@cases("json")
@given(st.sampled_from(JSONS).flatmap(damaged), st.sampled_from(["jsonl", "json", "ndjson.gz"]), KINDS)
@example(JSONS[2][:12] + b"\xff\xff" + JSONS[2][14:], "ndjson.gz", "users")
@example(b'{"a": ' + b"[" * 5_000 + b"\n", "jsonl", "users")
@example(b'{"a": ' + b"[" * 5_000 + b"]" * 5_000 + b"}\n", "jsonl", "users")
@example(b'{"a": ' + b"9" * 5_000 + b"}\n\xff\n", "jsonl", "users")
def test_json_of_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes, ends: str, kind: Kind) -> None:
    check_bytes(folder_of(tmp_path_factory), f"rows.{ends}", content, kind)


@cases("parquet")
@given(damaged(as_parquet(ROWS)), KINDS)
def test_parquet_of_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes, kind: Kind) -> None:
    check_bytes(folder_of(tmp_path_factory), "rows.parquet", content, kind)


@st.composite
def formatted(draw: st.DrawFn) -> tuple[Format, Rows]:
    """Rows of any values that a format can write."""
    form: Format = draw(st.sampled_from(["csv", "jsonl", "parquet"]))
    if form == "jsonl":
        values = ANY_VALUES
    elif form == "csv":
        values = VALUES
    else:
        # A column has one type; no text there can hold half a surrogate pair.
        values = VALUES.filter(lambda value: value is None or value.isprintable() or "\0" in value)
        values = values.map(lambda value: value and value.encode(errors="replace").decode())
    row = st.fixed_dictionaries({"a": values, "b": values, "c": values, "d": values})
    return form, draw(st.lists(row, min_size=1, max_size=8))


WRITERS: dict[Format, Callable[[Rows], bytes]] = {"csv": as_csv, "jsonl": as_json, "parquet": as_parquet}


@cases("rows")
@given(formatted(), KINDS)
@example(("csv", [ROWS[0], ROWS[1] | {"b": "\ud800"}, ROWS[2]]), "users")
@example(("jsonl", [ROWS[0], ROWS[1] | {"b": "\ud800"}, ROWS[2]]), "events")
@example(("csv", [ROWS[0] | {"b": "a\0b"}, ROWS[1] | {"a": "x" * 1_100}, ROWS[2] | {"d": "infinity"}]), "events")
def test_every_row_of_any_values_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, written: tuple[Format, Rows], kind: Kind
) -> None:
    form, rows = written
    source = shop_in(folder_of(tmp_path_factory), f"rows.{form}", WRITERS[form](rows)).source
    read = taken(lambda: count(getattr(source, kind)()))
    assert read in (None, len(rows))


@contextmanager
def undone(postgres: PostgresResource) -> Iterator[psycopg.Connection[Any]]:
    """A transaction that leaves nothing, so that all cases can have one database."""
    with postgres.connect() as connection, connection.transaction(force_rollback=True):
        yield connection


@cases("loads")
@given(formatted())
def test_what_is_not_quarantined_is_taken_by_postgres(
    tmp_path_factory: pytest.TempPathFactory, fuzzed: PostgresResource, written: tuple[Format, Rows]
) -> None:
    form, rows = written
    shop = shop_in(folder_of(tmp_path_factory), f"rows.{form}", WRITERS[form](rows))
    with undone(fuzzed) as connection:
        loads = taken(lambda: load_shop_tables(connection, replace(shop, quarantine_at_most=1)))
        if loads is None:
            return
        for table, load in loads.items():
            assert load.adds_up
            assert load.rows_read == len(rows)
            query = psycopg.sql.SQL("SELECT count(*) FROM {}").format(psycopg.sql.Identifier(table))
            assert connection.execute(query).fetchone() == (load.rows_loaded,)
        kept = connection.execute("SELECT count(*) FROM ops.quarantine").fetchone()
        assert kept == (sum(sum(load.quarantined.values()) for load in loads.values()),)


def test_the_shares_are_those_of_all_cases() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)


def folder_of(factory: pytest.TempPathFactory) -> Path:
    """The folder of this process's cases, emptied: a folder for each would fill the disk."""
    folder = factory.getbasetemp() / "fuzzed"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    return folder
