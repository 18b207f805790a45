"""A database, and an index of search logs, for all cases of a test module."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform_tests.conftest import TEMPLATE


@pytest.fixture(scope="module")
def fuzzed(template_url: str) -> Iterator[PostgresResource]:
    """A migrated database, which `DATABASE_URL` names meanwhile."""
    name = f"test_{uuid.uuid4().hex}"
    parts = conninfo_to_dict(template_url) | {"dbname": name}
    with (
        psycopg.connect(make_conninfo(template_url, dbname="postgres"), autocommit=True) as admin,
        pytest.MonkeyPatch.context() as patch,
    ):
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(TEMPLATE)))
        patch.setenv("DATABASE_URL", make_conninfo(**{key: str(value) for key, value in parts.items()}))
        yield PostgresResource()
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def fuzzed_logs(elasticsearch_url: str) -> Iterator[ElasticsearchResource]:
    """Elasticsearch with an index prefix of the module's own, which `ELASTICSEARCH_URL` names meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELASTICSEARCH_URL", elasticsearch_url)
        resource = ElasticsearchResource(index_prefix=f"test_{uuid.uuid4().hex}_")
        yield resource
        with resource.client() as client:
            for index in client.indices.get(index=f"{resource.index_prefix}*", expand_wildcards="all"):
                client.indices.delete(index=index)
