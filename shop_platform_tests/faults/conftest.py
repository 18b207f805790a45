"""Proxies before the real servers, and servers that are back after each test that took them away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform.services import elasticsearch as elasticsearch_service
from shop_platform.services import postgres as postgres_service
from shop_platform.services.postgres_server import PORT
from shop_platform.settings import Settings, load_settings

from ..conftest import TEMPLATE
from .proxy import Proxy

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is about a fault."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.fault)


@pytest.fixture
def database_proxy(postgres: PostgresResource) -> Iterator[Proxy]:
    """A proxy before the test's database, which `DATABASE_URL` names meanwhile."""
    address = conninfo_to_dict(postgres.url())
    with Proxy(f"{address['host']}/.s.PGSQL.{PORT}") as proxy:
        through = address | {"host": "127.0.0.1", "port": str(proxy.port)}
        # With its own patch: what tidies up after the test goes past the proxy.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DATABASE_URL", make_conninfo(**{name: str(value) for name, value in through.items()}))
            yield proxy


@pytest.fixture
def search_proxy(elasticsearch: ElasticsearchResource) -> Iterator[Proxy]:  # noqa: ARG001  it sets the URL
    """A proxy before Elasticsearch, which `ELASTICSEARCH_URL` names meanwhile."""
    secret = load_settings().elasticsearch_url
    assert secret is not None
    address = urlsplit(secret.get_secret_value())
    with Proxy((str(address.hostname), int(address.port or 80))) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELASTICSEARCH_URL", f"http://127.0.0.1:{proxy.port}")
        yield proxy


@pytest.fixture
def servers(server_settings: Settings) -> Iterator[Settings]:
    """Where the servers are that the test may kill; at its end they run."""
    yield server_settings
    postgres_service.url(server_settings, TEMPLATE)
    elasticsearch_service.url(server_settings)
