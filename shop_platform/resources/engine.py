"""What counts events and embeds searches, as a Dagster resource: PostgreSQL and this process, or Apache Spark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from dagster import ConfigurableResource, InitResourceContext
from pydantic import PrivateAttr

from shop_platform.performance import summaries
from shop_platform.performance.summaries import Refresh
from shop_platform.resources.postgres import Connection, PostgresResource
from shop_platform.retention.definition import Definition
from shop_platform.retention.summaries import Refreshed, refresh_retention
from shop_platform.segmentation.encoding import Engine
from shop_platform.segmentation.writeback import WriteOnce
from shop_platform.services.account import private_home
from shop_platform.settings import load_settings
from shop_platform.sources.load import load_shop

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from shop_platform.engines.lake import Lake


class EngineResource(ConfigurableResource[Any]):
    """Does by the engine of the settings what assets ask for. With ENGINE=postgres it imports nothing of Spark."""

    _session: SparkSession | None = PrivateAttr(default=None)

    @property
    def by_spark(self) -> bool:
        """Whether ENGINE is spark."""
        return load_settings().engine == "spark"

    def refresh_summaries(self, postgres: PostgresResource) -> Refresh:
        """Take into the summary tables what has changed."""
        if not self.by_spark:
            return summaries.refresh_summaries(postgres)
        from shop_platform.engines.summaries import refresh_summaries

        estimated = load_settings().active_users == "sketch"
        return refresh_summaries(self.spark(postgres), self.lake(), postgres, estimated=estimated)

    def counting(self, postgres: PostgresResource) -> AbstractContextManager[None]:
        """Surrounds the transaction in which retention is counted."""
        return self._copying(postgres) if self.by_spark else nullcontext()

    def refresh_retention(
        self,
        postgres: PostgresResource,
        connection: Connection,
        definition: Definition,
        *,
        rebuild: bool = False,
        everybody: bool = False,
    ) -> Refreshed:
        """Take into the summaries of retention what has changed, in the caller's transaction, within `counting`."""
        if not self.by_spark:
            return refresh_retention(connection, definition, rebuild=rebuild, everybody=everybody)
        from shop_platform.engines import retention

        return retention.refresh_retention(
            self.spark(postgres), self.lake(), postgres, connection, definition, rebuild=rebuild or everybody
        )

    def encoding(self, postgres: PostgresResource, prefix: str, model: str) -> Engine | None:
        """What reads search logs, encodes texts and stores their embeddings; None for this process."""
        if not self.by_spark:
            return None
        from shop_platform.engines import segmentation

        return segmentation.encoding(self.spark(postgres), self.lake(), postgres, prefix, model)

    def writing(self, postgres: PostgresResource) -> WriteOnce | None:
        """What writes segments onto documents; None for this process."""
        if not self.by_spark:
            return None
        from shop_platform.engines import segmentation

        return segmentation.writing(self.spark(postgres))

    def forget_copy(self, postgres: PostgresResource) -> None:
        """Remove the copy of the shop that Spark reads, also one from a time when the engine was another."""
        with postgres.connect() as connection:
            if connection.execute("SELECT FROM ops.exports").fetchone() is None:
                return
        from shop_platform.engines.export import forget_copy

        forget_copy(postgres)

    def spark(self, postgres: PostgresResource) -> SparkSession:
        """The session of Spark, opened when first needed, in the shop's time zone."""
        if self._session is None:
            from shop_platform.engines.session import open_session, require_safe_master

            settings = load_settings()
            require_safe_master(settings)
            self._session = open_session(settings.spark_master, postgres.time_zone)
        return self._session

    def lake(self) -> Lake:
        """Where the events are copied to."""
        from shop_platform.engines.lake import Lake

        settings = load_settings()
        return Lake(settings.lake or str(private_home(settings) / "shops" / load_shop(settings).name / "lake"))

    def teardown_after_execution(self, context: InitResourceContext) -> None:  # noqa: ARG002  Dagster's signature
        """End the session: its workers serve others."""
        if self._session is not None:
            self._session.stop()
            self._session = None

    @contextmanager
    def _copying(self, postgres: PostgresResource) -> Iterator[None]:
        from shop_platform.engines.export import exclusive, prepare

        with exclusive(postgres):
            prepare(postgres, self.lake())
            yield
