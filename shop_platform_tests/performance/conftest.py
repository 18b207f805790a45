"""Shops for the tests of this room: a tiny one whose answers can be counted by hand, and one of 20,000 events."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event, Thread

import psycopg
import pytest

from shop_platform.performance.summaries import refresh_summaries
from shop_platform.resources.postgres import Connection, PostgresResource
from shop_platform_tests.databases import clone_of

TINY = """
INSERT INTO users (user_id, signup_date) VALUES ('ann', '2024-12-01'), ('bob', '2024-12-01');
INSERT INTO products (product_id, name, category, price)
VALUES ('p1', 'Lamp', 'Home', 19.99), ('p2', 'Ball', 'Sports', 5.00), ('p3', 'Sofa', 'Home', 400.10);
INSERT INTO events (user_id, product_id, event_type, timestamp) VALUES
    ('ann', 'p1', 'viewed',    '2024-12-31 10:00+00'),
    ('ann', 'p1', 'purchased', '2025-01-02 10:00+00'),
    ('bob', 'p2', 'purchased', '2025-01-05 23:30+00'),
    ('bob', 'p3', 'purchased', '2025-01-06 00:30+00'),
    ('bob', 'p3', 'purchased', '2025-01-20 12:00+00'),
    ('ann', 'p2', 'viewed',    '2025-01-20 12:00+00');
"""

RANDOM = """
SELECT setseed(0.42);
INSERT INTO users (user_id, signup_date) SELECT 'u' || n, '2025-01-01' FROM generate_series(1, 500) AS n;
INSERT INTO products (product_id, name, category, price)
SELECT 'p' || n, 'Product ' || n, 'category ' || n % 5, round((1 + 200 * random())::numeric, 2)
FROM generate_series(1, 20) AS n;
INSERT INTO events (user_id, product_id, event_type, timestamp)
SELECT
    'u' || 1 + floor(500 * random()),
    'p' || 1 + floor(20 * random()),
    CASE WHEN random() < 0.8 THEN 'viewed' WHEN random() < 0.5 THEN 'add_to_cart' ELSE 'purchased' END,
    timestamptz '2025-01-01' + random() * interval '365 days'
FROM generate_series(1, 20000);
"""


@pytest.fixture
def tiny_shop(postgres: PostgresResource) -> PostgresResource:
    """A database with six events of two users."""
    with postgres.connect() as connection:
        connection.execute(TINY)
    return postgres


@pytest.fixture(scope="session")
def random_template(template_url: str) -> Iterator[str]:
    """URL of the database with 20,000 events of 500 users that each test's is cloned from."""
    with clone_of(template_url) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(RANDOM)
            connection.execute("VACUUM (ANALYZE) users, products, events")
        yield url


@pytest.fixture
def random_shop(random_template: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresResource]:
    """A database with 20,000 events of 500 users, of the test's own."""
    with clone_of(random_template) as url:
        monkeypatch.setenv("DATABASE_URL", url)
        yield PostgresResource()


def live_state(connection: Connection) -> list[tuple[object, ...]]:
    """Everything about the live tables that measuring must leave alone: rows, columns, indexes, constraints, notes."""
    statements = (
        "SELECT 'users', count(*), sum(hash_record_extended(t, 0))::text FROM public.users AS t",
        "SELECT 'products', count(*), sum(hash_record_extended(t, 0))::text FROM public.products AS t",
        "SELECT 'events', count(*), sum(hash_record_extended(t, 0))::text FROM public.events AS t",
        "SELECT relname, relfilenode, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1",
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'events'::regclass ORDER BY 1",
        "SELECT * FROM ops.event_changes ORDER BY 1",
    )
    return [row for statement in statements for row in connection.execute(statement).fetchall()]


def schemas(connection: Connection) -> set[str]:
    """Names of the laboratory's schemas that exist."""
    return {row[0] for row in connection.execute(r"SELECT nspname FROM pg_namespace WHERE nspname LIKE 'lab\_%'")}


@pytest.fixture
def readers(random_shop: PostgresResource) -> Iterator[list[tuple[int, ...]]]:
    """Four readers that count filled summary tables without pause; gives the list of what they see."""
    refresh_summaries(random_shop)
    seen: list[tuple[int, ...]] = []
    stop = Event()

    def read() -> None:
        with random_shop.connect(autocommit=True) as connection:
            while not stop.is_set():
                row = connection.execute(
                    "SELECT (SELECT count(*) FROM analytics.weekly_activity),"
                    " (SELECT sum(active_users) FROM analytics.weekly_active_users),"
                    " (SELECT sum(purchases) FROM analytics.category_revenue)"
                ).fetchone()
                seen.append(tuple(int(value or 0) for value in row or ()))

    threads = [Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    yield seen
    stop.set()
    for thread in threads:
        thread.join()
