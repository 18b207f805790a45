"""What is odd about data that can be loaded: worth a look before one believes what they say."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from shop_platform.sources.expressions import query_of
from shop_platform.sources.mapping import Mapping

if TYPE_CHECKING:
    import duckdb

#: About what, in which sentence, and what to do.
Oddity = tuple[str, str, str | None]

#: Share of all events from which one user is a robot, or many people under one account.
_ROBOT = 0.2

#: How a text ends that says in which zone its time is.
_WITH_ZONE = r":\d\d(\.\d+)? ?(Z|[+-]\d\d(:?\d\d)?)$"

#: Days without any event, and days since the last one, that are worth a word.
_SILENCE, _OLD = 7, 90


def find(connection: duckdb.DuckDBPyConnection, mapping: Mapping, moment: dt.datetime) -> Iterator[Oddity]:
    """What is odd about the usable rows in `shop.users`, `shop.products` and `shop.events`.

    Args:
        connection: with these tables.
        mapping: that made them.
        moment: of reading.
    """
    yield from _about_zones(connection, mapping)
    yield from _about_times(connection, moment)
    yield from _about_users(connection)
    yield from _about_products(connection)


def _about_zones(connection: duckdb.DuckDBPyConnection, mapping: Mapping) -> Iterator[Oddity]:
    if mapping.shop.naive_times is not None or "time_zone" in mapping.shop.model_fields_set:
        return
    expression = mapping.events.columns.timestamp
    with_zone = f"regexp_matches(CAST({expression} AS VARCHAR), '{_WITH_ZONE}')"
    row = connection.execute(
        f"SELECT count(*), count(*) FILTER (WHERE typeof({expression}) IN ('TIMESTAMP', 'DATE')"  # noqa: S608  the mapping's
        f" OR typeof({expression}) = 'VARCHAR' AND NOT {with_zone})"
        f" FROM (SELECT * FROM ({query_of(mapping.events.source)}) LIMIT 10000) WHERE ({expression}) IS NOT NULL"
    ).fetchone()
    if row and row[0] and row[1] > row[0] / 2:
        text = "The times of events carry no time zone, and none is set: they are read as UTC."
        yield "[shop]", text, 'time_zone = "Europe/Paris"  # the shop\'s own, in [shop]'


def _about_times(connection: duckdb.DuckDBPyConnection, moment: dt.datetime) -> Iterator[Oddity]:
    events = "(SELECT timestamp AS happened FROM shop.events WHERE reason IS NULL)"
    row = _row(
        connection,
        f"SELECT count(*), max(happened), avg((happened = date_trunc('day', happened))::INTEGER) FROM {events}",  # noqa: S608
    )
    if not row[0]:
        return
    if row[2] > 0.9:
        yield "events", "Nearly all events happened at midnight: the source seems to keep the day alone.", None
    days = (moment - row[1]).days
    if days > _OLD:
        yield "events", f"The latest event is of {row[1]:%Y-%m-%d}, {days:,} days ago.", None
    gap = connection.execute(
        "SELECT before, happened, date_diff('day', before, happened) AS days FROM (SELECT happened, lag(happened) OVER"  # noqa: S608
        f" (ORDER BY happened) AS before FROM {events}) ORDER BY days DESC NULLS LAST LIMIT 1"
    ).fetchone()
    if gap and gap[2] is not None and gap[2] > _SILENCE:
        text = f"From {gap[0]:%Y-%m-%d} to {gap[1]:%Y-%m-%d}, for {gap[2]} days, there is no event at all."
        yield "events", text, "Is a file missing? Retention takes such a time for not recorded."


def _about_users(connection: duckdb.DuckDBPyConnection) -> Iterator[Oddity]:
    users, idle = _row(
        connection,
        "SELECT count(*), count(*) FILTER (WHERE user_id NOT IN (SELECT user_id FROM shop.events WHERE reason IS NULL))"
        " FROM shop.users WHERE reason IS NULL",
    )
    if users and idle > users / 2:
        text = f"{idle:,} of {users:,} users have no event."
        yield "users", text, "Do [users] and [events] mean the same by user_id?"
    row = connection.execute(
        "SELECT user_id, count(*), sum(count(*)) OVER () FROM shop.events WHERE reason IS NULL"
        " GROUP BY user_id ORDER BY 2 DESC LIMIT 1"
    ).fetchone()
    if row and row[2] >= 100 and row[1] > _ROBOT * row[2]:
        text = f"One user, {row[0]!r}, has {row[1]:,} of {row[2]:,} events: a robot, or an account for guests?"
        yield "events", text, f'leave_out = [{{ reason = "guests", where = "... = \'{row[0]}\'" }}] in [events]'


def _about_products(connection: duckdb.DuckDBPyConnection) -> Iterator[Oddity]:
    products, free, categories = _row(
        connection,
        "SELECT count(*), count(*) FILTER (WHERE price = 0), count(DISTINCT category) FROM shop.products"
        " WHERE reason IS NULL",
    )
    if products and free == products:
        yield "products", "Every product is free: revenue will be 0.", "Where is the price kept?"
    if products > 1 and categories == 1:
        yield "products", "All products are of one category: revenue by category will be one row.", None
    if categories > 200:
        yield "products", f"There are {categories:,} categories: is category a product's name?", None


def _row(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    if row is None:
        raise AssertionError("an aggregate without GROUP BY returns one row")
    return tuple(row)
