"""Draws the retention matrix with Seaborn. Pure: cells in, PNG out."""

from __future__ import annotations

import datetime as dt
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from shop_platform.pictures import small_png
from shop_platform.retention.cells import Cell, Pooled, matrix, pool
from shop_platform.retention.definition import Definition

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: Rows up to which they are tall, and up to which they are tall enough for numbers at all.
_TALL_ROWS, _ROWS_WITH_NUMBERS = 40, 72

#: Columns up to which they are wide enough for numbers; beyond, cells are as narrow as a picture can be.
_COLUMNS_WITH_NUMBERS = 26

#: Cells without a rate: grey and hatched, which the scale is not, each in its own way.
_NOT_YET: dict[str, Any] = {"facecolor": "#f1f1f1", "edgecolor": "#b9b9b9", "hatch": "////", "linewidth": 0.0}
_NOT_RECORDED: dict[str, Any] = {"facecolor": "#dcdcdc", "edgecolor": "#8a8a8a", "hatch": "xxx", "linewidth": 0.0}

#: What marks few users where there are no numbers: legible on the lightest and on the darkest cell.
_DOT: dict[str, Any] = {
    "linestyle": "", "marker": "o", "markersize": 4.5, "markerfacecolor": "white", "markeredgecolor": "black",
    "markeredgewidth": 0.8,
}  # fmt: skip

#: Steps of the colour scale: so few that a picture of 96 colours shows each nearly as it is, in cells and beside them.
_STEPS = 20

#: How a cohort is called, by its unit.
_ROWS: dict[str, Callable[[dt.date], str]] = {
    "day": lambda day: f"{day:%Y-%m-%d}",
    "week": lambda day: f"from {day:%Y-%m-%d}",
    "month": lambda day: f"{day:%b %Y}",
    "quarter": lambda day: f"{day.year} Q{(day.month + 2) // 3}",
}


def draw_heatmap(
    cells: Sequence[Cell],
    definition: Definition,
    title: str,
    note: str,
    facts: Mapping[str, str],
    *,
    currency: str = "",
    numbers: bool = True,
) -> bytes:
    """The matrix as a PNG in 96 colours: a row for each cohort and one for all of them, the largest values darkest.

    Args:
        cells: of one break-down, at least one; any order.
        definition: how they were counted; stands below the picture.
        title: what is shown.
        note: from which data; stands below the definition.
        facts: stored inside the PNG as texts, where `pictures.read_facts` finds them.
        currency: of revenue, where that is what is shown.
        numbers: write the values into the cells, where these are large enough.
    """
    import seaborn as sns
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    money = definition.measure == "revenue"
    value = "revenue_per_user" if money else "rate"
    values = matrix(cells, value)
    rows, columns = values.shape
    numbers = numbers and rows <= _ROWS_WITH_NUMBERS and columns <= _COLUMNS_WITH_NUMBERS
    height, text = (0.36, 8.5) if rows <= _TALL_ROWS else (0.17, 7.0)
    width = 3.2 + (0.72 if columns <= _COLUMNS_WITH_NUMBERS else 0.24) * max(columns, 6)
    figure = Figure(figsize=(width, 2.7 + (max(rows, 4) + 1.4) * height), layout="constrained")
    FigureCanvasAgg(figure)
    axes, below = figure.subplots(2, 1, height_ratios=(rows, 1), sharex=False)
    top = top_of_scale(cells, value, definition)
    scale: dict[str, Any] = {
        "cmap": colormaps["YlGnBu"].resampled(_STEPS),
        "vmin": 0,
        "vmax": top,
        "linewidths": 0.6,
        "linecolor": "white",
    }
    shown = partial(_money, top=top) if money else _percent
    label = f"revenue a user, {currency}".rstrip(", ") if money else "active users"
    bar: dict[str, Any] = {
        "format": lambda number, _: shown(number),
        "label": label,
        "extend": "max",
        "extendfrac": 0.2 / (0.72 * figure.get_figheight()),
        "aspect": 4 * figure.get_figheight(),
        "fraction": 0.9 / width,
        "pad": 0.15 / width,
    }
    pooled = pool(cells)
    sns.heatmap(values, ax=axes, cbar=False, **scale)
    sns.heatmap(_pooled_row(pooled, value), ax=below, cbar=False, **scale)
    figure.colorbar(axes.collections[0], ax=[axes, below], **bar)
    if numbers:
        _write_numbers(axes, [_numbered(cell, getattr(cell, value), values, definition) for cell in cells], shown, text)
        row = [(p.period, 0, getattr(p, value), "", "italic" if _few(p, definition) else "normal") for p in pooled]
        _write_numbers(below, row, shown, text)
    else:
        _write_dots(axes, [cell for cell in cells if _few(cell, definition)], values)
    _hatch(axes, values, cells)
    _hatch_pooled(below, pooled, cells)
    _label(axes, below, values, cells, definition, text)
    figure.suptitle(textwrap.fill(title, round(width * 10)), x=0.01, ha="left", fontsize=11)
    words = "\n".join(textwrap.fill(each, round(width * 15)) for each in (definition.text, note))
    figure.supxlabel(words, x=0.01, ha="left", fontsize=7.5, color="#333333")
    _explain(axes, cells, definition, numbers=numbers)
    return small_png(figure, facts)


