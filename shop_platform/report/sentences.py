"""The results in plain sentences, each computed from the numbers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shop_platform.report.evaluations import Evaluation
from shop_platform.report.retention import about_retention


def about_checks(evaluations: Sequence[Evaluation]) -> list[str]:
    """Which checks did not pass: what rests on them is to be doubted."""
    failed = [f"{each.check} of {each.asset}" for each in evaluations if each.passed is not True]
    if not failed:
        return []
    subject = "One check did" if len(failed) == 1 else f"{_number(len(failed))} checks did"
    return [f"{subject} not pass: {_listed(failed)}."]


def lead(results: dict[str, Any]) -> list[str]:
    """What a reader should take away, most useful first; nothing about parts without results."""
    return [
        *_about_quarantine(results["loads"]),
        *_about_speed(results["index_effects"], results["index_advice"]),
        *about_retention(results),
        *_about_segments(results["segments"]),
    ]


def _about_quarantine(loads: Sequence[dict[str, Any]]) -> list[str]:
    found = []
    for load in loads:
        if refused := sum(load["quarantined"].values()):
            verb = "is" if refused == 1 else "are"
            found.append(f"Of {load['rows_read']:,} rows for {load['table']}, {refused:,} {verb} in quarantine.")
    return found


def _about_speed(effects: dict[str, Any] | None, advice: dict[str, Any] | None) -> list[str]:
    if effects is None:
        return []
    return [
        *_about_idle_indexes(effects),
        *(sentence for query in effects["queries"] for sentence in _about_query(query)),
        *_about_advice(advice),
    ]


def _about_idle_indexes(effects: dict[str, Any]) -> list[str]:
    """Which indexes no query uses, and which of them those who write pay most for."""
    queries = effects["queries"]
    names = [index["name"] for index in queries[0]["indexes"]]
    used = {index["name"] for query in queries for index in query["indexes"] if index["used"] or index["used_alone"]}
    idle = [name for name in names if name not in used]
    neither = "neither query" if len(queries) == 2 else "none of the queries"
    found = []
    if len(idle) == len(names):
        found.append(f"None of the {_number(len(names)).lower()} indexes is used by any of the queries.")
    elif idle:
        verb = "is" if len(idle) == 1 else "are"
        count = f"{_number(len(idle))} of the {_number(len(names)).lower()} indexes"
        found.append(f"{count} {verb} used by {neither}: {_listed(idle)}.")
    costs = {index["name"]: index["insert_slowdown"] for index in effects["indexes"] if index["name"] in idle}
    if costs:
        dear = max(costs, key=lambda name: float(costs[name]["low"]))
        if costs[dear]["low"] > 1:
            found.append(
                f"With {dear}, which helps nobody here, inserts take {_times(costs[dear]['value'])} times as long "
                f"(95 % interval {_times(costs[dear]['low'])} to {_times(costs[dear]['high'])})."
            )
    return found


def _about_query(query: dict[str, Any]) -> list[str]:
    indexes = {
        "helps": f"make it {_times(query['indexes_speedup']['value'])} times as fast.",
        "hurts": "slow it down.",
        "no effect": "have no effect on it.",
        "unsure": "change it by no more than can be told from these measurements.",
    }[query["indexes_verdict"]]
    speedup = query["summaries_speedup"]
    if speedup is None:
        return [f"{_title(query['name'])}: the three indexes {indexes}"]
    value, low, high = (_times(speedup[end]) for end in ("value", "low", "high"))
    gain = f"the summary tables answer {value} times as fast as the query as written (95 % interval {low} to {high})"
    return [f"{_title(query['name'])}: {gain}; the three indexes {indexes}"]


def _about_advice(advice: dict[str, Any] | None) -> list[str]:
    """Where the advised indexes are shown to beat the three given ones."""
    found = []
    for query in (advice or {"queries": []})["queries"]:
        gain = query["against_given"]
        if gain["low"] > 1 and query["verdict"] == "helps":
            found.append(
                f"{_title(query['name'])}: with the advised indexes {_times(gain['value'])} times as fast as with the "
                f"three given (95 % interval {_times(gain['low'])} to {_times(gain['high'])})."
            )
    return found


def _about_segments(segments: list[dict[str, Any]] | None) -> list[str]:
    if not segments:
        return []
    total = sum(segment["users"] for segment in segments)
    largest = max(segments, key=lambda segment: int(segment["users"]))
    number = sum(segment["users"] > 0 for segment in segments)
    count = f"{total:,} searchers fall into {_number(number).lower()} segment{'s' if number != 1 else ''}"
    found = [f"{count}; the largest is {_title(largest['name'])} with {largest['users'] / total:.0%}."]
    weak = [_title(segment["name"]) for segment in segments if segment["supported"] is False]
    if weak:
        found.append(f"Not supported by what people search for: {_listed(weak)}.")
    return found


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 2 else f"{ratio:.1f}" if ratio < 10 else f"{ratio:,.0f}"


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _number(number: int) -> str:
    words = ("None", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve")
    return words[number] if number < len(words) else f"{number:,}"
