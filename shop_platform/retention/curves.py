"""Draws retention curves with their intervals. Pure: cells in, PNG out."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from shop_platform.pictures import small_png
from shop_platform.retention.cells import Cell, largest_groups, pool
from shop_platform.retention.definition import Definition

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Colours that the colour-blind tell apart (M. Okabe and K. Ito, Color Universal Design, 2008); dashes for grey print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7f7f7f")
_DASHES: tuple[tuple[int, ...], ...] = ((), (5, 2), (1, 1), (6, 2, 1, 2), (3, 1), (8, 2), (2, 2), (4, 1, 1, 1))

#: Groups of a break-down that one picture can tell apart; those with the most users are shown.
MOST_GROUPS = len(_COLOURS)

#: Period 0 lies above the axis where it is so many times the largest of the others, which it would press flat.
_PRESSED = 1.5

#: The line from a name to its curve.
_LEADER = {"arrowstyle": "-", "linewidth": 1.2, "shrinkA": 1, "shrinkB": 4, "relpos": (0, 0.5)}

#: Between the names of two lines, as a share of the axis: two lines of small letters.
SPACING = 0.085


def draw_curves(
    cells: Sequence[Cell],
    definition: Definition,
    title: str,
    note: str,
    facts: Mapping[str, str],
    *,
    currency: str = "",
    cohorts: bool = True,
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
        cohorts: draw single cohorts, where there is no break-down.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    value = "revenue_per_user" if definition.measure == "revenue" else "rate"
    lines = _lines(cells, value)
    grouped = any(cell.breakdown is not None for cell in cells)
    faint = _faint(cells, value, definition) if cohorts and not grouped else []
    for number, points in enumerate(faint):
        label = "single cohorts" if number == 0 else "_nolegend_"
        axes.plot(range(len(points)), points, color="#9a9a9a", linewidth=0.8, alpha=0.7, label=label, zorder=1)
    for line in lines:
        _draw_line(axes, line)
    _scale(axes, lines, faint, definition, value)
    _name_lines(axes, lines)
    _label(axes, definition, value, currency)
    if faint:
        axes.legend(fontsize=8.5, frameon=False, loc="upper right")
    figure.suptitle(textwrap.fill(title, 100), x=0.01, ha="left", fontsize=11)
    words = "\n".join(textwrap.fill(each, 145) for each in (definition.text, _left_out(cells), note) if each)
    figure.supxlabel(words, x=0.01, ha="left", fontsize=7.5, color="#333333")
    return small_png(figure, facts)


@dataclass(frozen=True)
class _Line:
    """Values by period, with their interval where there is one; nan where nothing is known."""

    name: str
    colour: str
    dashes: tuple[int, ...]
    numbers: list[float]
    low: list[float]
    high: list[float]


def _lines(cells: Sequence[Cell], value: str) -> list[_Line]:
    """A line for all users, or one for each of the largest groups."""
    groups = [
        (f"{name} ({users:,})", [cell for cell in cells if cell.breakdown == name])
        for name, users in largest_groups(cells, MOST_GROUPS).items()
    ] or [("all cohorts", list(cells))]
    lines = []
    for (name, part), colour, dashes in zip(groups, _COLOURS, _DASHES, strict=False):
        pooled = pool(part)
        numbers = [_or_nan(getattr(row, value)) for row in pooled]
        money = value != "rate"
        low = numbers if money else [_or_nan(row.rate_low) for row in pooled]
        high = numbers if money else [_or_nan(row.rate_high) for row in pooled]
        lines.append(_Line(name, colour, dashes, numbers, low, high))
    return lines


def _left_out(cells: Sequence[Cell]) -> str:
    """What to say of groups that are not shown."""
    groups = len({cell.breakdown for cell in cells if cell.breakdown is not None})
    return f"Shown are the {MOST_GROUPS} largest of {groups} groups." if groups > MOST_GROUPS else ""


def _faint(cells: Sequence[Cell], value: str, definition: Definition) -> list[list[float]]:
    """Values of single cohorts, only where enough of their users are observed."""
    order = sorted(cells, key=lambda cell: (cell.cohort, cell.period))
    rows = [
        [_or_nan(getattr(cell, value) if cell.users_observed >= definition.least_users else None) for cell in row]
        for _, row in groupby(order, key=lambda cell: cell.cohort)
    ]
    return [row for row in rows if not all(map(math.isnan, row))]


def _draw_line(axes: Axes, line: _Line) -> None:
    periods = range(len(line.numbers))
    axes.plot(
        periods, line.numbers, color=line.colour, dashes=line.dashes, linewidth=2, marker="o", markersize=4, zorder=3
    )
    axes.fill_between(periods, line.low, line.high, color=line.colour, alpha=0.16, linewidth=0, zorder=2)
    # A band needs two points: one that stands alone gets a bar.
    unknown = [True, *map(math.isnan, line.numbers), True]
    for period in periods:
        if unknown[period] and unknown[period + 2]:
            axes.vlines(period, line.low[period], line.high[period], color=line.colour, linewidth=1.2, zorder=2)


def _scale(
    axes: Axes, lines: Sequence[_Line], faint: Sequence[list[float]], definition: Definition, value: str
) -> None:
    """From 0 to a little above the largest value; above the later ones, where period 0 would press them flat.

    Then lines come in from above, and what they are in period 0 is written where they do.
    """
    drawn = [*(line.high for line in lines), *faint]
    first = _largest(row[0] for row in drawn)
    later = _largest(number for row in drawn for number in row[1:])
    top = axis_top(first, later)
    axes.set_ylim(0, top)
    axes.set_xlim(-0.3, definition.periods - 0.7)
    if first > top:
        ends = sorted(line.numbers[0] for line in lines if not math.isnan(line.numbers[0]))
        told = [f"{end:.0%}" if value == "rate" else f"{end:,.2f}" for end in ends]
        between = told[0] if told[0] == told[-1] else f"{told[0]} to {told[-1]}"
        axes.annotate(
            f"{definition.column(0)}: {between}, above the axis",
            xy=(0, 1), xytext=(6, 6), xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=8.5,
            annotation_clip=False,
        )  # fmt: skip


def axis_top(first: float, later: float) -> float:
    """Where the axis ends: a little above the largest of all values, or of the later ones where the first is far above.

    Args:
        first: largest value of period 0; 0 where none is known.
        later: largest value of the others.
    """
    largest = later if later > 0 and first > _PRESSED * later else max(first, later)
    return 1.08 * largest or 1.0


def _name_lines(axes: Axes, lines: Sequence[_Line]) -> None:
    """Each line's name at its right end, in its colour, moved apart where they would overlap."""
    top = axes.get_ylim()[1]
    ends = [(last, line) for line in lines if (last := _last(line.numbers)) is not None]
    ends.sort(key=lambda end: end[0][1])
    places = apart([number / top for (_, number), _ in ends])
    for ((period, number), line), place in zip(ends, places, strict=True):
        axes.annotate(
            textwrap.fill(line.name, 24),
            xy=(period, number), xytext=(1.03, place), textcoords="axes fraction", fontsize=8.5, va="center",
            color="black", annotation_clip=False,
            arrowprops={"color": line.colour, **_LEADER},
        )  # fmt: skip


