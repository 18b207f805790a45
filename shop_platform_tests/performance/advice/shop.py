"""The shop's catalog without a server, for what is pure."""

from __future__ import annotations

from shop_platform.performance.advice.catalog import Column, Table

CATALOG = {
    "events": Table(
        "events",
        20_000,
        1_500_000,
        (
            Column("event_id", "bigint", 20_000, 1.0, 8),
            Column("user_id", "text", 500, 0.01, 4),
            Column("product_id", "text", 20, 0.05, 3),
            Column("event_type", "text", 3, 0.65, 8),
            Column("timestamp", "timestamp with time zone", 20_000, 0.99, 8),
        ),
        ("event_id",),
    ),
    "products": Table(
        "products",
        20,
        8_192,
        (
            Column("product_id", "text", 20, 0.5, 3),
            Column("name", "text", 20, 0.5, 10),
            Column("category", "text", 5, 0.2, 11),
            Column("price", "numeric(12,2)", 20, 0.1, 5),
        ),
        ("product_id",),
    ),
    "users": Table(
        "users",
        500,
        40_000,
        (
            Column("user_id", "text", 500, 0.5, 4),
            Column("signup_date", "timestamp with time zone", 1, 1.0, 8),
            Column("name", "text", None, None, None),
            Column("email", "text", None, None, None),
            Column("city", "text", None, None, None),
            Column("country", "text", None, None, None),
        ),
        ("user_id",),
    ),
}
