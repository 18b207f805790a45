"""The segments' file: the shop's own, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from shop_platform.errors import SettingsError
from shop_platform.segmentation.queries import normalise
from shop_platform.segmentation.segments import load_segments, segments_digest
from shop_platform.sources.parameters import PERSONAS
from shop_platform.sources.phrases import ANYBODY, THINGS


def test_the_shops_segments_are_the_four_of_the_mission() -> None:
    names = [segment.name for segment in load_segments()]
    assert names == ["tech_enthusiast", "lifestyle_shopper", "fitness_focused", "bargain_hunter"]
    assert set(names) == set(PERSONAS)


def test_each_segment_has_a_description_and_a_dozen_phrases_or_more() -> None:
    assert all(segment.description and len(segment.phrases) >= 12 for segment in load_segments())


def test_the_examples_are_not_copied_from_what_the_synthetic_shop_draws_from() -> None:
    drawn = {normalise(phrase) for things in THINGS.values() for phrase in things} | set(map(normalise, ANYBODY))
    assert not drawn & {phrase for segment in load_segments() for phrase in segment.phrases}


def test_the_digest_follows_names_and_phrases_but_not_descriptions(tmp_path: Path) -> None:
    def digest(text: str) -> str:
        path = tmp_path / "segments.toml"
        path.write_text(text, encoding="utf-8")
        return segments_digest(load_segments(path))

    text = "[[segments]]\nname='a'\ndescription='x'\nphrases=['one']\n[[segments]]\nname='b'\nphrases=['two']\n"
    assert digest(text) == digest(text.replace("'x'", "'y'"))
    assert digest(text) != digest(text.replace("'one'", "'three'"))
    assert digest(text) != digest(text.replace("'a'", "'c'"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("segments = 1", "at least two"),
        ("[[segments]]\nname='a'\nphrases=['x']\n", "at least two"),
        ("segments = [1, 2]", "is a table"),
        ("[[segments]]\nname='a'\nphrases=['x']\n[[segments]]\nname='a'\nphrases=['y']\n", "name twice"),
        ("[[segment]]\nname='a'\nphrases=['x']\n", "holds segment; it takes tables"),
        ("[[segments]]\nname='a'\nphrases=['x']\n[[segments]]\nphrases=['y']\n", "needs a name"),
        ("[[segments]]\nname='a'\nphrases=['x']\n[[segments]]\nname='b'\nphrases=[1]\n", "a list of texts"),
        ("[[segments]]\nname='a'\nphrases=['x']\n[[segments]]\nname='b'\nphrases=[' ']\n", "no phrase that says"),
        ("[[segments", "cannot be read"),
    ],
)
def test_a_file_that_cannot_work_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "segments.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=complaint):
        load_segments(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml"):
        load_segments(tmp_path / "none.toml")
