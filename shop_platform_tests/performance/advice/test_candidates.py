"""Proposed indexes: each can be built, has its own name, and follows from what the query says."""

from __future__ import annotations

import re

import psycopg
import pytest
from psycopg import sql

from shop_platform import sqlfiles
from shop_platform.errors import DataError
from shop_platform.performance.advice.candidates import Candidate, check_select, index_candidates
from shop_platform.performance.advice.catalog import Column, Table
from shop_platform.resources.postgres import Connection, PostgresResource
from shop_platform_tests.performance.advice.examples import QUERIES, VALUES
from shop_platform_tests.performance.advice.shop import CATALOG


def definitions(text: str, most: int = 100) -> dict[str, str]:
    return {each.definition: each.kind for each in index_candidates(text, CATALOG, most)}


def build(connection: Connection, candidate: Candidate) -> None:
    connection.execute(candidate.create())
    state = connection.execute(
        "SELECT indisvalid, indrelid::regclass::text FROM pg_index WHERE indexrelid = quote_ident(%s)::regclass",
        [candidate.name],
    ).fetchone()
    assert state == (True, candidate.table), candidate


def test_every_candidate_can_be_built_and_is_valid(random_shop: PostgresResource, catalog: dict[str, Table]) -> None:
    built: dict[str, str] = {}
    with random_shop.connect() as connection:
        for text in QUERIES.values():
            for candidate in index_candidates(text, catalog, most=100):
                if built.setdefault(candidate.name, candidate.definition) == candidate.definition:
                    with connection.transaction(force_rollback=True):
                        build(connection, candidate)
                else:
                    pytest.fail(f"{candidate.name} is two indexes: {candidate.definition}; {built[candidate.name]}")
    assert len(built) > 60


@pytest.mark.parametrize("name", QUERIES)
def test_every_example_is_a_query(random_shop: PostgresResource, name: str) -> None:
    check_select(QUERIES[name])
    with random_shop.connect() as connection:
        connection.execute(QUERIES[name], VALUES if "%(" in QUERIES[name] else None)


@pytest.mark.parametrize("name", QUERIES)
def test_every_example_gets_few_different_candidates_with_a_sentence(name: str) -> None:
    candidates = index_candidates(QUERIES[name], CATALOG)
    assert 0 < len(candidates) <= 12
    assert len({each.name for each in candidates}) == len({each.definition for each in candidates}) == len(candidates)
    assert all(len(each.name) <= 63 and re.fullmatch(r"[a-z0-9_]+", each.name) for each in candidates)
    assert all(re.fullmatch(r"[A-Z][^\n]+\.", each.reason) for each in candidates)
    assert index_candidates(QUERIES[name], CATALOG) == candidates
    assert index_candidates(QUERIES[name], dict(reversed(CATALOG.items()))) == candidates


def test_a_short_list_has_the_first_of_each_kind() -> None:
    text = "SELECT product_id FROM events WHERE timestamp > '2025-02-01' AND event_type = 'viewed'"
    assert [each.kind for each in index_candidates(text, CATALOG, most=4)] == [
        "covering",
        "partial",
        "composite",
        "brin",
    ]


def test_purchases_by_product_are_an_index_of_purchases_only() -> None:
    found = {each.name: each for each in index_candidates(QUERIES["revenue_by_category"], CATALOG)}
    best = found["idx_events_purchased_product_id"]
    assert best.definition == "USING btree (product_id) WHERE event_type = 'purchased'"
    assert best.create("public", concurrently=True) == (
        "CREATE INDEX CONCURRENTLY idx_events_purchased_product_id ON public.events "
        "USING btree (product_id) WHERE event_type = 'purchased';"
    )


def test_the_index_of_purchases_answers_without_the_table(
    random_shop: PostgresResource, catalog: dict[str, Table]
) -> None:
    text = QUERIES["revenue_by_category"]
    partial = next(each for each in index_candidates(text, catalog) if "WHERE" in each.definition)
    with random_shop.connect() as connection:
        connection.execute(partial.create())
        connection.execute("SET LOCAL enable_seqscan = off")
        plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {text}").fetchall())
    assert f"Index Only Scan using {partial.name} on events" in plan


