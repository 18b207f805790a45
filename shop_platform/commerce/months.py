"""Loads chosen months of events: the difference of a load of everything, within these months, and nothing beside."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from psycopg import sql

from shop_platform.commerce.difference import (
    COLUMNS,
    KEYS,
    Difference,
    events_that_differ,
    exchange_events,
    incoming,
    lock_tables,
    make_incoming,
    put,
)
from shop_platform.commerce.loading import (
    Load,
    extract_of,
    highest_id,
    lock_loading,
    note_load,
    refuse_another_shop,
    take,
)
from shop_platform.commerce.writing import as_writer
from shop_platform.erasure.record import without_erased
from shop_platform.errors import DataError
from shop_platform.loaded import forget_state
from shop_platform.quarantine import keeping_refused, refuse_over_threshold
from shop_platform.resources.copying import copy_batches
from shop_platform.resources.postgres import Connection, PostgresResource, clock
from shop_platform.sources.base import Shop

if TYPE_CHECKING:
    import pyarrow as pa

#: Takes the place of a fingerprint where months of one version of the source stand beside those of another: it equals
#: none, so that the next load of everything compares all.
SOME_MONTHS = "some months"


class Window(NamedTuple):
    """From the start on, and before the end; both with a time zone."""

    start: dt.datetime
    end: dt.datetime


@dataclass(frozen=True)
class Month:
    """What became of one month: rows that the source gives for it, and rows of it that were added and removed."""

    rows: int
    added: int
    removed: int


@dataclass(frozen=True)
class MonthsLoad:
    """How some months of events stand to the source.

    Attributes:
        rows_read, left_out, quarantined: of the whole source: it is read whole, and what breaks the contract often has
            no usable time, so that it belongs to no month.
        elsewhere: rows that the source gives for other months.
        months: what became of each month that was asked for, by its name.
        difference: what became of them together.
        parents: rows that were added to `users` and `products`.
        differing: rows in which the months differ from the source after the load; those that are kept are among them.
    """

    rows_read: int
    left_out: Mapping[str, int]
    quarantined: Mapping[str, int]
    elsewhere: int
    months: Mapping[str, Month]
    difference: Difference
    parents: Mapping[str, int]
    differing: int

    @property
    def rows(self) -> int:
        """Rows that the source gives for these months."""
        return sum(month.rows for month in self.months.values())

    @property
    def adds_up(self) -> bool:
        """Whether every row of the source is one of these months, of another, left out on purpose or quarantined."""
        out = sum(self.left_out.values()) + sum(self.quarantined.values())
        return self.rows_read == self.rows + self.elsewhere + out

    @property
    def changed(self) -> bool:
        """Whether any row of the tables was touched."""
        return bool(self.difference.added or self.difference.removed or sum(self.parents.values()))


def load_months(postgres: PostgresResource, shop: Shop, months: Mapping[str, Window]) -> MonthsLoad:
    """`load_month_tables` in a transaction of its own; what a refused load quarantined is kept to be looked at.

    Raises:
        RefusedLoadError: and whatever else `load_month_tables` raises.
    """
    with keeping_refused(postgres), postgres.connect() as connection:
        return load_month_tables(connection, shop, months)


def load_month_tables(connection: Connection, shop: Shop, months: Mapping[str, Window]) -> MonthsLoad:
    """Bring some months of `events` to what the source gives for them, in the caller's transaction.

    The source's events outside of these months, and everybody else's, are not touched. Where events refer to users or
    products that are not there, all that the source has and the tables lack are added first: a cohort without those
    who never did anything would be counted wrong. Users and products that are there stay as they are.

    A load of everything afterwards is right. Where the months come from the version of the source that is loaded, it
    has nothing to do, and does nothing. Else it compares all, also if the source goes back to what it was.

    Raises:
        RefusedLoadError: too many rows of the source break the contract.
        DataError: the tables hold another shop; events refer to a user or product that the source does not give; it
            gives a value that a column can't hold.
    """
    lock_loading(connection)
    refuse_another_shop(connection, shop)
    shop = without_erased(connection, shop.at(clock(connection)))
    with as_writer(connection):
        return _load(connection, shop, months)


def _load(connection: Connection, shop: Shop, months: Mapping[str, Window]) -> MonthsLoad:
    fingerprint = shop.source.fingerprint()
    make_incoming(connection, "events")
    extract = extract_of(shop, "events")
    within = _Within(extract.batches, list(months.values()))
    load = take(connection, shop, "events", incoming("events"), replace(extract, batches=iter(within)))
    connection.execute("ANALYZE incoming_events")
    lacking = [table for table in ("users", "products") if _lacking(connection, table)]
    for table in lacking:
        _read_parents(connection, shop, table)
    lock_tables(connection)
    parents = {table: _add_parents(connection, table) for table in lacking}
    times = _multirange(connection, list(months.values()))
    difference, ids = exchange_events(connection, times)
    _note(connection, shop, fingerprint, replace(load, kept=difference.kept), ids)
    return MonthsLoad(
        load.rows_read,
        load.left_out,
        load.quarantined,
        within.elsewhere,
        {name: _month(connection, window) for name, window in months.items()},
        difference,
        parents,
        events_that_differ(connection, times),
    )


class _Within:
    """Iterates over the rows of batches that lie in one of some windows; counts the others."""

    def __init__(self, batches: Iterator[pa.RecordBatch], windows: Sequence[Window]) -> None:
        self._batches = batches
        self._windows = windows
        self.elsewhere = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.compute as pc

        for batch in self._batches:
            times = batch.column("timestamp")
            inside = pa.array([False] * len(times), pa.bool_())
            for start, end in self._windows:
                first, last = (pa.scalar(each.astimezone(dt.UTC), times.type) for each in (start, end))
                inside = pc.or_(inside, pc.and_(pc.greater_equal(times, first), pc.less(times, last)))
            chosen = batch.filter(inside)
            self.elsewhere += len(batch) - len(chosen)
            yield chosen


def _lacking(connection: Connection, table: str) -> int:
    """How many users or products the incoming events refer to that are not there."""
    return _count(
        connection,
        sql.SQL(
            "SELECT count(DISTINCT {key}) FROM incoming_events AS new"
            " WHERE NOT EXISTS (SELECT FROM {table} AS old WHERE old.{key} = new.{key})"
        ).format(key=sql.Identifier(KEYS[table]), table=sql.Identifier(table)),
    )


def _read_parents(connection: Connection, shop: Shop, table: str) -> None:
    make_incoming(connection, table)
    extract = extract_of(shop, table)
    copy_batches(connection, incoming(table), COLUMNS[table], extract.batches)
    # The quarantine is left as it is: these rows are not what is loaded.
    refuse_over_threshold(shop, table, extract.rows_read, extract.quarantined, extract.quarantine)


def _add_parents(connection: Connection, table: str) -> int:
    """Add what the source gives and the table lacks; returns how many rows that were."""
    connection.execute(
        sql.SQL("DELETE FROM {incoming} AS new USING {table} AS old WHERE old.{key} = new.{key}").format(
            incoming=incoming(table), table=sql.Identifier(table), key=sql.Identifier(KEYS[table])
        )
    )
    connection.execute(sql.SQL("ANALYZE {}").format(incoming(table)))
    added, _ = put(connection, table)
    still = _lacking(connection, table)
    if still:
        raise DataError(
            f"Events of these months refer to {still:,} {table} that the source does not give and that are not in the "
            f"table {table}: mend the source; nothing was loaded."
        )
    return added


def _note(connection: Connection, shop: Shop, fingerprint: str, load: Load, ids: str) -> None:
    """Note which ids are the source's now, and that the table is no longer of one version where that is so."""
    last_id = highest_id(connection, ids)
    own = _count(connection, sql.SQL("SELECT count(*) FROM events WHERE event_id <@ {}::int8multirange").format(ids))
    same = connection.execute(
        "UPDATE ops.loads SET ids = %s, last_id = %s, kept = greatest(%s - rows_loaded, 0)"
        " WHERE table_name = 'events' AND split_part(fingerprint, ' until ', 1) = %s",
        [ids, last_id, own, fingerprint],
    ).rowcount
    if not same:
        mixed = replace(load, rows_loaded=own - load.kept, last_id=last_id)
        note_load(connection, "events", shop.name, SOME_MONTHS, mixed, ids)
        forget_state(connection, "commerce", SOME_MONTHS)


def _month(connection: Connection, window: Window) -> Month:
    row = connection.execute(
        "SELECT (SELECT count(*) FROM incoming_events WHERE timestamp >= %(start)s AND timestamp < %(end)s),"
        " count(new_id), count(old_id) FROM event_difference WHERE timestamp >= %(start)s AND timestamp < %(end)s",
        window._asdict(),
    ).fetchone()
    return Month(*row) if row else Month(0, 0, 0)


def _multirange(connection: Connection, windows: Sequence[Window]) -> str:
    row = connection.execute(
        "SELECT range_agg(tstzrange(starts, ends))::text FROM unnest(%s::timestamptz[], %s::timestamptz[])"
        " AS windows (starts, ends)",
        [[window.start for window in windows], [window.end for window in windows]],
    ).fetchone()
    return str(row[0]) if row and row[0] else "{}"


def _count(connection: Connection, statement: sql.Composed) -> int:
    row = connection.execute(statement).fetchone()
    return int(row[0]) if row else 0
