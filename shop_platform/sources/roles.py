"""Which column plays which part: by its name first, then by what stands in it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from shop_platform.sources.examining import Column, Table, words

_USER = {"user", "customer", "client", "member", "account", "buyer", "shopper", "visitor", "person", "searcher", "who"}
_PRODUCT = {"product", "article", "item", "sku", "stock", "asin", "goods", "variant"}
_SIGNUP = {"signup", "signed", "registered", "registration", "joined", "created", "since", "member"}
_QUERY = {"q", "query", "search", "term", "terms", "keywords", "words", "phrase"}

#: Words of a name, by the part that such a column plays.
_PARTS: dict[str, set[str]] = {
    "name": {"name", "title", "label", "description", "designation"},
    "category": {"category", "department", "shelf", "group", "family", "type", "class", "section"},
    "price": {"price", "cost", "amount", "unitprice", "value"},
    "quantity": {"quantity", "qty", "pieces", "units"},
    "invoice": {"invoice", "order", "receipt", "basket", "transaction"},
    "email": {"email", "mail"},
    "city": {"city", "town"},
    "country": {"country", "nation", "land"},
    "clicks": {"clicked", "clicks", "click"},
    "event": {"event", "action", "activity", "type", "kind", "verb", "did"},
}


@dataclass(frozen=True)
class Roles:
    """Names of the columns of one table that play a part; None where none does."""

    user: str | None
    product: str | None
    time: str | None
    signup: str | None
    event: str | None
    query: str | None
    name: str | None
    category: str | None
    price: str | None
    quantity: str | None
    invoice: str | None
    email: str | None
    city: str | None
    country: str | None
    clicks: str | None


def roles_of(table: Table) -> Roles:
    """The parts that a table's columns play."""
    about = set(words(table.name)) | {word.removesuffix("s") for word in words(table.name)}
    times = [column for column in table.columns if column.timely > 0.5]
    query = _best(table.columns, lambda column: _texts(column) and bool(_QUERY & set(words(column.name))))
    return Roles(
        user=_id(table, _USER, about),
        product=_id(table, _PRODUCT, about),
        time=_name(times[0]) if len(times) == 1 else _best(times, lambda c: not _SIGNUP & set(words(c.name))),
        signup=_best(times, lambda column: bool(_SIGNUP & set(words(column.name))))
        or _name(times[0] if times else None),
        event=_best(table.columns, lambda column: _named(column, "event") and _texts(column) and bool(column.values)),
        query=query,
        quantity=_best(table.columns, lambda column: _named(column, "quantity") and column.numeric > 0.9),
        price=_best(table.columns, lambda column: _named(column, "price") and column.numeric > 0.5),
        invoice=_best(table.columns, lambda column: _named(column, "invoice") and column.timely < 0.5),
        email=_best(table.columns, lambda column: column.mail > 0.5),
        clicks=_best(table.columns, lambda column: _named(column, "clicks")),
        **{
            part: _best(table.columns, lambda column, part=part: _named(column, part) and _texts(column))  # type: ignore[misc]
            for part in ("name", "category", "city", "country")
        },
    )


def _id(table: Table, meant: set[str], about: set[str]) -> str | None:
    """A column that tells who or what: by its own name, or called id in a table of that name."""
    named = [column for column in table.columns if meant & set(words(column.name)) and column.timely < 0.5]
    exact = [column for column in named if {"id", "code", "no", "number", "sku", "key"} & set(words(column.name))] or [
        column for column in named if len(list(words(column.name))) == 1
    ]
    if exact:
        return max(exact, key=lambda column: column.filled).name
    if meant & about:
        return _best(
            table.columns, lambda column: bool({"id", "number", "no", "code", "key"} & set(words(column.name)))
        )
    return _name(named[0]) if named else None


def _named(column: Column, part: str) -> bool:
    found = set(words(column.name))
    return bool(_PARTS[part] & (found | {"".join(words(column.name))}))


def _texts(column: Column) -> bool:
    return column.numeric < 0.5 and column.timely < 0.5


def _best(columns: Iterable[Column], fits: Callable[[Column], bool]) -> str | None:
    return next((column.name for column in columns if fits(column)), None)


def _name(column: Column | None) -> str | None:
    return None if column is None else column.name
