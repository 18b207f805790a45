"""After a demo no secret, and no query that few people typed, stands in what was printed, logged or kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from elasticsearch import Elasticsearch
from psycopg import sql

from shop_platform_tests.acceptance.conftest import SECRET, queries_of
from shop_platform_tests.small import printed_by


def kept_files(shop: dict[str, str]) -> Iterator[tuple[Path, bytes]]:
    """All that the demo printed and keeps in files: report, exports, models, Dagster's runs, events and logs."""
    for path in [printed_by(shop), *Path(shop["SHOP_HOME"]).rglob("*")]:
        if path.is_file():
            yield path, path.read_bytes()


@pytest.mark.fault
def test_no_secret_is_printed_or_kept_in_files(shop: dict[str, str]) -> None:
    files = dict(kept_files(shop))
    # It is searched where it would be: in what was printed, Dagster's events and the report.
    assert {"report.html", "index.db"} <= {path.name for path in files}
    assert b"Report:" in files[printed_by(shop)]
    assert any(b"STEP_SUCCESS" in content for content in files.values())
    assert [str(path) for path, content in files.items() if SECRET.encode() in content] == []


def test_no_secret_is_kept_in_the_servers(shop: dict[str, str]) -> None:
    with psycopg.connect(shop["DATABASE_URL"]) as connection:
        tables = connection.execute(
            "SELECT nspname, relname FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace"
            " WHERE relkind = 'r' AND nspname !~ '^(pg_|information_schema)'"
        ).fetchall()
        assert len(tables) > 20
        for schema, table in tables:
            found = connection.execute(
                sql.SQL("SELECT count(*) FROM {} AS t WHERE t::text LIKE %s").format(sql.Identifier(schema, table)),
                [f"%{SECRET}%"],
            ).fetchone()
            assert found == (0,), f"{schema}.{table}"
    with Elasticsearch(shop["ELASTICSEARCH_URL"]) as client:
        assert client.count(index="*", query={"query_string": {"query": f'"{SECRET}"'}})["count"] == 0


@pytest.mark.fault
def test_no_query_of_fewer_than_k_users_is_shown_printed_or_kept_in_files(shop: dict[str, str]) -> None:
    lone, shared = queries_of(shop)
    assert len(lone) > 20
    assert shared
    files = {path: content.lower() for path, content in kept_files(shop)}
    assert any(text.encode() in content for text in shared for content in files.values())
    shown = {(text, path.name) for path, content in files.items() for text in lone if text.encode() in content}
    assert shown == set()
