"""The assets that show the published matrix: `retention_heatmap`, `retention_curves` and `retention_export`."""

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import dagster as dg

from shop_platform.errors import DataError
from shop_platform.files import write_atomically
from shop_platform.metadata import Materialized, markdown_table, png_markdown
from shop_platform.records import read_record
from shop_platform.resources.postgres import READER, PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.retention import checks
from shop_platform.retention.cells import Cell, largest_groups
from shop_platform.retention.definition import Definition
from shop_platform.retention.stored import read_cells

#: A larger picture goes into the metadata plainer, or not at all: Dagster keeps it with every materialisation.
MOST_BYTES = 60_000

#: Groups of a break-down that get a heatmap of their own.
MOST_HEATMAPS = 8

_OWNERS = ["team:data-platform"]


@dataclass(frozen=True)
class _Stored:
    """The published matrix, how it was counted, and what goes into every picture of it."""

    cells: list[Cell]
    definition: Definition
    note: str
    facts: dict[str, str]

    def of(self, breakdown: str | None) -> list[Cell]:
        return [cell for cell in self.cells if cell.breakdown == breakdown]


def _read(postgres: PostgresResource, run_id: str) -> _Stored:
    with postgres.connect(role=READER) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cells = read_cells(connection)
        if not cells:
            raise DataError("There are no cohorts to draw: load users, then materialise cohort_retention.")
        record = read_record(connection, "cohort_retention")
    return _Stored(
        cells,
        Definition(**record["definition_settings"]),
        data_end_note(record),
        {"run": run_id, "cohorts": str(_cohorts(cells)), "matrix": record["run_id"]},
    )


def data_end_note(basis: Mapping[str, Any]) -> str:
    """From which data a matrix was counted, for below its picture.

    Args:
        basis: the record of the matrix.
    """
    end = dt.datetime.fromisoformat(basis["data_end"]) if basis["data_end"] else None
    return f"The data end {end:%Y-%m-%d %H:%M %Z}." if end else "There are no events."


def _cohorts(cells: Sequence[Cell]) -> int:
    return len({cell.cohort for cell in cells})


@dg.asset(
    group_name="retention",
    kinds={"seaborn", "png"},
    owners=_OWNERS,
    deps=["cohort_retention"],
    description="The retention matrix as a picture, one more for each group of a break-down. Periods that nobody has "
    "lived through yet are hatched, those in which the shop recorded nothing are crossed out.",
    code_version="4",
    check_specs=[checks.IS_A_PICTURE],
)
def retention_heatmap(
    context: dg.AssetExecutionContext, postgres: PostgresResource, shop: ShopResource
) -> Materialized:
    """Draw the published matrix into the shop's folder."""
    from shop_platform.pictures import read_facts
    from shop_platform.retention.heatmap import draw_heatmap

    stored, the_shop = _read(postgres, context.run.run_id), shop.shop()
    title = f"{the_shop.title}: {stored.definition.title}"
    draw = partial(
        draw_heatmap, definition=stored.definition, note=stored.note, facts=stored.facts, currency=the_shop.currency
    )
    png = draw(stored.of(None), title=title)
    path = shop.folder() / "retention_heatmap.png"
    for old in shop.folder().glob("retention_heatmap_*.png"):
        old.unlink()
    for number, group in enumerate(largest_groups(stored.cells, MOST_HEATMAPS), start=1):
        of_group = draw(stored.of(group), title=f"{title}: {group}")
        write_atomically(path.with_name(f"retention_heatmap_{number}_{_slug(group)}.png"), of_group)
    write_atomically(path, png)
    small = _small(png, partial(draw, stored.of(None), title=title, numbers=False))
    return dg.MaterializeResult(
        metadata=_facts(stored, len(png))
        | {
            "heatmap": shown(small, f"Heatmap: {stored.definition.title}"),
            "path": dg.MetadataValue.path(str(path)),
        },
        check_results=[
            checks.is_a_picture(
                checks.IS_A_PICTURE, read_facts(path.read_bytes()), context.run.run_id, _cohorts(stored.cells)
            )
        ],
    )


@dg.asset(
    group_name="retention",
    kinds={"matplotlib", "png"},
    owners=_OWNERS,
    deps=["cohort_retention"],
    description="Retention by period as curves with their 95 % interval: all cohorts together, or each group of a "
    "break-down.",
    code_version="2",
    check_specs=[checks.ARE_A_PICTURE],
)
def retention_curves(context: dg.AssetExecutionContext, postgres: PostgresResource, shop: ShopResource) -> Materialized:
    """Draw the published matrix into the shop's folder."""
    from shop_platform.pictures import read_facts
    from shop_platform.retention.curves import draw_curves

    stored, the_shop = _read(postgres, context.run.run_id), shop.shop()
    title = f"{the_shop.title}: {stored.definition.title}"
    draw = partial(
        draw_curves, stored.cells, stored.definition, title, stored.note, stored.facts, currency=the_shop.currency
    )
    png = draw()
    path = shop.folder() / "retention_curves.png"
    write_atomically(path, png)
    return dg.MaterializeResult(
        metadata=_facts(stored, len(png))
        | {
            "curves": shown(_small(png, partial(draw, cohorts=False)), f"Curves: {stored.definition.title}"),
            "path": dg.MetadataValue.path(str(path)),
        },
        check_results=[
            checks.is_a_picture(
                checks.ARE_A_PICTURE, read_facts(path.read_bytes()), context.run.run_id, _cohorts(stored.cells)
            )
        ],
    )


@dg.asset(
    group_name="retention",
    kinds={"csv"},
    owners=_OWNERS,
    deps=["cohort_retention"],
    description="The published matrix as two CSV files for a spreadsheet: a row a cell, and cohorts by periods.",
    code_version="1",
    check_specs=[checks.HOLDS_EVERY_CELL],
)
def retention_export(context: dg.AssetExecutionContext, postgres: PostgresResource, shop: ShopResource) -> Materialized:
    """Write the published matrix into the shop's folder."""
    from shop_platform.retention.spreadsheet import long_csv, matrix_csv

    stored = _read(postgres, context.run.run_id)
    path = shop.folder() / "cohort_retention.csv"
    write_atomically(path, long_csv(stored.cells, stored.definition))
    write_atomically(path.with_name("retention_matrix.csv"), matrix_csv(stored.cells, stored.definition))
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(stored.cells),
            "path": dg.MetadataValue.path(str(path)),
            "matrix": dg.MetadataValue.path(str(path.with_name("retention_matrix.csv"))),
            "files": markdown_table(
                ["file", "a row is"], [["cohort_retention.csv", "a cell"], ["retention_matrix.csv", "a cohort"]]
            ),
        },
        check_results=[checks.holds_every_cell(path.read_bytes(), len(stored.cells))],
    )


def _small(png: bytes, plainer: Callable[[], bytes]) -> bytes | None:
    """The picture or its plainer form, the first that is small enough for the metadata; None where neither is."""
    if len(png) < MOST_BYTES:
        return png
    plain = plainer()
    return plain if len(plain) < MOST_BYTES else None


def shown(png: bytes | None, alt: str) -> dg.MarkdownMetadataValue:
    """A picture in an asset's metadata; None for one that is too large."""
    return dg.MetadataValue.md("Too large to show here: open the file.") if png is None else png_markdown(png, alt)


def _facts(stored: _Stored, size: int) -> dict[str, Any]:
    return {"dagster/row_count": _cohorts(stored.cells), "definition": stored.definition.text, "bytes": size}


def _slug(group: str) -> str:
    """What of a group's name can be part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "_", group.lower()).strip("_")[:40]
