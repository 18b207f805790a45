"""Segmenting the search logs: the write-back against a loop of updates, a refresh against a full run, a large log."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from elasticsearch import Elasticsearch

from benchmarks.harness import Row, compare, in_turns, out, peak_gib
from benchmarks.shops import database
from shop_platform.records import find_record, write_record
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.encoder import EncoderResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform.segmentation.encoding import encode_missing
from shop_platform.segmentation.labelling import Labelled, label_documents
from shop_platform.segmentation.logs import ALIAS, load_logs
from shop_platform.segmentation.marks import later, mark_of
from shop_platform.segmentation.publishing import Label
from shop_platform.segmentation.segmenting import WRITTEN, Room, refresh_segments
from shop_platform.segmentation.segments import load_segments
from shop_platform.segmentation.writeback import Labels, write_once, write_segments
from shop_platform.sources.base import Extract, Shop
from shop_platform.sources.parameters import ShopParameters
from shop_platform.sources.synthetic import SyntheticSource

_ENCODER = EncoderResource()


class _Logs(SyntheticSource):
    """The searches of a synthetic shop, and so many distinct queries more."""

    def __init__(self, parameters: ShopParameters, distinct: int = 0) -> None:
        super().__init__(parameters)
        self._distinct = distinct

    def fingerprint(self) -> str:
        return f"{super().fingerprint()} {self._distinct}"

    def searches(self) -> Extract:
        extract = super().searches()
        return replace(extract, batches=self._numbered(extract.batches)) if self._distinct else extract

    def _numbered(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Queries with one of many numbers after them, as sizes and models have: the log gets a long tail."""
        rng = np.random.default_rng(1)
        for batch in batches:
            queries = batch.column("search_query").to_pylist()
            numbers = rng.integers(0, self._distinct, len(queries)).tolist()
            named = [f"{query} {number}" for query, number in zip(queries, numbers, strict=True)]
            place = batch.schema.get_field_index("search_query")
            yield batch.set_column(place, "search_query", pa.array(named, pa.string()))


class Part:
    """The segmentation of one shop, on servers of the benchmark's own."""

    def __init__(self, name: str, source: SyntheticSource) -> None:
        self.postgres: PostgresResource = database(f"bench_segments_{name}")
        self.postgres.migrate()
        self.elasticsearch = ElasticsearchResource(index_prefix=f"bench_{name}_")
        self.prefix = self.elasticsearch.index_prefix
        self.segments = load_segments()
        self._source = source
        with self.elasticsearch.client() as client:
            self._load(client)

    def run(self, client: Elasticsearch) -> Labelled:
        """What the three assets do, with what they store."""
        with self.postgres.connect() as connection:
            before = find_record(connection, "search_embeddings")
            since = later(mark_of(before), mark_of(find_record(connection, WRITTEN)))
            done = encode_missing(
                client, self.prefix, self.segments, _ENCODER, lambda _: None, since=since, before=before
            )
            write_record(connection, "search_embeddings", "run", done.as_record())
        with self.postgres.connect() as connection:
            refresh_segments(Room(client, connection, self.prefix, self.segments, _ENCODER, 42, str(time.time())))
        names = [segment.name for segment in self.segments]
        labelled = label_documents(client, self.postgres.connect, self.prefix, _ENCODER.model_name, names)
        with self.postgres.connect() as connection:
            write_record(connection, WRITTEN, "run", labelled.record)
        if dict(sorted(labelled.found.items())) != labelled.expected or not labelled.passes[-1].settled:
            raise RuntimeError(f"documents do not carry their segments: {labelled.found}, not {labelled.expected}")
        return labelled

    def forget(self, client: Elasticsearch) -> None:
        """As before the first run: the search logs alone."""
        client.indices.delete(index=",".join(client.indices.get(index=f"{self.prefix}*")))
        with self.postgres.connect() as connection:
            connection.execute(
                "DELETE FROM analytics.records; DELETE FROM analytics.user_segments; DELETE FROM ops.segment_models"
            )
        self._load(client)

    def _load(self, client: Elasticsearch) -> None:
        load_logs(client, self.prefix, Shop("bench", "A synthetic shop", "UTC", "EUR", self._source))


def segmentation_rows(*, small: bool) -> list[Row]:
    """All rows."""
    if small:
        return [writeback_row(rounds=1), refresh_row(20_000, rounds=1), large_row(20_000)]
    return [writeback_row(), refresh_row(), large_row()]


