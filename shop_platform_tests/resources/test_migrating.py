"""Migrations: whole or not at all, one at a time, forward from every state, and never over what is newer."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier, Event
from typing import Any

import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from shop_platform import sqlfiles
from shop_platform.commerce.loading import load_shop_tables
from shop_platform.errors import SchemaError
from shop_platform.performance.summaries import SUMMARIES, refresh_summaries
from shop_platform.resources.migrating import migrate
from shop_platform.resources.postgres import Connection, PostgresResource
from shop_platform.retention.counting import lock_matrix
from shop_platform.retention.definition import Definition
from shop_platform.retention.summaries import refresh_retention
from shop_platform.services.postgres_commands import binaries
from shop_platform.sqlfiles import SqlFile
from shop_platform_tests.commerce.lists import ListSource, event, shop_of, user
from shop_platform_tests.databases import clone_of

FILES = sqlfiles.list_sql("schema")

#: Rows as each version's platform leaves them, by the number of the migration after which they can be written.
ROWS = {
    "001": """
        INSERT INTO users (user_id, signup_date) VALUES ('abc123', '2025-01-01'), ('gone', '2025-01-01');
        INSERT INTO products VALUES ('p01', 'Headphones', 'Electronics', 59.90);
        INSERT INTO events (user_id, product_id, event_type, timestamp) VALUES
            ('abc123', 'p01', 'viewed', '2025-04-01 12:30Z'), ('gone', 'p01', 'purchased', '2025-04-02 12:30Z');
        INSERT INTO ops.loads (table_name, shop, fingerprint, rows_read, rows_loaded, last_id) VALUES
            ('users', 'shop', 'old', 2, 2, NULL), ('products', 'shop', 'old', 1, 1, NULL),
            ('events', 'shop', 'old', 2, 2, 2);
        INSERT INTO ops.consumed (consumer, changes, last_change) VALUES ('activity_summaries', 1, 1);
    """,
    "002": """
        INSERT INTO truth.parameters VALUES ('seed', '42');
        INSERT INTO truth.users VALUES ('abc123', 'bargain_hunter', '{}');
    """,
    "003": """
        INSERT INTO analytics.records (name, run_id, record) VALUES ('cohort_retention', 'run', '{"users": 2}');
        INSERT INTO analytics.user_segments (user_id, segment, confidence, distinct_queries, model)
        VALUES ('abc123', 'bargain_hunter', 0.9, 3, 'model');
    """,
    "004": """
        INSERT INTO analytics.weekly_active_users VALUES ('2025-03-31', 2);
        INSERT INTO analytics.category_revenue VALUES ('2025-04-02', 'Electronics', 59.90, 1);
    """,
    "005": """
        TRUNCATE analytics.weekly_active_users, analytics.category_revenue;
        INSERT INTO analytics.weekly_activity (week, user_id, events)
            SELECT date_trunc('week', timestamp), user_id, count(*) FROM events GROUP BY 1, 2;
        INSERT INTO analytics.weekly_active_users SELECT week, count(*) FROM analytics.weekly_activity GROUP BY 1;
        INSERT INTO analytics.product_sales VALUES ('2025-04-02', 'p01', 1);
        INSERT INTO analytics.category_revenue VALUES ('2025-04-02', 'Electronics', 59.90, 1);
        INSERT INTO analytics.category_totals VALUES ('Electronics', 59.90, 1);
        INSERT INTO ops.summary_basis (time_zone) VALUES ('UTC');
        DELETE FROM ops.event_log;
        UPDATE products SET price = 49.90;
        INSERT INTO events (user_id, product_id, event_type, timestamp)
        VALUES ('abc123', 'p01', 'viewed', '2025-04-03 12:30Z');
    """,
    "006": """
        INSERT INTO analytics.cohort_retention (cohort, period, cohort_size, users_observed, active_users, rate,
            users_unrecorded, few_users) VALUES ('2025-01-01', 0, 2, 2, 0, 0, 0, true);
        INSERT INTO analytics.pooled_retention (period, cohorts, users_observed, active_users) VALUES (0, 1, 2, 0);
        INSERT INTO analytics.retention_users VALUES ('abc123', '2025-01-01', '2025-01-01', '', 0, NULL, 0);
        INSERT INTO analytics.retention_days VALUES ('2025-01-01', '', 0, 1, 0, 0);
        INSERT INTO analytics.recorded_hours VALUES ('2025-04-01 12:00Z', 1, '2025-04-01 12:30Z', '2025-04-01 12:30Z');
        INSERT INTO ops.retention_basis (definition) VALUES ('{}');
        INSERT INTO ops.retention_log DEFAULT VALUES;
    """,
    "007": """
        INSERT INTO ops.quarantine (table_name, reason, row) VALUES ('users', 'id missing', '{}');
        INSERT INTO ops.loaded_keys VALUES ('users', 'abc123'), ('users', 'gone'), ('products', 'p01')
            ON CONFLICT DO NOTHING;
        UPDATE ops.loads SET ids = '{[1,2]}' WHERE table_name = 'events';
        INSERT INTO ops.sources (part, shop, state) VALUES ('commerce', 'shop', 'old');
    """,
    "008": """
        INSERT INTO analytics.user_queries VALUES ('abc123', 'q');
        INSERT INTO analytics.query_segments VALUES ('q', 'bargain_hunter', 0.9);
        INSERT INTO ops.segment_models (version, artefact) VALUES ('v', '\\x00');
    """,
    "009": """
        INSERT INTO ops.erasures (digest, removed) VALUES (sha256('somebody'), '{"users": 1}');
    """,
    "015": """
        INSERT INTO ops.exports VALUES ('5f2b0e2c-6a6f-4d0c-9a0b-0d6a3a1c9b11', 'lake');
        INSERT INTO ops.export_log VALUES ('2025-04-01');
    """,
    "016": """
        UPDATE analytics.weekly_active_users SET estimated = true;
    """,
}  # fmt: skip

#: Tables whose rows a migration drops on purpose, by its number: what is derived is made again.
CLEARED = {
    "005": {"analytics.weekly_activity", "analytics.weekly_active_users", "analytics.category_revenue", "ops.consumed"},
    "006": {"analytics.cohort_retention", "analytics.records"},
}


@pytest.fixture
def empty(template_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresResource]:
    """A database without any schema of ours."""
    with clone_of(make_conninfo(template_url, dbname="template1")) as url:
        monkeypatch.setenv("DATABASE_URL", url)
        yield PostgresResource()


def bring(postgres: PostgresResource, files: list[SqlFile]) -> list[str]:
    """Migrate as a version with these files does."""
    with postgres.connect() as connection:
        return migrate(connection, files)


def tables(connection: Connection) -> list[str]:
    """All tables of the platform, but for the record of migrations."""
    rows = connection.execute(
        "SELECT nspname || '.' || relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE relkind = 'r' AND nspname IN ('public', 'ops', 'analytics', 'truth') AND relname <> 'migrations'"
    )
    return sorted(row[0] for row in rows)


def contents(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables."""
    return {
        name: [
            row[0]
            for row in connection.execute(
                sql.SQL("SELECT to_jsonb(t) FROM {} AS t").format(sql.Identifier(*name.split(".")))
            )
        ]
        for name in tables(connection)
    }


