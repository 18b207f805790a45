"""A standalone cluster of Spark from the package's own jars: a master and workers, on loopback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pyspark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_CLASS = Path(pyspark.__file__).parent / "bin" / "spark-class"


class Cluster:
    """A master, and workers of one core each; ended by their pids."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = os.environ | {
            "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_WORKER_DIR": str(folder / "work"), "PYSPARK_PYTHON": sys.executable,
        }  # fmt: skip
        self._master, told = self._start(
            "deploy.master.Master", "--host", "127.0.0.1", "--port", "0", "--webui-port", "0"
        )
        self.url = _wait(told, r"Starting Spark master at (spark://\S+)")
        self.workers: list[subprocess.Popen[bytes]] = []

    def add_worker(self) -> subprocess.Popen[bytes]:
        """One more worker, registered with the master."""
        worker, told = self._start(
            "deploy.worker.Worker", "--host", "127.0.0.1", "--webui-port", "0",
            "--cores", "1", "--memory", "1g", self.url,
        )  # fmt: skip
        _wait(told, r"(Successfully registered with master)")
        self.workers.append(worker)
        return worker

    @contextmanager
    def connect_server(self) -> Iterator[str]:
        """A server of Spark Connect that has all workers; its URL."""
        options = {
            "spark.connect.grpc.binding.address": "127.0.0.1", "spark.connect.grpc.binding.port": 0,
            "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1", "spark.ui.enabled": "false",
        }  # fmt: skip
        server, told = self._start(
            "deploy.SparkSubmit", "--class", "org.apache.spark.sql.connect.service.SparkConnectServer",
            "--master", self.url, *(f"--conf={name}={value}" for name, value in options.items()), "spark-internal",
            memory="1g",
        )  # fmt: skip
        try:
            yield "sc://" + _wait(told, r"Spark Connect server started at: /?(\S+)")
        finally:
            server.terminate()
            server.wait(30)

    def kill_worker(self, worker: subprocess.Popen[bytes]) -> int:
        """End a worker and the executors under it at once, as a machine that fails does; returns how many processes."""
        family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
        for process in family:
            process.send_signal(signal.SIGKILL)
        worker.wait(30)
        self.workers.remove(worker)
        return len(family)

    def stop(self) -> None:
        """End all of it."""
        for worker in list(self.workers):
            self.kill_worker(worker)
        self._master.kill()
        self._master.wait(30)

    def _start(self, name: str, *arguments: str, memory: str = "256m") -> tuple[subprocess.Popen[bytes], Path]:
        told = self._folder / f"{name}-{time.monotonic_ns()}.log"
        with told.open("wb") as log:
            process = subprocess.Popen(
                [str(_CLASS), f"org.apache.spark.{name}", *arguments],
                env=self._environment | {"SPARK_DAEMON_MEMORY": memory}, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        return process, told


def end_session() -> None:
    """End the classic session of this process, if there is one."""
    from pyspark.sql import SparkSession

    if session := SparkSession.getActiveSession():
        session.stop()


@contextmanager
def killed_in_the_middle(cluster: Cluster, spark: SparkSession, tasks: int) -> Iterator[None]:
    """Kill a worker when some tasks of a stage with so many are done and some are not; another takes its place."""
    over, killed = threading.Event(), list[int]()

    def watch() -> None:
        tracker = spark.sparkContext.statusTracker()
        while not over.wait(0.002):
            for stage in tracker.getActiveStageIds():
                info = tracker.getStageInfo(stage)
                if info is not None and info.numTasks == tasks and 1 <= info.numCompletedTasks < tasks - 1:
                    killed.append(cluster.kill_worker(cluster.workers[-1]))
                    return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(60)
        if killed:
            cluster.add_worker()
    assert killed, "no worker was killed in the middle"
    assert killed[0] >= 2, "the worker had no executor"


def _wait(told: Path, pattern: str) -> str:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if found := re.search(pattern, told.read_text("utf-8", errors="replace")):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(f"Spark did not start:\n{told.read_text('utf-8', errors='replace')[-2_000:]}")
