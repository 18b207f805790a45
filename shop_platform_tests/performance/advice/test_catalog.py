"""The catalog as PostgreSQL has it; and what advice knows of PostgreSQL by heart, against the server."""

from __future__ import annotations

import subprocess
import sys

import psycopg
import pytest

from shop_platform.errors import DataError
from shop_platform.performance.advice.catalog import Column, Table, read_catalog
from shop_platform.performance.advice.immutable import immutable_family
from shop_platform.performance.advice.parsing import qualified, tables_of, written
from shop_platform.performance.advice.quoting import KEYWORDS, quoted
from shop_platform.resources.postgres import PostgresResource
from shop_platform_tests.performance.advice.examples import QUERIES


def test_the_catalog_has_rows_sizes_keys_and_statistics(catalog: dict[str, Table]) -> None:
    events = catalog["events"]
    assert (events.name, events.rows, events.primary_key) == ("events", 20_000, ("event_id",))
    assert events.size_bytes > 1_000_000
    assert [(column.name, column.type) for column in events.columns] == [
        ("event_id", "bigint"),
        ("user_id", "text"),
        ("product_id", "text"),
        ("event_type", "text"),
        ("timestamp", "timestamp with time zone"),
    ]
    distinct = {column.name: column.distinct for column in events.columns}
    assert distinct["event_id"] == pytest.approx(20_000)
    assert distinct["event_type"] == 3
    assert distinct["user_id"] == pytest.approx(500, rel=0.1)
    event_id = events.column("event_id")
    assert event_id is not None
    assert event_id.correlation == pytest.approx(1.0)
    assert event_id.width == 8
    assert events.column("nothing") is None
    price = catalog["products"].column("price")
    assert price is not None
    assert price.type == "numeric(12,2)"