@pytest.mark.parametrize("name", ["week_in_utc", "day_in_utc", "pattern"])
def test_the_planner_recognises_indexed_expressions(
    random_shop: PostgresResource, catalog: dict[str, Table], name: str
) -> None:
    found = [each for each in index_candidates(QUERIES[name], catalog, most=100) if each.kind == "expression"]
    assert found
    with random_shop.connect() as connection:
        connection.execute("SET LOCAL enable_seqscan = off")
        for candidate in found:
            with connection.transaction(force_rollback=True):
                connection.execute(candidate.create())
                cursor = psycopg.ClientCursor(connection)
                cursor.execute(f"EXPLAIN {QUERIES[name]}", VALUES if "%(" in QUERIES[name] else None)
                assert candidate.name in "\n".join(line for (line,) in cursor.fetchall())


@pytest.mark.parametrize(
    ("text", "definition", "kind"),
    [
        # Equal columns first, the one of most values first; then the range, or the order.
        (
            "SELECT 1 FROM events WHERE product_id = %s AND user_id = %s AND timestamp > %s",
            'USING btree (user_id, product_id, "timestamp")',
            "covering",
        ),
        (QUERIES["point_lookup"], 'USING btree (user_id, "timestamp")', "composite"),
        (QUERIES["extremes"], "USING btree (\"timestamp\") WHERE user_id = 'u9'", "partial"),
        (
            QUERIES["mixed_order"],
            'USING btree ("timestamp" DESC NULLS LAST, user_id, event_id DESC)',
            "covering",
        ),
        # What is counted distinctly by week, in both orders.
        (QUERIES["weekly_active_users"], 'USING btree ("timestamp", user_id)', "covering"),
        (QUERIES["weekly_active_users"], 'USING btree (user_id, "timestamp")', "covering"),
        # Expressions that never change, as the query says them.
        (
            QUERIES["week_in_utc"],
            "USING btree ((date_trunc('week', \"timestamp\", 'UTC')), user_id) INCLUDE (\"timestamp\")",
            "expression",
        ),
        ("SELECT 1 FROM users WHERE lower(email) = %s", "USING btree ((LOWER(email)))", "expression"),
        (QUERIES["lower"], "USING btree (city text_pattern_ops)", "composite"),
        # Rows in order.
        ("SELECT * FROM events WHERE timestamp > now() - interval '1 day'", 'USING brin ("timestamp")', "brin"),
        # Included columns make an index-only scan possible.
        (
            "SELECT timestamp FROM events WHERE user_id = %s",
            'USING btree (user_id) INCLUDE ("timestamp")',
            "covering",
        ),
        (
            "SELECT timestamp FROM events JOIN products USING (product_id) WHERE event_type = 'viewed'",
            "USING btree (product_id) INCLUDE (\"timestamp\") WHERE event_type = 'viewed'",
            "covering",
        ),
        # A condition on the side that an outer join may leave empty limits that side's rows.
        (
            "SELECT u.user_id FROM users u LEFT JOIN events e ON e.user_id = u.user_id AND e.event_type = 'viewed'",
            "USING btree (user_id) WHERE event_type = 'viewed'",
            "partial",
        ),
        # `%%` beside placeholders is one `%`.
        (
            "SELECT timestamp FROM events WHERE event_type = '5%%' AND user_id = %(user_id)s",
            "USING btree (user_id) WHERE event_type = '5%'",
            "partial",
        ),
        (
            "SELECT timestamp FROM events WHERE event_type = '5%%'",
            "USING btree (\"timestamp\") WHERE event_type = '5%%'",
            "partial",
        ),
    ],
)  # fmt: skip
def test_what_a_query_says_becomes_an_index(text: str, definition: str, kind: str) -> None:
    assert definitions(text)[definition] == kind


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        # A value that only the parameters tell is no predicate.
        ("SELECT 1 FROM events WHERE event_type = %(user_id)s AND user_id = 'u1'", "WHERE.*event_type ="),
        ("SELECT 1 FROM events WHERE event_type = $1", "WHERE"),
        # One side of an OR does not hold for all rows.
        ("SELECT 1 FROM events WHERE event_type = 'viewed' OR user_id = 'u1'", "WHERE"),
        # The preserved side of an outer join keeps its rows, whatever ON says.
        ("SELECT 1 FROM events e LEFT JOIN users u ON u.user_id = e.user_id AND e.event_type = 'viewed'", "WHERE"),
        ("SELECT COUNT(*) FILTER (WHERE event_type = 'viewed'), MAX(timestamp) FROM events", "WHERE"),
        # These depend on the session's time zone.
        (QUERIES["weekly_active_users"], "date_trunc"),
        ("SELECT 1 FROM events WHERE timestamp::date = '2025-01-01' AND user_id = 'u1'", "CAST"),
        ("SELECT 1 FROM events WHERE EXTRACT(HOUR FROM timestamp) = 5 AND user_id = 'u1'", "EXTRACT"),
        ("SELECT 1 FROM events WHERE to_char(timestamp, 'YYYY') = '2025' AND user_id = 'u1'", "to_char"),
        ("SELECT 1 FROM events WHERE lower(user_id || %(user_id)s) = 'u1' AND user_id > 'a'", "LOWER"),
        # Values without order on disk.
        ("SELECT 1 FROM events WHERE user_id > 'a'", "brin"),
        # No index leads to what a pattern does not begin with.
        ("SELECT 1 FROM products WHERE name LIKE '%a' AND price = 1", "name text"),
        # The primary key does that.
        ("SELECT * FROM events WHERE event_id = 5 AND user_id = 'a'", r"^USING btree \(event_id(, user_id)?\)$"),
        # Another one does that and more.
        ("SELECT name FROM users WHERE city = 'Bern' AND country = 'CH' AND signup_date > '2025-01-01'",
         r"^USING btree \(city, country\)$"),
    ],
)  # fmt: skip
def test_what_can_not_serve_is_not_proposed(text: str, pattern: str) -> None:
    assert definitions(text)
    assert not [each for each in definitions(text) if re.search(pattern, each)]


