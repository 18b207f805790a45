"""SQL files of any bytes, and of any words of SQL: advised on, or refused by an error that says why."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shop_platform.performance.advice.candidates import index_candidates
from shop_platform.performance.advice.parsing import tables_of
from shop_platform.performance.advice.rewriting import rewrite, summary
from shop_platform.performance.queries import measured_queries
from shop_platform_tests.performance.advice.examples import QUERIES
from shop_platform_tests.performance.advice.shop import CATALOG

from .cases import TOTAL, cases, damaged, reworded, taken, write
from .test_files import folder_of

pytestmark = pytest.mark.timeout(300 + TOTAL)

TEXTS = [f'-- Who?\n-- Parameter: user_id = "u7"\n{text}'.encode() for text in QUERIES.values()]

_WORDS = """
SELECT FROM WHERE GROUP BY ORDER LIMIT 1 JOIN ON USING AND OR NOT IN ( ) , * = <> < . ; : :: AS COUNT( SUM( MAX(
DISTINCT events users products user_id product_id timestamp event_type price category e u '' 'viewed' " NULL IS
BETWEEN WITH RECURSIVE UNION ALL HAVING CASE WHEN THEN ELSE END OVER PARTITION INTERVAL CAST EXTRACT ROLLUP LATERAL
FILTER EXISTS ANY ARRAY [ ] $$ $1 %s %(user_id)s %% 0x1F 1e400 -- /* */ FOR UPDATE INTO DELETE VALUES LIKE
"""

#: Words, numbers, texts and signs of each query.
SPLIT = [re.findall(r"'[^']*'|\w+|\S", text) for text in QUERIES.values()]

WORDS = st.sampled_from(sorted(set(_WORDS.split())))


@cases("query bytes")
@given(st.sampled_from(TEXTS).flatmap(damaged))
@example(b"SELECT '\xff'")
@example(b"-- Parameter: a = " + b"9" * 5_000 + b"\nSELECT 1")
@example(b"SELECT " + b"(" * 5_000)
def test_a_query_of_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    advise(tmp_path_factory, content)


@cases("query words")
@given(st.sampled_from(SPLIT).flatmap(lambda words: reworded(words, WORDS)))
def test_a_query_of_any_words(tmp_path_factory: pytest.TempPathFactory, words: list[str]) -> None:
    advise(tmp_path_factory, " ".join(words).encode())


def advise(factory: pytest.TempPathFactory, content: bytes) -> None:
    """Read a file as SHOP_QUERIES has it, and all that is proposed for it without a server."""
    folder = folder_of(factory)
    write(folder / "mine.sql", content)
    queries = taken(lambda: measured_queries(folder))
    if queries is None:
        return
    (mine,) = (query for query in queries if query.name == "mine")
    for look in (
        lambda: tables_of(mine.text),
        lambda: index_candidates(mine.text, CATALOG),
        lambda: rewrite(mine.text, CATALOG),
        lambda: summary(mine.text, "kept", CATALOG),
    ):
        taken(look)
