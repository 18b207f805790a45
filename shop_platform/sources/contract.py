"""What rows read from files must be like: the type of each column, and the reasons for which a row is left out.

All is SQL in DuckDB's dialect, made of our own names only.
"""

from __future__ import annotations

from typing import Literal

Kind = Literal["users", "products", "events", "searches"]

#: Type of each column. A value that does not fit its type becomes NULL.
TYPES: dict[Kind, dict[str, str]] = {
    "users": {
        "user_id": "VARCHAR",
        "signup_date": "TIMESTAMPTZ",
        "name": "VARCHAR",
        "email": "VARCHAR",
        "city": "VARCHAR",
        "country": "VARCHAR",
    },
    "products": {"product_id": "VARCHAR", "name": "VARCHAR", "category": "VARCHAR", "price": "DECIMAL(12, 2)"},
    "events": {"user_id": "VARCHAR", "product_id": "VARCHAR", "event_type": "VARCHAR", "timestamp": "TIMESTAMPTZ"},
    "searches": {
        "user_id": "VARCHAR",
        "search_query": "VARCHAR",
        "clicked_product_ids": "VARCHAR[]",
        "timestamp": "TIMESTAMPTZ",
    },
}

#: The order in which rows are given: total, but for rows that are equal.
ORDER: dict[Kind, str] = {
    "users": "signup_date, user_id",
    "products": "product_id",
    "events": "timestamp, user_id, product_id, event_type",
    "searches": "timestamp, user_id, search_query, clicked_product_ids",
}

#: What identifies a row where only one may have it. Of several, the first by all columns in their order is kept, so
#: the earliest signup of a user.
KEYS: dict[Kind, str] = {"users": "user_id", "products": "product_id"}

#: Bytes of an id or a category: an index entry of PostgreSQL holds no more than 2,700.
_LONGEST_ID = 1_000
#: Characters of a query: what the mapping of the search logs keeps as a whole.
_LONGEST_QUERY = 1_000


def reasons(kind: Kind, *, searchers_are_users: bool) -> tuple[tuple[str, str], ...]:
    """Why a row is left out, after what the mapping itself leaves out: reason and condition, the first that holds.

    For events and searches there must be tables `shop.users` and `shop.products`, with the reason in a column `reason`.
    """
    found = [*_CONDITIONS[kind]]
    if kind == "searches":
        found += [_UNKNOWN_USER, _UNKNOWN_CLICK] if searchers_are_users else [_UNKNOWN_CLICK]
    return (("NUL character in a text", _any_nul(kind)), *found)


def _any_nul(kind: Kind) -> str:
    """PostgreSQL's texts hold any character but this one."""
    texts = [name for name, type_ in TYPES[kind].items() if type_ == "VARCHAR"]
    return " OR ".join(f"coalesce(contains({name}, chr(0)), false)" for name in texts)


def _missing(column: str) -> str:
    return f"coalesce(trim({column}), '') = ''"


def _too_long(column: str) -> str:
    return f"strlen({column}) > {_LONGEST_ID}"


def _unusable_time(column: str) -> str:
    """Missing, unreadable, infinite, or beyond what nanoseconds since 1970 can say (pandas counts in them)."""
    return f"coalesce({column} NOT BETWEEN TIMESTAMPTZ '1900-01-01' AND TIMESTAMPTZ '2200-01-01', true)"


_UNKNOWN_USER = ("unknown user", "user_id NOT IN (SELECT user_id FROM shop.users WHERE reason IS NULL)")

_UNKNOWN_CLICK = (
    "click on an unknown product",
    "EXISTS (FROM unnest(clicked_product_ids) AS clicks(id)"  # noqa: ISC004  one condition
    " WHERE id NOT IN (SELECT product_id FROM shop.products WHERE reason IS NULL))",
)

_CONDITIONS: dict[Kind, tuple[tuple[str, str], ...]] = {
    "users": (
        ("no user_id", _missing("user_id")),
        ("user_id of more than 1,000 bytes", _too_long("user_id")),
        ("no usable signup_date", _unusable_time("signup_date")),
    ),
    "products": (
        ("no product_id", _missing("product_id")),
        ("product_id of more than 1,000 bytes", _too_long("product_id")),
        ("no name or category", f"{_missing('name')} OR {_missing('category')}"),
        ("category of more than 1,000 bytes", _too_long("category")),
        ("no usable price", "coalesce(price < 0, true)"),
    ),
    "events": (
        ("no user_id", _missing("user_id")),
        ("no product_id", _missing("product_id")),
        ("no usable timestamp", _unusable_time("timestamp")),
        ("unknown event_type", "coalesce(event_type NOT IN ('viewed', 'add_to_cart', 'purchased'), true)"),
        _UNKNOWN_USER,
        ("unknown product", "product_id NOT IN (SELECT product_id FROM shop.products WHERE reason IS NULL)"),
    ),
    "searches": (
        ("no user_id", _missing("user_id")),
        ("user_id of more than 1,000 bytes", _too_long("user_id")),
        ("no search_query", _missing("search_query")),
        ("search_query of more than 1,000 characters", f"length(search_query) > {_LONGEST_QUERY}"),
        ("no usable timestamp", _unusable_time("timestamp")),
        (
            "clicked_product_ids is no list of ids",
            "clicked_product_ids IS NULL OR len(list_filter(clicked_product_ids, lambda id: id IS NULL)) > 0",
        ),
    ),
}
