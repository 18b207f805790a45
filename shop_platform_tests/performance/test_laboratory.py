"""The copies that are measured on: equal rows, nothing of the live tables touched, no leftovers."""

from __future__ import annotations

import pytest

from shop_platform.errors import MeasurementError
from shop_platform.performance import laboratory as lab
from shop_platform.performance.indexes import index_files
from shop_platform.resources.postgres import PostgresResource
from shop_platform_tests.performance.conftest import live_state, schemas

STATEMENTS = {file.name: file.statement for file in index_files()}


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
            assert lab.fingerprint_table(connection, lab.COPY, table) == lab.fingerprint_table(
                connection, "public", table
            )
        moved = connection.execute(
            "SELECT count(*) FROM public.events AS a JOIN lab_copy.events AS b USING (event_id) WHERE a.ctid <> b.ctid"
        ).fetchone()
    assert moved == (0,)
    assert indexes(random_shop, lab.COPY) == {"users_pkey", "events_pkey", "products_pkey"}


def test_indexes_are_built_on_the_copy_only(random_shop: PostgresResource) -> None:
    lab.copy_live(random_shop)
    built = lab.build_indexes(random_shop, STATEMENTS)
    assert set(built) == set(STATEMENTS)
    assert all(index.size_bytes > 0 and index.seconds > 0 for index in built.values())
    assert indexes(random_shop, lab.COPY) == {"users_pkey", "events_pkey", "products_pkey", *STATEMENTS}
    assert not indexes(random_shop, "public") & set(STATEMENTS)


def test_an_index_that_can_not_be_built_is_named(random_shop: PostgresResource) -> None:
    lab.copy_live(random_shop)
    with pytest.raises(MeasurementError, match=r"idx_bad can't be built on the copy: column .*nothing"):
        lab.build_indexes(random_shop, {"idx_bad": "CREATE INDEX idx_bad ON events (nothing)"})
    lab.copy_live(random_shop)
    unbuilt: dict[str, str] = {}
    statements = {"idx_bad": "CREATE INDEX idx_bad ON events (nothing)"} | STATEMENTS
    assert set(lab.build_indexes(random_shop, statements, unbuilt)) == set(STATEMENTS)
    assert "nothing" in unbuilt["idx_bad"]


def test_a_copy_is_used_again_only_while_it_has_no_further_index(random_shop: PostgresResource) -> None:
    assert not lab.reuse_copy(random_shop)
    lab.copy_live(random_shop)
    assert lab.reuse_copy(random_shop)
    lab.build_indexes(random_shop, STATEMENTS)
    assert not lab.reuse_copy(random_shop)


def test_every_copy_is_vacuumed_and_analysed(random_shop: PostgresResource) -> None:
    lab.copy_live(random_shop)
    lab.build_indexes(random_shop, STATEMENTS)
    lab.copy_with_summaries(random_shop)
    with random_shop.connect() as connection:
        rows = connection.execute(
            "SELECT relname, reltuples, relallvisible >= relpages FROM pg_class c JOIN pg_namespace n"
            r" ON n.oid = relnamespace WHERE nspname LIKE 'lab\_%' AND relkind = 'r'"
        ).fetchall()
    assert len(rows) == 8
    assert all(tuples > 0 and visible for _, tuples, visible in rows)


def test_copying_leaves_the_live_tables_alone(random_shop: PostgresResource) -> None:
    with random_shop.connect() as connection:
        before = live_state(connection)
    lab.copy_live(random_shop)
    lab.build_indexes(random_shop, STATEMENTS)
    lab.copy_with_summaries(random_shop)
    lab.drop_copies(random_shop)
    with random_shop.connect() as connection:
        assert live_state(connection) == before
        assert schemas(connection) == set()


def test_a_large_shop_is_copied_in_part_with_all_events_of_the_chosen_users(random_shop: PostgresResource) -> None:
    assert lab.copy_live(random_shop, sample_events=5_000) == 4
    with random_shop.connect() as connection:
        rows, _ = lab.fingerprint_table(connection, lab.COPY, "events")
        torn = connection.execute(
            "SELECT count(*) FROM public.events WHERE user_id IN (SELECT user_id FROM lab_copy.events)"
        ).fetchone()
        products = lab.fingerprint_table(connection, lab.COPY, "products")[0]
    assert 3_000 < rows < 7_000
    assert torn == (rows,)
    assert products == 20


@pytest.mark.fault
def test_what_a_killed_run_left_is_replaced(random_shop: PostgresResource) -> None:
    lab.copy_live(random_shop)
    lab.build_indexes(random_shop, STATEMENTS)
    with random_shop.connect() as connection:
        connection.execute("DELETE FROM events WHERE event_id <= 100")
    lab.copy_live(random_shop)
    with random_shop.connect() as connection:
        assert schemas(connection) == {lab.COPY}
        assert lab.fingerprint_table(connection, lab.COPY, "events")[0] == 19_900


def test_a_schema_that_somebody_else_made_is_never_dropped(random_shop: PostgresResource) -> None:
    with random_shop.connect() as connection:
        connection.execute("CREATE SCHEMA lab_summaries")
    with pytest.raises(MeasurementError, match="lab_summaries was not made by the platform"):
        lab.copy_live(random_shop)
    with random_shop.connect() as connection:
        assert schemas(connection) == {"lab_summaries"}


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


@pytest.mark.fault
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
