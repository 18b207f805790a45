"""Rows that break the contract, as they leave a source: reason, origin, and the row in a form that is kept."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    import pyarrow as pa

    from shop_platform.sources.contract import Kind
    from shop_platform.sources.textfiles import Rejected

#: What stands for a character NUL, which no text and no JSON of PostgreSQL holds.
NUL = "\N{SYMBOL FOR NULL}"

_BATCH = 10_000


def quarantine_batches(connection: duckdb.DuckDBPyConnection, kind: Kind) -> Iterator[pa.RecordBatch]:
    """The rows of `shop.<kind>` that are quarantined, as `Extract.quarantine` wants them."""
    import pyarrow as pa

    with connection.cursor() as cursor:
        found = cursor.sql(
            f"SELECT reason, origin, row FROM shop.{kind} WHERE row IS NOT NULL ORDER BY reason, origin, row"  # noqa: S608  one of four
        )
        for batch in found.to_arrow_reader(_BATCH):
            rows = [storable(text) for text in batch.column("row").to_pylist()]
            yield pa.RecordBatch.from_pydict(
                {
                    "reason": batch.column("reason").cast(pa.string()),
                    "origin": batch.column("origin").cast(pa.string()),
                    "row": pa.array(rows, pa.string()),
                }
            )


def add_rejected(connection: duckdb.DuckDBPyConnection, kind: Kind, base: Path, rejected: Sequence[Rejected]) -> None:
    """Put lines that can't be read among the quarantined rows of `shop.<kind>`; they are in no column of it."""
    import pyarrow as pa

    if not rejected:
        return
    lines = pa.table(
        {
            "reason": [each.damaged.reason for each in rejected],
            "row": [json.dumps({"line": each.damaged.text}) for each in rejected],
            "origin": [f"{each.path.relative_to(base).as_posix()}, line {each.damaged.line}" for each in rejected],
        }
    )
    connection.register("shop_rejected", lines)
    connection.execute(
        f"INSERT INTO shop.{kind} BY NAME SELECT reason, false AS own, row, origin FROM shop_rejected"  # noqa: S608
    )
    connection.unregister("shop_rejected")


def storable(text: str) -> str:
    """A JSON text as PostgreSQL takes it: NUL is shown by its symbol, NaN and infinities by their names."""
    if not any(sign in text for sign in ("\\u0000", "NaN", "Infinity")):
        return text
    return json.dumps(_plain(json.loads(text)), ensure_ascii=False)


def _plain(value: object) -> object:
    if isinstance(value, str):
        return value.replace("\0", NUL)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {_plain(name): _plain(each) for name, each in value.items()}
    return value
