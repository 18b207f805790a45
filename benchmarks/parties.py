"""Sessions of Spark on workers of their own, one core each: every session in a process, since a process holds only one.

A worker is bound to its core, as a machine with one core would be: else Java would collect garbage, and the encoder
run its threads, on both cores where there is one worker. The processes that ask the workers are bound to none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from pyarrow import parquet as pq

from benchmarks.encoding import distinct_queries
from benchmarks.harness import peak_gib
from shop_platform.engines.lake import Lake
from shop_platform.engines.segmentation import in_tasks
from shop_platform.engines.session import open_session
from shop_platform.engines.summaries import COUNTED
from shop_platform.engines.tables import read_table
from shop_platform.engines.translation import translate_file
from shop_platform.engines.workers import encoder_of
from shop_platform.resources.encoder import EncoderResource
from shop_platform.segmentation.embeddings import SEARCH, Text
from shop_platform_tests.engines.cluster import Cluster

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import SparkSession

#: What each Java may hold, GiB: its heap, and beside it what Spark allows an executor by default.
HEAP, BESIDE = 1, 0.375

#: How many texts are encoded: sixteen tasks of 1,000, which one core takes some 15 s for. Spark ends a Python worker
#: that has waited for a minute, which is longer than another party's turns.
TEXTS = 16_000


class Party:
    """One session and its workers."""

    def __init__(self, process: subprocess.Popen[str], workers: Sequence[subprocess.Popen[bytes]]) -> None:
        self._process = process
        self._workers = workers
        self._heard()

    def ask(self, work: str, *arguments: object) -> str:
        """Have work done; returns where its results are, below the lake.

        Raises:
            RuntimeError: the process has ended; its messages went where this one's go.
        """
        if self._process.stdin is None:
            raise AssertionError("its standard input is a pipe")
        print(json.dumps([work, *arguments]), file=self._process.stdin, flush=True)
        return str(self._heard())

    def peak(self) -> float:
        """GiB: the highest resident sizes of the process, its Java and the executors, added up.

        That is what they would hold if all were at their peaks at once; no moment is missed between samples.
        """
        own = psutil.Process(self._process.pid)
        executors = [each for worker in self._workers for each in psutil.Process(worker.pid).children(recursive=True)]
        every = (own, *own.children(recursive=True), *executors)
        # One that has ended, and was not waited for yet, has no memory any more.
        return sum(peak_gib(each.pid) for each in every if each.status() != psutil.STATUS_ZOMBIE)

    def _heard(self) -> Any:  # noqa: ANN401  whatever JSON holds
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError("a session of Spark has ended; see its messages above")
        return json.loads(line)


@contextmanager
def cluster_in(folder: Path) -> Iterator[Cluster]:
    """A cluster without workers, whose logs go into a folder."""
    cluster = Cluster(folder)
    try:
        yield cluster
    finally:
        cluster.stop()


@contextmanager
def party(cluster: Cluster, workers: int, lake: Lake) -> Iterator[Party]:
    """A session on so many new workers, which end with it.

    Raises:
        RuntimeError: there are fewer cores than workers, or Spark does not start.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < workers:
        raise RuntimeError(f"{workers} workers need as many cores, and this process may use {len(cores)}")
    # All cores of the workers before are taken: the session gets those of its own.
    own = [_on_core(core, cluster.add_worker) for core in cores[:workers]]
    options = {
        "spark.cores.max": workers, "spark.driver.memory": f"{HEAP}g", "spark.executor.memory": f"{HEAP}g",
        "spark.scheduler.minRegisteredResourcesRatio": 1,
    }  # fmt: skip
    told = " ".join(f"--conf {name}={value}" for name, value in options.items())
    environment = os.environ | {"PYSPARK_SUBMIT_ARGS": f"{told} pyspark-shell", "SPARK_LOCAL_IP": "127.0.0.1"}
    try:
        with subprocess.Popen(  # noqa: S603  our own module
            [sys.executable, "-m", "benchmarks.parties", cluster.url, lake.location],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            yield Party(process, own)
    finally:
        for worker in own:
            worker.terminate()
            worker.wait(30)
            cluster.workers.remove(worker)


def _on_core(core: int, start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """A process that runs on one core, with all that it starts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        return start()
    finally:
        os.sched_setaffinity(0, before)


@cache
def texts() -> list[str]:
    """Distinct texts: a synthetic shop's queries, with numbers after them, as sizes and models have."""
    numbered = (f"{query} {number}" for number in count(1) for query in distinct_queries())
    return list(islice(numbered, TEXTS))


def count_events(spark: SparkSession, lake: Lake, months: list[str]) -> str:
    """What the platform has Spark count from the events of these months, into files."""
    manifest = lake.manifest()
    if manifest is None:
        raise RuntimeError("there is no copy of the events")
    read_table(spark, lake, manifest, "events", months)
    place = f"scratch/{uuid.uuid4().hex}"
    for table, columns in COUNTED.items():
        counted = spark.sql(translate_file(f"indexes/{table}")).toDF(*columns)
        counted.write.parquet(lake.url(f"{place}/{table}"))
    return place


def encode_texts(spark: SparkSession, lake: Lake) -> str:
    """Encode the texts as the platform does, but into a file: each with its vector and the process that made it."""
    model = EncoderResource().model_name

    def task(parts: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        import pandas as pd

        for part in parts:
            vectors = [vector.tobytes() for vector in encoder_of(model).encode(part["text"].tolist())]
            yield pd.DataFrame({"text": part["text"], "vector": vectors, "process": os.getpid()})

    frame = in_tasks(spark, [Text(SEARCH, text) for text in texts()])
    found = frame.mapInPandas(task, "text string, vector binary, process bigint").toArrow()
    place = f"scratch/{uuid.uuid4().hex}"
    lake.files.create_dir(lake.path(place), recursive=True)
    pq.write_table(found, lake.path(f"{place}/vectors.parquet"), filesystem=lake.files)
    return place


WORKS: dict[str, Callable[..., str]] = {"count": count_events, "encode": encode_texts}


def _main() -> None:
    """Answer a line of JSON by another until there are no more; what else is printed goes to the standard error."""
    master, location = sys.argv[1:]
    with os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8") as told:
        os.dup2(2, 1)
        spark, lake = open_session(master, "UTC"), Lake(location)
        print("null", file=told)
        for line in sys.stdin:
            work, *arguments = json.loads(line)
            print(json.dumps(WORKS[work](spark, lake, *arguments)), file=told)
        spark.stop()


if __name__ == "__main__":
    _main()
