"""Damaged files, line by line: what can be read is, and a damaged line costs no other."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_platform.errors import SourceError
from shop_platform.sources.sieving import FIELDS, NO_UTF8, QUOTE, Damaged, header_of, lines_of, sieve_csv, sieve_json

HEADER = ["a", "b", "c"]

# Not lone carriage returns, which no file of today ends its lines with.
FIELD = st.text(st.sampled_from('x,;" \nß'), max_size=6)

BROKEN = st.sampled_from(
    [
        (b"1,2", FIELDS),
        (b"1,2,3,4", FIELDS),
        (b'1,"2"x,3', QUOTE),
        (b'1,2,"3', QUOTE),
        (b"1,2,\xff", NO_UTF8),
        (b'1,"\xff",3', NO_UTF8),
    ]
)


def written(rows: Sequence[Sequence[str]], end: str) -> list[bytes]:
    """Rows as Python's own module writes them, in lines."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue().encode().splitlines(keepends=True)


@given(st.lists(st.lists(FIELD, min_size=3, max_size=3)), st.sampled_from(["\n", "\r\n"]))
def test_whatever_is_written_well_is_read_as_it_was(rows: list[list[str]], end: str) -> None:
    assert list(sieve_csv(written([HEADER, *rows], end), ",")) == [HEADER, *rows]


PLAIN = st.lists(st.text(st.sampled_from("xy ß"), min_size=1, max_size=4), min_size=3, max_size=3)


@given(st.lists(st.one_of(PLAIN.filter(lambda row: any(field.strip() for field in row)), BROKEN), max_size=12))
def test_each_damaged_line_is_given_with_its_number_and_costs_no_other(
    rows: list[list[str] | tuple[bytes, str]],
) -> None:
    lines = [b"a,b,c\n"]
    expected: list[list[str] | tuple[int, str]] = [HEADER]
    for number, row in enumerate(rows, 2):
        lines.append((row[0] if isinstance(row, tuple) else ",".join(row).encode()) + b"\n")
        expected.append((number, row[1]) if isinstance(row, tuple) else row)
    # Two quotes that stand open may close one another, at a place where no field ends: either way they are in a wrong
    # place, and each costs its own line.
    found = [(each.line, each.reason) if isinstance(each, Damaged) else each for each in sieve_csv(lines, ",")]
    assert found == expected


def test_a_quote_that_is_never_closed_costs_its_line_in_a_long_file() -> None:
    lines = [b"a,b,c\n", b'1,"open,3\n', *([b"1,2,3\n"] * 1_000)]
    found = list(sieve_csv(lines, ","))
    assert found[1] == Damaged(2, QUOTE, '1,"open,3')
    assert len(found) == 1_002


def test_quotes_within_a_field_and_spaces_around_quotes_are_read_as_duckdb_does() -> None:
    lines = [b"a,b,c\n", b'5" pipe, "b" ,a "b" c\n']
    assert list(sieve_csv(lines, ","))[1] == ['5" pipe', "b", 'a "b" c']


def test_objects_in_lines_are_given_as_they_are_and_other_lines_as_damaged() -> None:
    lines = [b'{"a": 1}\n', b"\n", b"[1]\n", b'{"a"\n', b' {"b": "\xc3\x9f"} \r\n', b'"x"', b'{"\xff": 1}']
    found = list(sieve_json(lines))
    assert [each.line if isinstance(each, Damaged) else each for each in found] == [
        '{"a": 1}', 3, 4, '{"b": "ß"}', 6, 7,
    ]  # fmt: skip


def test_columns_without_a_name_or_with_one_that_is_taken_get_a_number(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("\ufeffid,,ID,id,name\n".encode())
    assert header_of(path, ",") == ["id", "column2", "ID_1", "id_2", "name"]


def test_a_file_that_breaks_off_within_its_compression_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" * 100)[:-10])
    with pytest.raises(SourceError, match=r"a\.csv\.gz can't be read"):
        list(lines_of(path))
