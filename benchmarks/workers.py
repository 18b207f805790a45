"""One worker of Spark against two, and more data against less: time, memory, and the same answers in every turn."""

from __future__ import annotations

import datetime as dt
from functools import cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import dataset
from pyarrow import parquet as pq

from benchmarks.encoding import agreeing
from benchmarks.harness import Row, compare, in_turns
from benchmarks.parties import BESIDE, HEAP, TEXTS, Party, party, texts
from shop_platform.engines.lake import Lake, Manifest
from shop_platform.resources.encoder import EncoderResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform_tests.engines.cluster import Cluster

#: Two workers are at least so many times as fast as one.
FASTER = 1.6

#: Time grows no faster than the data by more than a quarter.
SLACK = 1.25

#: Four times the data need at most so many times the memory.
MEMORY = 1.5

_ONE, _TWO = "one worker", "two workers"

#: Rounds that are not counted: Java compiles what it finds to be executed often.
_WARM_UPS = 2

_WEEKS = """
SELECT date_trunc('week', timestamp), count(DISTINCT user_id), count(*) FROM events
WHERE date_trunc('month', timestamp, 'UTC') = ANY(%s) GROUP BY 1
"""
_SALES = """
SELECT timestamp::date, product_id, count(*) FROM events
WHERE event_type = 'purchased' AND date_trunc('month', timestamp, 'UTC') = ANY(%s) GROUP BY 1, 2
"""

Counted = tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]


class Counting:
    """A shop's months in four parts with about as many events each, and what there is to count in them."""

    def __init__(self, shop: PostgresResource, lake: Lake, manifest: Manifest, at: str) -> None:
        self.lake, self.manifest, self.at = lake, manifest, at
        self._shop = shop
        self._rows = {month: part.rows for month, part in manifest.partitions["events"].items()}
        self._parts: list[list[str]] = [[], [], [], []]
        for month in sorted(self._rows, key=self._rows.__getitem__, reverse=True):
            min(self._parts, key=self._sum).append(month)
        self.expected = cache(self._count)

    def months(self, parts: int) -> list[str]:
        """The months of the first parts."""
        return sorted(month for part in self._parts[:parts] for month in part)

    def times(self, parts: int) -> float:
        """How many times the events of one part so many have."""
        return self._sum(self.months(parts)) / self._sum(self.months(1))

    def turn(self, session: Party, parts: int) -> tuple[int, str]:
        """Have the events of so many parts counted; returns what `check` takes."""
        return parts, session.ask("count", self.months(parts))

    def check(self, parts: int, place: str) -> None:
        """Compare what Spark wrote with what PostgreSQL counts, and remove it.

        Raises:
            RuntimeError: they differ.
        """
        weeks = self._read(f"{place}/weekly_activity", ["week", "events"])
        weeks = weeks.group_by("week").aggregate([("events", "count"), ("events", "sum")])
        weeks = weeks.select(["week", "events_count", "events_sum"])
        sales = self._read(f"{place}/product_sales", ["day", "product_id", "purchases"])
        if (_rows(weeks), _rows(sales)) != self.expected(parts):
            raise RuntimeError(f"Spark counts otherwise than PostgreSQL in {place}")
        self.lake.files.delete_dir(self.lake.path(place))

    def _count(self, parts: int) -> Counted:
        months = [dt.datetime.strptime(f"{month} +0000", "%Y-%m %z") for month in self.months(parts)]
        with self._shop.connect() as connection:
            weeks, sales = (sorted(connection.execute(query, [months]).fetchall()) for query in (_WEEKS, _SALES))
        return weeks, sales

    def _read(self, place: str, columns: list[str]) -> pa.Table:
        found = dataset.dataset(self.lake.path(place), filesystem=self.lake.files, format="parquet")
        return found.to_table(columns=columns)

    def _sum(self, months: list[str]) -> int:
        return sum(self._rows[month] for month in months)


