"""A standalone cluster of Spark from the package's own jars: a master and workers, on loopback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pyspark

_CLASS = Path(pyspark.__file__).parent / "bin" / "spark-class"


class Cluster:
    """A master, and workers of one core each; ended by their pids."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = os.environ | {
            "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m", "SPARK_WORKER_DIR": str(folder / "work"),
        }  # fmt: skip
        self._master, told = self._start("master.Master", "--host", "127.0.0.1", "--port", "0", "--webui-port", "0")
        self.url = _wait(told, r"Starting Spark master at (spark://\S+)")
        self.workers: list[subprocess.Popen[bytes]] = []

    def add_worker(self) -> subprocess.Popen[bytes]:
        """One more worker, registered with the master."""
        worker, told = self._start(
            "worker.Worker", "--host", "127.0.0.1", "--webui-port", "0", "--cores", "1", "--memory", "1g", self.url
        )  # fmt: skip
        _wait(told, r"(Successfully registered with master)")
        self.workers.append(worker)
        return worker

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

    def _start(self, name: str, *arguments: str) -> tuple[subprocess.Popen[bytes], Path]:
        told = self._folder / f"{name}-{time.monotonic_ns()}.log"
        with told.open("wb") as log:
            process = subprocess.Popen(
                [str(_CLASS), f"org.apache.spark.deploy.{name}", *arguments],
                env=self._environment, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        return process, told


def _wait(told: Path, pattern: str) -> str:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if found := re.search(pattern, told.read_text("utf-8", errors="replace")):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(f"Spark did not start:\n{told.read_text('utf-8', errors='replace')[-2_000:]}")
