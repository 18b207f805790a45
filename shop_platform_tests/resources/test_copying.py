"""Binary COPY: every type as it is, nothing guessed, nothing collected."""

from __future__ import annotations

import datetime as dt
import json
import weakref
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

from shop_platform.errors import DataError
from shop_platform.resources import copying
from shop_platform.resources.copying import copy_batches
from shop_platform.resources.postgres import PostgresResource

COLUMNS = ("id", "word", "price", "moment", "traits")
DDL = "CREATE TABLE things (id bigint, word text, price numeric(12, 2), moment timestamptz, traits jsonb)"
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("word", pa.string()),
        ("price", pa.decimal128(12, 2)),
        ("moment", pa.timestamp("us", "UTC")),
        ("traits", pa.string()),
    ]
)
Row = tuple[Any, ...]


def utc(year: int, *rest: int) -> dt.datetime:
    return dt.datetime(year, *(rest or (1, 1)), tzinfo=dt.UTC)  # type: ignore[arg-type]


ROWS: list[Row] = [
    (1, "plain", Decimal("59.90"), utc(2025, 4, 1, 12, 30, 0, 1), '{"a": [1, 2.5, null]}'),
    (None, None, None, None, None),
    (0, "", Decimal("0.00"), utc(1970), "[]"),
    (
        2**63 - 1,
        'Zoë, "Zo"\n\t\\N \\. 😀 日本',
        Decimal("9999999999.99"),
        utc(9999, 12, 31, 23, 59, 59, 999_999),
        '"é"',
    ),
    (-(2**63), "\\N", Decimal("-9999999999.99"), utc(1), "null"),
    (7, "x" * 1_000_000, Decimal("0.01"), utc(1999, 12, 31, 23, 59, 59, 999_999), "{}"),
    (8, " ", Decimal("10000.00"), utc(2000), "1e3"),
]


def batch_of(rows: list[Row], schema: pa.Schema = SCHEMA) -> pa.RecordBatch:
    columns = [[row[n] for row in rows] for n in range(len(schema))]
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def copied(postgres: PostgresResource, *batches: pa.RecordBatch, columns: tuple[str, ...] = COLUMNS) -> list[Row]:
    """What stands in a new table after a COPY."""
    with postgres.connect() as connection:
        connection.execute(DDL)
        rows = copy_batches(connection, sql.Identifier("things"), columns, iter(batches))
        found = connection.execute("SELECT * FROM things").fetchall()
        connection.rollback()
    assert rows == len(found)
    return found


def as_stored(rows: list[Row]) -> list[Row]:
    return [(*row[:4], None if row[4] is None else json.loads(row[4])) for row in rows]