def refresh_row(searches: int = 100_000, rounds: int = 5) -> Row:
    """A refresh after 200 new logs against the first run over all, each up to the last document read back."""
    part = Part("refresh", SyntheticSource(ShopParameters(users=5_000, searches=searches)))
    times: dict[str, list[float]] = {"refresh": [], "full run": []}
    rng = np.random.default_rng(3)
    with part.elasticsearch.client() as client:
        users = [f"new-{number}" for number in range(50)]
        part.run(client)
        for _ in range(rounds):
            part.forget(client)
            times["full run"].append(_timed(part, client, all_read=True))
            for _ in range(2):  # the first to warm up: servers and encoder have just done something else
                for _ in range(200):
                    document = {"user_id": users[rng.integers(50)], "search_query": f"yoga mat {rng.integers(10**6)}"}
                    client.index(
                        index=f"{part.prefix}{ALIAS}", document=document | {"timestamp": "2025-06-01T00:00:00Z"}
                    )
                refreshed = _timed(part, client, all_read=False)
            times["refresh"].append(refreshed)
    measure = "segments: a refresh after 200 new logs against the full run"
    return compare(f"{searches:,} logs", measure, times, "refresh", "full run", at_most=0.05)


def _timed(part: Part, client: Elasticsearch, *, all_read: bool) -> float:
    started = time.perf_counter()
    labelled = part.run(client)
    seconds = time.perf_counter() - started
    if labelled.all_read != all_read:
        raise RuntimeError(f"expected {'all' if all_read else 'only the changed'} documents to be read")
    return seconds


def writeback_row(searches: int = 12_000, single: int = 500, rounds: int = 10) -> Row:
    """The segment on every document against a loop of single updates of some, scaled; how with the proof, is told."""
    part = Part("writeback", SyntheticSource(ShopParameters(searches=searches)))
    alias = f"{part.prefix}{ALIAS}"
    turn = [0]
    with part.elasticsearch.client() as client:
        found: list[dict[str, Any]] = client.search(index=alias, size=10_000, source=False)["hits"]["hits"]
        answer = client.search(index=alias, size=0, aggs={"u": {"terms": {"field": "user_id", "size": 10_000}}})
        users = [bucket["key"] for bucket in answer["aggregations"]["u"]["buckets"]]

        def label() -> Label:
            turn[0] += 1
            return Label("bargain_hunter", 0.5, f"turn {turn[0]}")

        def bulk() -> None:
            new = label()
            if write_once(client, alias, lambda: Labels(dict.fromkeys(users, new), new)).updated != searches:
                raise RuntimeError("not every document was written")

        def proven() -> None:
            new = label()
            passes = write_segments(client, alias, lambda: Labels(dict.fromkeys(users, new), new))
            if sum(each.updated for each in passes) != searches or not passes[-1].settled:
                raise RuntimeError("not every document was written and read back")

        def loop() -> None:
            new = label()
            for hit in found[:single]:
                fields = {"segment": new.segment, "segment_confidence": 0.5, "segment_model": new.model}
                client.update(index=alias, id=hit["_id"], doc=fields)

        times = in_turns({"bulk": bulk, "bulk and proof": proven, "single updates": loop}, rounds)
    times["single updates"] = [seconds * searches / single for seconds in times["single updates"]]
    at, measure = f"{searches:,} logs", f"against a loop of single updates (of {single}, scaled)"
    with_proof = compare(at, measure, times, "single updates", "bulk and proof", at_least=20).ratio
    out.print(f"write-back and its proof {measure}: {with_proof:.1f} times")
    return compare(at, f"write-back {measure}", times, "single updates", "bulk", at_least=20)


def large_row(searches: int = 1_000_000) -> Row:
    """One run over a large log, in a process of its own: its highest resident size."""
    done = subprocess.run(  # noqa: S603  our own module
        [sys.executable, "-m", "benchmarks.segmentation", str(searches)], check=True, capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    out.print(f"{found['users']:,} users; loaded in {found['loaded']:.0f} s")
    measure = (
        f"peak memory of the process that segments them by {found['queries']:,} distinct queries,"
        f" in {found['seconds']:.0f} s"
    )
    gib = found["gib"]
    return Row(f"{searches:,} logs", measure, gib, gib, gib, 1, 2.0, at_least=False, unit="GiB")


def _main() -> None:
    """Load and segment a log of so many searches; prints what was found."""
    started = time.perf_counter()
    parameters = ShopParameters(users=50_000, searches=int(sys.argv[1]))
    part = Part("large", _Logs(parameters, distinct=40))
    loaded = time.perf_counter()
    with part.elasticsearch.client() as client:
        part.run(client)
    ended = time.perf_counter()
    with part.postgres.connect() as connection:
        told = find_record(connection, "user_segments") or {}
    print(json.dumps({
        "users": told["users"], "queries": told["queries"], "loaded": loaded - started, "seconds": ended - loaded,
        "gib": peak_gib(),
    }))  # fmt: skip


if __name__ == "__main__":
    _main()
