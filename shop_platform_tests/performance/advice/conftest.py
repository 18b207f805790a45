"""The shop with its catalog as advice reads it."""

from __future__ import annotations

import pytest

from shop_platform.performance.advice.catalog import Table, read_catalog
from shop_platform.resources.postgres import PostgresResource

TABLES = ("events", "products", "users")


@pytest.fixture
def catalog(random_shop: PostgresResource) -> dict[str, Table]:
    """Catalog of the shop of 20,000 events."""
    with random_shop.connect() as connection:
        return read_catalog(connection, "public", TABLES)
