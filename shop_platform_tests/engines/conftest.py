"""One cluster and one session for all tests of Spark; a lake of its own for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shop_platform.engines.java import require_java
from shop_platform.engines.lake import Lake
from shop_platform.engines.session import open_session
from shop_platform.errors import ServiceError
from shop_platform_tests.engines.cluster import Cluster, end_session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A master and two workers of one core each."""
    try:
        require_java()
    except ServiceError as error:
        pytest.skip(str(error))
    running = Cluster(tmp_path_factory.mktemp("spark"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        try:
            running.add_worker()
            running.add_worker()
            yield running
        finally:
            end_session()
            running.stop()


@pytest.fixture
def spark(cluster: Cluster) -> SparkSession:
    """The session on both workers, opened where no test has done so, or where an asset has ended it."""
    session = open_session(cluster.url, "UTC")
    session.conf.set("spark.sql.shuffle.partitions", "4")
    return session


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty place for the copy."""
    return Lake(str(tmp_path / "lake"))