def row_name(cohort: dt.date, definition: Definition) -> str:
    """What people call a cohort, such as "Mar 2025"."""
    return _ROWS[definition.cohort](cohort)


def top_of_scale(cells: Sequence[Cell], value: str, definition: Definition) -> float:
    """Where the colours end: at the largest value of a period after 0, which is near 100 % by nature.

    Cells with few users don't count, where there are others: one of them could wash out all the rest.
    """
    known = [(cell, getattr(cell, value)) for cell in cells if getattr(cell, value) is not None]
    later = [(cell, number) for cell, number in known if cell.period > 0] or known
    firm = [number for cell, number in later if not _few(cell, definition)] or [number for _, number in later]
    return max(firm, default=0.0) or 1.0


def _percent(number: float) -> str:
    return f"{number:.0%}"


def _money(number: float, top: float) -> str:
    """With the same decimals in every cell: two where the largest are small, none where they are not."""
    return f"{number:,.{0 if top >= 100 else 1 if top >= 10 else 2}f}"


def _pooled_row(pooled: Sequence[Pooled], value: str) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([[getattr(each, value) for each in pooled]], columns=[p.period for p in pooled], dtype=float)


_Number = tuple[int, int, float | None, str, str]


def _numbered(cell: Cell, number: float | None, values: pd.DataFrame, definition: Definition) -> _Number:
    """Column, row, number, mark and style of a cell's text."""
    row = list(values.index).index(cell.cohort)
    mark = "*" if cell.users_observed + cell.users_unrecorded < cell.cohort_size else ""
    return cell.period, row, number, mark, "italic" if _few(cell, definition) else "normal"


def _few(cell: Cell | Pooled, definition: Definition) -> bool:
    return 0 < cell.users_observed < definition.least_users


def _write_numbers(axes: Axes, numbers: Sequence[_Number], shown: Callable[[float], str], size: float) -> None:
    """Each cell's number, in black or white, whichever has more contrast (WCAG 2).

    Seaborn's own annotations are white on a middling teal. A star stands where only part of the cohort is observed,
    brackets and italics where few users are.
    """
    scale: Any = axes.collections[0]
    for column, row, number, mark, style in numbers:
        if number is None:
            continue
        channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in scale.to_rgba(number)[:3]]
        luminance = sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), channels, strict=True))
        text = f"({shown(number)}){mark}" if style == "italic" else f"{shown(number)}{mark}"
        axes.text(
            column + 0.5,
            row + 0.5,
            text,
            color="black" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white",
            ha="center",
            va="center",
            fontsize=size - (1 if style == "italic" else 0),
            fontstyle=style,
        )


