"""Renders the report's page from results. Pure: values in, HTML out; nothing in it needs a network."""

from __future__ import annotations

import base64
import datetime as dt
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shop_platform.report.evaluations import Evaluation
from shop_platform.report.retention import about_segments, tables
from shop_platform.report.retention import by_segment as retention_by_segment
from shop_platform.report.sentences import about_checks, lead
from shop_platform.segmentation.behaviour import shares

_HERE = Path(__file__).parent

#: Draws the charts that can be read off: Chart.js 4.6.1 as it is published.
CHARTS = _HERE / "vendor" / "chart.umd.min.js"

#: Size of the line chart's drawing area.
_WIDTH, _HEIGHT = 720, 200


#: Sections of the page, and the result that each needs.
SECTIONS = {
    "performance": "index_effects",
    "activity": "weekly_active_users",
    "revenue": "revenue_by_category",
    "retention": "cohort_retention",
    "segments": "segments",
}


def render(
    results: dict[str, Any],
    *,
    title: str,
    currency: str,
    notes: tuple[str, ...],
    run_id: str,
    made_at: dt.datetime,
    versions: Mapping[str, str],
    heatmap: bytes | None,
    curves: bytes | None = None,
    by_segment: bytes | None = None,
    evaluations: Sequence[Evaluation] = (),
) -> str:
    """The whole page. A section whose result is absent is left out, with a sentence that says what to do.

    Args:
        results: as `collect_results` gives them.
        title: the shop's, for people.
        currency: ISO 4217 code.
        notes: sentences on how the data was read.
        run_id: of the run that writes the report.
        made_at: when.
        versions: of the software that made it, by name.
        heatmap: PNG of the retention matrix, where there is one.
        curves: PNG of the retention curves, where there is one.
        by_segment: PNG of these by segment, where there is one.
        evaluations: of the asset checks, what did not pass first.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["percent"] = lambda value: f"{value:.0%}"
    environment.filters["milliseconds"] = lambda value: f"{value:,.2f} ms"
    environment.filters["ratio"] = lambda value: f"{value:,.2f}" if value < 10 else f"{value:,.0f}"
    environment.filters["bar"] = lambda value: f"{_bar(value, results['ladder']):.1f}"
    environment.filters["titled"] = lambda name: name.replace("_", " ").capitalize()
    environment.filters["minute"] = lambda when: f"{when:%Y-%m-%d %H:%M}"
    written = made_at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return environment.get_template("report.html").render(
        results=results,
        sections=sections_with_results(results),
        sentences=[*about_checks(evaluations), *lead(results)],
        evaluations=evaluations,
        segments=_segments(results),
        map=_by_segment((results["segment_profiles"] or {}).get("map", [])),
        overlap=_overlap(results),
        weeks=_with_gaps(results["weekly_active_users"] or []),
        # Without its last line, which names a file that isn't there.
        charts_library=CHARTS.read_text(encoding="utf-8").partition("//# sourceMappingURL")[0],
        ladders=_grouped(results["ladder"], "query"),
        retention=tables(results),
        line=line_of(results["weekly_active_users"]),
        most=max((float(row["revenue"]) for row in results["revenue_by_category"] or ()), default=0.0),
        conditions=_conditions(results["index_effects"]),
        provenance=_provenance(results, run_id, written, versions),
        title=title,
        currency=currency,
        notes=notes,
        run_id=run_id,
        made_at=written,
        heatmap=_inlined(heatmap),
        curves=_inlined(curves),
        by_segment=_inlined(by_segment),
        segment_rows=retention_by_segment(results),
        segments_differ=about_segments(results),
    )


def _segments(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The segments with what their users click and buy most, the largest first."""
    profiles = results["segment_profiles"] or {"clicked": {}, "bought": {}}
    told = results["segments"] or []
    total = sum(segment["users"] for segment in told)
    return [
        segment
        | {
            "share": segment["users"] / total if total else 0.0,
            "clicks": shares(profiles["clicked"], segment["name"]),
            "buys": shares(profiles["bought"], segment["name"]),
        }
        for segment in sorted(told, key=lambda each: (-each["users"], each["name"]))
    ]