def one(name: str, array: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([array], names=[name])


def test_every_type_arrives_as_it_is(postgres: PostgresResource) -> None:
    assert copied(postgres, batch_of(ROWS)) == as_stored(ROWS)


def test_parts_of_a_batch_arrive_once_and_in_order(postgres: PostgresResource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_ROWS", 3)
    batch = batch_of(ROWS * 3)
    found = copied(postgres, batch.slice(2, 9), batch.slice(0, 0), batch.slice(11))
    assert found == as_stored((ROWS * 3)[2:])


def test_no_batch_leaves_no_row(postgres: PostgresResource) -> None:
    assert copied(postgres) == []


def test_columns_are_taken_by_name_and_others_left_to_the_table(postgres: PostgresResource) -> None:
    batch = batch_of(ROWS).select(["traits", "moment", "word", "id"])
    assert copied(postgres, batch, columns=("word", "id")) == [(row[0], row[1], None, None, None) for row in ROWS]


def test_times_beyond_pythons_are_kept(postgres: PostgresResource) -> None:
    days = pa.array([-2_440_000, 100_000_000], pa.int64())  # 4711 BC and 275761 AD
    moments = pa.array([day * 86_400_000_000 for day in days.to_pylist()], pa.int64()).cast(pa.timestamp("us", "UTC"))
    with postgres.connect() as connection:
        connection.execute(DDL)
        copy_batches(connection, sql.Identifier("things"), ["moment"], [one("moment", moments)])
        found = connection.execute("SELECT (extract(epoch FROM moment) / 86400)::bigint FROM things").fetchall()
    assert [row[0] for row in found] == days.to_pylist()


@pytest.mark.parametrize(
    ("column", "array"),
    [
        ("word", pa.array(["é", None, ""], pa.large_string())),
        ("word", pa.array(["é", None, ""], pa.string_view())),
        ("word", pa.array(["é", None, ""]).dictionary_encode()),
        ("word", pa.array([None, None], pa.null())),
        ("id", pa.array([1, None], pa.int32())),
        ("id", pa.array([1, 2**63 - 1], pa.uint64())),
        ("price", pa.array([Decimal("1.5"), None], pa.decimal128(5, 1))),
        ("price", pa.array([Decimal("1.5000"), None], pa.decimal128(38, 4))),
        ("price", pa.array([Decimal("1.50"), None], pa.decimal64(12, 2))),
        ("price", pa.array([Decimal("1.50"), None], pa.decimal256(40, 2))),
        ("moment", pa.array([utc(2025), None], pa.timestamp("s", "UTC"))),
        ("moment", pa.array([utc(2025), None], pa.timestamp("ms", "Asia/Tokyo"))),
        ("moment", pa.array([utc(2025), None], pa.timestamp("ns", "Europe/Paris"))),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else None,
)
def test_what_arrow_calls_otherwise_arrives_as_the_same_value(
    postgres: PostgresResource, column: str, array: pa.Array
) -> None:
    found = copied(postgres, one(column, array), columns=(column,))
    assert [row[COLUMNS.index(column)] for row in found] == array.to_pylist()


def test_what_duckdb_gives_arrives_in_any_zone(postgres: PostgresResource) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'America/New_York'")
        reader = connection.sql(
            "SELECT i AS id, 'é' || i AS word, (i / 4)::DECIMAL(6, 3) AS price,"
            " TIMESTAMPTZ '2025-03-30 00:30:00+00' + to_hours(i::INT) AS moment FROM range(250) AS t(i) ORDER BY i"
        ).to_arrow_reader(100)
        found = copied(postgres, *reader, columns=COLUMNS[:4])
    start = utc(2025, 3, 30, 0, 30)
    wanted = [(i, f"é{i}", Decimal(i) / 4, start + dt.timedelta(hours=i), None) for i in range(250)]
    assert found == wanted


@pytest.mark.parametrize(
    ("column", "array", "message"),
    [
        ("word", pa.array(["fine", "NUL\0here"]), r'things can\'t hold .*"UTF8": 0x00 .*line 2, column word'),
        ("price", pa.array([Decimal("1.005")], pa.decimal128(12, 3)), r"price .* decimal128\(12, 3\) .* without loss"),
        ("price", pa.array([Decimal(10**10)], pa.decimal128(12, 0)), "price .* without loss"),
        ("moment", pa.array([dt.datetime(2025, 4, 1)], pa.timestamp("us")), "moment .* without a time zone"),  # noqa: DTZ001  that is the point
        ("moment", pa.array([1], pa.timestamp("ns", "UTC")), "moment .* without loss"),
        ("moment", pa.array([-(2**63) + 1], pa.timestamp("us", "UTC")), "things can't hold"),
        ("id", pa.array([2**63], pa.uint64()), "id .* without loss"),
        ("traits", pa.array(['{"half'], pa.string()), "things can't hold .*json"),
        ("other", pa.array([1]), "gives no column id"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(
    postgres: PostgresResource, column: str, array: pa.Array, message: str
) -> None:
    wanted = "id" if column == "other" else column
    with pytest.raises(DataError, match=message):
        copied(postgres, one(column, array), columns=(wanted,))


def test_a_table_without_the_column_or_with_another_type_is_named(postgres: PostgresResource) -> None:
    batch = one("size", pa.array([1.5]))
    with pytest.raises(DataError, match=r"Table things has no column size"):
        copied(postgres, batch, columns=("size",))
    with postgres.connect() as connection:
        connection.execute("CREATE TABLE others (size point)")
        with pytest.raises(DataError, match=r"Column size of table others is a point"):
            copy_batches(connection, sql.Identifier("others"), ["size"], [batch])


def test_batches_are_taken_one_by_one_and_let_go(postgres: PostgresResource) -> None:
    given: list[weakref.ref[pa.RecordBatch]] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for _ in range(20):
            alive = [reference for reference in given if reference() is not None]
            assert len(alive) <= 1, "earlier batches are still held"
            batch = batch_of(ROWS)
            given.append(weakref.ref(batch))
            yield batch
            del batch

    with postgres.connect() as connection:
        connection.execute(DDL)
        assert copy_batches(connection, sql.Identifier("things"), COLUMNS, batches()) == 20 * len(ROWS)


def test_a_source_that_fails_leaves_nothing_of_the_copy(postgres: PostgresResource) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield batch_of(ROWS)
        raise OSError("the disk is gone")

    with postgres.connect() as connection:
        connection.execute(DDL)
    with pytest.raises(OSError, match="the disk is gone"), postgres.connect() as connection:
        copy_batches(connection, sql.Identifier("things"), COLUMNS, batches())
    with postgres.connect() as connection:
        assert connection.execute("SELECT count(*) FROM things").fetchone() == (0,)


def test_freezing_is_for_tables_that_are_the_transactions_own(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        connection.execute(DDL)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState), postgres.connect() as connection:
        copy_batches(connection, sql.Identifier("things"), COLUMNS, [batch_of(ROWS)], freeze=True)
