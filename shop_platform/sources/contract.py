"""What rows of a shop's own data must be like: the type of each column, and the reasons to quarantine a row.

All is SQL in DuckDB's dialect, made of our own names only.
"""

from __future__ import annotations

import datetime as dt
from typing import Literal, NamedTuple

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


#: How the reason of a row ends that lies in the future.
IN_THE_FUTURE = " in the future"


class Reason(NamedTuple):
    """Why a row breaks the contract: in words, as a condition in SQL, and the column that it is about."""

    text: str
    condition: str
    column: str


def reasons(kind: Kind, *, searchers_are_users: bool, moment: dt.datetime) -> tuple[Reason, ...]:
    """What a row must not be, after what the mapping itself leaves out; the first that holds is its reason.

    The conditions are about rows of a table `mapped` with the columns of `TYPES`. For events and searches there must be
    tables `shop.users` and `shop.products`, with the reason in a column `reason`, NULL where there is none.

    Args:
        kind: of the rows.
        searchers_are_users: whether a search must be that of a user.
        moment: when the source was read; what is later than that has not happened yet.
    """
    return (
        *_any_nul(kind),
        *_CONDITIONS[kind],
        *(Reason(text, _later(column, moment), column) for column, text in in_the_future(kind).items()),
        *(_REFERENCES[kind] if searchers_are_users or kind != "searches" else (_UNKNOWN_CLICK,)),
    )


def in_the_future(kind: Kind) -> dict[str, str]:
    """Reason of a row that has not happened yet, by the column that says when it does; none where there is no time."""
    return {column: f"{column}{IN_THE_FUTURE}" for column in _PAST.get(kind, ())}


def duplicate(kind: Kind) -> str | None:
    """Reason of a row whose key another row has already; None for a kind without a key. It is about that key."""
    return f"{KEYS[kind]} stands more than once" if kind in KEYS else None


def _any_nul(kind: Kind) -> list[Reason]:
    """PostgreSQL's texts hold any character but this one."""
    texts = [name for name, type_ in TYPES[kind].items() if type_ == "VARCHAR"]
    return [Reason("NUL character in a text", f"coalesce(contains({each}, chr(0)), false)", each) for each in texts]


def _missing(column: str) -> Reason:
    return Reason(f"no {column}", f"coalesce(trim({column}), '') = ''", column)


def _too_long(column: str) -> Reason:
    return Reason(f"{column} of more than 1,000 bytes", f"strlen({column}) > {_LONGEST_ID}", column)


def _unusable_time(column: str) -> Reason:
    """Missing, unreadable, infinite, or beyond what nanoseconds since 1970 can say (pandas counts in them)."""
    range_ = "TIMESTAMPTZ '1900-01-01' AND TIMESTAMPTZ '2200-01-01'"
    return Reason(f"no usable {column}", f"coalesce({column} NOT BETWEEN {range_}, true)", column)


def _later(column: str, moment: dt.datetime) -> str:
    return f"{column} > TIMESTAMPTZ '{moment.astimezone(dt.UTC).isoformat()}'"


def _unknown(what: str, column: str) -> Reason:
    known = f"SELECT {column} FROM shop.{what}s WHERE reason IS NULL"  # noqa: S608  our own names
    return Reason(f"unknown {what}", f"{column} NOT IN ({known})", column)


#: Times of what has happened.
_PAST: dict[Kind, tuple[str, ...]] = {
    "users": ("signup_date",),
    "events": ("timestamp",),
    "searches": ("timestamp",),
}

_UNKNOWN_CLICK = Reason(
    "click on an unknown product",
    "EXISTS (FROM unnest(clicked_product_ids) AS clicks(id)"
    " WHERE id NOT IN (SELECT product_id FROM shop.products WHERE reason IS NULL))",
    "clicked_product_ids",
)

_BEFORE_SIGNUP = Reason(
    "before the user's signup",
    "timestamp < (SELECT min(known.signup_date) FROM shop.users AS known"
    " WHERE known.user_id = mapped.user_id AND known.reason IS NULL)",
    "timestamp",
)

_REFERENCES: dict[Kind, tuple[Reason, ...]] = {
    "users": (),
    "products": (),
    "events": (_unknown("user", "user_id"), _unknown("product", "product_id"), _BEFORE_SIGNUP),
    "searches": (_unknown("user", "user_id"), _UNKNOWN_CLICK),
}

_CONDITIONS: dict[Kind, tuple[Reason, ...]] = {
    "users": (_missing("user_id"), _too_long("user_id"), _unusable_time("signup_date")),
    "products": (
        _missing("product_id"),
        _too_long("product_id"),
        _missing("name"),
        _missing("category"),
        _too_long("category"),
        Reason("no usable price", "coalesce(price < 0, true)", "price"),
    ),
    "events": (
        _missing("user_id"),
        _missing("product_id"),
        _unusable_time("timestamp"),
        Reason(
            "unknown event_type",
            "coalesce(event_type NOT IN ('viewed', 'add_to_cart', 'purchased'), true)",
            "event_type",
        ),
    ),
    "searches": (
        _missing("user_id"),
        _too_long("user_id"),
        _missing("search_query"),
        Reason(
            "search_query of more than 1,000 characters", f"length(search_query) > {_LONGEST_QUERY}", "search_query"
        ),
        _unusable_time("timestamp"),
        Reason(
            "clicked_product_ids is no list of ids",
            "clicked_product_ids IS NULL OR len(list_filter(clicked_product_ids, lambda id: id IS NULL)) > 0",
            "clicked_product_ids",
        ),
    ),
}
