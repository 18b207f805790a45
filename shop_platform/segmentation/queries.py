"""What counts as the same query, and what a document of the search log says about who searched for what."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

#: Characters of a normalised query that count. The encoder reads 256 word pieces at most, fewer than these hold.
LONGEST = 1_000

#: Unicode categories of characters that nobody sees: control, format, surrogate, private use, unassigned.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})


def normalise(query: str) -> str:
    """The query without differences that mean nothing: letter case, width (NFKC), whitespace, invisible characters.

    Empty for a query that says nothing. Normalising twice changes nothing more. Only the first `LONGEST` characters
    count; four times as many are looked at, so that a document of megabytes costs nothing.
    """
    text = query[: 4 * LONGEST]
    if text.isascii() and text.isprintable():  # most queries; what follows would do the same twenty times as slowly
        return " ".join(text.lower().split())[:LONGEST].rstrip()
    # Case folding can undo NFKC and the other way round, so both run twice (Unicode, "toNFKC_Casefold").
    for _ in range(2):
        text = unicodedata.normalize("NFKC", text).casefold()
    text = unicodedata.normalize("NFKC", text)
    visible = "".join(
        " " if character.isspace() else character
        for character in text
        if character.isspace() or unicodedata.category(character) not in _INVISIBLE
    )
    return " ".join(visible.split())[:LONGEST].rstrip()


def query_of(document: Mapping[str, Any]) -> str:
    """Normalised query of a search log's document; empty where it has none."""
    return normalise(_text(document.get("search_query")))


def searcher_of(document: Mapping[str, Any]) -> str:
    """`user_id` of a search log's document; empty where it has none that a database could hold."""
    user_id = _text(document.get("user_id"))
    storable = "\0" not in user_id and user_id.encode("utf-8", "ignore").decode() == user_id
    return user_id if storable else ""


def _text(value: object) -> str:
    """A field's value as text: Elasticsearch takes numbers for keywords, and lists for anything."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""
