"""Each kind of work is done as the least role, and goes on where there are no roles."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from shop_platform.commerce.loading import load_or_refuse
from shop_platform.errors import MeasurementError
from shop_platform.performance.laboratory import COPY, IMPERSONAL, copy_live, drop_copies, laboratory
from shop_platform.performance.rounds import Rule
from shop_platform.performance.trials import Trials, Variant
from shop_platform.resources import postgres as postgres_module
from shop_platform.resources.postgres import BENCHMARK, READER, WRITER, PostgresResource, Role

from ..commerce.lists import ListSource, event, shop_of, user

ROLES: tuple[Role, ...] = get_args(Role)
ONCE = Rule(warm_ups=0, least=1, most=1, seconds=0)


@pytest.fixture
def shop(postgres: PostgresResource) -> PostgresResource:
    """A user with a name, who bought something."""
    with postgres.connect() as connection:
        connection.execute(
            "INSERT INTO users VALUES ('u', '2025-01-01Z', 'Canary', 'canary@example.com', 'Bern', 'CH');"
            "INSERT INTO products VALUES ('p', 'Tea', 'Food', 1);"
            "INSERT INTO events (user_id, product_id, event_type, timestamp)"
            " VALUES ('u', 'p', 'purchased', '2025-01-02Z')"
        )
    return postgres


def refused(postgres: PostgresResource, role: Role, statement: str) -> bool:
    try:
        with postgres.connect(role=role) as connection:
            connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


@pytest.mark.parametrize("role", ROLES)
def test_a_connection_takes_the_role_and_no_role_may_log_in_or_change_the_schema(
    shop: PostgresResource, role: Role
) -> None:
    with shop.connect(role=role) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (role,)
        row = connection.execute(
            "SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls FROM pg_roles WHERE rolname = %s",
            [role],
        ).fetchone()
        assert row == (False,) * 5
    for schema in ("public", "analytics", "ops"):
        assert refused(shop, role, f"CREATE TABLE {schema}.mine ()")
    for statement in ("DROP TABLE events", "ALTER TABLE users ADD COLUMN mine int", "CREATE SCHEMA mine",
                      "CREATE INDEX ON events (user_id)"):  # fmt: skip
        assert refused(shop, role, statement)


@pytest.mark.fault
@pytest.mark.parametrize("role", [READER, BENCHMARK])
def test_those_who_read_can_write_no_table(shop: PostgresResource, role: Role) -> None:
    with shop.connect() as connection:
        tables = connection.execute(
            "SELECT c.oid::regclass::text, has_table_privilege(%s, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER')"
            " FROM pg_class AS c WHERE relkind IN ('r', 'p')"
            " AND relnamespace::regnamespace::text IN ('public', 'analytics', 'ops', 'truth')",
            [role],
        ).fetchall()
    assert len(tables) > 20
    assert [table for table, writes in tables if writes] == []
    assert refused(shop, role, "INSERT INTO users (user_id, signup_date) VALUES ('x', now())")
    assert refused(shop, role, "UPDATE events SET event_type = 'viewed'")
    assert refused(shop, role, "DELETE FROM analytics.records")
    assert refused(shop, role, "TRUNCATE ops.loads")


@pytest.mark.fault
@pytest.mark.parametrize("role", [READER, BENCHMARK])
@pytest.mark.parametrize("column", ["name", "email"])
def test_names_and_mail_addresses_are_not_read(shop: PostgresResource, role: Role, column: str) -> None:
    assert refused(shop, role, f"SELECT {column} FROM users")  # noqa: S608
    assert refused(shop, role, "SELECT * FROM users")
    assert refused(shop, role, "SELECT u FROM users AS u")
    assert not refused(shop, role, f"SELECT {', '.join(IMPERSONAL)} FROM users")  # noqa: S608


@pytest.mark.parametrize("role", ROLES)
def test_who_was_erased_is_nobody_s_to_read(shop: PostgresResource, role: Role) -> None:
    assert refused(shop, role, "SELECT FROM ops.erasures")
    assert refused(shop, role, "SELECT FROM ops.erasure_key")
    assert refused(shop, role, "DELETE FROM ops.migrations")


def test_quarantined_rows_are_not_the_reader_s(shop: PostgresResource) -> None:
    assert refused(shop, READER, "SELECT row FROM ops.quarantine")
    assert refused(shop, BENCHMARK, "SELECT FROM ops.loads")
    assert not refused(shop, WRITER, "SELECT row FROM ops.quarantine")


@contextmanager
def measuring(postgres: PostgresResource) -> Iterator[Trials]:
    with laboratory(postgres):
        copy_live(postgres)
        try:
            with postgres.connect(autocommit=True) as connection:
                yield Trials(connection, frozenset(), 5)
        finally:
            drop_copies(postgres)


@pytest.mark.fault
def test_a_measured_query_is_executed_as_the_benchmark_role(shop: PostgresResource) -> None:
    with measuring(shop) as trials:
        one = {"a": Variant("SELECT current_user::text, city, current_setting('transaction_read_only') FROM users")}
        assert trials.interleave("q", one, ONCE)[1] == [(BENCHMARK, "Bern", "on")]
        for text in ("SELECT email FROM users", "SELECT name FROM users", "SELECT * FROM users",
                     "SELECT email FROM public.users", "SELECT row FROM ops.quarantine"):  # fmt: skip
            with pytest.raises(MeasurementError, match="reads what measured queries may not") as raised:
                trials.interleave("q", {"a": Variant(text)}, ONCE)
            assert "Canary" not in str(raised.value)
        with pytest.raises(MeasurementError, match=r"longer than 5 s|can't be executed"):
            trials.interleave("q", {"a": Variant("SELECT lo_create(0)")}, ONCE)
        # Between two measured queries there is the owner again, who hides indexes.
        assert trials.connection.execute("SELECT current_user = session_user").fetchone() == (True,)
        assert trials.connection.execute(f"SELECT email FROM {COPY}.users").fetchone() == ("canary@example.com",)  # noqa: S608


@pytest.fixture
def without_roles(template_url: str) -> Iterator[str]:
    """A cluster without the roles meanwhile, and a login that may create no role and owns a database."""
    suffix = uuid.uuid4().hex[:8]
    login, database = f"plain_{suffix}", f"plain_{suffix}"
    parts: dict[str, Any] = conninfo_to_dict(template_url)
    admin = make_conninfo(**(parts | {"dbname": "postgres"}))
    postgres_module._warn.cache_clear()  # noqa: SLF001  once a process, and this is the same one
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(login)))
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database), sql.Identifier(login))
        )
        for role in ROLES:
            connection.execute(
                sql.SQL("ALTER ROLE {} RENAME TO {}").format(sql.Identifier(role), sql.Identifier(f"away_{role}"))
            )
        yield make_conninfo(**(parts | {"dbname": database, "user": login}))
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))
        for role in ROLES:
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
            connection.execute(
                sql.SQL("ALTER ROLE {} RENAME TO {}").format(sql.Identifier(f"away_{role}"), sql.Identifier(role))
            )
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(login)))


def test_without_roles_work_goes_on_with_one_warning_of_each_and_takes_them_once_they_are_there(
    without_roles: str, template_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DATABASE_URL", without_roles)
    login = conninfo_to_dict(without_roles)["user"]
    postgres = PostgresResource()
    with caplog.at_level(logging.WARNING):
        postgres.migrate()
        postgres.migrate()
        for _ in range(2):
            with postgres.connect(role=READER) as connection:
                assert connection.execute("SELECT current_user").fetchone() == (login,)
        for version in ("1", "2"):
            load_or_refuse(postgres, shop_of(ListSource([user(version)], event_rows=[event(version)], version=version)))
    told, _ = [record.getMessage() for record in caplog.records]
    assert f"CREATE ROLE {READER} NOLOGIN; GRANT {READER}" in told
    with postgres.connect() as connection:
        assert connection.execute("SELECT user_id FROM events").fetchall() == [("2",)]
    # What the message asks for.
    with psycopg.connect(template_url, autocommit=True) as admin:
        for role in ROLES:
            admin.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
            admin.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(str(login))))
    postgres.migrate()
    with postgres.connect(role=READER) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (READER,)
    assert refused(postgres, READER, "SELECT email FROM users")
    load_or_refuse(postgres, shop_of(ListSource(version="3")))


def test_two_databases_of_a_cluster_may_make_the_roles_at_the_same_moment(
    without_roles: str, template_url: str, postgres: PostgresResource
) -> None:
    other = make_conninfo(template_url, dbname=conninfo_to_dict(without_roles)["dbname"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", other)
        # As whoever owns the cluster; its own roles are taken away again, to be made at one moment.
        PostgresResource().migrate()
    with psycopg.connect(other, autocommit=True) as second, postgres.connect() as first:
        for role in ROLES:
            second.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))
        first.execute("SELECT ops.grant_roles()")
        thread = threading.Thread(target=second.execute, args=["SELECT ops.grant_roles()"])
        thread.start()
        pid = second.info.backend_pid
        with psycopg.connect(template_url, autocommit=True) as watcher:
            while watcher.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [pid]).fetchone() != (True,):
                assert thread.is_alive()
                time.sleep(0.01)
        first.commit()
        thread.join()
        # What is granted on a database is the cluster's: below, one would wait for the other.
        first.autocommit = True
        for connection in (first, second):
            row = connection.execute("SELECT has_schema_privilege(%s, 'analytics', 'USAGE')", [READER]).fetchone()
            assert row == (True,)
        for connection in (first, second):
            for role in ROLES:
                connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
