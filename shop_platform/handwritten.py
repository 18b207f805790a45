"""Reads what people write by hand, TOML and names of time zones, so that whatever is wrong is a ValueError."""

from __future__ import annotations

import tomllib
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises:
        ValueError: it is no TOML, holds a number of thousands of digits, or is nested too deeply; the message says
            what is wrong.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def known_zone(name: str) -> str:
    """The name, where it is that of a time zone.

    Raises:
        ValueError: it is none.
    """
    try:
        ZoneInfo(name)
    # OSError: the name of a folder of zones, such as Europe, or one that is too long for a file.
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no IANA time zone; use a name such as Europe/London") from error
    return name