def test_tables_beside_functions_and_unlisted_ones_get_candidates_too() -> None:
    text = """
        SELECT name, ARRAY(SELECT signup_date + make_interval(days => n) FROM generate_series(0, 9) AS n ORDER BY n)
        FROM users CROSS JOIN generate_series(1, 3) AS period LEFT JOIN other USING (user_id, period)
        WHERE city = 'Bern' AND unlisted > 5 GROUP BY name, signup_date
    """
    assert "USING btree (name, signup_date) INCLUDE (user_id) WHERE city = 'Bern'" in definitions(text)
    assert "USING btree (name, signup_date) WHERE city = 'Bern'" in definitions(text)
    assert definitions(sqlfiles.read_sql("retention/user_periods").text)


def test_percent_signs_beside_placeholders_are_read_as_psycopg_sends_them() -> None:
    text = "SELECT 1 FROM events WHERE event_id %% 2 = 0 AND user_id = %(user_id)s AND product_id = '1_0 0x5%%'"
    assert "USING btree (user_id, (event_id % 2)) WHERE product_id = '1_0 0x5%'" in definitions(text)


def test_other_tables_get_no_index() -> None:
    for text in (
        "SELECT * FROM elsewhere.events WHERE user_id = 'a'",
        "SELECT * FROM orders WHERE user_id = 'a'",
        "WITH events AS (SELECT 1 AS user_id) SELECT * FROM events WHERE user_id = 1",
        "SELECT generate_series(1, 3)",
    ):
        assert index_candidates(text, CATALOG) == []


