"""Damaged text files, line by line: what can be read, and the lines that can't, with their numbers. No database.

DuckDB finds out that a file is damaged, but not how much of it: after a quote that is never closed it goes on at a
place of its own choice and drops what lies between without a word. So a file that it complains of is read here.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shop_platform.errors import SourceError

#: Lines that one record of CSV may take: a quote that is not closed by then never is.
_LINES = 200

NO_UTF8 = "line that is no UTF-8"
FIELDS = "line with a wrong number of fields"
QUOTE = "line with a quote that is not closed, or in a wrong place"
NO_JSON = "line that is no JSON object"


@dataclass(frozen=True)
class Damaged:
    """A line that can't be read: its number from 1, why, and its text as far as it is one."""

    line: int
    reason: str
    text: str


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a file, gzipped or not, each with its end.

    Raises:
        SourceError: the file can't be read, or is no gzip file.
    """
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            yield from file
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{path} can't be read: {error or type(error).__name__}.") from error


def is_blank(path: Path) -> bool:
    """Whether a file holds nothing but white space."""
    return all(not line.strip() for line in lines_of(path))


def header_of(path: Path, separator: str) -> list[str]:
    """Names of a CSV file's columns; one that is missing or stands there twice gets a number.

    Raises:
        SourceError: the file has no header that can be read.
    """
    records = _Records(lines_of(path), separator)
    for record in records:
        if isinstance(record, Damaged):
            raise SourceError(f"The header of {path} can't be read: line {record.line} is a {record.reason}.")
        names: list[str] = []
        for place, name in enumerate(record, 1):
            wanted = name or f"column{place}"
            taken = [each.lower() for each in names]
            number = next(number for number in range(len(names) + 1) if _numbered(wanted, number).lower() not in taken)
            names.append(_numbered(wanted, number))
        return names
    raise SourceError(f"{path} holds nothing, not even a header.")


def sieve_csv(lines: Iterable[bytes], separator: str) -> Iterator[list[str] | Damaged]:
    """Records of CSV with as many fields as the header, which is the first, and the lines that are none.

    A record may take several lines within quotes. A quote that is never closed costs its own line only.
    """
    width = None
    records = _Records(lines, separator)
    for record in records:
        if isinstance(record, Damaged):
            yield record
        elif width in (None, len(record)):
            width = len(record)
            yield record
        else:
            yield records.refuse(FIELDS)


def sieve_json(lines: Iterable[bytes]) -> Iterator[str | Damaged]:
    """JSON objects that stand in a line each, and the lines that are none."""
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode().strip()
        except UnicodeDecodeError:
            yield _damaged(number, NO_UTF8, line)
            continue
        if text:
            yield text if _is_object(text) else _damaged(number, NO_JSON, line)


def _is_object(text: str) -> bool:
    try:
        found = json.loads(text)
        # Half a surrogate pair is no character.
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # thousands of digits, thousands of brackets
        return False
    return isinstance(found, dict)


class _Records:
    """Iterates over the records of CSV; knows where the last one began, to go back there."""

    def __init__(self, lines: Iterable[bytes], separator: str) -> None:
        self._lines = enumerate(lines, 1)
        self._waiting: list[tuple[int, bytes]] = []
        self._last: list[tuple[int, bytes]] = []
        mark = re.escape(separator)
        quoted = ' *+"((?:[^"]|"")*+)" *+'
        self._field = re.compile(rf'(?:{quoted}|((?! *+")[^{mark}]*+))({mark}|$)')
        self._open = re.compile(rf'(?:(?:{quoted}|(?! *+")[^{mark}]*+){mark})*+ *+"(?:[^"]|"")*+')
        self._separator = separator

    def __iter__(self) -> Iterator[list[str] | Damaged]:
        while (line := self._next()) is not None:
            if not line[1].strip():
                continue
            self._last = [line]
            record = self._record(line[1])
            yield self.refuse(record) if isinstance(record, str) else record

    def refuse(self, reason: str) -> Damaged:
        """The first line of the last record as a damaged one; goes on with the line behind it."""
        (number, line), *rest = self._last
        self._waiting = rest + self._waiting
        return _damaged(number, reason, line)

    def _next(self) -> tuple[int, bytes] | None:
        return self._waiting.pop(0) if self._waiting else next(self._lines, None)

    def _record(self, line: bytes) -> list[str] | str:
        """The fields of the record that begins with a line, or what is wrong with it."""
        try:
            text = line.decode("utf-8-sig" if self._last[0][0] == 1 else "utf-8")
            if '"' not in text:
                return text.rstrip("\r\n").split(self._separator)
            while self._open.fullmatch(text):
                further = self._next() if len(self._last) < _LINES else None
                if further is None:
                    return QUOTE
                self._last.append(further)
                text += further[1].decode()
        except UnicodeDecodeError:
            return NO_UTF8 if len(self._last) == 1 else QUOTE
        return self._fields(text.rstrip("\r\n"))

    def _fields(self, text: str) -> list[str] | str:
        fields, place = [], 0
        while found := self._field.match(text, place):
            quoted, plain, end = found.groups()
            fields.append(plain if quoted is None else quoted.replace('""', '"'))
            place = found.end()
            if not end:
                return fields
        return QUOTE


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


def _damaged(number: int, reason: str, line: bytes) -> Damaged:
    return Damaged(number, reason, line.decode(errors="replace").rstrip("\r\n"))
