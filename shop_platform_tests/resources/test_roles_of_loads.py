"""Loads write as the writer, and sensors look as the reader."""

from __future__ import annotations

import datetime as dt
import logging
import os
import uuid
from collections.abc import Iterator

import dagster as dg
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from shop_platform import automation
from shop_platform.changes import event_state, mark_consumed
from shop_platform.commerce import writing
from shop_platform.commerce.loading import load_or_refuse
from shop_platform.commerce.months import Window, load_months
from shop_platform.performance.indexes import ensure_index, index_files
from shop_platform.quarantine import RefusedLoadError
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.encoder import EncoderResource
from shop_platform.resources.postgres import READER, WRITER, PostgresResource, as_role
from shop_platform.resources.shop import ShopResource
from shop_platform.segmentation.assets import user_logs
from shop_platform.settings import load_settings
from shop_platform.sources.load import load_shop

from ..commerce.lists import ListSource, event, shop_of, user
from ..performance.test_freshness import store
from ..test_automation import tick
from .test_roles import refused

#: What loads write.
WRITTEN = ("users", "products", "events", "ops.loads", "ops.loaded_keys", "ops.sources", "ops.quarantine",
           "analytics.records", "truth.users")  # fmt: skip

BROKEN = {"unknown event_type": [event(what="stolen")]}

APRIL = {"2025-04": Window(*(dt.datetime(2025, month, 1, tzinfo=dt.UTC) for month in (4, 5)))}


@pytest.fixture
def noting(postgres: PostgresResource) -> PostgresResource:
    """A database in which a trigger of somebody's notes as whom each table is written."""
    with postgres.connect() as connection:
        connection.execute(
            "CREATE TABLE by_whom (role name, written text);"
            "GRANT INSERT ON by_whom TO PUBLIC;"
            "CREATE FUNCTION note_whom() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " INSERT INTO by_whom VALUES (current_user, TG_OP || ' ' || TG_RELID::regclass); RETURN NULL; END $$"
        )
        for table in WRITTEN:
            connection.execute(
                sql.SQL(
                    "CREATE TRIGGER by_whom AFTER INSERT OR UPDATE OR DELETE ON {}"
                    " FOR EACH STATEMENT EXECUTE FUNCTION note_whom()"
                ).format(sql.Identifier(*table.split(".")))
            )
    return postgres


def written(postgres: PostgresResource) -> dict[str, set[str]]:
    """What was written since the last time, by role."""
    found: dict[str, set[str]] = {}
    with postgres.connect() as connection:
        for role, what in connection.execute("DELETE FROM by_whom RETURNING role, written"):
            found.setdefault(role, set()).add(what)
    return found


def load(postgres: PostgresResource, source: ListSource, quarantine_at_most: float = 1) -> None:
    load_or_refuse(postgres, shop_of(source, quarantine_at_most=quarantine_at_most))


@pytest.mark.fault
def test_the_rows_of_every_load_are_written_by_the_writer(noting: PostgresResource) -> None:
    load(noting, ListSource([user("a"), user("b")], event_rows=[event("a", minute=minute) for minute in range(9)]))
    assert {"INSERT users", "INSERT products", "INSERT events"} <= written(noting).pop(WRITER)
    # A part of the events, then most of them: then the triggers for the summaries are switched by their owner.
    rest = [event("a", minute=minute) for minute in range(8)]
    load(noting, ListSource([user("a", name="Eve")], event_rows=rest, quarantined=BROKEN, version="2"))
    by = written(noting)
    assert by.keys() == {WRITER}
    assert {"DELETE users", "UPDATE users", "DELETE events", "INSERT ops.quarantine", "UPDATE ops.loads"} <= by[WRITER]
    load(noting, ListSource(event_rows=[event("abc123")], version="3"))
    assert {"INSERT users", "INSERT events", "DELETE events"} <= written(noting).pop(WRITER)
    with pytest.raises(RefusedLoadError):
        load(noting, ListSource(event_rows=[], quarantined=BROKEN, version="4"), quarantine_at_most=0)
    load_months(noting, shop_of(ListSource(event_rows=[event(), event(minute=1)], version="5")), APRIL)
    by = written(noting)
    assert by.keys() == {WRITER}
    assert {"INSERT ops.quarantine", "INSERT events"} <= by[WRITER]