def test_wide_and_unordered_columns_stay_out_of_indexes() -> None:
    columns = (
        Column("id", "bigint", 10, 1.0, 8),
        Column("body", "text", 10, 0.0, 4_000),
        Column("extra", "json", None, None, 20),
    )
    catalog = {"notes": Table("notes", 10, 8192, columns, ("id",))}
    text = "SELECT id, body FROM notes WHERE body = 'x' AND extra IS NULL AND id > 5"
    assert [each.definition for each in index_candidates(text, catalog)] == [
        "USING btree (id) WHERE id > 5",
        "USING brin (id)",
    ]


def test_odd_names_are_quoted_and_told_apart(postgres: PostgresResource) -> None:
    columns = tuple(Column(name, "integer", 5, 0.0, 4) for name in ("a", "b", "a_b", "b_c", "c", "select", 'Say "x"'))
    catalog = {"The Table": Table("The Table", 10, 8192, columns)}
    query = sql.SQL('SELECT * FROM "The Table" WHERE {} = 1 AND {} > %(b)s')
    built: dict[str, str] = {}
    with postgres.connect() as connection:
        listed = sql.SQL(", ").join(sql.SQL("{} integer").format(sql.Identifier(column.name)) for column in columns)
        connection.execute(sql.SQL('CREATE TABLE "The Table" ({})').format(listed))
        for pair in (("a", "b_c"), ("a_b", "c"), ("select", 'Say "x"'), ("a", "b")):
            text = query.format(*map(sql.Identifier, pair)).as_string()
            for candidate in index_candidates(text, catalog):
                if candidate.name not in built:
                    connection.execute(candidate.create("public"))
                assert built.setdefault(candidate.name, candidate.definition) == candidate.definition
    assert 'USING btree ("select", "Say ""x""")' in built.values()
    assert len(built) >= 15


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 statements"),
        ("-- nothing", "0 statements"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("SELEC 1", "can't be read"),
        ("SELECT (", "can't be read"),
        ("SELECT 'a", "can't be read"),
        ("SELECT 1 FROM events WHERE event_id > 1_000", "1_000 in plain decimal digits"),
        ("DELETE FROM events", "this is DELETE"),
        ("EXPLAIN SELECT 1", "this is EXPLAIN"),
        ("VALUES (1)", "this is VALUES"),
        ("DROP TABLE events", "this is DROP"),
        ("WITH gone AS (DELETE FROM events RETURNING *) SELECT * FROM gone", "contains DELETE"),
        ("WITH a AS (INSERT INTO events DEFAULT VALUES RETURNING 1) SELECT 1", "contains INSERT"),
        ("WITH a AS (UPDATE events SET user_id = 'a' RETURNING 1) SELECT 1", "contains UPDATE"),
        ("SELECT * INTO copy FROM events", "INTO"),
        ("SELECT * FROM events FOR UPDATE", "FOR UPDATE"),
        ("SELECT set_config('role', 'none', false)", "calls set_config"),
        ("SELECT 1 FROM pg_catalog.\"set_config\"('role', 'none', false)", "calls set_config"),
        ("SELECT * FROM (SELECT * FROM events FOR SHARE) AS e", "FOR UPDATE"),
    ],
)
def test_anything_but_one_select_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_select(text)
    with pytest.raises(DataError, match=message):
        index_candidates(text, CATALOG)


@pytest.mark.parametrize("text", ["SELECT 1;", "(SELECT 1)", "WITH a AS (SELECT 1) SELECT * FROM a;;", "SELECT 1 -- ;"])
def test_one_select_may_be_written_in_many_ways(text: str) -> None:
    check_select(text)


def test_an_invalid_index_of_a_failed_build_is_not_taken_for_a_candidate(postgres: PostgresResource) -> None:
    """`build` above would notice: it asks PostgreSQL, not whether the statement went through."""
    candidate = Candidate("idx_users_name", "users", "composite", "USING btree (name)", "For the test.")
    with postgres.connect(autocommit=True) as connection:
        connection.execute("INSERT INTO users (user_id, signup_date, name) VALUES ('a', now(), 'x'), ('b', now(), 'x')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("CREATE UNIQUE INDEX CONCURRENTLY idx_users_name ON users (name)")
        connection.execute("DROP INDEX idx_users_name")
        build(connection, candidate)