def test_keys_of_several_columns_keep_their_order(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        connection.execute(
            'CREATE TABLE "Odd one" (a int, "B c" int, gone int, v int GENERATED ALWAYS AS (a * 2) VIRTUAL,'
            ' PRIMARY KEY ("B c", a)); ALTER TABLE "Odd one" DROP COLUMN gone; ANALYZE "Odd one"'
        )
        table = read_catalog(connection, "public", ["Odd one"])["Odd one"]
    assert table.primary_key == ("B c", "a")
    # A virtual column can't be indexed.
    assert table.columns == (Column("a", "integer"), Column("B c", "integer"))


def test_tables_that_can_not_be_indexed_are_named(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        connection.execute("CREATE VIEW seen AS SELECT 1 AS one")
        with pytest.raises(DataError, match="nowhere, seen"):
            read_catalog(connection, "public", ["seen", "nowhere"])
        connection.execute("CREATE TABLE fresh (one int)")
        with pytest.raises(DataError, match=r"no statistics on public\.fresh"):
            read_catalog(connection, "public", ["fresh"])


def test_tables_of_a_query_are_those_that_it_reads() -> None:
    assert tables_of(QUERIES["funnel"]) == {"events"}
    assert tables_of(QUERIES["subquery"]) == {"events", "products"}
    assert tables_of('SELECT * FROM Events, "Events", public.users, generate_series(1, 2)') == {
        "events",
        "Events",
        "users",
    }


EXACT = [
    "7 / 2, 7.0 / 2, -7 % 3, 2 ^ 3, 1 - (2 - 3), 8 / (4 / 2), 1e3, .5",
    r"E'a\nb\\c', 'a\nb', 'it''s', $$dollar$$, 'a%c' LIKE 'a#%c' ESCAPE '#', 'aBc' ILIKE '%B%', 'abc' ~* 'B'",
    "1 IS DISTINCT FROM NULL, NOT 1 IN (1, 2), 3 BETWEEN 1 AND 5, 1 = ANY(ARRAY[1, 2]), (1, 2) < (1, 3)",
    "(ARRAY[1, 2, 3])[2], ARRAY[1, 2] @> ARRAY[1], '{\"a\": 1}'::jsonb ->> 'a', '{\"a\": 1}'::jsonb ? 'a'",
    "date_part('isodow', date '2025-01-05'), EXTRACT(epoch FROM timestamp '2025-01-01'), floor(2.5), ceil(2.5)",
    "to_char(timestamp '2025-03-04 15:00', 'YYYY-MM-DD HH24:MI \"x\"'), to_date('05 Dec 2000', 'DD Mon YYYY')",
    "interval '1 month 2 days', timestamp '2025-01-01' + interval '1' day, make_interval(days => 3)",
    "substring('abcdef' FROM 2 FOR 3), substring('abc' FROM 'b.'), trim(leading 'a' from 'aa'), position('c' in 'abc')",
    "CASE 1 WHEN 1 THEN 'a' END, coalesce(NULL, 'a'), greatest(1, NULL, 3), round(1.005, 2), 1::text || 'a'",
    "(SELECT string_agg(x, ',' ORDER BY x DESC) FROM (VALUES ('a'), ('b')) AS v (x))",
    "'2025-01-01'::timestamptz AT TIME ZONE 'Europe/Berlin', date_trunc('quarter', timestamp '2025-05-05')",
]


@pytest.mark.parametrize("selected", EXACT)
def test_what_is_written_means_what_was_read(postgres: PostgresResource, selected: str) -> None:
    query = qualified(f"SELECT {selected}", {})
    assert query is not None
    with postgres.connect() as connection:
        cursors = [connection.execute(text) for text in (f"SELECT {selected}", written(query))]
        answers = [
            (cursor.fetchall(), [(column.name, column.type_code) for column in cursor.description or []])
            for cursor in cursors
        ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("name", ["a", "timestamp", "order", "Mixed", 'say "x"', "1st", "_x", "user", "day"])
def test_names_are_quoted_as_postgresql_does(postgres: PostgresResource, name: str) -> None:
    with postgres.connect() as connection:
        row = connection.execute("SELECT quote_ident(%s)", [name]).fetchone()
    assert row == (quoted(name),)


def test_all_words_that_need_quotes_are_known(postgres: PostgresResource) -> None:
    with postgres.connect() as connection:
        rows = connection.execute("SELECT word FROM pg_get_keywords() WHERE catcode <> 'U'").fetchall()
    assert {word for (word,) in rows} == KEYWORDS


EXPRESSIONS = [
    "lower(t)",
    "upper(t)",
    "LOWER(t || 'x')",
    "left(t, 2)",
    "right(t, 2)",
    "substr(t, 2)",
    "substr(t, 2, 3)",
    "btrim(t)",
    "md5(t)",
    "length(t) + 1",
    "replace(t, 'a', 'b')",
    "split_part(t, '-', 1)",
    "strpos(t, 'a')",
    "t::varchar",
    "abs(i) % 5",
    "-i * 2 / 3 - 1",
    "round(n)",
    "floor(n)",
    "ceil(n)",
    "i::numeric",
    "n::int",
    "d + 7",
    "d - i",
    "d::timestamp",
    "ts::date",
    "ts::time",
    "date_trunc('week', ts)",
    "date_trunc('week', tz, 'UTC')",
    "(tz AT TIME ZONE 'UTC')::date",
    "date_trunc('day', tz AT TIME ZONE 'Europe/Berlin')",
    "ts AT TIME ZONE 'UTC'",
    "date_bin('15 minutes', tz, timestamptz '2020-01-01 00:00+00')",
    "date_bin(interval '15 minutes', ts, timestamp '2020-01-01')",
    "date_part('year', ts)",
    "EXTRACT(ISODOW FROM ts)",
    "EXTRACT(YEAR FROM d)",
    # Not immutable, or nobody knows.
    "date_trunc('week', tz)",
    "date_trunc('week', d)",
    "tz::date",
    "tz::timestamp",
    "ts::timestamptz",
    "d::timestamptz",
    "tz::text",
    "d::text",
    "t::date",
    "EXTRACT(HOUR FROM tz)",
    "date_part('year', tz)",
    "to_char(tz, 'YYYY')",
    "tz + interval '1 day'",
    "concat(t, 'x')",
    "t || i",
    "tz AT TIME ZONE t",
    "now() - tz",
    "random() + i",
    "i + CURRENT_DATE",
    "nosuch(t)",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_is_taken_for_immutable_can_be_indexed(postgres: PostgresResource, expression: str) -> None:
    types = {
        "t": "text",
        "i": "integer",
        "n": "numeric(12,2)",
        "d": "date",
        "ts": "timestamp without time zone",
        "tz": "timestamp(3) with time zone",
    }
    catalog = {"x": Table("x", 1, 1, tuple(Column(*each) for each in types.items()))}
    query = qualified(f"SELECT {expression} FROM x", catalog)  # noqa: S608
    assert query is not None
    tree = query.expressions[0].unalias()
    immutable = immutable_family(tree, types) is not None
    with postgres.connect() as connection:
        connection.execute(f"CREATE TABLE x ({', '.join(f'{name} {type_}' for name, type_ in types.items())})")
        try:
            connection.execute(f"CREATE INDEX ON x (({written(tree)}))")
            indexed = True
        except psycopg.Error:
            connection.rollback()
            indexed = False
    if immutable:
        assert indexed
    assert immutable == (EXPRESSIONS.index(expression) < EXPRESSIONS.index("date_trunc('week', tz)"))


def test_sqlglot_is_not_loaded_with_the_modules() -> None:
    script = (
        "import sys, shop_platform.performance.advice.candidates, shop_platform.performance.advice.choice,"
        " shop_platform.performance.advice.rewriting; sys.exit('sqlglot' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
