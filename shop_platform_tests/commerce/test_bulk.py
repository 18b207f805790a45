"""The first load's short cut: taken where nobody can notice, and nothing of it is left behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from shop_platform.commerce import bulk
from shop_platform.commerce.bulk import bulk_loading
from shop_platform.commerce.loading import TABLES, load_shop_tables, rows_in_table
from shop_platform.errors import DataError
from shop_platform.resources.postgres import Connection, PostgresResource
from shop_platform.sources.base import EVENT_COLUMNS, PRODUCT_COLUMNS, USER_COLUMNS, Extract, Shop
from shop_platform.sources.parameters import ShopParameters
from shop_platform.sources.synthetic import SyntheticSource

SMALL = ShopParameters(users=300, products=7, events=9_000, searches=5)

_SCHEMA_QUERIES = (
    """SELECT conname, contype, pg_get_constraintdef(oid), convalidated, conenforced, condeferrable, conislocal
    FROM pg_constraint WHERE conrelid IN ('users'::regclass, 'products'::regclass, 'events'::regclass) ORDER BY 1""",
    """SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid), indisvalid, indisready, indisunique,
        indisprimary, indisreplident, indisclustered
    FROM pg_index WHERE indrelid = 'events'::regclass ORDER BY 1""",
    "SELECT attname, attnum, attnotnull, attidentity FROM pg_attribute WHERE attrelid = 'events'::regclass ORDER BY 2",
    """SELECT CASE WHEN tgisinternal THEN '' ELSE tgname END, tgenabled, tgtype, count(*) FROM pg_trigger
    WHERE tgrelid IN ('users'::regclass, 'products'::regclass, 'events'::regclass) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3""",
)


_WAITING = "SELECT 1 FROM pg_locks WHERE pid = %s AND NOT granted"


@dataclass(frozen=True)
class Broken(SyntheticSource):
    """A synthetic shop with one event that is wrong."""

    column: str = "event_id"
    value: Any = None

    def events(self) -> Extract:
        def batches() -> Iterator[pa.RecordBatch]:
            for batch in SyntheticSource(self.parameters).events().batches:
                rows = batch.to_pylist()
                rows[-1][self.column] = self.value
                yield pa.RecordBatch.from_pylist(rows, schema=batch.schema)

        return Extract(batches(), self.parameters.events)


@dataclass(frozen=True)
class Interrupted(SyntheticSource):
    """A synthetic shop whose events do something before their end."""

    meanwhile: Any = None

    def events(self) -> Extract:
        def batches() -> Iterator[pa.RecordBatch]:
            yield from SyntheticSource(self.parameters).events().batches
            self.meanwhile()

        return Extract(batches(), self.parameters.events)


def shop_of(source: SyntheticSource) -> Shop:
    return Shop("shop", "A shop", "UTC", "EUR", source)


def schema_of(connection: Connection) -> list[Any]:
    return [connection.execute(query).fetchall() for query in _SCHEMA_QUERIES]  # type: ignore[call-overload]


def rows_of(connection: Connection) -> dict[str, list[Any]]:
    columns = {"users": USER_COLUMNS, "products": PRODUCT_COLUMNS, "events": EVENT_COLUMNS}
    return {
        table: connection.execute(f"SELECT {', '.join(names)} FROM {table} ORDER BY {names[0]}").fetchall()  # type: ignore[arg-type]  # noqa: S608  our names
        for table, names in columns.items()
    }


def source_rows(source: SyntheticSource) -> dict[str, list[Any]]:
    found = {}
    for table in TABLES:
        whole = pa.Table.from_batches(list(getattr(source, table)().batches))
        found[table] = [tuple(row.values()) for row in whole.to_pylist()]
    return found


def taken(connection: Connection) -> bool:
    """Whether the short cut is taken; leaves nothing changed."""
    with connection.transaction(force_rollback=True), bulk_loading(connection) as truncated:
        return truncated
    raise AssertionError


def test_a_first_load_gives_every_row_and_leaves_the_schema_as_it_was(postgres: PostgresResource) -> None:
    source = SyntheticSource(SMALL)
    with postgres.connect() as connection:
        before = schema_of(connection)
        assert taken(connection)
        loads = load_shop_tables(connection, shop_of(source))
    with postgres.connect() as connection:
        assert schema_of(connection) == before
        assert rows_of(connection) == source_rows(source)
    assert [loads[table].rows_loaded for table in TABLES] == [300, 7, 9_000]
    assert loads["events"].last_id == 9_000


def test_rows_of_a_first_load_are_frozen(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        load_shop_tables(connection, shop_of(SyntheticSource(SMALL)))
    with postgres.connect(autocommit=True) as connection:
        # No VACUUM came by, but COPY has filled in the visibility maps.
        for table in TABLES:
            assert connection.execute("SELECT pg_relation_size(%s, 'vm') > 0", [table]).fetchone() == (True,)


def test_ids_of_the_database_follow_the_sources(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        load_shop_tables(connection, shop_of(SyntheticSource(SMALL)))
        row = connection.execute(
            "INSERT INTO events (user_id, product_id, event_type, timestamp)"
            " SELECT user_id, product_id, event_type, timestamp FROM events LIMIT 1 RETURNING event_id"
        ).fetchone()
    assert row == (9_001,)


def test_constraints_hold_after_a_first_load(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        load_shop_tables(connection, shop_of(SyntheticSource(SMALL)))
    with postgres.connect(autocommit=True) as connection:
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            connection.execute("UPDATE events SET user_id = 'nobody' WHERE event_id = 1")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("UPDATE events SET event_id = 2 WHERE event_id = 1")
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            connection.execute("DELETE FROM users")


@pytest.mark.parametrize("loaded_before", [False, True], ids=["first load", "replacement"])
@pytest.mark.parametrize(
    ("column", "value", "error", "detail"),
    [
        ("user_id", "nobody", psycopg.errors.ForeignKeyViolation, r'"events_user_id_fkey"\n.*\(user_id\)=\(nobody\)'),
        ("product_id", "x", psycopg.errors.ForeignKeyViolation, r'"events_product_id_fkey"\n.*\(product_id\)=\(x\)'),
        ("event_id", None, psycopg.errors.NotNullViolation, r'"event_id" of relation "(incoming_)?events"'),
        ("event_type", "stolen", psycopg.errors.CheckViolation, 'relation "events" violates check'),
        ("user_id", "NUL\0", DataError, "Table (incoming_)?events can't hold .*line 9000, column user_id"),
    ],
)
def test_a_wrong_event_is_told_and_everything_stays_as_it_was(
    postgres: PostgresResource, loaded_before: bool, column: str, value: Any, error: type[Exception], detail: str
) -> None:
    with postgres.connect() as connection:
        if loaded_before:
            load_shop_tables(connection, shop_of(SyntheticSource(SMALL)))
        before = (schema_of(connection), rows_of(connection))
    broken = Broken(ShopParameters(seed=1, users=300, events=9_000), column, value)
    with pytest.raises(error, match=detail), postgres.connect() as connection:
        load_shop_tables(connection, shop_of(broken))
    with postgres.connect() as connection:
        assert (schema_of(connection), rows_of(connection)) == before
        assert rows_in_table(connection, "events") == (9_000 if loaded_before else 0)
        assert connection.execute("SELECT count(*) FROM ops.loads").fetchone() == (3 if loaded_before else 0,)


def test_an_event_id_that_stands_twice_is_told_in_a_first_load(postgres: PostgresResource) -> None:
    with (
        pytest.raises(psycopg.errors.UniqueViolation, match=r'"events_pkey"\n.*\(event_id\)=\(17\)'),
        postgres.connect() as connection,
    ):
        load_shop_tables(connection, shop_of(Broken(SMALL, "event_id", 17)))


def test_a_source_that_breaks_off_leaves_empty_tables_whole(postgres: PostgresResource) -> None:
    def fail() -> None:
        raise OSError("the disk is gone")

    with postgres.connect() as connection:
        before = schema_of(connection)
    with pytest.raises(OSError, match="the disk is gone"), postgres.connect() as connection:
        load_shop_tables(connection, shop_of(Interrupted(SMALL, meanwhile=fail)))
    with postgres.connect() as connection:
        assert schema_of(connection) == before
        assert [rows_in_table(connection, table) for table in TABLES] == [0, 0, 0]
        assert taken(connection)


def test_whoever_reads_during_a_replacement_sees_the_old_rows_at_once(postgres: PostgresResource) -> None:
    seen = []

    def read() -> None:
        with postgres.connect() as reader:
            reader.execute("SET LOCAL lock_timeout = '2s'")
            seen.append([rows_in_table(reader, table) for table in TABLES])

    with postgres.connect() as connection:
        load_shop_tables(connection, shop_of(SyntheticSource(SMALL)))
        before = schema_of(connection)
    with postgres.connect() as connection:
        source = Interrupted(ShopParameters(seed=1, users=50, products=3, events=1_000), meanwhile=read)
        load_shop_tables(connection, shop_of(source))
    with postgres.connect() as connection:
        assert schema_of(connection) == before
        assert rows_in_table(connection, "events") == 1_000
    assert seen == [[300, 7, 9_000]]


def test_somebody_who_keeps_reading_empty_tables_does_not_stop_a_load(
    postgres: PostgresResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "_PATIENCE", 100)
    with postgres.connect() as reader, postgres.connect() as connection:
        assert rows_in_table(reader, "events") == 0
        before = schema_of(connection)
        assert not taken(connection)
        load_shop_tables(connection, shop_of(SyntheticSource(SMALL)))
        assert connection.execute("SHOW lock_timeout").fetchone() == ("0",)
        connection.commit()
        assert schema_of(connection) == before
        assert rows_of(connection) == source_rows(SyntheticSource(SMALL))


def test_tables_that_hold_rows_are_never_locked(postgres: PostgresResource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_PATIENCE", 100)
    monkeypatch.setattr(bulk, "_IN_THE_WAY", ())
    with postgres.connect() as connection:
        load_shop_tables(connection, shop_of(SyntheticSource(SMALL)))
    with postgres.connect() as reader, postgres.connect() as connection:
        assert rows_in_table(reader, "events") == 9_000
        assert not taken(connection)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE notes (event_id bigint REFERENCES events)",
        "CREATE TABLE friends (user_id text REFERENCES users)",
        "CREATE VIEW last_events AS SELECT event_id, user_id FROM events GROUP BY event_id",
    ],
)
def test_what_depends_on_the_tables_stays_and_the_load_goes_the_long_way(
    postgres: PostgresResource, statement: str
) -> None:
    with postgres.connect() as connection:
        connection.execute(statement)  # type: ignore[call-overload]
        before = schema_of(connection)
        assert not taken(connection)
        load_shop_tables(connection, shop_of(SyntheticSource(SMALL)))
    with postgres.connect() as connection:
        assert schema_of(connection) == before
        assert rows_of(connection) == source_rows(SyntheticSource(SMALL))


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER INDEX events_pkey SET (fillfactor = 70)",
        "ALTER TABLE events REPLICA IDENTITY USING INDEX events_pkey",
        "ALTER TABLE events CLUSTER ON events_pkey",
        "COMMENT ON CONSTRAINT events_user_id_fkey ON events IS 'mine'",
        "CREATE INDEX mine ON events (timestamp)",
        "ALTER TABLE events ALTER CONSTRAINT events_user_id_fkey DEFERRABLE INITIALLY DEFERRED",
        "ALTER TABLE events DROP CONSTRAINT events_product_id_fkey",
    ],
)
def test_what_somebody_set_on_the_constraints_outlives_a_first_load(postgres: PostgresResource, statement: str) -> None:
    comments = "SELECT count(*) FROM pg_description WHERE description = 'mine'"
    with postgres.connect() as connection:
        connection.execute(statement)  # type: ignore[call-overload]
        before = (schema_of(connection), connection.execute(comments).fetchone())
        assert taken(connection)
        load_shop_tables(connection, shop_of(SyntheticSource(SMALL)))
    with postgres.connect() as connection:
        assert (schema_of(connection), connection.execute(comments).fetchone()) == before


def test_rows_that_slip_in_before_the_lock_are_not_lost(postgres: PostgresResource) -> None:
    with postgres.connect() as writer, postgres.connect() as connection, ThreadPoolExecutor(1) as pool:
        writer.execute("INSERT INTO users (user_id, signup_date) VALUES ('mine', now())")
        load = pool.submit(load_shop_tables, connection, shop_of(SyntheticSource(SMALL)))
        while not writer.execute(_WAITING, [connection.info.backend_pid]).fetchone():
            assert not load.done()
            time.sleep(0.01)
        writer.commit()
        load.result()
        connection.commit()
    with postgres.connect() as connection:
        assert connection.execute("SELECT count(*) FROM users WHERE user_id = 'mine'").fetchone() == (1,)
        assert rows_in_table(connection, "users") == 301


def test_settings_are_only_lent(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        before = connection.execute("SHOW maintenance_work_mem").fetchone()
        with bulk_loading(connection):
            assert connection.execute("SHOW lock_timeout").fetchone() == ("0",)
        assert connection.execute("SHOW maintenance_work_mem").fetchone() == ("512MB",)
        connection.commit()
        assert connection.execute("SHOW maintenance_work_mem").fetchone() == before
