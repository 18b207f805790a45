"""Opens and closes the session of Spark by which this process asks."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from shop_platform.engines.java import require_java
from shop_platform.errors import ServiceError, SettingsError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_OPTIONS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # Files are then read as they were written: microseconds, as PostgreSQL keeps them.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # A number that does not fit, or a text that is no number, is an error, as in PostgreSQL.
    "spark.sql.ansi.enabled": "true",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}


def open_session(master: str, time_zone: str) -> SparkSession:
    """The session of this process, in the shop's time zone; made where there is none.

    Settings of your own go into `spark-defaults.conf` of SPARK_CONF_DIR, as for any Spark.

    Raises:
        SettingsError: the extra is not installed.
        ServiceError: there is no Java that Spark can run on, or the master can't be reached.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise SettingsError(
            "ENGINE=spark needs Apache Spark, which is not installed: pip install 'shop-platform[spark]', or unset it."
        ) from error
    builder = SparkSession.builder.appName("shop_platform").config("spark.sql.session.timeZone", time_zone)
    if master.startswith("sc://"):
        builder = builder.remote(master)
    else:
        require_java()
        # The workers of this machine take the Python that this is; on other machines PYSPARK_PYTHON names theirs.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        builder = builder.master(master)
        for name, value in _OPTIONS.items():
            builder = builder.config(name, value)
        if master.startswith("local"):
            for name in ("spark.driver.host", "spark.driver.bindAddress"):
                builder = builder.config(name, "127.0.0.1")
    try:
        session = builder.getOrCreate()
    except (RuntimeError, OSError) as error:
        raise ServiceError(
            f"Spark did not start at SPARK_MASTER={master} ({type(error).__name__}): see its messages above."
        ) from error
    session.conf.set("spark.sql.session.timeZone", time_zone)
    return session
