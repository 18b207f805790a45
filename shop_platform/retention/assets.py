"""The asset `cohort_retention`: the matrix, counted and published."""

import datetime as dt
from functools import partial

import dagster as dg

from shop_platform.changes import event_state, mark_consumed, prune_changes
from shop_platform.metadata import PUBLISHED, Materialized, column_lineage, column_schema, markdown_table
from shop_platform.records import write_record
from shop_platform.resources.engine import EngineResource
from shop_platform.resources.postgres import WRITER, Connection, PostgresResource
from shop_platform.retention import checks
from shop_platform.retention.cells import Cell, make_cell, pool, problems
from shop_platform.retention.counting import Basis, lock_matrix, publish, read_basis
from shop_platform.retention.definition import Definition
from shop_platform.retention.differences import differences, sentence
from shop_platform.retention.summaries import Refreshed, count_from_summaries
from shop_platform.settings import load_settings
from shop_platform.verifying import verifies_everything

#: Name of the record of what the published matrix was counted from.
RECORD = "cohort_retention"

_SCHEMA = {
    "breakdown": ("text", "Group of users; NULL for all of them."),
    "cohort": ("date", "First day of the cohort's calendar period, in the shop's time zone."),
    "period": ("smallint", "Number of the period, from 0."),
    "cohort_size": ("bigint", "Users of the cohort."),
    "users_observed": (
        "bigint",
        "Those whose whole period lies within the data, where the shop recorded anything in it.",
    ),
    "users_unrecorded": ("bigint", "Those whose period is over, but the shop recorded nothing in it."),
    "active_users": ("bigint", "The active ones of those observed; NULL where nobody is observed."),
    "rate": ("double precision", "active_users / users_observed; NULL where nobody is observed."),
    "rate_low": ("double precision", "Lower end of the Wilson 95 % interval."),
    "rate_high": ("double precision", "Upper end of the Wilson 95 % interval."),
    "revenue": ("numeric", "Of the users observed; NULL where it is not counted."),
    "few_users": ("boolean", "Fewer are observed than SHOP_RETENTION_LEAST_USERS."),
}

_OBSERVED = ["users.signup_date", "events.timestamp"]
_ACTIVE = ["events.user_id", "events.timestamp", "events.event_type"]
_RATE = ["users.signup_date", *_ACTIVE]


def _lineage(*, by_segment: bool) -> dg.TableColumnLineageMetadataValue:
    """What the columns are made from, whatever retention is defined to be; groups are also columns of your own."""
    return column_lineage(
        {
            "breakdown": ["user_segments.segment"] if by_segment else [],
            "cohort": _OBSERVED,
            "period": [],
            "cohort_size": ["users.user_id"],
            "users_observed": _OBSERVED,
            "users_unrecorded": _OBSERVED,
            "active_users": _ACTIVE,
            "rate": _RATE,
            "rate_low": _RATE,
            "rate_high": _RATE,
            "revenue": ["events.product_id", "events.timestamp", "events.event_type"],
            "few_users": _OBSERVED,
        }
    )


def define_cohort_retention(*, by_segment: bool) -> dg.AssetsDefinition:
    """The asset, made after the segments where it is broken down by them; otherwise it need not wait for them."""
    return dg.asset(
        name="cohort_retention",
        group_name="retention",
        kinds={"postgres", "table"},
        owners=["team:data-platform"],
        deps=["users", "events", *(["user_segments"] if by_segment else [])],
        description="Of the users of a cohort, how many are active in each period after their start, among those whose "
        "period is over and was recorded: one row a cell, with a Wilson 95 % interval. By default months of signup and "
        "the weeks 0 to 7 after each user's own signup.",
        code_version="4",
        freshness_policy=PUBLISHED,
        metadata={
            "dagster/column_schema": column_schema(_SCHEMA),
            "dagster/column_lineage": _lineage(by_segment=by_segment),
            "dagster/table_name": "analytics.cohort_retention",
        },
        check_specs=[checks.KEEPS_ITS_DEFINITION, checks.AGREES_WITH_EVENTS, checks.DATA_END_IS_PAST],
    )(_cohort_retention)


