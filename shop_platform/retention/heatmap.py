"""Draws the retention matrix with Seaborn. Pure: frames in, PNG out."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datetime as dt

    import pandas as pd

#: Rows up to which a cell is tall enough for its number.
_ROWS_WITH_NUMBERS = 40


def draw_heatmap(rates: pd.DataFrame, sizes: Mapping[dt.date, int], title: str, definition: str) -> bytes:
    """The matrix as a PNG.

    Args:
        rates: shape (cohorts, periods), from 0 to 1, NaN where nothing is known yet.
        sizes: users of each cohort, for the row labels.
        title: what is shown.
        definition: how it was counted; a line or two below the picture.
    """
    import seaborn as sns
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch, Rectangle

    rows, columns = rates.shape
    height = 2.0 + rows * (0.36 if rows <= _ROWS_WITH_NUMBERS else 0.16)
    figure = Figure(figsize=(2.6 + 0.72 * columns, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # Week 0 is near 100 % by nature: the scale ends where the other weeks do, so that they can be told apart.
    later = rates.iloc[:, 1:] if columns > 1 else rates
    top = float(later.max().max())
    numbers = rows <= _ROWS_WITH_NUMBERS
    sns.heatmap(
        rates,
        ax=axes,
        cmap="YlGnBu",
        vmin=0,
        vmax=top if top > 0 else 1,
        annot=numbers,
        fmt=".0%",
        annot_kws={"size": 8.5},
        linewidths=0.6,
        linecolor="white",
        cbar_kws={"format": lambda value, _: f"{value:.0%}", "label": "active users", "extend": "max"},
    )
    unknown: dict[str, Any] = {"facecolor": "#f1f1f1", "edgecolor": "#b9b9b9", "hatch": "////", "linewidth": 0.0}
    for row, column in zip(*rates.isna().to_numpy().nonzero(), strict=True):
        axes.add_patch(Rectangle((column, row), 1, 1, **unknown))
    axes.set_yticks([row + 0.5 for row in range(rows)])
    axes.set_yticklabels(
        [f"{cohort:%b %Y}  ({sizes[cohort]:,})" for cohort in rates.index],
        rotation=0,
        fontsize=8.5 if numbers else 6,
    )
    axes.set_xlabel("weeks since signup", fontsize=9)
    axes.set_ylabel("month of signup (users)", fontsize=9)
    axes.set_title(title, loc="left", fontsize=11)
    if rates.isna().to_numpy().any():
        figure.legend(handles=[Patch(**unknown, label="not yet known")], loc="upper right", fontsize=8, frameon=False)
    figure.supxlabel(definition, x=0.01, ha="left", fontsize=7.5, color="#444444")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    return _small(drawn)


def _small(drawn: io.BytesIO) -> bytes:
    """The picture in 128 colours: a third of the bytes, since Dagster keeps it with every materialisation."""
    from PIL import Image

    small = io.BytesIO()
    Image.open(drawn).convert("RGB").quantize(128).save(small, format="png", optimize=True)
    return small.getvalue()
