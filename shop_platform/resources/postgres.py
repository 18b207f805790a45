"""PostgreSQL as a Dagster resource: where it is, and its schema."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, get_args

import psycopg
from dagster import ConfigurableResource, InitResourceContext
from psycopg import sql
from psycopg.rows import TupleRow
from pydantic import PrivateAttr

from shop_platform import sqlfiles
from shop_platform.errors import ServiceError
from shop_platform.processes import note_process
from shop_platform.resources.migrating import MIGRATE_LOCK, migrate
from shop_platform.resources.patience import naming_outages, open_connection
from shop_platform.settings import load_settings

_log = logging.getLogger(__name__)

Connection = psycopg.Connection[TupleRow]
Params = dict[str, Any] | Sequence[Any]

#: What a connection may do; see sql/schema/013_roles_of_loads.sql. Without one it may do what whoever logs in may.
Role = Literal["shop_platform_writer", "shop_platform_benchmark", "shop_platform_reader"]
WRITER: Role = "shop_platform_writer"
BENCHMARK: Role = "shop_platform_benchmark"
READER: Role = "shop_platform_reader"


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
    def connect(self, *, autocommit: bool = False, role: Role | None = None) -> Iterator[Connection]:
        """A connection in the shop's time zone; commits when the block ends well, rolls back otherwise.

        Args:
            autocommit: commit each statement by itself.
            role: what it may do at most; as whoever logs in where that one can't take the role, with a warning.

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
            if role is not None and may_take(connection, role):
                connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
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
            applied = migrate(connection, sqlfiles.list_sql("schema"))
            # Also where nothing was applied: the rights may have come since, or the database from another cluster.
            if applied or not all(_granted(connection, role) for role in get_args(Role)):
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [MIGRATE_LOCK])
                connection.execute("SELECT ops.grant_roles()")


@contextmanager
def as_role(connection: Connection, role: Role | None) -> Iterator[None]:
    """Within it, the caller's transaction goes on as a role, and afterwards as what it was.

    If the block fails, the transaction has to be rolled back, at least to a savepoint from before.

    Args:
        connection: in a transaction.
        role: what may be done at most; where it can't be taken, nothing changes, with a warning. None for whoever logs
            in, whose are the schema and the record of who was erased.
    """
    if role is not None and not may_take(connection, role):
        yield
        return
    before = connection.execute("SELECT current_setting('role')").fetchone()
    connection.execute("SELECT set_config('role', %s, true)", [role or "none"])
    yield
    connection.execute("SELECT set_config('role', %s, true)", before)


def clock(connection: Connection) -> dt.datetime:
    """What time it is, by PostgreSQL's clock: one for all machines that load."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    if row is None:
        raise AssertionError("a SELECT without FROM gives a row")
    now: dt.datetime = row[0]
    return now.astimezone(dt.UTC)


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