def _cohort_retention(
    context: dg.AssetExecutionContext, postgres: PostgresResource, engine: EngineResource
) -> Materialized:
    """Take in what has changed and put the cells in place of those before, unless they contradict the definition."""
    definition = Definition.of(load_settings(), postgres.time_zone)
    with engine.counting(postgres), postgres.connect(role=WRITER) as connection:
        lock_matrix(connection)
        state = event_state(connection)
        refresh = partial(engine.refresh_retention, postgres, connection, definition)
        refreshed, cells, basis, found = _count(
            connection, definition, refresh(everybody=verifies_everything(context.run))
        )
        disagreed = not refreshed.equal
        if (found or disagreed) and refreshed.rebuilt is None:
            context.log.warning("The summaries do not agree with the events: they are built anew.")
            refreshed, cells, basis, found = _count(connection, definition, refresh(rebuild=True))
            # What building anew does not mend is no fault of the summaries.
            disagreed = disagreed or not found or not refreshed.equal
        if not refreshed.equal:
            found.append("The matrix from the summaries is not the one counted from the events.")
        pooled = pool(cells)
        tests = [test.as_record() for test in differences(cells, definition)]
        if found:
            connection.rollback()
        else:
            publish(connection, cells, pooled, definition.least_users)
            record = basis.as_record() | {
                "run_id": context.run.run_id,
                "definition": definition.text,
                "definition_settings": definition.as_record(),
                "differences": tests,
            }
            write_record(connection, RECORD, context.run.run_id, record)
            mark_consumed(connection, "cohort_retention", state)
    prune_changes(postgres)
    context.log.info(
        "%d cells from %d users; %d of them counted anew.", len(cells), basis.users, refreshed.users_recounted
    )
    whole = [cell for cell in cells if cell.breakdown is None]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(cells),
            "dagster/column_lineage": _lineage(by_segment=definition.breakdown == "segment"),
            "users": basis.users,
            "users in a cohort": basis.cohort_users,
            "users counted anew": refreshed.users_recounted,
            "built anew": refreshed.rebuilt or "no",
            "events": basis.events,
            "events before their user's signup, left out": basis.before_signup,
            "data until": basis.data_end.isoformat() if basis.data_end else "no events",
            "definition": definition.text,
            "differences": " ".join(
                filter(None, (sentence(tests, among, definition.unit) for among in ("cohorts", "groups")))
            )
            or "nothing to compare",
            "retention": markdown_table(
                ["cohort", "users", *(definition.column(period) for period in range(definition.periods))], _rows(whole)
            ),
        },
        check_results=[
            checks.keeps_its_definition(found),
            checks.agrees_with_events(refreshed, disagreed=disagreed),
            checks.data_end_is_past(basis),
        ],
    )


cohort_retention = define_cohort_retention(by_segment=False)


def _count(
    connection: Connection, definition: Definition, refreshed: Refreshed
) -> tuple[Refreshed, list[Cell], Basis, list[str]]:
    """Count from the refreshed summaries; with what contradicts the definition."""
    cells = [make_cell(counts) for counts in count_from_summaries(connection, definition)]
    basis = read_basis(connection, definition)
    return refreshed, cells, basis, problems(cells, basis.cohort_users, definition.periods)


def _rows(cells: list[Cell]) -> list[list[str]]:
    rows: dict[dt.date, list[str]] = {}
    for cell in cells:
        row = rows.setdefault(cell.cohort, [f"{cell.cohort:%Y-%m}", f"{cell.cohort_size:,}"])
        row.append("" if cell.rate is None else f"{cell.rate:.0%} ({cell.active_users:,} of {cell.users_observed:,})")
    return list(rows.values())