def _overlap(results: dict[str, Any]) -> dict[str, list[float] | None]:
    """For each segment the mean probabilities of all over its users; None where it has none."""
    profiles = results["segment_profiles"]
    if not profiles or not profiles["quality"]:
        return {}
    return dict(zip(profiles["segments"], profiles["quality"]["overlap"], strict=True))


def _with_gaps(weeks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """All weeks from the first to the last; those without any event have no number, and break the line."""
    active = {dt.date.fromisoformat(week["week"]): week["active_users"] for week in weeks}
    if not active:
        return []
    first, last = min(active), max(active)
    days = [first + dt.timedelta(weeks=number) for number in range((last - first).days // 7 + 1)]
    return [{"week": day.isoformat(), "active_users": active.get(day)} for day in days]


def _by_segment(points: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The points of the map by what their query looks like."""
    return {name: _grouped(points, "segment")[name] for name in sorted({point["segment"] for point in points})}


def _inlined(png: bytes | None) -> str | None:
    return None if png is None else base64.b64encode(png).decode("ascii")


def sections_with_results(results: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the sections that the results call for."""
    return tuple(section for section, result in SECTIONS.items() if results[result])


def missing_sections(page: str, results: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the sections that the results call for and the page lacks."""
    return tuple(name for name in sections_with_results(results) if f'<section id="{name}">' not in page)


def _grouped(rows: Sequence[dict[str, Any]], key: str) -> dict[str, list[dict[str, Any]]]:
    """Rows by what one of their values is, in order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return found


def _bar(speedup: float, ladder: list[dict[str, Any]]) -> float:
    """Length of a rung's bar in rem: the logarithm of its speedup, the largest of the ladder 10 rem long."""
    most = max(rung["speedup"]["value"] for rung in ladder if rung["speedup"])
    return 10 * max(math.log(speedup), 0) / math.log(max(most, 2))


def _conditions(effects: dict[str, Any] | None) -> dict[str, str]:
    """Under which conditions the queries were measured, for people."""
    provenance = (effects or {}).get("provenance", {})
    shown = {
        "Measured": provenance.get("measured_at"),
        "PostgreSQL": provenance.get("server_version"),
        "Sample": f"the events of one user in {provenance['one_user_in']}"
        if provenance.get("one_user_in", 1) > 1
        else "all events",
        "Other sessions at work": provenance.get("other_sessions"),
    }
    settings = provenance.get("settings", {})
    return {name: str(value) for name, value in (shown | settings).items() if value is not None}


def _provenance(results: dict[str, Any], run_id: str, written: str, versions: Mapping[str, str]) -> dict[str, str]:
    """What the page was made from, when and by what."""
    window = (
        f"{results['first_event'][:16]} to {results['last_event'][:16]}".replace("T", " ")
        if results["first_event"]
        else "no events"
    )
    logs = results["search_logs"]
    return {
        "Events from, to": window,
        "Days, weeks and months": f"cut in {results['time_zone']} time",
        **({"Search logs": f"{logs['documents']:,} documents"} if logs else {}),
        "Written": f"{written} by run {run_id}",
        "PostgreSQL": results["server_version"],
        **versions,
    }


def line_of(weeks: list[dict[str, Any]] | None) -> dict[str, Any] | None:
    """The chart of weekly active users for an SVG of `_WIDTH` by `_HEIGHT`; None for less than two weeks.

    Weeks stand where their date is. One without any event has no row, and breaks the line: each of the `stretches`
    is the points of weeks that follow on each other.
    """
    if not weeks or len(weeks) < 2:
        return None
    days = [dt.date.fromisoformat(week["week"]) for week in weeks]
    active = [week["active_users"] for week in weeks]
    scale = _WIDTH / (days[-1] - days[0]).days
    stretches: list[list[str]] = []
    for n, day in enumerate(days):
        if n == 0 or (day - days[n - 1]).days > 7:
            stretches.append([])
        stretches[-1].append(f"{(day - days[0]).days * scale:.1f},{_HEIGHT * (1 - active[n] / max(active)):.1f}")
    return {
        # A stretch of one week is drawn as a dot: a line from the point to itself.
        "stretches": [" ".join(points * 2 if len(points) == 1 else points) for points in stretches],
        "first": weeks[0]["week"],
        "last": weeks[-1]["week"],
        "least": min(active),
        "top": max(active),
        "width": _WIDTH,
        "height": _HEIGHT,
    }
