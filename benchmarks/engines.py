"""Other engines over the same rows in memory: drawn anew from the synthetic source, answered in their own best way.

DuckDB holds the tables as PostgreSQL does, ids as texts. Polars and pandas hold ids as small integers and prices as
cents, since that is how they are fastest; their weeks are cut by integer arithmetic, in UTC like the shop's.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlglot

from benchmarks.shops import settings_of
from shop_platform.performance.queries import dashboard_queries
from shop_platform.sources.synthetic import EVENT_TYPES, synthetic_shop

if TYPE_CHECKING:
    from numpy.typing import NDArray

Answer = list[tuple[str, str]]

#: Microseconds of a week, and of the Monday before 1970.
_WEEK, _MONDAY = 7 * 86_400_000_000, -3 * 86_400_000_000


class Engine(Protocol):
    """Rows in memory, and the two answers from them."""

    def answer(self, query: str) -> Answer:
        """The answer to a dashboard query, as texts."""


class DuckDB:
    """Tables in memory, all threads; the query's own text, translated by sqlglot."""

    def __init__(self, size: str) -> None:
        source = synthetic_shop(settings_of(size)).source
        self.connection = duckdb.connect()
        # Moments as TIMESTAMP in UTC: DuckDB cuts those faster than ones with a zone.
        self.connection.execute(
            "CREATE TABLE events (event_id BIGINT, user_id VARCHAR, product_id VARCHAR, event_type VARCHAR,"
            " timestamp TIMESTAMP)"
        )
        for batch in source.events().batches:
            self.connection.register("batch", _without_zone(batch))
            self.connection.execute("INSERT INTO events SELECT * FROM batch")
            self.connection.unregister("batch")
        products = pa.Table.from_batches(source.products().batches)
        self.connection.register("given", products)
        self.connection.execute("CREATE TABLE products AS SELECT * FROM given")
        self.texts = {
            query.name: sqlglot.transpile(query.text, read="postgres", write="duckdb")[0]
            for query in dashboard_queries()
        }

    def answer(self, query: str) -> Answer:
        """By SQL."""
        return plain(self.connection.execute(self.texts[query]).fetchall())


class Polars:
    """A data frame of integers, by group_by and join."""

    def __init__(self, size: str) -> None:
        import polars as pl

        columns = _columns(size)
        self.pl = pl
        self.events = pl.DataFrame({name: columns[name] for name in ("user", "product", "kind", "time")})
        self.products = pl.DataFrame({"product": np.arange(len(columns["cents"]), dtype=np.int32), **_priced(columns)})

    def answer(self, query: str) -> Answer:
        """By expressions."""
        pl = self.pl
        if query == "weekly_active_users":
            weeks = (
                self.events.lazy()
                .group_by(((pl.col("time") - _MONDAY) // _WEEK).alias("week"))
                .agg(pl.col("user").n_unique())
                .sort("week")
                .collect()
            )
            return [(_week(week), str(users)) for week, users in weeks.iter_rows()]
        found = (
            self.events.lazy()
            .filter(pl.col("kind") == EVENT_TYPES.index("purchased"))
            .join(self.products.lazy(), on="product")
            .group_by("category")
            .agg(pl.col("cents").sum())
            .collect()
        )
        return _by_revenue(dict(found.iter_rows()))


class Pandas:
    """A data frame of integers, by drop_duplicates, value_counts and merge."""

    def __init__(self, size: str) -> None:
        import pandas as pd

        columns = _columns(size)
        self.pd = pd
        self.events = pd.DataFrame({name: columns[name] for name in ("user", "product", "kind", "time")})
        self.products = pd.DataFrame({"product": np.arange(len(columns["cents"]), dtype=np.int32), **_priced(columns)})

    def answer(self, query: str) -> Answer:
        """By frames."""
        if query == "weekly_active_users":
            weeks = ((self.events["time"] - _MONDAY) // _WEEK).astype(np.int32)
            pairs = self.pd.DataFrame({"week": weeks, "user": self.events["user"]}).drop_duplicates()
            counted = pairs["week"].value_counts(sort=False).sort_index()
            return [
                (_week(week), str(users)) for week, users in zip(counted.index.tolist(), counted.tolist(), strict=True)
            ]
        sold = self.events.loc[self.events["kind"] == EVENT_TYPES.index("purchased"), "product"]
        counts = sold.value_counts(sort=False).rename("sold").reset_index()
        merged = counts.merge(self.products, on="product")
        totals = (merged["sold"] * merged["cents"]).groupby(merged["category"]).sum()
        return _by_revenue({str(category): int(cents) for category, cents in totals.items()})


ENGINES: dict[str, Callable[[str], Engine]] = {"DuckDB": DuckDB, "Polars": Polars, "pandas": Pandas}


def plain(rows: Sequence[tuple[Any, Any]]) -> Answer:
    """Rows as texts, moments as their dates: what every engine can give exactly."""
    return [(f"{key:%Y-%m-%d}" if isinstance(key, dt.datetime) else str(key), str(value)) for key, value in rows]


def _without_zone(batch: pa.RecordBatch) -> pa.Table:
    place = batch.schema.get_field_index("timestamp")
    naive = batch.column(place).cast(pa.timestamp("us"))
    return pa.Table.from_batches([batch.set_column(place, "timestamp", naive)])


def _columns(size: str) -> dict[str, NDArray[Any]]:
    """The events as columns of small integers, and the products' categories and prices in cents."""
    source = synthetic_shop(settings_of(size)).source
    products = pa.Table.from_batches(source.products().batches)
    events = source.events()
    made: dict[str, NDArray[Any]] = {
        "user": np.empty(events.rows_read, np.int32),
        "product": np.empty(events.rows_read, np.int32),
        "kind": np.empty(events.rows_read, np.int8),
        "time": np.empty(events.rows_read, np.int64),
    }
    for part, batch in _parts(events.batches):
        made["user"][part] = _number(batch.column("user_id"))
        made["product"][part] = _number(batch.column("product_id"))
        made["kind"][part] = pc.index_in(batch.column("event_type"), pa.array(EVENT_TYPES)).to_numpy()
        made["time"][part] = batch.column("timestamp").cast(pa.int64()).to_numpy()
    cents = [int(price * 100) for price in products.column("price").to_pylist()]
    return made | {"cents": np.array(cents, np.int64), "category": np.array(products.column("category").to_pylist())}


def _parts(batches: Any) -> Iterator[tuple[slice, pa.RecordBatch]]:  # noqa: ANN401  an iterable of batches
    first = 0
    for batch in batches:
        yield slice(first, first + batch.num_rows), batch
        first += batch.num_rows


def _number(ids: pa.Array) -> NDArray[np.int32]:
    """Ids such as u0042 as numbers from 0."""
    numbers: NDArray[np.int32] = pc.utf8_slice_codeunits(ids, 1).cast(pa.int32()).to_numpy() - 1
    return numbers


def _priced(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {"category": columns["category"], "cents": columns["cents"]}


def _week(number: int) -> str:
    return str(np.datetime64(number * _WEEK + _MONDAY, "us"))[:10]


def _by_revenue(cents: dict[str, int]) -> Answer:
    ordered = sorted(cents.items(), key=lambda pair: (-pair[1], pair[0]))
    return [(category, str(Decimal(total) / 100 + Decimal("0.00"))) for category, total in ordered]
