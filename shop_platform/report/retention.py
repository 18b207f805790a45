"""Retention in the report: its sentences, and its tables as the page shows them. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from shop_platform.retention.definition import Definition
from shop_platform.retention.differences import sentence

#: What users count as who have not searched.
NO_SEGMENT = "(none)"

#: How people say in which calendar period users began.
_WHEN = {
    "day": lambda day: f"on {day}",
    "week": lambda day: f"in the week from {day}",
    "month": lambda day: f"in {day:%B %Y}",
    "quarter": lambda day: (
        f"in the {('first', 'second', 'third', 'fourth')[(day.month - 1) // 3]} quarter of {day.year}"
    ),
}

_BEGAN = {
    "signup": "who signed up",
    "viewed": "who first viewed a product",
    "add_to_cart": "who first put a product into the cart",
    "purchased": "who first purchased",
}


def definition_of(results: dict[str, Any]) -> Definition | None:
    """How the stored matrix was counted; None where there is none."""
    basis = results.get("retention_basis")
    return Definition(**basis["definition_settings"]) if basis else None


def about_retention(results: dict[str, Any]) -> list[str]:
    """What a reader should take away from the stored matrix; nothing from cells with few users."""
    definition = definition_of(results)
    if definition is None or not results["cohort_retention"]:
        return []
    whole = [cell for cell in results["cohort_retention"] if cell["breakdown"] is None]
    return [
        *_about_the_latest(whole, definition),
        *_about_all([row for row in results["pooled_retention"] or [] if row["breakdown"] is None], definition),
        *(
            said
            for among in ("cohorts", "groups")
            if (said := sentence(results["retention_basis"]["differences"], among, definition.unit))
        ),
        *([said] if (said := about_segments(results)) else ()),
        *_about_what_is_not_known(whole),
    ]


def by_segment(results: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Rows of each segment over all cohorts, by period; empty where nothing of the stored matrix was counted by any."""
    definition, stored = definition_of(results), results.get("segment_retention")
    if definition is None or not stored or stored["matrix"] != results["retention_basis"]["run_id"]:
        return {}
    found: dict[str, list[dict[str, Any]]] = {}
    for row in stored["rows"]:
        few = row["users_observed"] < definition.least_users
        found.setdefault(row["segment"], []).append(row | {"few_users": few})
    return {} if found.keys() <= {NO_SEGMENT} else found


def about_segments(results: dict[str, Any]) -> str | None:
    """Whether the segments differ; None where that was not tested."""
    definition = definition_of(results)
    if definition is None or not by_segment(results):
        return None
    return sentence(results["segment_retention"]["differences"], "groups", definition.unit, called="segments")


def _about_the_latest(cells: Sequence[dict[str, Any]], definition: Definition) -> list[str]:
    period = min(1, definition.periods - 1)
    told = [cell for cell in cells if cell["period"] == period and cell["users_observed"] >= definition.least_users]
    if not told:
        return []
    latest = max(told, key=lambda cell: str(cell["cohort"]))
    when = _WHEN[definition.cohort](dt.date.fromisoformat(latest["cohort"]))
    who = f"of the users {_BEGAN[definition.start]} {when} {_did(definition, period)}"
    return [f"{_share(latest)} {who} ({_interval(latest)}, {latest['users_observed']:,} users)."]


def _about_all(pooled: Sequence[dict[str, Any]], definition: Definition) -> list[str]:
    told = [row for row in pooled if row["users_observed"] >= definition.least_users and row["period"] > 0]
    if not told:
        return []
    last = told[-1]
    return [f"Over all cohorts, {_share(last)} {_did(definition, last['period'])} ({_interval(last)})."]


def _did(definition: Definition, period: int) -> str:
    name = definition.column(period)
    back = "came back" if period else "were active"
    if definition.measure == "revenue":
        return f"bought in {name}"
    return f"{back} in {name} or later" if definition.measure == "unbounded" else f"{back} in {name}"


def _share(row: dict[str, Any]) -> str:
    return f"{row['rate']:.0%}"


def _interval(row: dict[str, Any]) -> str:
    return f"95 % interval {row['rate_low']:.0%} to {row['rate_high']:.0%}"


def _about_what_is_not_known(cells: Sequence[dict[str, Any]]) -> list[str]:
    empty = [cell for cell in cells if cell["users_observed"] == 0]
    silent = sum(cell["users_unrecorded"] > 0 for cell in empty)
    young = len(empty) - silent
    found = []
    if young:
        found.append(f"{_cells(young)} of the retention matrix can't be known yet.")
    if silent:
        found.append(f"{_cells(silent)} can't be known: the shop recorded nothing then.")
    return found


def _cells(number: int) -> str:
    return "One cell" if number == 1 else f"{number:,} cells"


def tables(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The matrix as the page shows it: one table for all users, then one for each group.

    Returns:
        For each, `name` (None for all users), `columns` (names of the periods), `rows` (cohort, users, cells) and
        `pooled` (its cells).
    """
    definition = definition_of(results)
    if definition is None:
        return []
    from shop_platform.retention.heatmap import row_name

    found: dict[str | None, dict[str, list[dict[str, Any]]]] = {}
    for cell in results["cohort_retention"] or []:
        found.setdefault(cell["breakdown"], {}).setdefault(cell["cohort"], []).append(cell)
    return [
        {
            "name": name,
            "columns": [definition.column(period) for period in range(definition.periods)],
            "rows": [
                (row_name(dt.date.fromisoformat(cohort), definition), cells[0]["cohort_size"], cells)
                for cohort, cells in cohorts.items()
            ],
            "pooled": [
                row
                | {
                    "users_unrecorded": _unrecorded(cohorts, row["period"]),
                    "few_users": row["users_observed"] < definition.least_users,
                }
                for row in results["pooled_retention"] or []
                if row["breakdown"] == name
            ],
        }
        for name, cohorts in found.items()
    ]


def _unrecorded(cohorts: dict[str, list[dict[str, Any]]], period: int) -> int:
    """Users of all cohorts in whose period the shop recorded nothing."""
    return sum(
        int(cell["users_unrecorded"]) for cells in cohorts.values() for cell in cells if cell["period"] == period
    )
