"""Streams record batches into a table by binary COPY: in bounded memory, in the caller's transaction."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from shop_platform.errors import DataError
from shop_platform.resources.postgres import Connection

if TYPE_CHECKING:
    import pyarrow as pa
    from pgpq import ArrowToPostgresBinaryEncoder

#: Rows encoded at once: what a batch of any size costs in memory besides itself.
_ROWS = 50_000

_TEXT = ("text", "character varying")


def copy_batches(
    connection: Connection,
    table: sql.Identifier,
    columns: Sequence[str],
    batches: Iterable[pa.RecordBatch],
    *,
    freeze: bool = False,
    done: Callable[[int], object] = lambda _: None,
) -> int:
    """COPY column batches into a table; returns the number of rows.

    Batches are taken one after the other and never collected. Columns are taken from each by name and cast to the
    types of the table: any width or layout of strings, times of any unit with a zone, decimals of any scale. Nulls
    become NULL, empty strings stay empty.

    Args:
        connection: in a transaction; the COPY is part of it.
        table: with its schema, where that is not on the search path.
        columns: of the table, in any order; the others get their defaults.
        batches: each with at least these columns.
        freeze: mark the rows as visible to everybody, so that no VACUUM need ever visit them. PostgreSQL allows it
            where the transaction itself has truncated the table.
        done: told the number of rows of each part that was sent.

    Raises:
        DataError: a value that the table's column can't hold as it is; nothing of the COPY stays.
        psycopg.IntegrityError: a row breaks a constraint of the table.
    """
    from pgpq import ArrowToPostgresBinaryEncoder

    types = _column_types(connection, table, columns)
    schema = _arrow_schema(table, types)
    encoder = ArrowToPostgresBinaryEncoder.new_with_encoders(schema, _encoders(schema, types))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary{})").format(
        table, sql.SQL(", ").join(map(sql.Identifier, columns)), sql.SQL(", FREEZE" if freeze else "")
    )
    rows = 0
    try:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(encoder.write_header())
            for batch in batches:
                for part in _parts(_fitted(table, batch, schema)):
                    copy.write(_encoded(table, encoder, part))
                    done(part.num_rows)
                rows += batch.num_rows
            copy.write(encoder.finish())
    except psycopg.DataError as error:
        raise DataError(
            f"Table {_name(table)} can't hold a value of the source: {error.diag.message_primary} "
            f"({error.diag.context}). Mend the source; nothing of it was loaded."
        ) from error
    return rows


def _column_types(connection: Connection, table: sql.Identifier, columns: Sequence[str]) -> dict[str, str]:
    """PostgreSQL's type of each column, such as "numeric(12,2)"."""
    found: dict[str, str] = dict(
        connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            [table.as_string(connection)],
        ).fetchall()
    )
    missing = [column for column in columns if column not in found]
    if missing:
        raise DataError(f"Table {_name(table)} has no column {', '.join(missing)}; was it changed by hand?")
    return {column: found[column] for column in columns}


def _arrow_schema(table: sql.Identifier, types: dict[str, str]) -> pa.Schema:
    """What Arrow calls the table's types: binary COPY takes these bytes and converts nothing."""
    import pyarrow as pa

    plain: dict[str, pa.DataType] = {
        **dict.fromkeys((*_TEXT, "jsonb"), pa.string()),
        "bigint": pa.int64(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
        "timestamp with time zone": pa.timestamp("us", "UTC"),
    }
    fields = []
    for column, type_ in types.items():
        numeric = re.fullmatch(r"numeric\((\d+),(\d+)\)", type_)
        if numeric:
            fields.append(pa.field(column, pa.decimal128(int(numeric[1]), int(numeric[2]))))
        elif type_ in plain:
            fields.append(pa.field(column, plain[type_]))
        else:
            raise DataError(f"Column {column} of table {_name(table)} is a {type_}, which no load here can fill.")
    return pa.schema(fields)


def _encoders(schema: pa.Schema, types: dict[str, str]) -> dict[str, Any]:
    """How each column is written. A jsonb differs from its text by a byte in front, which has to be asked for."""
    from pgpq import ArrowToPostgresBinaryEncoder
    from pgpq.encoders import StringEncoderBuilder
    from pgpq.schema import Jsonb

    return {
        field.name: StringEncoderBuilder.new_with_output(field, Jsonb())
        if types[field.name] == "jsonb"
        else ArrowToPostgresBinaryEncoder.infer_encoder(field)
        for field in schema
    }


def _fitted(table: sql.Identifier, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with the columns and types of the table. Refuses to guess a zone, or to round."""
    import pyarrow as pa

    arrays = []
    for field in schema:
        if field.name not in batch.schema.names:
            raise DataError(f"The source gives no column {field.name}, which table {_name(table)} needs.")
        array = batch.column(field.name)
        if array.type != field.type:
            if pa.types.is_timestamp(array.type) and array.type.tz is None:
                raise DataError(f"Column {field.name} for table {_name(table)} holds times without a time zone.")
            try:
                array = array.cast(field.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise DataError(
                    f"Column {field.name} of the source is a {array.type} with values that do not fit table "
                    f"{_name(table)} as a {field.type} without loss. Round or convert them in the source."
                ) from error
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _encoded(table: sql.Identifier, encoder: ArrowToPostgresBinaryEncoder, part: pa.RecordBatch) -> bytes:
    try:
        return encoder.write_batch(part)
    except ValueError as error:
        raise DataError(f"Table {_name(table)} can't hold a value of the source: {error}. Mend the source.") from error


def _parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for first in range(0, batch.num_rows, _ROWS):
        yield batch.slice(first, _ROWS)


def _name(table: sql.Identifier) -> str:
    return table.as_string(None).replace('"', "")
