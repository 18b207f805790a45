"""The laboratory: copies of the shop's tables in schemas of their own, so that measuring never touches live tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from psycopg import IsolationLevel, sql

from shop_platform.errors import MeasurementError
from shop_platform.performance.indexes import LIVE, IndexFile, index_state
from shop_platform.performance.summaries import ANALYTICS, SUMMARIES, fill_summary
from shop_platform.resources.postgres import Connection, PostgresResource

BASELINE = "lab_baseline"
INDEXED = "lab_indexed"
SUMMARISED = "lab_summaries"
COPIES = (BASELINE, INDEXED, SUMMARISED)

#: Tables that the dashboard's queries read, with their primary keys.
TABLES = {"products": "product_id", "events": "event_id"}

#: Advisory lock that a measurement, or a build of indexes, holds.
LABORATORY_LOCK = 7_301_010

#: A shop of more events than this is measured on all events of some users: about this many.
SAMPLE_EVENTS = 5_000_000

_MARK = "Made by shop_platform to measure on; it is dropped and made again."


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
    """Copy products and events, as one snapshot shows them, to `lab_baseline`, with primary keys and no other index.

    Removes all copies of an earlier run first. A shop of more than `sample_events` events is copied in part: the
    events of every k-th user by hash, so that users stay whole; products are copied completely.

    Returns:
        k; 1 where all was copied.

    Raises:
        MeasurementError: there are no events to measure on, or a schema of the laboratory's name is somebody's own.
    """
    with postgres.connect() as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        for schema in COPIES:
            drop_copy(connection, schema)
        one_user_in = -(-_count(connection, LIVE, "events") // sample_events)
        if one_user_in == 0:
            raise MeasurementError("There are no events to measure on: materialise products and events first.")
        _create_schema(connection, BASELINE)
        for table in TABLES:
            _copy_table(connection, LIVE, BASELINE, table, one_user_in if table == "events" else 1)
    _settle(postgres, BASELINE, TABLES)
    return one_user_in


def copy_with_indexes(postgres: PostgresResource, files: list[IndexFile]) -> dict[str, float]:
    """Copy `lab_baseline` to `lab_indexed` and build the indexes there; returns seconds by index.

    Plain builds: nobody else works on the copy, and they wait for no other transaction.
    """
    with postgres.connect() as connection:
        drop_copy(connection, INDEXED)
        _create_schema(connection, INDEXED)
        for table in TABLES:
            _copy_table(connection, BASELINE, INDEXED, table, 1)
    _settle(postgres, INDEXED, TABLES)
    seconds = {}
    with postgres.connect(autocommit=True) as connection:
        set_search_path(connection, INDEXED)
        for file in files:
            started = perf_counter()
            connection.execute(file.statement)
            seconds[file.name] = perf_counter() - started
            state = index_state(connection, INDEXED, file.name)
            if state is None or not state.valid:
                raise MeasurementError(f"The index {file.name} on the copy {INDEXED} is not valid: run this again.")
    return seconds


def copy_with_summaries(postgres: PostgresResource) -> dict[str, float]:
    """Fill summary tables in `lab_summaries` from `lab_baseline`, by the SQL that fills the live ones.

    Returns:
        Seconds by summary table.
    """
    seconds = {}
    with postgres.connect() as connection:
        drop_copy(connection, SUMMARISED)
        _create_schema(connection, SUMMARISED)
        for table in SUMMARIES:
            connection.execute(
                sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(
                    sql.Identifier(SUMMARISED, table), sql.Identifier(ANALYTICS, table)
                )
            )
        set_search_path(connection, SUMMARISED, BASELINE)
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


def reuse_baseline(postgres: PostgresResource) -> bool:
    """Whether the copy `lab_baseline` is there; settles it, since whoever made it may have died before doing so."""
    with postgres.connect() as connection:
        row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = %s", [BASELINE]).fetchone()
    if row is None or row[0] != len(TABLES):
        return False
    _settle(postgres, BASELINE, TABLES)
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


def _create_schema(connection: Connection, schema: str) -> None:
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(schema), sql.Literal(_MARK)))


def _copy_table(connection: Connection, source: str, target: str, table: str, one_user_in: int) -> None:
    """Copy rows in the order in which they lie, so that both copies are laid out alike."""
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
