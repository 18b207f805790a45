"""The assets `cohort_retention` and `retention_heatmap`."""

import datetime as dt
from functools import partial

import dagster as dg

from shop_platform.changes import event_state, mark_consumed
from shop_platform.errors import DataError
from shop_platform.files import write_atomically
from shop_platform.metadata import Materialized, column_schema, markdown_table, png_markdown
from shop_platform.records import read_record, write_record
from shop_platform.resources.postgres import PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.retention import checks
from shop_platform.retention.cells import Cell, definition, make_cell, problems
from shop_platform.retention.counting import count_cells, count_cohorts, lock_matrix, publish, read_basis, read_cells

#: Weeks 0 to 7 of seven days each.
PERIODS, DAYS = 8, 7

#: A larger picture goes into the metadata without its numbers: Dagster keeps it with every materialisation.
MOST_BYTES = 60_000

#: Name of the record of what the published matrix was counted from.
RECORD = "cohort_retention"

_SCHEMA = {
    "cohort": ("date", "First day of the month of signup, in the shop's time zone."),
    "period": ("smallint", "Weeks since the user's signup, from 0."),
    "cohort_size": ("bigint", "Users who signed up in the month."),
    "users_observed": ("bigint", "Those whose whole week lies within the data."),
    "active_users": ("bigint", "Those of them with any event in the week; NULL where nobody is observed."),
    "rate": ("double precision", "active_users / users_observed; NULL where nobody is observed."),
    "rate_low": ("double precision", "Lower end of the Wilson 95 % interval."),
    "rate_high": ("double precision", "Upper end of the Wilson 95 % interval."),
}


@dg.asset(
    group_name="retention",
    kinds={"postgres", "table"},
    owners=["team:data-platform"],
    deps=["users", "events"],
    description="Of the users who signed up in a month, how many are active in each of the weeks 0 to 7 after their "
    "own signup, among those whose week is over: one row a cell, with a Wilson 95 % interval.",
    code_version="2",
    metadata={"dagster/column_schema": column_schema(_SCHEMA), "dagster/table_name": "analytics.cohort_retention"},
    check_specs=[checks.KEEPS_ITS_DEFINITION, checks.DATA_END_IS_PAST],
)
def cohort_retention(context: dg.AssetExecutionContext, postgres: PostgresResource) -> Materialized:
    """Count the cells and put them in place of the ones before, unless they contradict the definition."""
    with postgres.connect() as connection:
        lock_matrix(connection)
        state = event_state(connection)
        cells = [make_cell(*counts) for counts in count_cells(connection, PERIODS, DAYS)]
        basis = read_basis(connection)
        found = problems(cells, basis.users, PERIODS)
        if not found:
            record = basis.as_record() | {
                "run_id": context.run.run_id,
                "periods": PERIODS,
                "days": DAYS,
                "time_zone": postgres.time_zone,
                "definition": definition(postgres.time_zone, DAYS),
            }
            publish(connection, cells)
            write_record(connection, RECORD, context.run.run_id, record)
            mark_consumed(connection, "cohort_retention", state)
    context.log.info("%d cells from %d users.", len(cells), basis.users)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(cells),
            "users": basis.users,
            "events": basis.events,
            "events before their user's signup, left out": basis.before_signup,
            "data until": basis.data_end.isoformat() if basis.data_end else "no events",
            "definition": definition(postgres.time_zone, DAYS),
            "retention": markdown_table(
                ["cohort", "users", *(f"week {period}" for period in range(PERIODS))], _rows(cells)
            ),
        },
        check_results=[checks.keeps_its_definition(found), checks.data_end_is_past(basis)],
    )


@dg.asset(
    group_name="retention",
    kinds={"seaborn", "png"},
    owners=["team:data-platform"],
    deps=["cohort_retention"],
    description="The retention matrix as a picture; weeks that nobody has lived through yet are hatched.",
    code_version="2",
    check_specs=[checks.IS_A_PICTURE],
)
def retention_heatmap(
    context: dg.AssetExecutionContext, postgres: PostgresResource, shop: ShopResource
) -> Materialized:
    """Draw the published matrix into the shop's folder."""
    from shop_platform.pictures import read_facts
    from shop_platform.retention.heatmap import draw_heatmap

    with postgres.connect() as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cells = read_cells(connection)
        if not cells:
            raise DataError("There are no cohorts to draw: load users, then materialise cohort_retention.")
        record = read_record(connection, RECORD)
        cohorts = count_cohorts(connection)
    end = dt.datetime.fromisoformat(record["data_end"]) if record["data_end"] else None
    draw = partial(
        draw_heatmap,
        cells,
        title=f"{shop.shop().title}: share of users active in the weeks after their signup",
        definition=f"{record['definition']} "
        + (f"The data end {end:%Y-%m-%d %H:%M %Z}." if end else "There are no events."),
        facts={
            "run": context.run.run_id,
            "cohorts": str(len({cell.cohort for cell in cells})),
            "matrix": record["run_id"],
        },
    )
    png = draw()
    path = shop.folder() / "retention_heatmap.png"
    write_atomically(path, png)
    return dg.MaterializeResult(
        metadata={
            "heatmap": png_markdown(
                png if len(png) < MOST_BYTES else draw(numbers=False),
                "Share of users active by month of signup and weeks since",
            ),
            "path": dg.MetadataValue.path(str(path)),
            "dagster/row_count": cohorts,
            "bytes": len(png),
        },
        check_results=[checks.is_a_picture(read_facts(path.read_bytes()), context.run.run_id, cohorts)],
    )


def _rows(cells: list[Cell]) -> list[list[str]]:
    rows: dict[dt.date, list[str]] = {}
    for cell in cells:
        row = rows.setdefault(cell.cohort, [f"{cell.cohort:%Y-%m}", f"{cell.cohort_size:,}"])
        row.append("" if cell.rate is None else f"{cell.rate:.0%} ({cell.active_users:,} of {cell.users_observed:,})")
    return list(rows.values())
