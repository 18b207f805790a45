"""Search logs that refer to users or products which the shop does not have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from shop_platform.resources.postgres import Connection
from shop_platform.resources.snapshots import Hit
from shop_platform.segmentation.queries import searcher_of
from shop_platform.segmentation.rows import OWN

FIELDS = ("user_id", "clicked_product_ids")

_PAGE = 5_000


@dataclass
class Orphans:
    """Documents that refer to nobody or nothing, counted by where they came from, with a few ids to look at.

    Attributes:
        own: such documents of the shop's source, by what is unknown.
        others: such documents that somebody else added, by what is unknown.
        examples: ids of a few of the documents.
    """

    own: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """What is wrong, or that nothing is."""
        parts = [
            f"{count:,} {whose} with an unknown {what}"
            for whose, counts in (("of the source", self.own), ("added since", self.others))
            for what, count in sorted(counts.items())
        ]
        if not parts:
            return "Every searcher and every clicked product is one of the shop's."
        return f"Search logs {', '.join(parts)}; for example {', '.join(self.examples)}."


def find_orphans(connection: Connection, hits: Iterable[Hit], *, searchers_are_users: bool) -> Orphans:
    """Look up the searcher and the clicked products of each document, a page at a time."""
    orphans = Orphans()
    rows = iter(hits)
    while page := list(islice(rows, _PAGE)):
        users = {hit.id: searcher_of(hit.source) for hit in page}
        clicks = {hit.id: list(_clicked(hit)) for hit in page}
        nobody = _unknown(connection, "users", set(users.values())) if searchers_are_users else set()
        nothing = _unknown(connection, "products", {each for some in clicks.values() for each in some})
        for hit in page:
            _note(orphans, hit.id, "searcher", users[hit.id] in nobody)
            _note(orphans, hit.id, "product", not nothing.isdisjoint(clicks[hit.id]))
    return orphans


_KNOWN = {
    "users": "SELECT user_id FROM users WHERE user_id = ANY(%s)",
    "products": "SELECT product_id FROM products WHERE product_id = ANY(%s)",
}


def _unknown(connection: Connection, table: str, ids: set[str]) -> set[str]:
    storable = [each for each in ids if each and searcher_of({"user_id": each})]
    return ids - {row[0] for row in connection.execute(_KNOWN[table], [storable])}


def _clicked(hit: Hit) -> Iterator[str]:
    value = hit.source.get("clicked_product_ids") or []
    yield from map(str, value if isinstance(value, list) else [value])


def _note(orphans: Orphans, document_id: str, what: str, wrong: bool) -> None:
    if wrong:
        (orphans.own if document_id.startswith(OWN) else orphans.others)[what] += 1
        if len(orphans.examples) < 5 and document_id not in orphans.examples:
            orphans.examples.append(document_id)
