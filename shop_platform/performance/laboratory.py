"""The laboratory: a copy of the shop's tables in a schema of its own, so that measuring never touches live tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import psycopg
from psycopg import IsolationLevel, sql

from shop_platform.errors import MeasurementError
from shop_platform.performance.indexes import LIVE, index_state
from shop_platform.performance.summaries import ANALYTICS, SUMMARIES, fill_summary
from shop_platform.resources.patience import is_lost
from shop_platform.resources.postgres import BENCHMARK, Connection, PostgresResource, may_take

#: Schemas of the copied tables, and of summaries made from these.
COPY = "lab_copy"
SUMMARISED = "lab_summaries"
COPIES = (COPY, SUMMARISED)

#: Tables that are copied, with their primary keys.
TABLES = {"users": "user_id", "products": "product_id", "events": "event_id"}

#: Columns of `users` that measured queries may read; sql/schema/012_roles.sql grants the same of the live table.
IMPERSONAL = ("user_id", "signup_date", "city", "country")

#: Advisory lock that a measurement, or a build of indexes, holds.
LABORATORY_LOCK = 7_301_010

#: A shop of far more events than this is measured on all events of some users: about this many.
SAMPLE_EVENTS = 5_000_000

_MARK = "Made by shop_platform to measure on; it is dropped and made again."


@dataclass(frozen=True)
class LabIndex:
    """An index that was built on the copy."""

    size_bytes: int
    seconds: float


@contextmanager
def laboratory(postgres: PostgresResource) -> Iterator[None]:
    """Hold the laboratory: nobody else measures, or builds indexes, meanwhile.

    Raises:
        MeasurementError: somebody else holds it.
    """
    with postgres.connect() as holder:
        # A transaction-level lock: it is free at once when this process dies. Tried, not waited for: a waiting
        # statement holds a snapshot, and a concurrent index build of the holder would wait for that in turn. So does
        # an idle transaction whose last statement had parameters: hence a literal.
        holder.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        row = holder.execute(
            sql.SQL("SELECT pg_try_advisory_xact_lock({})").format(sql.Literal(LABORATORY_LOCK))
        ).fetchone()
        if row is None or not row[0]:
            raise MeasurementError(
                "Another run is measuring or building indexes in this database: try again when it has ended."
            )
        yield


def copy_live(postgres: PostgresResource, sample_events: int = SAMPLE_EVENTS) -> int:
    """Copy the shop's tables, as one snapshot shows them, to `lab_copy`, with primary keys and no other index.

    Removes all copies of an earlier run first. Of more than one and a half times `sample_events`, the live events
    of every k-th user by hash are copied, so that users stay whole; users and products are copied completely.

    Returns:
        k; 1 where all was copied.

    Raises:
        MeasurementError: there are no events to measure on, or a schema of the laboratory's name is somebody's own.
    """
    with postgres.connect() as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        for schema in COPIES:
            drop_copy(connection, schema)
        events = _count(connection, LIVE, "events")
        if events == 0:
            raise MeasurementError("There are no events to measure on: materialise products and events first.")
        one_user_in = max(1, round(events / sample_events))
        create_schema(connection, COPY)
        for table in TABLES:
            _copy_table(connection, LIVE, COPY, table, one_user_in if table == "events" else 1)
        _hide_people(connection)
    _settle(postgres, COPY, TABLES)
    return one_user_in


def build_indexes(
    postgres: PostgresResource, statements: Mapping[str, str], unbuilt: dict[str, str] | None = None
) -> dict[str, LabIndex]:
    """Build indexes on the copy, one after the other; gives size and seconds by name.

    Plain builds: nobody else works on the copy, and they wait for no other transaction.

    Args:
        postgres: the shop's database.
        statements: CREATE INDEX by the index's name, with unqualified names.
        unbuilt: where those that can't be built are noted, with the reason; None to let them fail.

    Raises:
        MeasurementError: an index can't be built, or is not valid afterwards.
    """
    built = {}
    with postgres.connect(autocommit=True) as connection:
        set_search_path(connection, COPY)
        for name, statement in statements.items():
            started = perf_counter()
            try:
                connection.execute(statement)
            except psycopg.Error as error:
                if is_lost(error):
                    raise
                if unbuilt is None:
                    raise MeasurementError(f"The index {name} can't be built on the copy: {error}") from error
                unbuilt[name] = str(error)
                continue
            seconds = perf_counter() - started
            state = index_state(connection, COPY, name)
            if state is None or not state.valid:
                raise MeasurementError(f"The index {name} on the copy is not valid: run this again.")
            built[name] = LabIndex(state.size_bytes, seconds)
    _settle(postgres, COPY, TABLES)
    return built


@contextmanager
def hiding_indexes(connection: Connection, names: Iterable[str]) -> Iterator[None]:
    """A transaction in which these indexes of the copy are not there; rolled back at the end, whatever happened in it.

    Args:
        connection: in autocommit.
        names: of indexes that were built on the copy.
    """
    with connection.transaction(force_rollback=True):
        for name in sorted(names):
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(COPY, name)))
        yield


def copy_with_summaries(postgres: PostgresResource) -> dict[str, float]:
    """Fill summary tables in `lab_summaries` from the copy, by the SQL that fills the live ones.

    Returns:
        Seconds by summary table.
    """
    seconds = {}
    with postgres.connect() as connection:
        drop_copy(connection, SUMMARISED)
        create_schema(connection, SUMMARISED)
        for table in SUMMARIES:
            connection.execute(
                sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(
                    sql.Identifier(SUMMARISED, table), sql.Identifier(ANALYTICS, table)
                )
            )
        set_search_path(connection, SUMMARISED, COPY)
        for table in SUMMARIES:
            started = perf_counter()
            fill_summary(connection, table)
            seconds[table] = perf_counter() - started
    _settle(postgres, SUMMARISED, SUMMARIES)
    return seconds


def drop_copies(postgres: PostgresResource) -> None:
    """Remove all copies and what a killed run left of them."""
    with postgres.connect() as connection:
        for schema in COPIES:
            drop_copy(connection, schema)


def drop_copy(connection: Connection, schema: str) -> None:
    """Remove one copy, if it is there.

    Raises:
        MeasurementError: the schema was not made by the laboratory.
    """
    row = connection.execute(
        "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s", [schema]
    ).fetchone()
    if row is None:
        return
    if row[0] != _MARK:
        raise MeasurementError(
            f"The schema {schema} was not made by the platform, which needs the name for its copies: rename it."
        )
    connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


def reuse_copy(postgres: PostgresResource) -> bool:
    """Whether the copy is there, without indexes; settles it, since whoever made it may have died before doing so."""
    with postgres.connect() as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM pg_tables WHERE schemaname = %(copy)s),"
            " (SELECT count(*) FROM pg_indexes WHERE schemaname = %(copy)s)",
            {"copy": COPY},
        ).fetchone()
    if row != (len(TABLES), len(TABLES)):
        return False
    _settle(postgres, COPY, TABLES)
    return True


def set_search_path(connection: Connection, *schemas: str) -> None:
    """Let unqualified names mean tables of these schemas, for the rest of the session."""
    connection.execute(sql.SQL("SET search_path TO {}").format(sql.SQL(", ").join(map(sql.Identifier, schemas))))


def fingerprint_table(connection: Connection, schema: str, table: str) -> tuple[int, str]:
    """Number of rows, and a sum of PostgreSQL's own row hashes: equal rows in any order give the same."""
    row = connection.execute(
        sql.SQL("SELECT count(*), coalesce(sum(hash_record_extended(t, 0)), 0)::text FROM {} AS t").format(
            sql.Identifier(schema, table)
        )
    ).fetchone()
    if row is None:
        raise AssertionError("an aggregate without GROUP BY returns one row")
    return int(row[0]), str(row[1])


