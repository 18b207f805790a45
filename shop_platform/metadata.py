"""What assets return: their type, and metadata as Dagster's pages show them: schemas, tables and plots as Markdown."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from dagster import (
    FreshnessPolicy,
    MaterializeResult,
    MetadataValue,
    TableColumn,
    TableColumnDep,
    TableColumnLineage,
    TableSchema,
)
from dagster import MarkdownMetadataValue as Markdown
from dagster import TableColumnLineageMetadataValue as Lineage
from dagster import TableSchemaMetadataValue as Schema

if TYPE_CHECKING:
    Materialized = MaterializeResult[None]
else:
    # Dagster takes the bare class alone for an asset with checks. It takes no annotations that are texts either, so
    # modules of assets do without `from __future__ import annotations`.
    Materialized = MaterializeResult


#: Of what people read: the nightly run makes it again each day, if nothing new has before.
PUBLISHED = FreshnessPolicy.time_window(fail_window=dt.timedelta(hours=36), warn_window=dt.timedelta(hours=26))


def column_schema(columns: Mapping[str, tuple[str, str]]) -> Schema:
    """Schema from column name to (type, description), for the key `dagster/column_schema`."""
    return MetadataValue.table_schema(
        TableSchema([TableColumn(name, kind, description) for name, (kind, description) in columns.items()])
    )


def column_lineage(columns: Mapping[str, Sequence[str]]) -> Lineage:
    """Lineage from column name to what it is made from, such as "events.timestamp"; for `dagster/column_lineage`.

    Named are columns whose values a column is made from, and those that decide what counts; not those that only join.
    Of a column that is made from none, such as a number of a period, the list is empty. It goes into the metadata of
    the definition, and into those of each materialisation, where Dagster's pages look for it.
    """
    return MetadataValue.column_lineage(
        TableColumnLineage(
            {
                name: [TableColumnDep(*made_from.split(".")) for made_from in sources]
                for name, sources in columns.items()
            }
        )
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Markdown:
    """A small table as Markdown; cells are shown with `str`."""

    def line(cells: Iterable[object]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return MetadataValue.md("\n".join([line(header), line("---" for _ in header), *map(line, rows)]))


def png_markdown(png: bytes, alt: str) -> Markdown:
    """A picture inside the metadata. Keep it under 60 KB: it is stored with every materialisation."""
    return MetadataValue.md(f"![{alt}](data:image/png;base64,{base64.b64encode(png).decode('ascii')})")