def apart(wished: Sequence[float]) -> list[float]:
    """Ascending places within the axis, `SPACING` apart or more, as near to the wished ones as can be.

    Least squares: what is left of the wishes without the spacing must ascend, so neighbours that do not share their
    mean (pool adjacent violators).

    Args:
        wished: ascending shares of the axis.
    """
    means: list[tuple[float, int]] = []
    for number, wish in enumerate(wished):
        mean, members = wish - number * SPACING, 1
        while means and means[-1][0] > mean:
            other, others = means.pop()
            mean, members = (mean * members + other * others) / (members + others), members + others
        means.append((mean, members))
    highest = 1 - (len(wished) - 1) * SPACING
    free = [min(max(mean, 0.0), highest) for mean, members in means for _ in range(members)]
    return [place + number * SPACING for number, place in enumerate(free)]


def _label(axes: Axes, definition: Definition, value: str, currency: str) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if definition.periods == 1:
        axes.set_xticks([0])
    if value == "rate":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylabel("active users, with 95 % interval", fontsize=9)
    else:
        axes.set_ylabel(f"revenue a user, {currency}".rstrip(", "), fontsize=9)
    axes.set_xlabel(definition.period_label, fontsize=9)
    axes.grid(axis="y", color="#e3e3e3", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5)


def _last(numbers: Sequence[float]) -> tuple[int, float] | None:
    """The last period of which something is known, and what."""
    return next(
        ((period, numbers[period]) for period in reversed(range(len(numbers))) if not math.isnan(numbers[period])), None
    )


def _largest(numbers: Iterable[float]) -> float:
    return max((number for number in numbers if not math.isnan(number)), default=0.0)


def _or_nan(number: float | None) -> float:
    return math.nan if number is None else number
