"""Draws retention curves with their intervals. Pure: cells in, PNG out."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from shop_platform.pictures import small_png
from shop_platform.retention.cells import Cell, Pooled, pool
from shop_platform.retention.definition import Definition

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Colours that the colour-blind tell apart (M. Okabe and K. Ito, Color Universal Design, 2008); dashes for grey print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7f7f7f")
_DASHES: tuple[tuple[int, ...], ...] = ((), (5, 2), (1, 1), (6, 2, 1, 2), (3, 1), (8, 2), (2, 2), (4, 1, 1, 1))

#: Groups of a break-down that one picture can tell apart; those with the most users are shown.
MOST_GROUPS = len(_COLOURS)


def draw_curves(
    cells: Sequence[Cell],
    definition: Definition,
    title: str,
    note: str,
    facts: Mapping[str, str],
    *,
    currency: str = "",
) -> bytes:
    """All cohorts together as a line with its 95 % interval, single cohorts faint behind it; or a line a group.

    Where nothing is known, lines break. The axis begins at 0.

    Args:
        cells: of all break-downs, any order.
        definition: how they were counted; stands below the picture.
        title: what is shown.
        note: from which data.
        facts: stored inside the PNG.
        currency: of revenue, where that is what is shown.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    value = "revenue_per_user" if definition.measure == "revenue" else "rate"
    whole = [cell for cell in cells if cell.breakdown is None]
    groups = _largest_groups(cells)
    if groups:
        for place, (name, part) in enumerate(groups):
            _draw_line(axes, pool(part), value, name, _COLOURS[place], _DASHES[place])
    else:
        _draw_cohorts(axes, whole, value, definition)
        _draw_line(axes, pool(whole), value, "all cohorts", _COLOURS[0], ())
    _scale(axes, definition, value, currency)
    figure.suptitle(textwrap.fill(title, 100), x=0.01, ha="left", fontsize=11)
    words = "\n".join(textwrap.fill(each, 145) for each in (definition.text, note))
    figure.supxlabel(words, x=0.01, ha="left", fontsize=7.5, color="#333333")
    return small_png(figure, facts)


def _largest_groups(cells: Sequence[Cell]) -> list[tuple[str, list[Cell]]]:
    """Cells of the largest groups, by name."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.breakdown is not None:
            found.setdefault(cell.breakdown, []).append(cell)
    sizes = {name: sum(cell.cohort_size for cell in part if cell.period == 0) for name, part in found.items()}
    largest = sorted(found, key=lambda name: (-sizes[name], name))[:MOST_GROUPS]
    return [(f"{name} ({sizes[name]:,})", found[name]) for name in largest]


def _draw_line(
    axes: Axes, pooled: Sequence[Pooled], value: str, name: str, colour: str, dashes: tuple[int, ...]
) -> None:
    periods = [each.period for each in pooled]
    numbers = [_or_nan(getattr(each, value)) for each in pooled]
    axes.plot(
        periods, numbers, color=colour, dashes=dashes, linewidth=2.2, marker="o", markersize=4, label=name, zorder=3
    )
    if value == "rate":
        low = [_or_nan(each.rate_low) for each in pooled]
        high = [_or_nan(each.rate_high) for each in pooled]
        axes.fill_between(periods, low, high, color=colour, alpha=0.16, linewidth=0, zorder=2)


def _draw_cohorts(axes: Axes, cells: Sequence[Cell], value: str, definition: Definition) -> None:
    """Single cohorts, only where enough of their users are observed."""
    order = sorted(cells, key=lambda cell: (cell.cohort, cell.period))
    label = "single cohorts"
    for _, row in groupby(order, key=lambda cell: cell.cohort):
        known = [
            _or_nan(getattr(cell, value) if cell.users_observed >= definition.least_users else None) for cell in row
        ]
        if any(not math.isnan(number) for number in known):
            axes.plot(range(len(known)), known, color="#9a9a9a", linewidth=0.8, alpha=0.7, label=label, zorder=1)
            label = "_nolegend_"


def _scale(axes: Axes, definition: Definition, value: str, currency: str) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axes.set_ylim(bottom=0)
    axes.set_xlim(-0.2, definition.periods - 0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if value == "rate":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylabel("active users, with 95 % interval", fontsize=9)
    else:
        axes.set_ylabel(f"revenue a user, {currency}".rstrip(", "), fontsize=9)
    axes.set_xlabel(definition.period_label, fontsize=9)
    axes.grid(axis="y", color="#e3e3e3", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5)
    axes.legend(fontsize=8.5, frameon=False, loc="upper right")


def _or_nan(number: float | None) -> float:
    return math.nan if number is None else number