def counting_rows(counting: Counting, cluster: Cluster, rounds: int, *, strong: bool, sizes: bool) -> list[Row]:
    """Counting what the summaries are made of: by one worker and two, of a quarter, a half and all of the events."""
    with party(cluster, 1, counting.lake) as one, party(cluster, 2, counting.lake) as two:
        parties = {
            f"{parts}x on {name}": partial(counting.turn, session, parts)
            for parts in ((1, 2, 4) if sizes else (4,))
            for name, session in ((_ONE, one), (_TWO, two))
        }
        times = in_turns(parties, rounds, lambda _, result: counting.check(*result), _WARM_UPS)
    row = partial(compare, counting.at, times=times)
    rows = []
    if strong:
        measure = "count activity and sales: one worker against two"
        rows.append(row(measure, over=f"4x on {_ONE}", under=f"4x on {_TWO}", at_least=FASTER))
    if sizes:
        for name in (_ONE, _TWO):
            for parts in (2, 4):
                more = counting.times(parts)
                measure, most = f"count {more:.2f} times the events on {name}", round(SLACK * more, 2)
                rows.append(row(measure, over=f"{parts}x on {name}", under=f"1x on {name}", at_most=most))
        more = counting.times(2)
        measure, most = f"count {more:.2f} times the events on two workers against one", round(SLACK * more / 2, 2)
        rows.append(row(measure, over=f"2x on {_TWO}", under=f"1x on {_ONE}", at_most=most))
    return rows


def memory_rows(counting: Counting, cluster: Cluster) -> list[Row]:
    """Peak memory of new sessions that count a quarter of the events, or all.

    The quarter is counted four times as often: Java lets garbage lie while there is room, so what both sessions have
    gone through is as much.
    """
    peaks = {}
    for parts, turns in ((1, 8), (4, 2)):
        with party(cluster, 2, counting.lake) as two:
            for _ in range(turns):
                counting.check(*counting.turn(two, parts))
            peaks[parts] = two.peak()
    ratio, most = peaks[4] / peaks[1], peaks[4]
    measure = (
        f"peak memory to count {counting.times(4):.2f} times the events: {peaks[4]:.2f} GiB against {peaks[1]:.2f} GiB"
    )
    limits = f"peak memory, driver and two executors: {HEAP} GiB of heap each, {1024 * BESIDE:g} MiB beside it"
    return [
        Row(counting.at, measure, ratio, ratio, ratio, 1, MEMORY, at_least=False),
        Row(counting.at, limits, most, most, most, 1, 3 * (HEAP + BESIDE), at_least=False, unit="GiB"),
    ]


def embedding_row(lake: Lake, cluster: Cluster, rounds: int) -> Row:
    """Encoding distinct texts, by one worker and by two; the vectors are those that this process makes."""
    agree = agreeing()
    # Before the workers do: where the model has never been exported, this does it.
    agree("this process", EncoderResource().encode(texts()))
    numbers = {_ONE: 1, _TWO: 2}

    def check(name: str, place: str) -> None:
        found = pq.read_table(lake.path(f"{place}/vectors.parquet"), filesystem=lake.files)
        if len(found["process"].unique()) != numbers[name]:
            raise RuntimeError(f"{name}: {len(found['process'].unique())} processes have encoded")
        vectors = dict(zip(found["text"].to_pylist(), found["vector"].to_pylist(), strict=True))
        agree(name, np.array([np.frombuffer(vectors[text], np.float32) for text in texts()]))
        lake.files.delete_dir(lake.path(place))

    with party(cluster, 1, lake) as one, party(cluster, 2, lake) as two:
        parties = {_ONE: partial(one.ask, "encode"), _TWO: partial(two.ask, "encode")}
        times = in_turns(parties, rounds, check)
    measure = "embed distinct texts: one worker against two"
    return compare(f"{TEXTS:,} texts", measure, times, _ONE, _TWO, at_least=FASTER)


def _rows(table: pa.Table) -> list[tuple[Any, ...]]:
    return sorted(zip(*(column.to_pylist() for column in table.columns), strict=True))
