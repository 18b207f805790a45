"""What a refresh of the summaries costs after 10,000 new events, in a small and in a large shop."""

from __future__ import annotations

import datetime as dt
import time

from benchmarks.harness import Row, compare
from benchmarks.shops import LABELS, database
from shop_platform.performance.summaries import refresh_summaries
from shop_platform.resources.postgres import PostgresResource

#: New events of some users on 20 products, one in five a purchase, all within a day: the same in any shop.
NEW = """
INSERT INTO events (user_id, product_id, event_type, timestamp)
SELECT
    users.user_id,
    products.product_id,
    (ARRAY['viewed', 'viewed', 'viewed', 'add_to_cart', 'purchased'])[1 + n %% 5],
    %(day)s::timestamptz + n * interval '8 seconds'
FROM generate_series(1, %(events)s) AS n
JOIN (
    SELECT user_id, row_number() OVER (ORDER BY user_id) - 1 AS place
    FROM (SELECT user_id FROM users ORDER BY user_id LIMIT %(users)s) AS first_users
) AS users ON users.place = n %% %(users)s
JOIN (
    SELECT product_id, row_number() OVER (ORDER BY product_id) - 1 AS place
    FROM (SELECT product_id FROM products ORDER BY product_id LIMIT 20) AS first_products
) AS products ON products.place = n / %(users)s %% 20
"""


def refresh_row(small: str = "50k", large: str = "50m", rounds: int = 15) -> Row:
    """The same 10,000 new events in both shops, committed; then a refresh in each, in turns."""
    times: dict[str, list[float]] = {small: [], large: []}
    first = last_day(small, large)
    for number in range(-2, rounds):  # two to warm up
        for size in (small, large) if number % 2 else (large, small):
            resource = database(f"bench_{size}")
            with resource.connect() as connection:
                day = first + dt.timedelta(days=3 + number)
                connection.execute(NEW, {"day": day, "events": 10_000, "users": 1_000})
            started = time.perf_counter()
            done = refresh_summaries(resource)
            seconds = time.perf_counter() - started
            if done.rebuilt is not None or done.event_changes != 10_000:
                raise RuntimeError(f"{size}: expected a refresh of 10,000 changes, got {done}")
            if number >= 0:
                times[size].append(seconds)
    for size in (small, large):
        remove_new(database(f"bench_{size}"))
    measure = f"refresh after 10,000 new events against {LABELS[small]}"
    return compare(LABELS[large], measure, times, large, small, at_most=2)


def remove_new(resource: PostgresResource) -> None:
    """Leave the shop as it was loaded, for what is measured next."""
    with resource.connect() as connection:
        connection.execute(
            "DELETE FROM events WHERE event_id > (SELECT last_id FROM ops.loads WHERE table_name = 'events')"
        )
    refresh_summaries(resource)


def last_day(*sizes: str) -> dt.date:
    """The day of the latest event in any of the shops."""
    return max(_latest(database(f"bench_{size}")) for size in sizes)


def _latest(resource: PostgresResource) -> dt.date:
    with resource.connect() as connection:
        row = connection.execute("SELECT max(week) FROM analytics.weekly_active_users").fetchone()
    if row is None:
        raise RuntimeError("the shop has no summaries")
    week: dt.datetime = row[0]
    return week.date() + dt.timedelta(days=7)
