"""The ladder: what each way to answer a question buys, from the query as written to the summaries. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from shop_platform.performance.records import Measured, differing_conditions
from shop_platform.pictures import small_png

if TYPE_CHECKING:
    from shop_platform.performance.advice.records import Advice
    from shop_platform.performance.effects import Effects, Interval
    from shop_platform.performance.statistics import Verdict

#: By verdict; told apart in grey too, and to the colour-blind.
_COLOURS = {"helps": "#00695c", "no effect": "#9e9e9e", "hurts": "#b5481b", "unsure": "#c9a227"}


class Rung(TypedDict):
    """One way to answer a question.

    Attributes:
        query: name of the query.
        way: such as `as written`.
        median_ms: of the query answered this way.
        speedup: how many times as fast as written, measured in turns; None for the query as written.
        verdict: the word for it.
    """

    query: str
    way: str
    median_ms: float
    speedup: Interval | None
    verdict: Verdict | None


def rungs(effects: Effects, advice: Advice | None) -> list[Rung]:
    """The rungs by query, from the query as written upward.

    The advised indexes were measured in another run; their ratio is to the query as written in that run. Where that
    run saw other rows or conditions, they are left out.
    """
    advised = {}
    if advice is not None and not differing_conditions(advice["provenance"], effects["provenance"]):
        advised = {query["name"]: query for query in advice["queries"]}
    ladder = []
    for query in effects["queries"]:
        other = advised.get(query["name"])
        ways: list[tuple[str, Measured | None, Interval | None, Verdict | None]] = [
            ("as written", query["as_written"], None, None),
            ("three indexes", query["with_indexes"], query["indexes_speedup"], query["indexes_verdict"]),
            ("rewritten", query["rewritten"], query["rewritten_speedup"], query["rewritten_verdict"]),
            (
                "advised indexes",
                other and other["advised"],
                other and other["advised_speedup"],
                other and other["verdict"],
            ),
            ("summaries", query["from_summaries"], query["summaries_speedup"], query["summaries_verdict"]),
        ]
        ladder += [
            Rung(query=query["name"], way=way, median_ms=measured["median_ms"], speedup=speedup, verdict=verdict)
            for way, measured, speedup, verdict in ways
            if measured is not None
        ]
    return ladder


def figure(value: float) -> str:
    """A number for people: three significant digits, and all digits before the point of a larger one."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def draw_ladder(ladder: Sequence[Rung], note: str, facts: Mapping[str, str]) -> bytes:
    """The ladder as a PNG: a bar a rung, on a logarithmic scale, with its 95 % interval.

    Args:
        ladder: as `rungs` gives it, at least one.
        note: on what it was measured; stands below the picture.
        facts: stored inside the PNG as texts, where `pictures.read_facts` finds them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    queries = list(dict.fromkeys(rung["query"] for rung in ladder))
    by_query = [[rung for rung in ladder if rung["query"] == query] for query in queries]
    heights = [0.9 + 0.34 * len(mine) for mine in by_query]
    figure = Figure(figsize=(8.2, 0.8 + sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    grid: Any = figure.subplots(len(queries), 1, sharex=True, squeeze=False, height_ratios=heights)
    ends = [end for rung in ladder if rung["speedup"] for end in (rung["speedup"]["low"], rung["speedup"]["high"])]
    for axes, query, mine in zip(grid[:, 0], queries, by_query, strict=True):
        _draw_query(axes, query, mine, limits=(min([0.8, *ends]) * 0.9, max([1.0, *ends]) * 12))
    grid[-1, 0].set_xlabel("times as fast as written, 95 % interval (logarithmic scale)", fontsize=9)
    figure.suptitle("What makes the queries fast", x=0.01, ha="left", fontsize=12)
    figure.supxlabel(note, x=0.01, ha="left", fontsize=7.5, color="#333333")
    return small_png(figure, facts)


def _draw_query(axes: Any, query: str, ladder: Sequence[Rung], limits: tuple[float, float]) -> None:  # noqa: ANN401
    from matplotlib.ticker import FuncFormatter

    axes.set_xscale("log")
    axes.set_xlim(*limits)
    axes.axvline(1, color="#555555", linewidth=0.8)
    for place, rung in enumerate(ladder):
        speedup = rung["speedup"]
        value = 1.0 if speedup is None else speedup["value"]
        axes.barh(place, value - 1, left=1, height=0.62, color=_COLOURS.get(rung["verdict"] or "", "#9e9e9e"))
        right = value
        if speedup is not None:
            ends = [[value - speedup["low"]], [speedup["high"] - value]]
            axes.errorbar(value, place, xerr=ends, color="black", capsize=2.5, linewidth=1)
            right = max(1.0, speedup["high"])
        said = "" if speedup is None else f", {figure(value)} times, {rung['verdict']}"
        axes.text(right * 1.08, place, f"{figure(rung['median_ms'])} ms{said}", va="center", fontsize=8)
    axes.set_yticks(range(len(ladder)), [rung["way"] for rung in ladder], fontsize=8.5)
    axes.invert_yaxis()
    axes.set_title(query.replace("_", " ").capitalize(), loc="left", fontsize=9.5)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.tick_params(labelsize=8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
