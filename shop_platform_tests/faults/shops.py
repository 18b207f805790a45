"""A shop of many small events, and what its tables hold."""

from __future__ import annotations

from shop_platform.performance.laboratory import fingerprint_table
from shop_platform.resources.postgres import Connection, PostgresResource
from shop_platform.sources.base import Shop

from ..commerce.lists import ListSource, event, product, shop_of, user

COMMERCE = ("users", "products", "events")


def source_of_events(events: int, version: str) -> ListSource:
    """A tenth as many users as events, and a few products; every version's users have other names."""
    users = [user(f"u{number}", name=f"name {version}") for number in range(1 + events // 10)]
    products = [product(f"p{number}") for number in range(5)]
    rows = [event(f"u{number // 10}", f"p{number % 5}", minute=number) for number in range(events)]
    return ListSource(users, products, rows, version=version)


def shop_of_events(events: int, version: str) -> Shop:
    """The same as a shop."""
    return shop_of(source_of_events(events, version))


def tables(postgres: PostgresResource) -> dict[str, tuple[int, str]]:
    """Rows of the three tables, and a hash of them."""
    with postgres.connect() as connection:
        return {table: fingerprint_table(connection, "public", table) for table in COMMERCE}


def leftovers(connection: Connection) -> list[str]:
    """Temporary tables, locks and sessions of the platform that are there beside the asking one's."""
    rows = connection.execute(
        "SELECT 'table ' || relname FROM pg_class WHERE relnamespace IN"
        " (SELECT oid FROM pg_namespace WHERE nspname LIKE 'pg\\_temp\\_%') AND relpersistence = 't'"
        " AND relkind = 'r' UNION ALL"
        " SELECT 'session ' || pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend' UNION ALL"
        " SELECT 'lock ' || objid FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    ).fetchall()
    return [row[0] for row in rows]
