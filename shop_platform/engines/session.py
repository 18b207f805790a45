"""Opens and closes the session of Spark by which this process asks."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shop_platform.engines.java import require_java
from shop_platform.errors import ServiceError, SettingsError, UnsafeConnectionError
from shop_platform.hosts import OR_ALLOW, is_this_machine
from shop_platform.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: An error of the platform's in the traceback that Spark brings back from a worker.
_OURS = re.compile(r"^shop_platform\.errors\.\w+: (.*)$", re.MULTILINE)

#: How a master begins that is a server of Spark Connect, and the port that such a server has where none is named.
_CONNECT, _CONNECT_PORT = "sc://", 15_002

_OPTIONS = {
    # Files are then read as they were written: microseconds, as PostgreSQL keeps them.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # A number that does not fit, or a text that is no number, is an error, as in PostgreSQL.
    "spark.sql.ansi.enabled": "true",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}

#: Of a driver, which is this process unless it asks a server.
_DRIVER = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}

#: Nobody else reaches the driver where its workers are on this machine.
_LOOPBACK = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}


def require_safe_master(settings: Settings) -> None:
    """Refuse a cluster on other hosts: what is sent there can be read on its way, and holds who may write documents.

    Raises:
        UnsafeConnectionError: SPARK_MASTER leads to another host, and no setting allows it.
    """
    if not (settings.allow_unencrypted or _stays_here(settings.spark_master)):
        raise UnsafeConnectionError(
            "SPARK_MASTER leads to another host, and Spark encrypts nothing unless its own settings say so: turn on "
            f"spark.authenticate and spark.network.crypto.enabled in spark-defaults.conf, then, {OR_ALLOW}."
        )


def _stays_here(master: str) -> bool:
    if master.startswith(_CONNECT):
        return is_this_machine(urlsplit(master).hostname or "")
    hosts = master.removeprefix("spark://").split(",")
    return master.startswith("local") or all(is_this_machine(host.rpartition(":")[0]) for host in hosts)


def open_session(master: str, time_zone: str) -> SparkSession:
    """The session of this process, in the shop's time zone; made where there is none.

    Settings of your own go into `spark-defaults.conf` of SPARK_CONF_DIR, as for any Spark; those of Spark Connect into
    its server's.

    Raises:
        SettingsError: the extra is not installed.
        ServiceError: there is no Java that Spark can run on, or the master can't be reached.
    """
    try:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession

        builder, options = SparkSession.builder, _OPTIONS | {"spark.sql.session.timeZone": time_zone}
        if master.startswith(_CONNECT):
            _require_server(master)
            builder = builder.remote(master)
        else:
            require_java()
            # The workers of this machine take the Python that this is; on other machines PYSPARK_PYTHON names theirs.
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
            builder = builder.appName("shop_platform").master(master)
            options |= _DRIVER | (_LOOPBACK if _stays_here(master) else {})
        for name, value in options.items():
            builder = builder.config(name, value)
        session = builder.getOrCreate()
    except ImportError as error:
        raise SettingsError(
            "ENGINE=spark needs Apache Spark, which is not installed: pip install 'shop-platform[spark]', or unset it."
        ) from error
    except (RuntimeError, OSError, Py4JError, PySparkException) as error:
        raise ServiceError(
            f"Spark did not start at SPARK_MASTER={master} ({type(error).__name__}): see its messages above."
        ) from error
    session.conf.set("spark.sql.session.timeZone", time_zone)
    return session


def _require_server(master: str) -> None:
    """Ask whether somebody listens: Spark's own client would try for ten minutes before it says so.

    Raises:
        ServiceError: nobody answers.
    """
    address = urlsplit(master)
    try:
        socket.create_connection((address.hostname, address.port or _CONNECT_PORT), timeout=10).close()
    except OSError as error:
        raise ServiceError(
            f"No server of Spark Connect answers at SPARK_MASTER={master} ({error}): start one, or name another."
        ) from error


@contextmanager
def naming_failures() -> Iterator[None]:
    """Say in a sentence that Spark has given up, and why where a worker ended with an error of ours.

    Raises:
        ServiceError: a job failed, as often as Spark repeats its tasks, or the cluster is gone.
    """
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (Py4JError, PySparkException) as error:
        told = _OURS.search(str(error))
        raise ServiceError(
            f"Spark gave up a job ({told[1] if told else type(error).__name__}). Its own log says more. What was "
            "published stays; run it again once the cause is gone."
        ) from error
