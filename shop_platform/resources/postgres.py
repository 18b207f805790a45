"""PostgreSQL as a Dagster resource: where it is, and its schema."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, get_args

import psycopg
from dagster import ConfigurableResource, InitResourceContext
from psycopg import sql
from psycopg.rows import TupleRow

from shop_platform import sqlfiles
from shop_platform.errors import DataError, ServiceError
from shop_platform.settings import load_settings

_log = logging.getLogger(__name__)

Connection = psycopg.Connection[TupleRow]
Params = dict[str, Any] | Sequence[Any]

#: What a connection may do; see sql/schema/012_roles.sql. Without one it may do what whoever logs in may.
Role = Literal["shop_platform_writer", "shop_platform_benchmark", "shop_platform_reader"]
WRITER: Role = "shop_platform_writer"
BENCHMARK: Role = "shop_platform_benchmark"
READER: Role = "shop_platform_reader"

#: Transaction-level advisory lock keys; one writer a name at a time.
MIGRATE_LOCK = 7_301_001


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

    def url(self) -> str:
        """A libpq URL; starts the embedded server where `DATABASE_URL` is unset."""
        from shop_platform.services import postgres

        return postgres.url(load_settings(), self.database)

    @contextmanager
    def connect(self, *, autocommit: bool = False, role: Role | None = None) -> Iterator[Connection]:
        """A connection in the shop's time zone; commits when the block ends well, rolls back otherwise.

        Args:
            autocommit: commit each statement by itself.
            role: what it may do at most; as whoever logs in where that one can't take the role, with a warning.

        Raises:
            SettingsError: `DATABASE_URL` is malformed, or leads to another host without verified TLS.
            ServiceError: the server can't be reached. The driver's message is not shown, since for a malformed
                URL it holds the password.
        """
        from shop_platform.services.transport import refusal, safe_conninfo

        conninfo = safe_conninfo(self.url(), "DATABASE_URL", load_settings())
        try:
            connection = psycopg.connect(
                conninfo, autocommit=True, connect_timeout=10, application_name="shop_platform"
            )
        except psycopg.OperationalError as error:
            raise ServiceError(
                f"PostgreSQL cannot be reached ({refusal(error)}). Check DATABASE_URL, or run "
                "`shop-platform status` if the embedded server is used."
            ) from None
        with connection:
            connection.execute("SELECT set_config('TimeZone', %s, false)", [self.time_zone])
            if role is not None and may_take(connection, role):
                connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            connection.autocommit = autocommit
            yield connection

    def setup_for_execution(self, context: InitResourceContext) -> None:  # noqa: ARG002  Dagster's signature
        """Make sure, once a run, that the schema is there."""
        self.migrate()

    def migrate(self) -> None:
        """Bring the database's schema up to this version; does nothing when it already is.

        Raises:
            DataError: the database was migrated by a newer version of the platform.
        """
        files = sqlfiles.list_sql("schema")
        with self.connect() as connection:
            connection.execute("SET LOCAL lock_timeout = '60s'")
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [MIGRATE_LOCK])
            connection.execute("CREATE SCHEMA IF NOT EXISTS ops")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS ops.migrations"
                " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            applied = {row[0] for row in connection.execute("SELECT name FROM ops.migrations")}
            unknown = sorted(applied - {file.name for file in files})
            if unknown:
                raise DataError(
                    f"The database holds migrations that this version does not know: {', '.join(unknown)}. "
                    "It was used by a newer shop_platform; upgrade this one."
                )
            for file in files:
                if file.name not in applied:
                    connection.execute(file.text)
                    connection.execute("INSERT INTO ops.migrations (name) VALUES (%s)", [file.name])
            # Also where nothing was applied: the rights may have come since, or the database from another cluster.
            if applied != {file.name for file in files} or not all(
                _granted(connection, role) for role in get_args(Role)
            ):
                connection.execute("SELECT ops.grant_roles()")


def may_take(connection: Connection, role: Role) -> bool:
    """Whether a connection may take a role that has its rights in this database; where not, warns once of each."""
    if _granted(connection, role):
        return True
    _warn(role)
    return False


def _granted(connection: Connection, role: Role) -> bool:
    # What `ops.may_take` asks, without it: an older schema has no such function.
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_roles JOIN pg_namespace ON nspname = 'analytics' WHERE rolname = %s"
        " AND pg_has_role(session_user, pg_roles.oid,"
        " CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END)"
        " AND has_schema_privilege(pg_roles.oid, pg_namespace.oid, 'USAGE'))",
        [role],
    ).fetchone()
    return row is not None and bool(row[0])


@cache
def _warn(role: Role) -> None:
    _log.warning(
        "PostgreSQL does not let us take the role %s, so that work is done with all rights of whoever logs in. Have an "
        "administrator run CREATE ROLE %s NOLOGIN; GRANT %s TO the user of DATABASE_URL; the next run grants the rest.",
        role,
        role,
        role,
    )
