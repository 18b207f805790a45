"""Mappings, segments and settings of any content: used as they stand, or refused by an error that says why."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shop_platform.segmentation.segments import load_segments
from shop_platform.settings import Settings, load_settings
from shop_platform.sources.load import load_shop

from .cases import TEXT, TOTAL, cases, count, damaged, taken, write
from .test_files import ROWS, TOML, as_csv, folder_of

pytestmark = pytest.mark.timeout(300 + TOTAL)

MAPPING = TOML.format(pattern="rows.csv", clicked="[c]").encode()
SEGMENTS = (Path(__file__).parents[2] / "shop_platform" / "segmentation" / "segments.toml").read_bytes()

#: What may stand in a mapping, put in place of any of its values.
VALUES = st.one_of(
    TEXT,
    st.integers(),
    st.floats(),
    st.booleans(),
    st.lists(TEXT, max_size=3),
    st.dictionaries(TEXT, TEXT, max_size=2),
    st.sampled_from(
        """
        Europe|../etc|/etc/passwd|**|../*|a/**/b|[|Europe/Berlin|rows.csv\0|a, b|a) --|a FROM rows; DROP TABLE rows
        |(SELECT max(a) FROM rows)|error('x')|1/0|a::INT|FROM range(3)|SELECT a FROM rows|FROM users|unnest([a, b])
        |hex|utf-16|utf-7|unicode_escape|punycode|idna|undefined|cp037|zlib
        |utf-8-sig|rot13|postgres|first event|quarantine|rows
        """.strip().split("|")
    ),
)
PLACES = st.sampled_from(
    [
        ("shop", "name"),
        ("shop", "title"),
        ("shop", "time_zone"),
        ("shop", "naive_times"),
        ("shop", "currency"),
        ("shop", "quarantine_at_most"),
        ("shop", "notes"),
        ("files", "base"),
        ("files", "tables", "rows"),
        ("files", "encodings", "rows"),
        ("users", "from"),
        ("users", "without_signup"),
        ("users", "columns", "user_id"),
        ("users", "columns", "signup_date"),
        ("users", "defaults", "city"),
        ("users", "leave_out"),
        ("events", "meaning", "viewed"),
        ("events", "columns", "timestamp"),
        ("postgres", "tables", "other"),
        ("searches", "columns", "clicked_product_ids"),
        ("surprise",),
    ]
)

#: Where SQL stands, and what may stand there.
WRITTEN = st.sampled_from(
    [
        ("users", "from"),
        ("events", "from"),
        *(("users", "columns", name) for name in ("user_id", "signup_date", "name", "city")),
        *(("products", "columns", name) for name in ("product_id", "name", "category", "price")),
        *(("events", "columns", name) for name in ("user_id", "product_id", "event_type", "timestamp")),
        *(("searches", "columns", name) for name in ("user_id", "search_query", "clicked_product_ids", "timestamp")),
    ]
)
_TERMS = """
a b c d NULL 1 0 -1 1e300 1e400 '' 'x' 'NaN' TRUE [a] [] {'a':a} now() random() rows shop_row count(*) max(a)
row_number()OVER()
( ) + - * / || = < AND OR NOT IS LIKE IN , :: :: VARCHAR INTEGER TIMESTAMPTZ TRY_CAST( CAST( AS CASE WHEN THEN ELSE END
upper( length( strptime( to_timestamp( unnest( list_value( error( repeat( 1000 SELECT FROM WHERE rows users range(9)
"""
EXPRESSIONS = st.one_of(
    st.sampled_from(
        ["a", "b", "c", "d", "a || b", "upper(a)", "TRY_CAST(d AS TIMESTAMPTZ)", "c::DECIMAL(9, 2)", "[a, b]"]
    ),
    st.lists(st.sampled_from(_TERMS.split()), min_size=1, max_size=6).map(" ".join),
)


def read_mapping_of(folder: Path, content: bytes) -> None:
    """Read a mapping and, where it can be used, the rows that it gives."""
    write(folder / "rows.csv", as_csv(ROWS))
    config = write(folder / "shop.toml", content)

    def read() -> None:
        source = load_shop(Settings(config=config)).source
        source.state()
        for kind in ("users", "events", "searches"):
            count(getattr(source, kind)())

    taken(read)


@cases("mapping bytes")
@given(damaged(MAPPING))
@example(MAPPING + b"a = " + b"9" * 5_000)
@example(MAPPING + b"a = " + b"[" * 5_000)
def test_a_mapping_of_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    read_mapping_of(folder_of(tmp_path_factory), content)


@cases("mapping values")
@given(st.dictionaries(PLACES, VALUES, min_size=1, max_size=2) | st.dictionaries(WRITTEN, EXPRESSIONS, min_size=1))
@example({("shop", "time_zone"): "Europe"})
@example({("shop", "naive_times"): "x" * 5_000})
@example({("files", "encodings", "rows"): "hex"})
@example({("files", "encodings", "rows"): "utf-16"})
@example({("files", "base"): "~nobody-at-all"})
@example({("files", "base"): "a\0b"})
@example({("files", "tables", "rows"): "a\0b"})
@example({("files", "tables", "rows"): "a**/b"})
def test_a_mapping_of_any_values(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[tuple[str, ...], object]
) -> None:
    import tomllib

    content = tomllib.loads(MAPPING.decode())
    for place, value in changes.items():
        inner: Any = content
        for name in place[:-1]:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                return
        inner[place[-1]] = value
    read_mapping_of(folder_of(tmp_path_factory), as_toml(content).encode(errors="surrogatepass"))


@cases("segments")
@given(damaged(SEGMENTS))
@example(b"a = " + b"9" * 5_000)
@example(b"a = " + b"[" * 5_000)
def test_segments_of_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = write(folder_of(tmp_path_factory) / "segments.toml", content)
    segments = taken(lambda: load_segments(path))
    assert segments is None or all(each.name and each.phrases for each in segments)


NAMES = sorted(str(field.validation_alias or f"SHOP_{name.upper()}") for name, field in Settings.model_fields.items())
WORDS = st.sampled_from(
    [
        "0",
        "-1",
        "1e9",
        "inf",
        "nan",
        "5m",
        "true",
        "~nobody",
        "~",
        "/",
        "..",
        "Europe",
        "2025-01-01",
        "9999-12-31",
        "1g",
    ]
) | st.sampled_from(
    ["0001-01-01", "month", "http://", "http://[", "postgresql://[", "1", "monday", "1_000", "\u0663", "9" * 5_000]
)

ANY_TEXT = st.text(st.characters(exclude_characters="\0"), max_size=20)


@cases("settings")
@given(st.dictionaries(st.sampled_from(NAMES), WORDS | ANY_TEXT, min_size=1, max_size=3))
@example({"SHOP_TIME_ZONE": "Europe"})
@example({"SHOP_HOME": "~nobody-at-all"})
@example({"SHOP_CONFIG": "x" * 5_000})
@example({"SHOP_START": "9999-12-31"})
def test_settings_of_any_text(values: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            # As the shell gives it: bytes that need not be UTF-8.
            patch.setenv(name, os.fsdecode(value.encode(errors="surrogatepass")))
        settings = taken(load_settings)
        if settings is not None and settings.users <= 1_000 and settings.searches <= 20_000:
            taken(lambda: load_shop(settings).source.state())


def as_toml(value: object) -> str:
    """A table as TOML, with all its tables inline."""
    assert isinstance(value, dict)
    return "".join(f"{_text(name)} = {_inline(each)}\n" for name, each in value.items())


def _inline(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(name)} = {_inline(each)}" for name, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return _text(value) if isinstance(value, str) else str(value)


def _text(text: str) -> str:
    inner = "".join(
        f"\\u{ord(each):04x}" if ord(each) < 32 or each in '"\\\x7f' else each  # what TOML does not take as it is
        for each in text
    )
    return f'"{inner}"'
