"""Draws the retention matrix with Seaborn. Pure: cells in, PNG out."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shop_platform.pictures import small_png
from shop_platform.retention.cells import Cell, matrix

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: Rows up to which they are tall, and up to which they are tall enough for numbers at all.
_TALL_ROWS, _ROWS_WITH_NUMBERS = 40, 72

#: Cells without a rate: hatched and grey, a colour that the scale does not have.
_UNKNOWN: dict[str, Any] = {"facecolor": "#f1f1f1", "edgecolor": "#b9b9b9", "hatch": "////", "linewidth": 0.0}


def draw_heatmap(
    cells: Sequence[Cell], title: str, definition: str, facts: Mapping[str, str], *, numbers: bool = True
) -> bytes:
    """The matrix as a PNG in 96 colours, a row for each cohort, the largest rates darkest.

    Args:
        cells: at least one; any order.
        title: what is shown.
        definition: how it was counted and from which data; stands below the picture.
        facts: stored inside the PNG as texts, where `pictures.read_facts` finds them.
        numbers: write the rates into the cells, where these are tall enough.
    """
    import seaborn as sns
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rates = matrix(cells, "rate")
    rows, columns = rates.shape
    numbers = numbers and rows <= _ROWS_WITH_NUMBERS
    height, text = (0.36, 8.5) if rows <= _TALL_ROWS else (0.17, 7.0)
    width = 2.8 + 0.72 * columns
    figure = Figure(figsize=(width, 2.1 + max(rows, 4) * height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # Week 0 is near 100 % by nature: the scale ends where the other weeks do, so that they can be told apart.
    later = rates.iloc[:, 1:] if columns > 1 else rates
    top = float(later.max().max())
    sns.heatmap(
        rates,
        ax=axes,
        cmap="YlGnBu",
        vmin=0,
        vmax=top if top > 0 else 1,
        linewidths=0.6,
        linecolor="white",
        cbar_kws={
            "format": lambda value, _: f"{value:.0%}",
            "label": "active users",
            "extend": "max",
            "extendfrac": 0.03,
        },
    )
    if numbers:
        _write_numbers(axes, rates, cells, text)
    _hatch_unknown(axes, rates)
    _label_rows(axes, rates, {cell.cohort: cell.cohort_size for cell in cells}, text)
    axes.set_xlabel("weeks since the user's own signup", fontsize=9)
    figure.suptitle(textwrap.fill(title, round(width * 10)), x=0.01, ha="left", fontsize=11)
    figure.supxlabel(textwrap.fill(definition, round(width * 15)), x=0.01, ha="left", fontsize=7.5, color="#333333")
    _explain(axes, cells, stars=numbers)
    return small_png(figure, facts)


def _write_numbers(axes: Axes, rates: pd.DataFrame, cells: Sequence[Cell], size: float) -> None:
    """Each cell's rate, in black or white, whichever has more contrast (WCAG 2).

    Seaborn's own annotations are white on a middling teal. A star stands where only part of the cohort is observed.
    """
    scale: Any = axes.collections[0]
    columns: list[Any] = list(rates.columns)
    rows: list[Any] = list(rates.index)
    for cell in cells:
        if cell.rate is None:
            continue
        channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in scale.to_rgba(cell.rate)[:3]]
        luminance = sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), channels, strict=True))
        axes.text(
            columns.index(cell.period) + 0.5,
            rows.index(cell.cohort) + 0.5,
            f"{cell.rate:.0%}" + ("*" if cell.users_observed < cell.cohort_size else ""),
            color="black" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white",
            ha="center",
            va="center",
            fontsize=size,
        )


def _hatch_unknown(axes: Axes, rates: pd.DataFrame) -> None:
    from matplotlib.patches import Rectangle

    for row, column in zip(*rates.isna().to_numpy().nonzero(), strict=True):
        axes.add_patch(Rectangle((column, row), 1, 1, **_UNKNOWN))


def _label_rows(axes: Axes, rates: pd.DataFrame, sizes: Mapping[Any, int], size: float) -> None:
    axes.set_yticks([row + 0.5 for row in range(len(rates))])
    axes.set_yticklabels([f"{cohort:%b %Y}  ({sizes[cohort]:,})" for cohort in rates.index], rotation=0, fontsize=size)
    axes.set_ylabel("month of signup (users)", fontsize=9)


def _explain(axes: Axes, cells: Sequence[Cell], *, stars: bool) -> None:
    """Say what hatching and stars mean, where there are any."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[Patch | Line2D] = []
    if any(cell.rate is None for cell in cells):
        entries.append(Patch(**_UNKNOWN, label="not yet known"))
    if stars and any(0 < cell.users_observed < cell.cohort_size for cell in cells):
        note = "only part of the cohort has lived through the week"
        entries.append(Line2D([], [], color="black", marker="$*$", markersize=5, linestyle="", label=note))
    if entries:
        axes.legend(
            handles=entries, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8, frameon=False,
            borderaxespad=0.3, borderpad=0.1, handletextpad=0.5,
        )  # fmt: skip
