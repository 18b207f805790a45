"""Queries of every shape that advice has to cope with, over the shop's tables, and values for their placeholders."""

from __future__ import annotations

from shop_platform import sqlfiles

VALUES = {"user_id": "u7", "since": "2025-06-01", "product_ids": ["p1", "p2"]}

QUERIES = {
    "revenue_by_category": sqlfiles.read_sql("queries/revenue_by_category").text,
    "weekly_active_users": sqlfiles.read_sql("queries/weekly_active_users").text,
    "all_events": """
        SELECT
            (SELECT count(*) FROM users) AS users,
            count(*) AS events,
            max(timestamp) FILTER (WHERE isfinite(timestamp)) AS data_end,
            count(*) FILTER (WHERE timestamp < signup_date) AS before_signup,
            count(*) FILTER (WHERE timestamp > now()) AS in_future
        FROM events JOIN users USING (user_id)
    """,
    "point_lookup": "SELECT * FROM events WHERE user_id = %(user_id)s ORDER BY timestamp DESC LIMIT 20",
    "top_products": """
        SELECT e.product_id, p.name, COUNT(*) AS n, SUM(p.price) AS revenue
        FROM events AS e JOIN products AS p ON p.product_id = e.product_id
        WHERE e.timestamp >= '2025-03-01' AND e.timestamp < '2025-04-01' AND e.event_type = 'purchased'
        GROUP BY e.product_id, p.name ORDER BY n DESC, e.product_id LIMIT 10
    """,
    "funnel": """
        WITH seen AS (SELECT user_id, MIN(timestamp) AS at FROM events WHERE event_type = 'viewed' GROUP BY user_id),
        bought AS (SELECT user_id, MIN(timestamp) AS at FROM events WHERE event_type = 'purchased' GROUP BY user_id)
        SELECT COUNT(*), COUNT(bought.user_id) FROM seen LEFT JOIN bought USING (user_id)
    """,
    "self_join": """
        SELECT a.product_id, b.product_id AS other, COUNT(*) AS n
        FROM events AS a JOIN events AS b ON b.user_id = a.user_id AND b.product_id > a.product_id
        WHERE a.event_type = 'purchased' AND b.event_type = 'purchased'
        GROUP BY a.product_id, b.product_id ORDER BY n DESC, 1, 2 LIMIT 10
    """,
    "subquery": """
        SELECT name, (SELECT MAX(timestamp) FROM events e WHERE e.product_id = p.product_id) AS latest
        FROM products p WHERE price > 50 AND product_id IN (SELECT product_id FROM events WHERE user_id = %(user_id)s)
    """,
    "exists": """
        SELECT user_id FROM users u WHERE country IS NULL AND NOT EXISTS (
            SELECT 1 FROM events e WHERE e.user_id = u.user_id AND e.event_type IN ('add_to_cart', 'purchased')
        )
    """,
    "day_in_utc": """
        SELECT (timestamp AT TIME ZONE 'UTC')::date AS day, COUNT(*) FROM events
        WHERE product_id = ANY(%(product_ids)s) GROUP BY 1 ORDER BY 1
    """,
    "week_in_utc": "SELECT date_trunc('week', timestamp, 'UTC') w, COUNT(DISTINCT user_id) FROM events GROUP BY w",
    "lower": "SELECT 1 FROM users WHERE lower(email) = lower('A@B.example') OR city LIKE 'Ber%%' OR %(user_id)s = ''",
    "pattern": "SELECT product_id FROM products WHERE lower(name) LIKE 'product 1%' AND name NOT LIKE '%0'",
    "or_and_in": """
        SELECT event_id FROM events
        WHERE (user_id = 'u1' OR product_id = 'p3') AND event_type IN ('viewed', 'purchased') AND event_id <> 5
    """,
    "window": """
        SELECT * FROM (
            SELECT user_id, timestamp, row_number() OVER (PARTITION BY user_id ORDER BY timestamp DESC) AS r FROM events
            WHERE event_type = 'purchased' AND timestamp > %(since)s
        ) AS latest WHERE r = 1
    """,
    "mixed_order": "SELECT event_id FROM events ORDER BY timestamp DESC NULLS LAST, user_id, event_id DESC LIMIT 7",
    "extremes": "SELECT MIN(timestamp), MAX(timestamp) FROM events WHERE user_id = 'u9'",
    "distinct": "SELECT DISTINCT event_type, product_id FROM events WHERE timestamp BETWEEN '2025-01-01' AND now()",
    "quotes": """SELECT "E"."user_id" AS "User" FROM "public"."events" AS "E" WHERE "E".event_type = 'it''s "so"' """,
    "union": "SELECT user_id FROM events WHERE product_id = 'p1' UNION SELECT user_id FROM users WHERE city = 'Bern'",
}
