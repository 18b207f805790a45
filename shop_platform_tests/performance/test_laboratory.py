"""The copies that are measured on: equal rows, nothing of the live tables touched, no leftovers."""

from __future__ import annotations

import pytest

from shop_platform.errors import MeasurementError
from shop_platform.performance import laboratory as lab
from shop_platform.performance.indexes import index_files
from shop_platform.resources.postgres import PostgresResource
from shop_platform_tests.performance.conftest import live_state, schemas


def indexes(postgres: PostgresResource, schema: str) -> set[str]:
    with postgres.connect() as connection:
        rows = connection.execute("SELECT indexname FROM pg_indexes WHERE schemaname = %s", [schema]).fetchall()
    return {row[0] for row in rows}


def test_the_baseline_has_the_live_rows_and_primary_keys_only(random_shop: PostgresResource) -> None:
    with random_shop.connect() as connection:
        connection.execute("CREATE INDEX of_the_shop ON events (timestamp)")
    assert lab.copy_live(random_shop) == 1
    with random_shop.connect() as connection:
        for table in lab.TABLES:
            assert lab.fingerprint_table(connection, lab.BASELINE, table) == lab.fingerprint_table(
                connection, "public", table
            )
        moved = connection.execute(
            "SELECT count(*) FROM public.events AS a JOIN lab_baseline.events AS b USING (event_id)"
            " WHERE a.ctid <> b.ctid"
        ).fetchone()
    assert moved == (0,)
    assert indexes(random_shop, lab.BASELINE) == {"events_pkey", "products_pkey"}


def test_the_indexed_copy_has_the_same_rows_in_the_same_places_and_the_three_indexes(
    random_shop: PostgresResource,
) -> None:
    lab.copy_live(random_shop)
    with random_shop.connect() as connection:
        connection.execute("DELETE FROM events WHERE event_id % 2 = 0")
    seconds = lab.copy_with_indexes(random_shop, index_files())
    with random_shop.connect() as connection:
        for table in lab.TABLES:
            assert lab.fingerprint_table(connection, lab.INDEXED, table) == lab.fingerprint_table(
                connection, lab.BASELINE, table
            )
        moved = connection.execute(
            "SELECT count(*) FROM lab_baseline.events AS a JOIN lab_indexed.events AS b USING (event_id)"
            " WHERE a.ctid <> b.ctid"
        ).fetchone()
    assert moved == (0,)
    assert indexes(random_shop, lab.INDEXED) == {"events_pkey", "products_pkey", *seconds}
    assert set(seconds) == {file.name for file in index_files()}


def test_every_copy_is_vacuumed_and_analysed(random_shop: PostgresResource) -> None:
    lab.copy_live(random_shop)
    lab.copy_with_indexes(random_shop, index_files())
    lab.copy_with_summaries(random_shop)
    with random_shop.connect() as connection:
        rows = connection.execute(
            "SELECT relname, reltuples, relallvisible >= relpages FROM pg_class c JOIN pg_namespace n"
            r" ON n.oid = relnamespace WHERE nspname LIKE 'lab\_%' AND relkind = 'r'"
        ).fetchall()
    assert len(rows) == 9
    assert all(tuples > 0 and visible for _, tuples, visible in rows)


def test_copying_leaves_the_live_tables_alone(random_shop: PostgresResource) -> None:
    with random_shop.connect() as connection:
        before = live_state(connection)
    lab.copy_live(random_shop)
    lab.copy_with_indexes(random_shop, index_files())
    lab.copy_with_summaries(random_shop)
    lab.drop_copies(random_shop)
    with random_shop.connect() as connection:
        assert live_state(connection) == before
        assert schemas(connection) == set()


def test_a_large_shop_is_copied_in_part_with_all_events_of_the_chosen_users(random_shop: PostgresResource) -> None:
    assert lab.copy_live(random_shop, sample_events=5_000) == 4
    with random_shop.connect() as connection:
        rows, _ = lab.fingerprint_table(connection, lab.BASELINE, "events")
        torn = connection.execute(
            "SELECT count(*) FROM public.events WHERE user_id IN (SELECT user_id FROM lab_baseline.events)"
        ).fetchone()
        products = lab.fingerprint_table(connection, lab.BASELINE, "products")[0]
    assert 3_000 < rows < 7_000
    assert torn == (rows,)
    assert products == 20


def test_what_a_killed_run_left_is_replaced(random_shop: PostgresResource) -> None:
    lab.copy_live(random_shop)
    lab.copy_with_indexes(random_shop, index_files())
    with random_shop.connect() as connection:
        connection.execute("DELETE FROM events WHERE event_id <= 100")
    lab.copy_live(random_shop)
    with random_shop.connect() as connection:
        assert schemas(connection) == {lab.BASELINE}
        assert lab.fingerprint_table(connection, lab.BASELINE, "events")[0] == 19_900


def test_a_schema_that_somebody_else_made_is_never_dropped(random_shop: PostgresResource) -> None:
    with random_shop.connect() as connection:
        connection.execute("CREATE SCHEMA lab_indexed")
    with pytest.raises(MeasurementError, match="lab_indexed was not made by the platform"):
        lab.copy_live(random_shop)
    with random_shop.connect() as connection:
        assert schemas(connection) == {"lab_indexed"}


def test_a_shop_without_events_can_not_be_measured(postgres: PostgresResource) -> None:
    with pytest.raises(MeasurementError, match="no events"):
        lab.copy_live(postgres)


def test_only_one_run_holds_the_laboratory(postgres: PostgresResource) -> None:
    with (
        lab.laboratory(postgres),
        pytest.raises(MeasurementError, match="Another run"),
        lab.laboratory(postgres),
    ):
        pass
    with lab.laboratory(postgres):
        pass


def test_a_holder_that_dies_frees_the_laboratory_at_once(postgres: PostgresResource) -> None:
    holder = lab.laboratory(postgres)
    holder.__enter__()
    with postgres.connect(autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s",
            [lab.LABORATORY_LOCK],
        )
    with lab.laboratory(postgres):
        pass


def test_the_holder_of_the_laboratory_keeps_no_snapshot_that_index_builds_would_wait_for(
    random_shop: PostgresResource,
) -> None:
    with lab.laboratory(random_shop), random_shop.connect(autocommit=True) as connection:
        row = connection.execute(
            "SELECT backend_xmin FROM pg_stat_activity JOIN pg_locks USING (pid)"
            " WHERE locktype = 'advisory' AND objid = %s",
            [lab.LABORATORY_LOCK],
        ).fetchone()
    assert row == (None,)
