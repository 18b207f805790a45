"""The segments as data: reads `segments.toml` and refuses one that can't work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shop_platform.errors import SettingsError
from shop_platform.handwritten import parse_toml
from shop_platform.segmentation.queries import normalise
from shop_platform.settings import load_settings


@dataclass(frozen=True)
class Segment:
    """One segment.

    Attributes:
        name: what is written on documents.
        description: for people.
        phrases: normalised example searches, the segment's prototype.
    """

    name: str
    description: str
    phrases: tuple[str, ...]


def load_segments(path: Path | None = None) -> tuple[Segment, ...]:
    """The segments of the file, in its order; by default the one that SHOP_SEGMENTS names, else the four of ours.

    Raises:
        SettingsError: the file is missing, is no TOML, or its segments can't be told apart.
    """
    path = path or load_settings().segments or Path(__file__).with_name("segments.toml")
    try:
        content = parse_toml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"Segments cannot be read from {path}: {error}.") from error
    if unknown := sorted(content.keys() - {"segments"}):
        raise SettingsError(f"{path} holds {', '.join(unknown)}; it takes tables [[segments]] alone.")
    rows = content.get("segments")
    if not isinstance(rows, list) or len(rows) < 2:
        raise SettingsError(f"{path} must hold at least two tables [[segments]].")
    segments = tuple(_segment(row, path) for row in rows)
    names = [segment.name for segment in segments]
    if len(set(names)) != len(names):
        raise SettingsError(f"{path} uses a segment's name twice; give each a name of its own.")
    return segments


def segments_digest(segments: Sequence[Segment]) -> str:
    """Short hash of names and phrases: what a segmentation depends on. Descriptions are for people and do not count."""
    text = json.dumps([[segment.name, segment.phrases] for segment in segments])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _segment(row: object, path: Path) -> Segment:
    if not isinstance(row, dict):
        raise SettingsError(f"{path}: each segment is a table [[segments]].")
    name, description, phrases = row.get("name"), row.get("description", ""), row.get("phrases")
    if not isinstance(name, str) or not name.strip() or not isinstance(description, str):
        raise SettingsError(f"{path}: each segment needs a name, and a description that is a text.")
    if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
        raise SettingsError(f"{path}: segment {name} needs phrases, a list of texts.")
    normalised = tuple(dict.fromkeys(filter(None, map(normalise, phrases))))
    if not normalised:
        raise SettingsError(f"{path}: segment {name} has no phrase that says anything.")
    return Segment(name, description, normalised)
