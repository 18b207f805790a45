"""The asset `segment_retention`: the published matrix counted by segment, whatever it is broken down by itself."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import dagster as dg

from shop_platform.errors import DataError
from shop_platform.files import write_atomically
from shop_platform.metadata import PUBLISHED, Materialized, column_lineage, column_schema, markdown_table
from shop_platform.records import find_record, write_record
from shop_platform.resources.postgres import READER, WRITER, PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.retention import checks
from shop_platform.retention.artefacts import MOST_BYTES, data_end_note, shown
from shop_platform.retention.cells import Pooled, make_cell, pool
from shop_platform.retention.definition import Definition
from shop_platform.retention.differences import differences
from shop_platform.retention.stored import read_pooled
from shop_platform.retention.summaries import count_by_segment

#: Name of the record of the rows, and of the picture.
RECORD, PICTURE = "segment_retention", "retention_by_segment.png"

_SCHEMA = {
    "segment": ("text", "The users' segment; (none) for those who have not searched."),
    "period": ("smallint", "Number of the period, from 0."),
    "users_observed": ("bigint", "Users whose whole period lies within the data and was recorded."),
    "active_users": ("bigint", "The active ones of them."),
    "rate": ("double precision", "active_users / users_observed."),
    "rate_low": ("double precision", "Lower end of the Wilson 95 % interval."),
    "rate_high": ("double precision", "Upper end of the Wilson 95 % interval."),
}

_LINEAGE = column_lineage(
    {
        "segment": ["user_segments.segment"],
        "period": ["cohort_retention.period"],
        **{
            column: [f"cohort_retention.{column}", "user_segments.segment"]
            for column in ("users_observed", "active_users", "rate", "rate_low", "rate_high")
        },
    }
)


@dg.asset(
    group_name="retention",
    kinds={"postgres", "png"},
    owners=["team:data-platform"],
    deps=["cohort_retention", "user_segments"],
    description="Who comes back, by segment: of the users of all cohorts together, how many are active in each period, "
    "with a Wilson 95 % interval.",
    code_version="1",
    freshness_policy=PUBLISHED,
    automation_condition=dg.AutomationCondition.eager(),
    metadata={"dagster/column_schema": column_schema(_SCHEMA), "dagster/column_lineage": _LINEAGE},
    check_specs=[checks.SEGMENTS_ADD_UP],
)
def segment_retention(
    context: dg.AssetExecutionContext, postgres: PostgresResource, shop: ShopResource
) -> Materialized:
    """Count by segment from the summaries, unless they contradict the published matrix."""
    from shop_platform.retention.curves import draw_curves

    with postgres.connect(role=READER) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        basis = find_record(connection, "cohort_retention")
        if basis is None:
            raise DataError("There is no retention to break down: materialise cohort_retention.")
        definition = Definition(**basis["definition_settings"])
        cells = [make_cell(counts) for counts in count_by_segment(connection, definition)]
        published = [row for row in read_pooled(connection) if row.breakdown is None]
    segments = [row for row in pool(cells) if row.breakdown is not None]
    unrecorded = Counter[tuple[str | None, int]]()
    for cell in cells:
        unrecorded[cell.breakdown, cell.period] += cell.users_unrecorded
    differing = _differing(segments, published)
    tests = [test.as_record() for test in differences(cells, definition) if test.among == "groups"]
    record = {
        "matrix": basis["run_id"],
        "definition": definition.text,
        "differences": tests,
        "rows": [_row(each, unrecorded[each.breakdown, each.period]) for each in segments],
    }
    if not differing:
        with postgres.connect(role=WRITER) as connection:
            write_record(connection, RECORD, context.run.run_id, record)
    the_shop = shop.shop()
    png = draw_curves(
        cells,
        definition,
        f"{the_shop.title}: {definition.title}, by segment",
        data_end_note(basis),
        {"run": context.run.run_id, "matrix": basis["run_id"]},
        currency=the_shop.currency,
    )
    path = shop.folder() / PICTURE
    write_atomically(path, png)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(segments),
            "dagster/column_lineage": _LINEAGE,
            "definition": definition.text,
            "curves": shown(png if len(png) < MOST_BYTES else None, "Curves of retention by segment"),
            "path": dg.MetadataValue.path(str(path)),
            "retention": markdown_table(
                ["segment", *(definition.column(period) for period in range(definition.periods))],
                (
                    [
                        name,
                        *("" if row.rate is None else f"{row.rate:.0%}" for row in segments if row.breakdown == name),
                    ]
                    for name in dict.fromkeys(row.breakdown for row in segments)
                ),
            ),
        },
        check_results=[checks.segments_add_up(differing)],
    )


def _row(pooled: Pooled, unrecorded: int) -> dict[str, object]:
    row = asdict(pooled) | {"revenue": None if pooled.revenue is None else str(pooled.revenue)}
    return {"segment": row.pop("breakdown"), "users_unrecorded": unrecorded} | row


def _differing(segments: Sequence[Pooled], published: Sequence[Pooled]) -> list[int]:
    """Periods in which the segments together are not the users of the published matrix."""
    observed, active = Counter[int](), Counter[int]()
    for row in segments:
        observed[row.period] += row.users_observed
        active[row.period] += row.active_users or 0
    return [
        row.period
        for row in published
        if (observed[row.period], active[row.period]) != (row.users_observed, row.active_users or 0)
    ]
