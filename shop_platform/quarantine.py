"""Rows that broke the contract: kept in `ops.quarantine` for whoever mends the source, and held to a threshold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from psycopg import sql

from shop_platform.errors import DataError
from shop_platform.resources.copying import copy_batches
from shop_platform.resources.postgres import WRITER, Connection, PostgresResource
from shop_platform.sources.contract import IN_THE_FUTURE

if TYPE_CHECKING:
    import pyarrow as pa

    from shop_platform.sources.base import Shop

_COLUMNS = ("table_name", "refused", "reason", "origin", "row")

#: Reasons that the message of a refused load names.
_NAMED = 3


class RefusedLoadError(DataError):
    """A load that was refused, with the rows that broke the contract, to be kept once its transaction is undone.

    Attributes:
        table: whose rows they are.
        rows: as `Extract.quarantine` gives them, not read yet.
    """

    def __init__(self, message: str, table: str, rows: Iterable[pa.RecordBatch]) -> None:
        super().__init__(message)
        self.table = table
        self.rows = rows


def refuse_over_threshold(
    shop: Shop, table: str, rows_read: int, quarantined: Mapping[str, int], rows: Iterable[pa.RecordBatch]
) -> None:
    """Stop a load in which too large a share of a table's rows break the contract.

    Raises:
        RefusedLoadError: the share is over `shop.quarantine_at_most`. Whoever undoes the load hands it to
            `keep_refused`.
    """
    count = sum(quarantined.values())
    if count <= shop.quarantine_at_most * rows_read:
        return
    often = sorted(quarantined.items(), key=lambda item: -item[1])[:_NAMED]
    look = f"SELECT reason, origin, row FROM ops.quarantine WHERE table_name = '{table}' AND refused"  # noqa: S608  a hint
    hint = (
        " What lies in the future is told by PostgreSQL's clock: see whether `SELECT now()` is right."
        if any(reason.endswith(IN_THE_FUTURE) for reason, _ in often)
        else ""
    )
    raise RefusedLoadError(
        f"{count:,} of {rows_read:,} rows for {table} ({count / rows_read:.1%}) break the contract, more than the "
        f"{shop.quarantine_at_most:.1%} that are allowed. The most frequent reasons are "
        f"{'; '.join(f'{reason} ({each:,})' for reason, each in often)}. Nothing was loaded, and what was there stays. "
        f"Look at the rows with `{look}`, then mend the source or its mapping, or raise SHOP_QUARANTINE_AT_MOST.{hint}",
        table,
        rows,
    )


def keep_quarantine(connection: Connection, table: str, rows: Iterable[pa.RecordBatch]) -> int:
    """Put the quarantined rows of a load in place of those of the load before, in the caller's transaction.

    Returns the number of rows. Rows of a load that was refused go as well: another one has taken its place.
    """
    forget_refused(connection, [table])
    connection.execute("DELETE FROM ops.quarantine WHERE table_name = %s", [table])
    return _keep(connection, table, rows, refused=False)


@contextmanager
def keeping_refused(postgres: PostgresResource) -> Iterator[None]:
    """Around a transaction that loads: where the load is refused, its quarantined rows are kept all the same."""
    try:
        yield
    except RefusedLoadError as error:
        with postgres.connect(role=WRITER) as connection:
            keep_refused(connection, error)
        raise


def keep_refused(connection: Connection, error: RefusedLoadError) -> int:
    """Keep the rows of a load that was refused, beside those of the load that stands; returns their number."""
    forget_refused(connection, [error.table])
    return _keep(connection, error.table, error.rows, refused=True)


def forget_refused(connection: Connection, tables: Sequence[str]) -> None:
    """Remove the rows of loads that were refused."""
    connection.execute("DELETE FROM ops.quarantine WHERE refused AND table_name = ANY(%s)", [list(tables)])


def rows_in_quarantine(connection: Connection, table: str) -> int:
    """Quarantined rows of the load that stands, counted."""
    row = connection.execute(
        "SELECT count(*) FROM ops.quarantine WHERE table_name = %s AND NOT refused", [table]
    ).fetchone()
    return int(row[0]) if row else 0


def _keep(connection: Connection, table: str, rows: Iterable[pa.RecordBatch], *, refused: bool) -> int:
    def named() -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for batch in rows:
            count = batch.num_rows
            columns = {name: batch.column(name) for name in ("reason", "origin", "row")}
            yield pa.RecordBatch.from_pydict(
                {"table_name": pa.array([table] * count), "refused": pa.array([refused] * count), **columns}
            )

    try:
        return copy_batches(connection, sql.Identifier("ops", "quarantine"), _COLUMNS, named())
    except DataError:
        # The driver's message may quote the row.
        raise DataError(f"A quarantined row for {table} can't be kept: it is no JSON that PostgreSQL takes.") from None
