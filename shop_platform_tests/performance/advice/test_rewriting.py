"""Rewritings and summary tables: the same answer as the query's, to the last digit and in the same order, or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from shop_platform.errors import DataError
from shop_platform.performance.advice.catalog import Table, read_catalog
from shop_platform.performance.advice.rewriting import rewrite, summary
from shop_platform.resources.postgres import Connection, PostgresResource
from shop_platform_tests.performance.advice.examples import QUERIES
from shop_platform_tests.performance.advice.shop import CATALOG

COUNTED_APART = {
    "weekly_active_users": QUERIES["weekly_active_users"],
    "no groups": "SELECT COUNT(DISTINCT user_id) FROM events WHERE timestamp < '2025-03-01'",
    "nothing to count": "SELECT COUNT(DISTINCT city), COUNT(*) AS n, COUNT(city), MAX(city) FROM users WHERE name = ''",
    "nulls": "SELECT country, COUNT(DISTINCT city) AS cities FROM users GROUP BY country ORDER BY country NULLS FIRST",
    "others": """
        SELECT event_type AS kind, COUNT(DISTINCT user_id) AS u, COUNT(*), COUNT(product_id) + 1, SUM(price),
               MIN(price), MAX(timestamp) AS latest, SUM(event_id) AS ids
        FROM events JOIN products USING (product_id) WHERE price > 20 OR category = 'category 1'
        GROUP BY event_type HAVING COUNT(*) > 5 AND COUNT(DISTINCT user_id) > 3
        ORDER BY COUNT(DISTINCT user_id) DESC, kind DESC
    """,
    "cut": """
        SELECT product_id, event_type, COUNT(DISTINCT user_id) AS n FROM events
        GROUP BY product_id, 2 ORDER BY n DESC, 1, event_type LIMIT 7 OFFSET 2
    """,
    "alias like a column": """
        SELECT date_trunc('month', timestamp) AS timestamp, COUNT(DISTINCT product_id) AS user_id
        FROM events GROUP BY date_trunc('month', timestamp) ORDER BY 1
    """,
    "common table": """
        WITH bought AS (SELECT * FROM events WHERE event_type = 'purchased')
        SELECT b.product_id, COUNT(DISTINCT b.user_id) FROM bought b GROUP BY b.product_id ORDER BY b.product_id
    """,
    "expressions": """
        SELECT upper(category) || '!' AS shouted, COUNT(DISTINCT left(user_id, 2)) * 2 AS twice
        FROM events e LEFT JOIN products p ON p.product_id = e.product_id
        GROUP BY upper(category) || '!' ORDER BY shouted
    """,
    "many common tables": """
        WITH a AS (SELECT user_id, product_id FROM events),
        b AS (SELECT DISTINCT product_id AS p FROM a WHERE user_id < 'u3')
        SELECT a.product_id AS pairs, COUNT(DISTINCT user_id) FROM a JOIN b AS counted ON counted.p = a.product_id
        GROUP BY pairs ORDER BY pairs
    """,
    "counted key": "SELECT user_id, COUNT(DISTINCT user_id) AS n FROM events GROUP BY user_id ORDER BY user_id LIMIT 3",
    "parameters": """
        SELECT event_type, COUNT(DISTINCT user_id) FROM events
        WHERE user_id <> %(user_id)s AND event_type LIKE '%%e%%' GROUP BY event_type ORDER BY event_type
    """,
}

COUNTED_FIRST = {
    "revenue_by_category": QUERIES["revenue_by_category"],
    "conditions of both": """
        SELECT name, category, COUNT(*) AS n, SUM(price) AS revenue, MIN(price) AS price
        FROM products p INNER JOIN events e ON (e.product_id = p.product_id)
        WHERE timestamp >= '2025-02-01' AND price > 10 AND (event_type = 'viewed' OR user_id = 'u1')
        GROUP BY name, category HAVING SUM(price) > 100 ORDER BY SUM(price) DESC, name, category
    """,
    "no groups": "SELECT SUM(price), COUNT(*) FROM events JOIN products USING (product_id) WHERE user_id = 'u5'",
    "no rows": "SELECT SUM(price) AS s, COUNT(*) FROM events JOIN products USING (product_id) WHERE user_id = ''",
    "by key": """
        SELECT product_id, name, SUM(price) AS s, COUNT(*) FROM events JOIN products USING (product_id)
        WHERE event_type = %(event_type)s GROUP BY product_id, name ORDER BY s DESC, product_id LIMIT 5
    """,
}

NOT_REWRITTEN = {
    "two things": "SELECT COUNT(DISTINCT user_id), COUNT(DISTINCT product_id) FROM events",
    "a mean": "SELECT event_type, COUNT(DISTINCT user_id), AVG(event_id) FROM events GROUP BY event_type",
    "floating point": "SELECT COUNT(DISTINCT user_id), SUM(event_id::float8) FROM events",
    "a filter": "SELECT COUNT(DISTINCT user_id) FILTER (WHERE event_type = 'viewed') FROM events",
    "an unknown function": "SELECT COUNT(DISTINCT user_id) FROM events WHERE random() < 0.5",
    "an unknown aggregate": "SELECT COUNT(DISTINCT user_id), array_agg(user_id) FROM events",
    "rows": "SELECT COUNT(DISTINCT (user_id, product_id)) FROM events",
    "positions": "SELECT event_type, COUNT(DISTINCT user_id) FROM events WHERE user_id > %s GROUP BY event_type",
    "ties at the cut": "SELECT user_id, COUNT(DISTINCT product_id) n FROM events GROUP BY user_id ORDER BY n LIMIT 3",
    "rollup": "SELECT event_type, COUNT(DISTINCT user_id) FROM events GROUP BY ROLLUP (event_type)",
    "grouping sets": "SELECT event_type, COUNT(DISTINCT user_id) FROM events GROUP BY GROUPING SETS ((event_type), ())",
    "windows": "SELECT event_type, COUNT(DISTINCT user_id), row_number() OVER () FROM events GROUP BY event_type",
    "distinct on": "SELECT DISTINCT ON (event_type) event_type, COUNT(DISTINCT user_id) FROM events GROUP BY 1",
    "hangs on a key": """
        SELECT p.name, COUNT(DISTINCT e.user_id) FROM events e JOIN products p USING (product_id) GROUP BY p.product_id
    """,
    "a subquery": "SELECT COUNT(DISTINCT user_id), (SELECT COUNT(*) FROM users) FROM events",
    "no groups": "SELECT * FROM events",
    "union": "SELECT COUNT(DISTINCT user_id) FROM events UNION SELECT COUNT(DISTINCT user_id) FROM users",
    "another table": "SELECT COUNT(DISTINCT user_id) FROM orders",
    "an outer join": "SELECT SUM(price) FROM events LEFT JOIN products USING (product_id)",
    "both in one condition": """
        SELECT SUM(price) FROM events JOIN products USING (product_id) WHERE user_id = 'a' OR price > 5
    """,
    "facts added up": "SELECT SUM(event_id * price) FROM events JOIN products USING (product_id)",
    "counted in order": "SELECT COUNT(DISTINCT user_id), COUNT(DISTINCT user_id ORDER BY user_id) FROM events",
    "natural joins": "SELECT COUNT(DISTINCT user_id) FROM events NATURAL JOIN products",
    "percents": "SELECT COUNT(DISTINCT user_id) FROM events WHERE event_id %% 2 = 0 AND user_id > %(user_id)s",
    "a column of who knows what": "SELECT COUNT(DISTINCT user_id) FROM events, generate_series(1, 2) GROUP BY nothing",
    "not the key": "SELECT SUM(price) FROM events JOIN products ON name = event_type",
    "groups of facts": "SELECT user_id, SUM(price) FROM events JOIN products USING (product_id) GROUP BY user_id",
}


@pytest.fixture
def people(random_shop: PostgresResource) -> PostgresResource:
    """The random shop with some cities, some of them and some countries unknown."""
    with random_shop.connect() as connection:
        connection.execute(
            "UPDATE users SET city = CASE WHEN n % 3 > 0 THEN 'city ' || n % 7 END,"
            " country = CASE WHEN n % 4 > 0 THEN 'land ' || n % 4 END"
            " FROM (SELECT user_id, substr(user_id, 2)::int AS n FROM users) AS numbered"
            " WHERE numbered.user_id = users.user_id"
        )
    return random_shop


def ask(connection: Connection, text: str) -> tuple[list[tuple[Any, ...]], list[tuple[str, int]]]:
    """The answer as text, to the last digit, and the names and types of its columns."""
    values = {"user_id": "u7", "event_type": "purchased"} if "%(" in text else None
    cursor = connection.execute(text, values)
    rows = [tuple(map(repr, row)) for row in cursor.fetchall()]
    return rows, [(column.name, column.type_code) for column in cursor.description or []]


@pytest.mark.parametrize("name", COUNTED_APART)
def test_distinct_counts_in_two_levels_give_the_same(people: PostgresResource, name: str) -> None:
    with people.connect() as connection:
        _rewritten_gives_the_same(connection, COUNTED_APART[name], "AS pairs")


@pytest.mark.parametrize("name", COUNTED_FIRST)
def test_facts_counted_first_give_the_same(people: PostgresResource, name: str) -> None:
    with people.connect() as connection:
        _rewritten_gives_the_same(connection, COUNTED_FIRST[name], "AS counted")


def _rewritten_gives_the_same(connection: Connection, text: str, mark: str) -> None:
    made = rewrite(text, CATALOG)
    assert made is not None
    assert mark in made.text
    assert made.ordered
    answer = ask(connection, text)
    assert answer[0]
    assert ask(connection, made.text) == answer


@pytest.mark.parametrize("name", NOT_REWRITTEN)
def test_what_might_differ_is_not_rewritten(name: str) -> None:
    assert rewrite(NOT_REWRITTEN[name], CATALOG) is None


def test_sums_of_every_whole_type_are_the_same(postgres: PostgresResource) -> None:
    """Near the ends of their ranges, where products of counts and values would not fit."""
    with postgres.connect() as connection:
        connection.execute(
            "CREATE TABLE dim (id integer PRIMARY KEY, small smallint, whole integer, big bigint, exact numeric,"
            " inexact double precision, label text);"
            "CREATE TABLE fact (id integer, other integer);"
            "INSERT INTO dim VALUES (1, 32767, 2147483647, 9223372036854775807, 0.10, 0.1, 'x'),"
            " (2, -5, -5, -5, 1e20, 1e20, 'x'), (3, NULL, NULL, NULL, NULL, NULL, NULL), (4, 1, 1, 1, 1, 1, 'alone');"
            "INSERT INTO fact SELECT 1 + n % 4, n FROM generate_series(0, 99) AS n; DELETE FROM fact WHERE id = 4;"
            "INSERT INTO fact VALUES (NULL, 1); ANALYZE"
        )
        catalog = read_catalog(connection, "public", ["dim", "fact"])
        for column in ("small", "whole", "big", "exact"):
            text = f"SELECT label, SUM({column}) AS s FROM fact JOIN dim USING (id) GROUP BY label ORDER BY label"  # noqa: S608
            made = rewrite(text, catalog)
            assert made is not None
            assert ask(connection, made.text) == ask(connection, text)
            text = text.replace(" AS s", ", COUNT(DISTINCT other)")
            made = rewrite(text, catalog)
            assert made is not None
            assert ask(connection, made.text) == ask(connection, text)
        assert rewrite("SELECT SUM(inexact) FROM fact JOIN dim USING (id)", catalog) is None


SUMMARISED: Mapping[str, str | None] = {
    QUERIES["revenue_by_category"]: "category",
    QUERIES["weekly_active_users"]: "week",
    QUERIES["top_products"]: "product_id, name",
    QUERIES["self_join"]: "product_id, other",
    QUERIES["day_in_utc"].replace("ANY(%(product_ids)s)", "'p1'"): "day",
    COUNTED_APART["cut"]: "product_id, event_type",
    COUNTED_APART["nulls"]: "country",
    COUNTED_APART["others"]: "kind",
    COUNTED_APART["alias like a column"]: '"timestamp"',
    "SELECT COUNT(*) AS n FROM events GROUP BY event_type HAVING COUNT(*) > 1 ORDER BY event_type": None,
    "SELECT city, country, AVG(1.0 / length(user_id)) a FROM users GROUP BY 2, city ORDER BY AVG(1.0) * 2, a, 1, 2":
        "country, city",
    'SELECT event_type AS "order", COUNT(*) AS "N" FROM events GROUP BY 1 ORDER BY "N" DESC, 1 LIMIT 2': '"order"',
    "SELECT DISTINCT COUNT(*) AS n FROM events GROUP BY user_id ORDER BY n": None,
    "SELECT event_type, product_id, COUNT(*) FROM events GROUP BY ROLLUP (event_type, product_id)"
    " ORDER BY event_type NULLS FIRST, product_id": None,
}  # fmt: skip


@pytest.mark.parametrize("text", SUMMARISED)
@pytest.mark.parametrize("known", [True, False])
def test_a_summary_gives_the_same(people: PostgresResource, text: str, known: bool) -> None:
    made = summary(text, "The summary", CATALOG if known else None)
    if made is None:
        assert not known
        assert "LIMIT" in text
        return
    with people.connect() as connection:
        connection.execute(made.create)
        if made.key is not None:
            connection.execute(made.key)
        if known:
            columns = SUMMARISED[text]
            assert made.key == (columns and f'ALTER TABLE "The summary" ADD UNIQUE NULLS NOT DISTINCT ({columns});')
        assert 'FROM "The summary"' in made.text
        assert "events" not in made.text
        answer = ask(connection, text)
        assert answer[0]
        assert ask(connection, made.text) == answer


def test_a_summary_does_not_follow_changes_and_says_so(
    random_shop: PostgresResource, catalog: dict[str, Table]
) -> None:
    text = "SELECT event_type, COUNT(*) AS n FROM events GROUP BY event_type ORDER BY event_type"
    made = summary(text, "by_type", catalog)
    assert made is not None
    with random_shop.connect() as connection:
        connection.execute(made.create)
        connection.execute("DELETE FROM events WHERE event_type = 'viewed'")
        assert ask(connection, made.text) != ask(connection, text)
    assert "snapshot" in made.fresh
    assert "after each change of events" in made.fresh


@pytest.mark.parametrize(
    "text",
    [
        "SELECT user_id FROM events",
        "SELECT COUNT(*) FROM events",
        QUERIES["day_in_utc"],
        QUERIES["union"],
        "SELECT event_type, COUNT(*) FROM events WHERE timestamp > now() - interval '1 day' GROUP BY 1",
        "SELECT event_type, COUNT(*) FROM events WHERE timestamp > current_date GROUP BY 1",
        "SELECT event_type, COUNT(*) FROM events WHERE timestamp > LOCALTIMESTAMP GROUP BY 1",
        "SELECT event_type, random() FROM events GROUP BY 1",
        "SELECT event_type, COUNT(*), COUNT(*) FROM events GROUP BY 1",
        "SELECT user_id, COUNT(*) AS n FROM events GROUP BY 1 ORDER BY n LIMIT 3",
        "SELECT DISTINCT ON (event_type) event_type, user_id FROM events GROUP BY 1, 2",
        "SELECT event_type, COUNT(*) FROM events TABLESAMPLE system (50) GROUP BY 1",
    ],
)
def test_what_can_not_be_kept_gets_no_summary(text: str) -> None:
    assert summary(text, "kept", CATALOG) is None


def test_anything_but_one_select_is_refused() -> None:
    with pytest.raises(DataError, match="this is DELETE"):
        rewrite("DELETE FROM events", CATALOG)
    with pytest.raises(DataError, match="2 statements"):
        summary("SELECT 1; SELECT 2", "kept", CATALOG)
