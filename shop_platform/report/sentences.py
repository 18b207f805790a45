"""The results in plain sentences, each computed from the numbers. Pure."""

from __future__ import annotations

import datetime as dt
from typing import Any

#: A cohort's rate is told from this many observed users on; below, chance speaks louder.
_LEAST_USERS = 30


def lead(results: dict[str, Any]) -> list[str]:
    """What a reader should take away, most useful first; nothing about parts without results."""
    return [
        *_about_speed(results["index_effects"]),
        *_about_retention(results["cohort_retention"]),
        *_about_segments(results["segments"]),
    ]


def _about_speed(effects: dict[str, Any] | None) -> list[str]:
    if effects is None:
        return []
    queries = effects["queries"]
    names = [index["name"] for index in queries[0]["indexes"]]
    used = {index["name"] for query in queries for index in query["indexes"] if index["used"]}
    idle = [name for name in names if name not in used]
    found = []
    if len(idle) == len(names):
        found.append(f"None of the {_number(len(names)).lower()} indexes is used by either query.")
    elif idle:
        verb = "is" if len(idle) == 1 else "are"
        count = f"{_number(len(idle))} of the {_number(len(names)).lower()} indexes"
        found.append(f"{count} {verb} used by neither query: {_listed(idle)}.")
    for query in queries:
        speedup = query["summaries_speedup"]
        value, low, high = (_times(speedup[end]) for end in ("value", "low", "high"))
        found.append(
            f"{_title(query['name'])}: the summary tables answer {value} times as fast as the query as written "
            f"(95 % interval {low} to {high}); the three indexes "
            + {
                "helps": f"make it {_times(query['indexes_speedup']['value'])} times as fast.",
                "hurts": "slow it down.",
                "no effect": "have no effect on it.",
                "unsure": "change it by no more than can be told from these measurements.",
            }[query["indexes_verdict"]]
        )
    return found


def _about_retention(cells: list[dict[str, Any]] | None) -> list[str]:
    first_weeks = [cell for cell in cells or () if cell["period"] == 1 and cell["users_observed"] >= _LEAST_USERS]
    if not first_weeks:
        return []
    latest = max(first_weeks, key=lambda cell: str(cell["cohort"]))
    month = dt.date.fromisoformat(latest["cohort"])
    unknown = sum(cell["users_observed"] == 0 for cell in cells or ())
    interval = f"{latest['rate_low']:.0%} to {latest['rate_high']:.0%}"
    found = [
        (
            f"{latest['rate']:.0%} of the users who signed up in {month:%B %Y} came back in week 1 "
            f"(95 % interval {interval}, {latest['users_observed']:,} users)."
        )
    ]
    if unknown:
        found.append(
            f"{_number(unknown)} {'cell' if unknown == 1 else 'cells'} of the retention matrix can't be known yet."
        )
    return found


def _about_segments(segments: list[dict[str, Any]] | None) -> list[str]:
    if not segments:
        return []
    total = sum(segment["users"] for segment in segments)
    largest = max(segments, key=lambda segment: int(segment["users"]))
    count = f"{total:,} searchers fall into {_number(len(segments)).lower()} segments"
    found = [f"{count}; the largest is {_title(largest['name'])} with {largest['users'] / total:.0%}."]
    weak = [_title(segment["name"]) for segment in segments if segment["supported"] is False]
    if weak:
        found.append(f"Not clearly supported by what people search for: {_listed(weak)}.")
    return found


def _times(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 10 else f"{ratio:,.0f}"


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _number(number: int) -> str:
    words = ("None", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve")
    return words[number] if number < len(words) else f"{number:,}"
