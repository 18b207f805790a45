"""A source without people who were erased."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pyarrow as pa
import pytest

from shop_platform.erasure.forgotten import REASON, REDACTED, Forgotten, SourceWithout

from ..commerce.lists import ListSource, event, user

KEY = bytes(range(32))
NOBODY = Forgotten(KEY)


def forgotten(*ids: str, mails: Iterable[str] = ()) -> Forgotten:
    """These people, as the record of erasures gives them."""
    return Forgotten(KEY, frozenset(map(NOBODY.digest, ids)), frozenset(map(NOBODY.digest, mails)))


def test_their_rows_are_left_out_and_counted() -> None:
    source = ListSource(
        [user("a"), user("b")],
        event_rows=[event("a"), event("b"), event("a")],
        left_out={"a test event": 2},
    )
    without = SourceWithout(source, forgotten("a"))
    extract = without.events()
    rows = pa.Table.from_batches(extract.batches).to_pylist()
    # The ids stay those of the whole source: whoever is erased later moves nobody else's.
    assert [(row["event_id"], row["user_id"]) for row in rows] == [(2, "b")]
    assert extract.left_out == {"a test event": 2, REASON: 2}
    assert extract.rows_read == len(rows) + sum(extract.left_out.values())
    assert [row["user_id"] for row in pa.Table.from_batches(without.users().batches).to_pylist()] == ["b"]


def test_another_erasure_is_another_fingerprint() -> None:
    source = ListSource()
    prints = {SourceWithout(source, forgotten(*ids)).fingerprint() for ids in ("a", "b", "ab")}
    assert len(prints | {source.fingerprint()}) == 4
    assert SourceWithout(source, forgotten("a", "b")).fingerprint() in prints


def test_a_hash_says_nothing_without_its_key() -> None:
    assert Forgotten(bytes(32)).digest("a") != NOBODY.digest("a")
    assert len(NOBODY.digest("a")) == 32


@pytest.mark.parametrize(
    "row",
    [
        {"customer": "17850", "quantity": 3},
        {"customer": 17850},
        {"customer": 17850.0},
        {"nested": [{"customer": "17850"}]},
        {"line": "536365,17850,United Kingdom"},
        {"line": '"17850"\tx'},
        {"mail": "ada@example.org"},
        {"line": "x;ada@example.org;y"},
    ],
)
def test_a_quarantined_row_that_names_them_is_redacted(row: dict[str, object]) -> None:
    source = ListSource(quarantined={"no such product": [row, {"customer": "178501", "mail": "b.ada@example.org"}]})
    extract = SourceWithout(source, forgotten("17850", mails=["ada@example.org"])).events()
    (batch,) = extract.quarantine
    redacted, other = batch.column("row").to_pylist()
    assert redacted == REDACTED
    assert json.loads(other)["customer"] == "178501"
    assert batch.column("origin").to_pylist() == ["events.csv, line 7"] * 2
