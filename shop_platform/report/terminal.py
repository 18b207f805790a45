"""The stored results as sentences and short tables on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from shop_platform.performance.ladder import figure, rungs
from shop_platform.report.retention import definition_of, tables
from shop_platform.report.sentences import lead

if TYPE_CHECKING:
    from shop_platform.performance.advice.records import Advice
    from shop_platform.performance.effects import Effects


#: Columns of text that a table may take where no terminal sets a limit.
_WIDEST = 500

#: Columns of text that a period of retention takes, and what stands before the first.
_PERIOD, _BEFORE = 7, 30


def print_results(out: Console, found: dict[str, Any]) -> None:
    """Print the stored results: what was found in sentences, then short tables."""
    for sentence in lead(found):
        out.print(f"\N{BULLET} {sentence}", markup=False)
    wide = _as_wide_as_needed(out)
    tables = (_loads(found), _ladder(found), _advice(found), _retention(found, wide.width), _segments(found))
    for table in tables:
        if table.row_count:
            wide.print()
            wide.print(table)


def print_ladder(out: Console, effects: Effects, advice: Advice) -> None:
    """Print how fast each way to answer is, and the DDL that is advised."""
    found = {"ladder": rungs(effects, advice), "index_advice": advice}
    wide = _as_wide_as_needed(out)
    for table in (_ladder(found), _advice(found)):
        if table.row_count:
            wide.print(table)


def _as_wide_as_needed(out: Console) -> Console:
    """A file has no width: there a statement to paste stays on its line."""
    return out if out.is_terminal else Console(file=out.file, highlight=False, soft_wrap=True, width=_WIDEST)


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _loads(found: dict[str, Any]) -> Table:
    table = _table("Data", "table", "in the source", "loaded", "left out", "quarantined", "now")
    for load in found["loads"]:
        apart = [sum(load[name].values()) for name in ("left_out", "quarantined")]
        counts = (load["rows_read"], load["rows_loaded"], *apart, load["rows"])
        table.add_row(load["table"], *(f"{count:,}" for count in counts))
    return table


def _ladder(found: dict[str, Any]) -> Table:
    table = _table("Queries, in turns on a copy", "query, answered", "median, ms", "times as fast", "95 % interval", "")
    table.columns[0].no_wrap = True
    for place, rung in enumerate(found["ladder"]):
        if place == 0 or rung["query"] != found["ladder"][place - 1]["query"]:
            table.add_row(rung["query"])
        gain = ["", ""]
        if rung["speedup"] is not None:
            value, low, high = (figure(rung["speedup"][end]) for end in ("value", "low", "high"))
            gain = [value, f"{low} to {high}"]
        table.add_row(f"  {rung['way']}", figure(rung["median_ms"]), *gain, rung["verdict"] or "")
    return table


def _advice(found: dict[str, Any]) -> Table:
    table = _table("Advised indexes, tried on a copy", "statement to paste", "KiB")
    for candidate in (found["index_advice"] or {"candidates": []})["candidates"]:
        if candidate["chosen"]:
            there = f"{candidate['live']} is there already"
            table.add_row(
                there if candidate["live"] else candidate["statement"], f"{candidate['size_bytes'] / 1024:,.0f}"
            )
    return table


def _retention(found: dict[str, Any], width: int) -> Table:
    """As many periods as fit, and how many do not."""
    whole = next(iter(tables(found)), None)
    definition = definition_of(found)
    if whole is None or definition is None:
        return Table()
    fitting = min(definition.periods, max(1, (width - _BEFORE) // _PERIOD))
    title = f"Retention: {definition.title}"
    table = _table(title, definition.cohort_label, "users", *map(str, range(fitting)))
    table.columns[0].no_wrap = True
    for cohort, users, cells in whole["rows"]:
        table.add_row(cohort, f"{users:,}", *map(_rate, cells[:fitting]))
    table.add_row("all", "", *map(_rate, whole["pooled"][:fitting]))
    if fitting < definition.periods:
        table.caption = f"The first {fitting} of {definition.periods} periods; all are in the report."
    return table


def _rate(cell: dict[str, Any]) -> str:
    return "" if cell["rate"] is None else f"{cell['rate']:.0%}"


def _segments(found: dict[str, Any]) -> Table:
    table = _table("Segments", "segment", "users", "confidence", "supported")
    for segment in found["segments"] or []:
        supported = {True: "yes", False: "no", None: ""}[segment["supported"]]
        sure = "" if segment["mean_confidence"] is None else f"{segment['mean_confidence']:.2f}"
        table.add_row(segment["name"], f"{segment['users']:,}", sure, supported)
    return table
