"""PostgreSQL as a Dagster resource: where it is, and its schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from dagster import ConfigurableResource, InitResourceContext
from psycopg.rows import TupleRow
from pydantic import PrivateAttr

from shop_platform import sqlfiles
from shop_platform.errors import ServiceError
from shop_platform.processes import note_process
from shop_platform.resources.migrating import migrate
from shop_platform.resources.patience import naming_outages, open_connection
from shop_platform.settings import load_settings

Connection = psycopg.Connection[TupleRow]
Params = dict[str, Any] | Sequence[Any]


class PostgresResource(ConfigurableResource[Any]):
    """Connections to the shop's database.

    The URL comes from `DATABASE_URL`, or from the embedded server, when it is first needed; it is no part of the
    resource's configuration, so that Dagster's UI and event log never hold a password.

    Attributes:
        database: name of the database on the embedded server; `DATABASE_URL` names its own.
        time_zone: IANA name; sessions run in it, so that `DATE_TRUNC` cuts the shop's days, weeks and months.
    """

    database: str = "shop"
    time_zone: str = "UTC"
    _known: bool = PrivateAttr(default=False)

    def url(self) -> str:
        """A libpq URL; starts the embedded server where `DATABASE_URL` is unset."""
        from shop_platform.services import postgres

        return postgres.url(load_settings(), self.database)

    @contextmanager
    def connect(self, *, autocommit: bool = False) -> Iterator[Connection]:
        """A connection in the shop's time zone; commits when the block ends well, rolls back otherwise.

        Raises:
            SettingsError: `DATABASE_URL` is malformed, or leads to another host without verified TLS.
            ServiceError: the server can't be reached, is lost within the block, or ends a statement. The driver's
                message is not shown where the server can't be reached: for a malformed URL it holds the password.
            StorageError: the server has run out of room.
        """
        from shop_platform.services.transport import refusal, safe_conninfo

        settings = load_settings()
        conninfo = safe_conninfo(self.url(), "DATABASE_URL", settings)
        try:
            connection, address = open_connection(conninfo, known=self._known)
            self._known = True
        except psycopg.OperationalError as error:
            raise ServiceError(
                f"PostgreSQL cannot be reached ({refusal(error)}). Check DATABASE_URL, or run "
                "`shop-platform status` if the embedded server is used."
            ) from None
        with naming_outages(), connection:
            connection.prepare(address, settings.silence, self.time_zone, settings.statement_timeout)
            connection.autocommit = autocommit
            yield connection

    def setup_for_execution(self, context: InitResourceContext) -> None:
        """Note, once a run, in which process it is, and make sure that the schema is there."""
        note_process(context.instance, context.run)
        self.migrate()

    def migrate(self) -> None:
        """Bring the database's schema up to this version, whole or not at all; only reads where it already is.

        Raises:
            SchemaError: the database was migrated by a newer version of the platform, an applied migration has changed
                since, or one can't be applied.
        """
        with self.connect() as connection:
            migrate(connection, sqlfiles.list_sql("schema"))