def create_schema(connection: Connection, schema: str) -> None:
    """Make a schema of the laboratory's, marked as such."""
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(schema), sql.Literal(_MARK)))
    if may_take(connection, BENCHMARK):
        connection.execute(
            sql.SQL(
                "GRANT USAGE ON SCHEMA {schema} TO {role};"
                "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {role}"
            ).format(schema=sql.Identifier(schema), role=sql.Identifier(BENCHMARK))
        )


def _hide_people(connection: Connection) -> None:
    """Let measured queries read of the copied users only what is no name and no mail address."""
    if may_take(connection, BENCHMARK):
        names = {"table": sql.Identifier(COPY, "users"), "role": sql.Identifier(BENCHMARK)}
        columns = sql.SQL(", ").join(map(sql.Identifier, IMPERSONAL))
        connection.execute(
            sql.SQL("REVOKE SELECT ON {table} FROM {role}; GRANT SELECT ({columns}) ON {table} TO {role}").format(
                **names, columns=columns
            )
        )


def _copy_table(connection: Connection, source: str, target: str, table: str, one_user_in: int) -> None:
    """Copy rows in the order in which they lie: the copy is laid out like the live table."""
    new, old = sql.Identifier(target, table), sql.Identifier(source, table)
    connection.execute("SET LOCAL synchronize_seqscans = off")
    connection.execute(
        sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING CONSTRAINTS INCLUDING STATISTICS INCLUDING STORAGE)").format(
            new, old
        )
    )
    copy = sql.SQL("INSERT INTO {} SELECT * FROM {}").format(new, old)
    if one_user_in > 1:
        copy += sql.SQL(" WHERE mod(hashtextextended(user_id, 0), {}) = 0").format(one_user_in)
    connection.execute(copy)
    connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(new, sql.Identifier(TABLES[table])))


def _settle(postgres: PostgresResource, schema: str, tables: dict[str, str] | tuple[str, ...]) -> None:
    """VACUUM (ANALYZE), so that every copy is measured in the state in which tables mostly are."""
    with postgres.connect(autocommit=True) as connection:
        names = sql.SQL(", ").join(sql.Identifier(schema, table) for table in tables)
        connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(names))


def _count(connection: Connection, schema: str, table: str) -> int:
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))).fetchone()
    return int(row[0]) if row else 0