def schema_of(url: str) -> str:
    """What pg_dump says of the schema, without what is random in it."""
    dump = subprocess.run(
        [str(binaries() / "pg_dump"), "--schema-only", "--no-owner", url],
        check=True, capture_output=True, text=True, env={"PATH": os.environ["PATH"]},
    ).stdout  # fmt: skip
    return "\n".join(line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


@pytest.mark.fault
@pytest.mark.parametrize("count", range(1, len(FILES) + 1), ids=lambda count: FILES[count - 1].name)
def test_from_every_earlier_schema_the_rows_stay_and_the_platform_goes_on(
    empty: PostgresResource, template_url: str, count: int
) -> None:
    bring(empty, FILES[:count])
    with empty.connect() as connection:
        for file in FILES[:count]:
            connection.execute(ROWS.get(file.name[:3], ""))
        before = contents(connection)
    # Every table holds something; those two had rows that their next version could not hold.
    earlier = {"analytics.weekly_activity": "005", "analytics.cohort_retention": "006"}
    without = {name for name, rows in before.items() if not rows}
    assert without == {name for name, since in earlier.items() if name in before and FILES[count - 1].name < since}

    assert bring(empty, FILES) == [file.name for file in FILES[count:]]
    cleared = {name for file in FILES[count:] for name in CLEARED.get(file.name[:3], set())}
    with empty.connect() as connection:
        after = contents(connection)
    for name in before.keys() - cleared:
        assert len(after[name]) >= len(before[name]), name
        assert all(any(row.items() <= new.items() for new in after[name]) for row in before[name]), name
    empty.migrate()  # which also grants
    assert schema_of(empty.url()) == schema_of(template_url)

    with empty.connect() as connection:
        source = ListSource([user(), user("new")], event_rows=[event(), event("new", what="purchased")], version="2")
        load_shop_tables(connection, shop_of(source))
        kept = connection.execute("SELECT user_id, event_type FROM events ORDER BY 1, 2").fetchall()
        # Whatever came after the load of before is somebody else's.
        others = [("abc123", "viewed")] if count >= 5 else []
        assert kept == sorted([("abc123", "viewed"), ("new", "purchased"), *others])
    assert refresh_summaries(empty).published
    with empty.connect() as connection:
        refreshed_rows = contents(connection)
    assert refresh_summaries(empty, rebuild=True).published
    with empty.connect() as connection:
        rebuilt_rows = contents(connection)
    for table in SUMMARIES:
        name = f"analytics.{table}"
        assert sorted(map(str, refreshed_rows[name])) == sorted(map(str, rebuilt_rows[name])), name
    with empty.connect() as connection:
        lock_matrix(connection)
        refreshed = refresh_retention(connection, Definition())
        assert refreshed.rebuilt
        assert refreshed.equal


def test_a_database_that_is_up_to_date_is_only_read(empty: PostgresResource) -> None:
    bring(empty, FILES)
    with empty.connect() as connection:
        connection.execute("SET TRANSACTION READ ONLY")
        assert migrate(connection, FILES) == []


def test_each_migration_is_recorded_with_its_content_and_who_applied_it(empty: PostgresResource) -> None:
    empty.migrate()
    with empty.connect() as connection:
        rows = connection.execute("SELECT name, length(digest), platform FROM ops.migrations ORDER BY 1").fetchall()
    assert [row[0] for row in rows] == [file.name for file in FILES]
    assert {row[1] for row in rows} == {64}
    assert all(row[2].startswith("shop_platform 0.") for row in rows)


def test_a_record_from_before_contents_were_noted_is_completed(empty: PostgresResource) -> None:
    bring(empty, FILES)
    with empty.connect() as connection:
        connection.execute("ALTER TABLE ops.migrations DROP COLUMN digest, DROP COLUMN platform")
    assert bring(empty, FILES) == []
    with pytest.raises(SchemaError, match="001_commerce is not the one"):
        bring(empty, [replace(FILES[0], text=FILES[0].text + "-- otherwise"), *FILES[1:]])


@pytest.mark.fault
def test_a_file_that_was_changed_after_it_was_applied_is_noticed(empty: PostgresResource) -> None:
    bring(empty, FILES[:3])
    changed = [replace(FILES[0], text=FILES[0].text.replace("country     text", "country text")), *FILES[1:]]
    with pytest.raises(SchemaError, match=r"001_commerce is not the one that shop_platform .* Nothing was written"):
        bring(empty, changed)
    with empty.connect() as connection:
        assert connection.execute("SELECT count(*) FROM ops.migrations").fetchone() == (3,)


@pytest.mark.fault
def test_an_older_platform_stops_before_it_writes(empty: PostgresResource) -> None:
    bring(empty, [*FILES, SqlFile("999_newer", "CREATE TABLE ops.newer ()", "")])
    with empty.connect() as connection:
        connection.execute("UPDATE ops.migrations SET platform = 'shop_platform 9.9.9' WHERE name = '999_newer'")
    with empty.connect() as connection:
        # Read only: had it tried to write, the error would be another.
        connection.execute("SET TRANSACTION READ ONLY")
        with pytest.raises(SchemaError, match=r"does not know: 999_newer. .* \(shop_platform 9\.9\.9\); upgrade"):
            migrate(connection, [*FILES, SqlFile("998_mine", "CREATE TABLE ops.mine ()", "")])


@pytest.mark.fault
def test_a_migration_that_fails_leaves_nothing_of_it_nor_of_those_before(empty: PostgresResource) -> None:
    bring(empty, FILES[:3])
    before = schema_of(empty.url())
    broken = [*FILES[:5], SqlFile("006_broken", "CREATE TABLE ops.half (); SELECT 1 / 0", "")]
    with pytest.raises(SchemaError, match=r"006_broken can't be applied .*division by zero.* as it was before"):
        bring(empty, broken)
    assert schema_of(empty.url()) == before
    with empty.connect() as connection:
        assert connection.execute("SELECT count(*) FROM ops.migrations").fetchone() == (3,)
    assert bring(empty, FILES) == [file.name for file in FILES[3:]]


@pytest.mark.fault
def test_a_migrator_whose_server_process_is_ended_leaves_nothing_and_holds_up_nobody(empty: PostgresResource) -> None:
    slow = [*FILES[:2], SqlFile("003_slow", "CREATE TABLE ops.half (); SELECT pg_sleep(60)", "")]
    with ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(bring, empty, slow)
        with empty.connect(autocommit=True) as connection:
            ended = 0
            while not ended and not under_way.done():
                ended = connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)'"
                    " AND pid <> pg_backend_pid() AND datname = current_database() AND wait_event = 'PgSleep'"
                ).rowcount
        with pytest.raises(SchemaError, match="003_slow can't be applied"):
            under_way.result()
    with empty.connect() as connection:
        assert tables(connection) == []
    assert bring(empty, FILES) == [file.name for file in FILES]


@pytest.mark.fault
def test_two_at_once_apply_each_migration_once(empty: PostgresResource) -> None:
    together = Barrier(4)

    def run(_: int) -> list[str]:
        with empty.connect() as connection:
            together.wait()
            return migrate(connection, FILES)

    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(run, range(4)))
    assert sorted(done) == [[], [], [], [file.name for file in FILES]]


@pytest.mark.fault
def test_the_second_migrator_waits_for_the_first(empty: PostgresResource) -> None:
    applied, go_on = Event(), Event()

    def first() -> list[str]:
        with empty.connect() as connection:
            done = migrate(connection, FILES)
            applied.set()
            go_on.wait(60)
            return done

    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(first)
        assert applied.wait(60)
        other = threads.submit(bring, empty, FILES)
        with empty.connect(autocommit=True) as connection:
            waiting = 0
            while not waiting and not other.done():
                waiting = connection.execute(
                    "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                ).rowcount
        assert waiting
        go_on.set()
        assert len(one.result()) == len(FILES)
        assert other.result() == []