@pytest.mark.fault
def test_search_logs_and_what_a_shop_was_drawn_from_are_written_by_the_writer(
    noting: PostgresResource, elasticsearch: ElasticsearchResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in ("1", "2"):
        for name, value in {"SEED": seed, "USERS": "20", "EVENTS": "100", "SEARCHES": "30"}.items():
            monkeypatch.setenv(f"SHOP_{name}", value)
        load_or_refuse(noting, load_shop(load_settings()))
        assert {"INSERT users", "INSERT truth.users"} <= written(noting).pop(WRITER)
    dg.materialize(
        [user_logs],
        resources={"postgres": noting, "elasticsearch": elasticsearch, "shop": ShopResource()},
    )
    by = written(noting)
    assert by.keys() == {WRITER}
    assert {"INSERT analytics.records", "INSERT ops.sources"} <= by[WRITER]


@pytest.mark.fault
def test_the_writer_changes_rows_and_neither_tables_nor_triggers_nor_reads_the_truth(noting: PostgresResource) -> None:
    for statement in ("TRUNCATE events", "ALTER TABLE events DISABLE TRIGGER ALL", "DROP INDEX brin_events_timestamp",
                      "ALTER TABLE users DROP COLUMN email", "ALTER SEQUENCE events_event_id_seq RESTART",
                      "CREATE TRIGGER mine AFTER INSERT ON users EXECUTE FUNCTION note_whom()",
                      "SELECT FROM truth.users", "UPDATE truth.parameters SET value = '1'"):  # fmt: skip
        assert refused(noting, WRITER, statement), statement
    assert not refused(noting, WRITER, "INSERT INTO users (user_id, signup_date) VALUES ('x', now())")
    # Back to whoever logs in for what only they may, and no further than the block.
    with noting.connect(role=WRITER) as connection:
        with as_role(connection, None):
            assert connection.execute("SELECT current_user = session_user").fetchone() == (True,)
            connection.execute("SELECT FROM ops.erasure_key")
        assert connection.execute("SELECT current_user").fetchone() == (WRITER,)


def test_a_table_of_the_shops_own_that_the_writer_may_not_read_has_loads_done_by_whoever_logs_in(
    noting: PostgresResource, caplog: pytest.LogCaptureFixture
) -> None:
    writing._warn.cache_clear()  # noqa: SLF001  once a process, and this is the same one
    load(noting, ListSource(event_rows=[event(), event(minute=1)]))
    with noting.connect() as connection:
        connection.execute("CREATE SCHEMA own; CREATE TABLE own.notes (about bigint REFERENCES events)")
        connection.execute("INSERT INTO own.notes VALUES (1)")
        written(noting)
    for version in ("2", "3"):
        load(noting, ListSource(event_rows=[], version=version))
    assert WRITER not in written(noting)
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert f"GRANT SELECT ON own.notes TO {WRITER}" in told
    with noting.connect() as connection:
        connection.execute(f"GRANT USAGE ON SCHEMA own TO {WRITER}; GRANT SELECT ON own.notes TO {WRITER}")
    load(noting, ListSource(event_rows=[event(minute=5)], version="4"))
    assert written(noting).keys() == {WRITER}
    with noting.connect() as connection:
        assert connection.execute("SELECT count(*), min(event_id) FROM events").fetchone() == (2, 1)


def test_temporary_tables_that_are_not_for_everybody_are_for_the_writer(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        database = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    assert refused(postgres, WRITER, "CREATE TEMPORARY TABLE mine ()")
    with postgres.connect() as connection:
        connection.execute("SELECT ops.grant_roles()")
    load(postgres, ListSource())
    load(postgres, ListSource([user("b")], event_rows=[event("b")], version="2"))
    assert refused(postgres, READER, "CREATE TEMPORARY TABLE mine ()")


@pytest.fixture
def reading(postgres: PostgresResource, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A shop whose results are older than its events, and a login that may do nothing but take the reader's role."""
    monkeypatch.setenv("SHOP_REMEASURE_GROWTH", "9")
    load(postgres, ListSource())
    with postgres.connect(autocommit=True) as connection:
        for file in index_files():
            ensure_index(connection, file)
        store(connection, live_events=1, source="1")
        for consumer in ("activity_summaries", "cohort_retention"):
            mark_consumed(connection, consumer, event_state(connection))
        connection.execute("DELETE FROM events")
    login = f"looks_{uuid.uuid4().hex[:8]}"
    names = {"login": sql.Identifier(login), "reader": sql.Identifier(READER)}
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE ROLE {login} LOGIN NOINHERIT; GRANT {reader} TO {login}").format(**names))
        # What is looked at before anything else is done: whether the schema is up to date.
        owner.execute(sql.SQL("GRANT USAGE ON SCHEMA ops TO {login}").format(**names))
        owner.execute(sql.SQL("GRANT SELECT ON ops.migrations TO {login}").format(**names))
        monkeypatch.setenv("DATABASE_URL", make_conninfo(os.environ["DATABASE_URL"], user=login))
        yield
        owner.execute(sql.SQL("DROP OWNED BY {login}; DROP ROLE {login}").format(**names))


@pytest.mark.fault
@pytest.mark.usefixtures("reading")
def test_sensors_need_no_more_than_to_read(elasticsearch: ElasticsearchResource) -> None:
    postgres = PostgresResource()
    with pytest.raises(psycopg.errors.InsufficientPrivilege), postgres.connect() as connection:
        connection.execute("SELECT FROM ops.consumed")
    with dg.DagsterInstance.ephemeral() as instance:
        assert tick(automation.performance_refresh, instance, postgres=postgres)[0] == set(automation.SUMMARIES)
        assert tick(automation.retention_refresh, instance, postgres=postgres)[0] == set(automation.RETENTION)
        assert tick(automation.source_refresh, instance, postgres=postgres, shop=ShopResource())[0] == {
            *automation.SOURCE
        }
        logs = {"elasticsearch": elasticsearch, "encoder": EncoderResource()}
        told = tick(automation.segmentation_refresh, instance, postgres=postgres, **logs)[2]
        assert "Nothing to refresh" in told
