"""Elasticsearch as a Dagster resource: where it is, and a client that never shows a secret."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dagster import ConfigurableResource

from shop_platform.settings import load_settings

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch


class ElasticsearchResource(ConfigurableResource[Any]):
    """Clients for the search logs' Elasticsearch.

    URL and credentials come from the environment, or from the embedded server, when first needed; they are no
    part of the resource's configuration. `index_prefix` goes before every index and alias name.
    """

    index_prefix: str = ""

    @contextmanager
    def client(self) -> Iterator[Elasticsearch]:
        """A client, closed when the block ends.

        Raises:
            ServiceError: the embedded server could not be started.
        """
        from elasticsearch import Elasticsearch

        from shop_platform.services import elasticsearch

        with Elasticsearch(**elasticsearch.client_options(load_settings())) as client:
            yield client
