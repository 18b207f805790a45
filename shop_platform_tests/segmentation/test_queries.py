"""What counts as the same query, and whose search a document is."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shop_platform.segmentation.queries import LONGEST, normalise, query_of, searcher_of


@pytest.mark.parametrize(
    "query",
    [
        "wireless headphones",
        "Wireless Headphones",
        "  wireless\t headphones\n",
        "\uff57\uff49\uff52\uff45\uff4c\uff45\uff53\uff53 headphones",
        "wire\u200bless headphones",
    ],
)
def test_case_width_whitespace_and_invisible_characters_make_no_other_query(query: str) -> None:
    assert normalise(query) == "wireless headphones"


def test_letters_that_differ_only_by_case_are_folded_not_just_lowered() -> None:
    assert normalise("STRASSE") == normalise("Straße")


def test_digits_accents_and_signs_stay() -> None:
    assert normalise("Café 4K <50€") == "café 4k <50€"


@given(st.text())
@example("\u0345\u0301ΐ")
def test_normalising_twice_changes_nothing_more(query: str) -> None:
    once = normalise(query)
    assert normalise(once) == once


@given(st.text(alphabet=st.characters(codec="ascii")))
def test_plain_letters_are_normalised_as_others_are(query: str) -> None:
    assert normalise(query) == normalise(f"\u200b{query}")


@given(st.text(alphabet=st.characters(codec=None)))
def test_whatever_is_typed_can_be_stored(query: str) -> None:
    normalise(query).encode("utf-8")
    assert "\0" not in normalise(query)


def test_a_query_of_megabytes_is_cut() -> None:
    assert normalise("ab " * 5_000_000) == ("ab " * LONGEST)[:LONGEST].rstrip()


@pytest.mark.parametrize("query", ["", "   ", "\u200b\n", None, ["a", "b"], {"a": 1}, True])
def test_a_query_that_says_nothing_is_empty(query: object) -> None:
    assert query_of({"search_query": query}) == ""


def test_a_number_or_a_list_of_one_is_read_as_elasticsearch_indexes_it() -> None:
    assert query_of({"search_query": 2025}) == "2025"
    assert searcher_of({"user_id": ["abc123"]}) == "abc123"
    assert searcher_of({"user_id": 17}) == "17"


@pytest.mark.parametrize("user", ["", "a\0b", "a\ud800", None, ["a", "b"]])
def test_a_searcher_that_a_database_cannot_hold_is_nobody(user: object) -> None:
    assert searcher_of({"user_id": user}) == ""
