"""The matrix as CSV that opens safely in a spreadsheet. Pure: cells in, bytes out."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import groupby

from shop_platform.retention.cells import Cell
from shop_platform.retention.definition import Definition

#: With these in front, a spreadsheet takes a text for a formula (OWASP, "CSV Injection"); the last are full-width.
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

_LONG = (
    "breakdown", "cohort", "period", "cohort_size", "users_observed", "users_unrecorded", "active_users", "rate",
    "rate_low", "rate_high", "revenue",
)  # fmt: skip


def long_csv(cells: Sequence[Cell], definition: Definition) -> bytes:
    """One row a cell, all break-downs; columns as in `analytics.cohort_retention`. What is not known is empty.

    Texts that a spreadsheet would take for formulas get an apostrophe in front. UTF-8 with a byte order mark, lines
    end with CR LF, numbers have a decimal point, days are ISO 8601.
    """
    rows = (
        [
            *(getattr(cell, name) for name in _LONG),
            0 < cell.users_observed < definition.least_users,
        ]
        for cell in cells
    )
    return _csv([[*_LONG, "few_users"], *rows])


def matrix_csv(cells: Sequence[Cell], definition: Definition) -> bytes:
    """Cohorts down, periods across: rates, or revenue a user where that is counted; written as `long_csv` is."""
    value = "revenue_per_user" if definition.measure == "revenue" else "rate"
    header = ["breakdown", "cohort", "users", *(definition.column(period) for period in range(definition.periods))]
    order = sorted(cells, key=lambda cell: (cell.breakdown is not None, cell.breakdown or "", cell.cohort, cell.period))
    rows = []
    for (breakdown, cohort), row in groupby(order, key=lambda cell: (cell.breakdown, cell.cohort)):
        found = list(row)
        rows.append([breakdown, cohort, found[0].cohort_size, *(getattr(cell, value) for cell in found)])
    return _csv([header, *rows])


def _csv(rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([_safe(each) for each in row] for row in rows)
    return text.getvalue().encode("utf-8-sig")


def _safe(value: object) -> object:
    if isinstance(value, str) and value.startswith(FORMULAS):
        return f"'{value}"
    return str(value).lower() if isinstance(value, bool) else value
