"""A database, and an index of search logs, for all cases of a test module."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform_tests.databases import clone_of


@pytest.fixture(scope="module")
def fuzzed(template_url: str) -> Iterator[PostgresResource]:
    """A migrated database, which `DATABASE_URL` names meanwhile."""
    with clone_of(template_url) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", url)
        yield PostgresResource()


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
