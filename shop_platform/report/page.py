"""Renders the report's page from results. Pure: values in, HTML out; nothing in it needs a network."""

from __future__ import annotations

import base64
import datetime as dt
from pathlib import Path
from typing import Any

from shop_platform.report.sentences import lead

#: Size of the line chart's drawing area.
_WIDTH, _HEIGHT = 720, 200


def render(
    results: dict[str, Any],
    *,
    title: str,
    currency: str,
    notes: tuple[str, ...],
    run_id: str,
    made_at: dt.datetime,
    heatmap: bytes | None,
) -> str:
    """The whole page.

    Args:
        results: as `collect_results` gives them.
        title: the shop's, for people.
        currency: ISO 4217 code.
        notes: sentences on how the data was read.
        run_id: of the run that writes the report.
        made_at: when.
        heatmap: PNG of the retention matrix, where there is one.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["percent"] = lambda value: f"{value:.0%}"
    environment.filters["milliseconds"] = lambda value: f"{value:,.2f} ms"
    environment.filters["titled"] = lambda name: name.replace("_", " ").capitalize()
    return environment.get_template("report.html").render(
        results=results,
        sentences=lead(results),
        cohorts=_cohorts(results["cohort_retention"]),
        line=_line(results["weekly_active_users"]),
        most=max((float(row["revenue"]) for row in results["revenue_by_category"] or ()), default=0.0),
        title=title,
        currency=currency,
        notes=notes,
        run_id=run_id,
        made_at=made_at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        heatmap=None if heatmap is None else base64.b64encode(heatmap).decode("ascii"),
    )


def _cohorts(cells: list[dict[str, Any]] | None) -> dict[str, list[dict[str, Any]]]:
    """Cells by cohort, in order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for cell in cells or ():
        found.setdefault(cell["cohort"], []).append(cell)
    return found


def _line(weeks: list[dict[str, Any]] | None) -> dict[str, Any] | None:
    """The points of the chart of weekly active users, for an SVG of `_WIDTH` by `_HEIGHT`."""
    if not weeks or len(weeks) < 2:
        return None
    top = max(week["active_users"] for week in weeks)
    step = _WIDTH / (len(weeks) - 1)
    points = [f"{n * step:.1f},{_HEIGHT * (1 - week['active_users'] / top):.1f}" for n, week in enumerate(weeks)]
    return {"points": " ".join(points), "top": top, "width": _WIDTH, "height": _HEIGHT}
