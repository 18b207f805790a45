"""The assets `cohort_retention` and `retention_heatmap`."""

import datetime as dt

import dagster as dg

from shop_platform import sqlfiles
from shop_platform.changes import event_state, mark_consumed
from shop_platform.errors import DataError
from shop_platform.files import write_atomically
from shop_platform.metadata import Materialized, column_schema, markdown_table, png_markdown
from shop_platform.resources.postgres import Connection, PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.retention.cells import Cell, make_cell, matrix, problems

#: Weeks 0 to 7 of seven days each.
PERIODS, DAYS = 8, 7

RETENTION_LOCK = 7_301_004

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


def read_cells(connection: Connection) -> list[Cell]:
    """The published matrix, ordered by cohort and period; empty where there is none yet."""
    rows = connection.execute(
        "SELECT cohort, period, cohort_size, users_observed, active_users, rate, rate_low, rate_high"
        " FROM analytics.cohort_retention ORDER BY cohort, period"
    )
    return [Cell(*row) for row in rows]


@dg.asset(
    group_name="retention",
    kinds={"postgres", "table"},
    owners=["team:data-platform"],
    deps=["users", "events"],
    description="Of the users who signed up in a month, how many are active in each of the weeks 0 to 7 after their "
    "own signup, among those whose week is over: one row a cell, with a Wilson 95 % interval.",
    code_version="1",
    check_specs=[dg.AssetCheckSpec("keeps_its_definition", asset="cohort_retention", blocking=True)],
)
def cohort_retention(context: dg.AssetExecutionContext, postgres: PostgresResource) -> Materialized:
    """Count the cells and put them in place of the ones before, unless they contradict the definition."""
    with postgres.connect() as connection:
        # One snapshot for the matrix, for what it is checked against, and for the state of events it is made from.
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [RETENTION_LOCK])
        state = event_state(connection)
        counts = connection.execute(
            sqlfiles.read_sql("queries/cohort_retention").text, {"periods": PERIODS, "days": DAYS}
        ).fetchall()
        cells = [make_cell(*row) for row in counts]
        row = connection.execute("SELECT (SELECT count(*) FROM users), max(timestamp) FROM events").fetchone()
        users, until = row if row else (0, None)
        found = problems(cells, users)
        if not found:
            _publish(connection, cells)
            mark_consumed(connection, "cohort_retention", state)
    context.log.info("%d cells from %d users.", len(cells), users)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(cells),
            "dagster/column_schema": column_schema(_SCHEMA),
            "users": users,
            "data until": until.isoformat() if until else "no events",
            "definition": definition(postgres.time_zone),
            "retention": markdown_table(
                ["cohort", "users", *(f"week {period}" for period in range(PERIODS))], _rows(cells)
            ),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="keeps_its_definition",
                passed=not found,
                description=" ".join(found) + " The matrix before it stays." if found else "Every cell does.",
                metadata={"problems": len(found)},
            )
        ],
    )


@dg.asset(
    group_name="retention",
    kinds={"seaborn", "png"},
    owners=["team:data-platform"],
    deps=["cohort_retention"],
    description="The retention matrix as a picture; weeks that nobody has lived through yet are hatched.",
    code_version="1",
    check_specs=[dg.AssetCheckSpec("is_a_picture", asset="retention_heatmap")],
)
def retention_heatmap(postgres: PostgresResource, shop: ShopResource) -> Materialized:
    """Draw the published matrix into the shop's folder."""
    from shop_platform.retention.heatmap import draw_heatmap

    with postgres.connect() as connection:
        cells = read_cells(connection)
        row = connection.execute("SELECT max(timestamp) FROM events").fetchone()
    if not cells:
        raise DataError("There are no cohorts to draw: load users, then materialise cohort_retention.")
    until: dt.datetime | None = row[0] if row else None
    sizes = {cell.cohort: cell.cohort_size for cell in cells}
    rates = matrix(cells, "rate")
    png = draw_heatmap(
        rates,
        sizes,
        title=f"{shop.shop().title}: users active in the weeks after their signup",
        definition=f"{definition(postgres.time_zone)}\nData until {until:%Y-%m-%d %H:%M %Z}."
        if until
        else "No events.",
    )
    path = shop.folder() / "retention_heatmap.png"
    write_atomically(path, png)
    whole = path.read_bytes() == png and png.startswith(b"\x89PNG") and len(rates) == len(sizes)
    return dg.MaterializeResult(
        metadata={
            "heatmap": png_markdown(png, "Share of users active by month of signup and weeks since"),
            "path": dg.MetadataValue.path(str(path)),
            "cohorts": len(rates),
            "bytes": len(png),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="is_a_picture",
                passed=whole,
                description=f"{path.name} holds the picture of {len(rates)} cohorts, {len(png):,} bytes.",
            )
        ],
    )


def definition(time_zone: str) -> str:
    """How the matrix is counted, in a sentence."""
    return (
        f"Active: any event. Weeks of seven days from each user's own signup, {time_zone} time; "
        "only users whose week is over count."
    )


def _publish(connection: Connection, cells: list[Cell]) -> None:
    """Replace the matrix in the caller's transaction: readers see the old one until the commit."""
    connection.execute("DELETE FROM analytics.cohort_retention")
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO analytics.cohort_retention (cohort, period, cohort_size, users_observed, active_users, rate,"
            " rate_low, rate_high) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (c.cohort, c.period, c.cohort_size, c.users_observed, c.active_users, c.rate, c.rate_low, c.rate_high)
                for c in cells
            ],
        )


def _rows(cells: list[Cell]) -> list[list[str]]:
    rows: dict[dt.date, list[str]] = {}
    for cell in cells:
        row = rows.setdefault(cell.cohort, [f"{cell.cohort:%Y-%m}", f"{cell.cohort_size:,}"])
        row.append("" if cell.rate is None else f"{cell.rate:.0%} ({cell.active_users:,})")
    return list(rows.values())