def _write_dots(axes: Axes, few: Sequence[Cell], values: pd.DataFrame) -> None:
    """A dot in each cell with few users, where there is no room for numbers in brackets."""
    rows = {cohort: row for row, cohort in enumerate(values.index)}
    places = [(cell.period + 0.5, rows[cell.cohort] + 0.5) for cell in few]
    if places:
        axes.plot(*zip(*places, strict=True), **_DOT)


def _hatch(axes: Axes, values: pd.DataFrame, cells: Sequence[Cell]) -> None:
    from matplotlib.patches import Rectangle

    rows = list(values.index)
    for cell in cells:
        if cell.rate is None:
            style = _NOT_RECORDED if cell.users_unrecorded else _NOT_YET
            axes.add_patch(Rectangle((cell.period, rows.index(cell.cohort)), 1, 1, **style))


def _hatch_pooled(axes: Axes, pooled: Sequence[Pooled], cells: Sequence[Cell]) -> None:
    """Nothing was recorded in a period of all cohorts where it was not for any that has lived through it."""
    from matplotlib.patches import Rectangle

    silent = {cell.period for cell in cells if cell.users_unrecorded}
    for each in pooled:
        if each.rate is None:
            style = _NOT_RECORDED if each.period in silent else _NOT_YET
            axes.add_patch(Rectangle((each.period, 0), 1, 1, **style))


def _label(
    axes: Axes, below: Axes, values: pd.DataFrame, cells: Sequence[Cell], definition: Definition, size: float
) -> None:
    sizes = {cell.cohort: cell.cohort_size for cell in cells}
    axes.set_yticks([row + 0.5 for row in range(len(values))])
    names = [f"{row_name(cohort, definition)}  ({sizes[cohort]:,})" for cohort in values.index]
    axes.set_yticklabels(names, rotation=0, fontsize=size)
    axes.set_ylabel(f"{definition.cohort_label} (users)", fontsize=9)
    axes.set_xlabel("")
    axes.set_xticks([])
    below.set_yticks([0.5])
    below.set_yticklabels([f"all  ({sum(sizes.values()):,})"], rotation=0, fontsize=size, fontweight="bold")
    step = 1 if definition.periods <= _COLUMNS_WITH_NUMBERS else 5
    below.set_xticks([period + 0.5 for period in range(0, definition.periods, step)])
    below.set_xticklabels([str(period) for period in range(0, definition.periods, step)], rotation=0, fontsize=size)
    below.set_xlabel(definition.period_label, fontsize=9)


def _explain(axes: Axes, cells: Sequence[Cell], definition: Definition, *, numbers: bool) -> None:
    """Say what hatching, stars and brackets mean, where there are any."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[Patch | Line2D] = []
    empty = [cell for cell in cells if cell.rate is None]
    if any(not cell.users_unrecorded for cell in empty):
        entries.append(Patch(**_NOT_YET, label="not yet known"))
    if any(cell.users_unrecorded for cell in empty):
        entries.append(Patch(**_NOT_RECORDED, label="the shop recorded nothing"))
    if numbers and any(0 < cell.users_observed + cell.users_unrecorded < cell.cohort_size for cell in cells):
        entries.append(_sign("$*$", f"only part of the cohort has lived through the {definition.unit}"))
    if any(_few(cell, definition) for cell in cells):
        label = f"fewer than {definition.least_users} users observed"
        entries.append(_sign("$( )$", label) if numbers else Line2D([], [], label=label, **_DOT))
    if entries:
        axes.legend(
            handles=entries, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8, frameon=False,
            borderaxespad=0.3, borderpad=0.1, handletextpad=0.5, columnspacing=1.2,
        )  # fmt: skip


def _sign(marker: str, label: str) -> Any:  # noqa: ANN401  matplotlib's
    from matplotlib.lines import Line2D

    size = 5 if "*" in marker else 9
    return Line2D([], [], color="black", marker=marker, markersize=size, markeredgewidth=0.4, linestyle="", label=label)
