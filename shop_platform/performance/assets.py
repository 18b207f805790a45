"""The assets of group performance: benchmarks on copies, the live indexes, what helps, and the live summaries."""

import dagster as dg

from shop_platform.metadata import PUBLISHED, Materialized, column_lineage, column_schema, markdown_table
from shop_platform.performance import checks
from shop_platform.performance.effects import Effects, compare, times_as_fast
from shop_platform.performance.indexes import ensure_index, index_files
from shop_platform.performance.laboratory import laboratory
from shop_platform.performance.ladder import rungs
from shop_platform.performance.measuring import measure_baseline, measure_indexed
from shop_platform.performance.queries import Query, measured_queries
from shop_platform.performance.records import Measured, Provenance, as_baseline, as_indexed
from shop_platform.performance.rounds import interleaved
from shop_platform.performance.sampling import WEEKS, compare_weeks
from shop_platform.performance.sketches import ERROR_95
from shop_platform.performance.summaries import Refresh, ask_for_rebuild
from shop_platform.records import read_record, write_record
from shop_platform.resources.engine import EngineResource
from shop_platform.resources.postgres import READER, WRITER, PostgresResource
from shop_platform.settings import load_settings
from shop_platform.verifying import verifies_everything

#: Measurements run one at a time: Dagster's pool of this name has one slot.
POOL = "benchmark"

_OWNERS = ["team:data-platform"]

_PLAN_HEADER = ("median", "buffers hit", "buffers read", "plan")


_SUMMARY_SCHEMA = {
    "week": ("timestamptz", "weekly_active_users: first moment of the week. Primary key."),
    "active_users": ("bigint", "weekly_active_users: users with an event in the week."),
    "day": ("date", "category_revenue: day in the shop's time zone. Primary key, with category."),
    "category": ("text", "category_revenue: of the purchased products."),
    "revenue": ("numeric", "category_revenue: sum of prices, in the shop's currency."),
    "purchases": ("bigint", "category_revenue: number of purchases."),
}
_SUMMARY_LINEAGE = column_lineage(
    {
        "week": ["events.timestamp"],
        "active_users": ["events.user_id"],
        "day": ["events.timestamp"],
        "category": ["products.category"],
        "revenue": ["products.price", "events.event_type"],
        "purchases": ["events.event_type"],
    }
)


@dg.asset(
    group_name="performance",
    kinds={"postgres"},
    owners=_OWNERS,
    deps=["products", "events"],
    pool=POOL,
    code_version="2",
    check_specs=[checks.BASELINE_COMPLETE],
    description="Times and plans of the queries on a copy of the tables with primary keys only.",
)
def baseline_benchmark(context: dg.AssetExecutionContext, postgres: PostgresResource) -> Materialized:
    """Measure the queries without indexes."""
    with laboratory(postgres):
        record = measure_baseline(postgres, _queries(), load_settings().query_time_limit)
        with postgres.connect(role=WRITER) as connection:
            write_record(connection, "baseline_benchmark", context.run.run_id, dict(record))
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": record["provenance"]["rows"]["events"],
            "times": markdown_table(
                ["query", "rounds", "rows", *_PLAN_HEADER],
                [
                    (query["name"], query["rounds"], query["rows"], *_plan_cells(query["measured"]))
                    for query in record["queries"]
                ],
            ),
            "conditions": _conditions(record["provenance"]),
        },
        check_results=[checks.baseline_complete(record)],
    )


@dg.asset(
    group_name="performance",
    kinds={"postgres"},
    owners=_OWNERS,
    deps=["baseline_benchmark"],
    code_version="1",
    check_specs=[checks.INDEXES_VALID],
    description="The shop's three indexes on the live tables, built concurrently; an invalid one is built again.",
)
def commerce_indexes(postgres: PostgresResource) -> Materialized:
    """Make sure that the three indexes are there and valid. Changes nothing else on the live tables."""
    with laboratory(postgres), postgres.connect(autocommit=True) as connection:
        built = [ensure_index(connection, file) for file in index_files()]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(built),
            "indexes": markdown_table(
                ["index", "size", "built in this run"],
                [
                    (
                        index.name,
                        _size(index.size_bytes),
                        "no, it was there"
                        if index.build_seconds is None
                        else f"in {1000 * index.build_seconds:.3g} ms"
                        + (", in place of an invalid one" if index.replaced_invalid else ""),
                    )
                    for index in built
                ],
            ),
        },
        check_results=[checks.indexes_valid(built)],
    )


@dg.asset(
    group_name="performance",
    kinds={"postgres"},
    owners=_OWNERS,
    deps=["baseline_benchmark", "commerce_indexes"],
    pool=POOL,
    code_version="2",
    check_specs=[checks.MEASURED_ALONE],
    description="The queries as written, with the three indexes, each index alone, rewritten, and from summaries, in "
    "turns on the same copy; and what each index costs those who write.",
)
def indexed_benchmark(context: dg.AssetExecutionContext, postgres: PostgresResource) -> Materialized:
    """Measure the variants of the queries against each other."""
    with laboratory(postgres):
        with postgres.connect(role=READER) as connection:
            baseline = as_baseline(read_record(connection, "baseline_benchmark"))
        settings = load_settings()
        rule = interleaved(settings.measure_seconds)
        record = measure_indexed(postgres, _queries(), baseline, settings.query_time_limit, rule)
        with postgres.connect(role=WRITER) as connection:
            write_record(connection, "indexed_benchmark", context.run.run_id, dict(record))
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": record["provenance"]["rows"]["events"],
            "times": markdown_table(
                ["query", "variant", "rounds", *_PLAN_HEADER],
                [
                    (query["name"], variant.replace("_", " "), query["rounds"], *_plan_cells(measured))
                    for query in record["queries"]
                    for variant, measured in query["variants"].items()
                ],
            ),
            "cost": markdown_table(
                ["index or summary", "size", "time to build"],
                [
                    (made["name"], _size(made["size_bytes"]), f"{made['build_ms']:.3g} ms")
                    for made in (*record["indexes"], *record["summaries"])
                ],
            ),
            "conditions": _conditions(record["provenance"]),
        },
        check_results=[checks.measured_alone(record)],
    )


@dg.asset(
    group_name="performance",
    kinds={"postgres"},
    owners=_OWNERS,
    deps=["baseline_benchmark", "indexed_benchmark"],
    pool=POOL,
    code_version="2",
    check_specs=[checks.OPTIMISED_ANSWERS_FASTER, checks.RESULT_ROWS, checks.RESULTS_EQUAL],
    description="What the indexes and the summaries buy for each query, with 95 % intervals, and what does nothing.",
)
def index_effects(context: dg.AssetExecutionContext, postgres: PostgresResource) -> Materialized:
    """Compare the benchmarks' records."""
    with postgres.connect(role=WRITER) as connection:
        effects = compare(
            as_baseline(read_record(connection, "baseline_benchmark")),
            as_indexed(read_record(connection, "indexed_benchmark")),
        )
        write_record(connection, "index_effects", context.run.run_id, dict(effects))
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(effects["queries"]),
            "ladder": markdown_table(
                ["query", "answered", "median", "against as written", "verdict"],
                [
                    (
                        rung["query"],
                        rung["way"],
                        f"{rung['median_ms']:.3g} ms",
                        times_as_fast(rung["speedup"]) if rung["speedup"] else "",
                        rung["verdict"] or "",
                    )
                    for rung in rungs(effects, None)
                ],
            ),
            "indexes": _index_table(effects),
            "cost of the indexes": _cost_table(effects),
            "findings": dg.MetadataValue.md("\n".join(f"- {finding}" for finding in effects["findings"])),
            "conditions": _conditions(effects["provenance"]),
        },
        check_results=[
            checks.optimised_answers_faster(effects),
            checks.result_rows(effects),
            checks.results_equal(effects),
        ],
    )


@dg.asset(
    group_name="performance",
    kinds={"postgres", "table"},
    owners=_OWNERS,
    deps=["products", "events"],
    code_version="2",
    freshness_policy=PUBLISHED,
    check_specs=[checks.ANSWERS_EQUAL, checks.SUMS_ADD_UP],
    metadata={
        "dagster/column_schema": column_schema(_SUMMARY_SCHEMA),
        "dagster/column_lineage": _SUMMARY_LINEAGE,
        "dagster/table_name": "analytics.weekly_active_users",
    },
    description="Exact summary tables in schema analytics that answer the dashboard's two queries. A refresh takes in "
    "what has changed; it gives what building them anew gives.",
)
def activity_summaries(
    context: dg.AssetExecutionContext, postgres: PostgresResource, engine: EngineResource
) -> Materialized:
    """Refresh the live summary tables; readers see the old rows or the new ones."""
    done = engine.refresh_summaries(postgres)
    if done.rebuilt:
        context.log.info("Built anew: %s.", done.rebuilt)
    how_many = None if verifies_everything(context.run) else WEEKS
    weeks = compare_weeks(postgres, context.run.run_id, how_many) if done.published else []
    if (not done.published and done.rebuilt is None) or not all(week.equal for week in weeks):
        with postgres.connect(role=WRITER) as connection:
            ask_for_rebuild(connection)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": sum(done.rows.values()),
            "dagster/column_lineage": _SUMMARY_LINEAGE,
            "published": done.published,
            "refresh": f"built anew: {done.rebuilt}" if done.rebuilt else "changes applied",
            "changes of events applied": done.event_changes,
            "active users": _how_counted(done),
            "tables": markdown_table(
                ["table", "rows"], [(f"analytics.{table}", f"{rows:,}") for table, rows in done.rows.items()]
            ),
            "weeks compared with the direct queries": markdown_table(
                ["week", "active users in the summaries", "in the events", "revenue"],
                [
                    (
                        f"{week.week:%Y-%m-%d}",
                        f"{week.active_summed:,}",
                        f"{week.active:,}",
                        "equal" if week.revenue_equal else "differs",
                    )
                    for week in weeks
                ],
            ),
        },
        check_results=[checks.answers_equal(done, weeks), checks.sums_add_up(done)],
    )


def _how_counted(done: Refresh) -> str:
    return f"estimated; 95 % of the weeks within {ERROR_95:.1%}" if done.estimated else "counted"


def _queries() -> list[Query]:
    return measured_queries(load_settings().queries)


def _plan_cells(measured: Measured) -> tuple[str, str, str, str]:
    return (
        f"{measured['median_ms']:.3g} ms",
        f"{measured['buffers_hit']:,}",
        f"{measured['buffers_read']:,}",
        " > ".join(measured["nodes"]),
    )


def _index_table(effects: Effects) -> dg.MarkdownMetadataValue:
    """A row for each index and query: what the index alone does for the query, and whether it would be missed."""
    return markdown_table(
        ["index", "query", "planner", "alone", "verdict", "if it goes", "buffers before", "after"],
        [
            (
                use["name"],
                query["name"],
                "used" if use["used_alone"] else "not used",
                times_as_fast(use["speedup"]),
                use["verdict"],
                use["missed"] or "",
                f"{use['buffers_before']:,}",
                f"{use['buffers_after']:,}",
            )
            for query in effects["queries"]
            for use in query["indexes"]
        ],
    )


def _cost_table(effects: Effects) -> dg.MarkdownMetadataValue:
    return markdown_table(
        ["index", "size", "time to build", "inserts without, rows/s", "with", "inserts take, times as long"],
        [
            (
                index["name"],
                _size(index["size_bytes"]),
                f"{index['build_ms']:.3g} ms",
                f"{index['rows_per_second']['without']:,.0f}",
                f"{index['rows_per_second']['with']:,.0f}",
                "{value:.2f} ({low:.2f} to {high:.2f})".format(**index["insert_slowdown"]),
            )
            for index in effects["indexes"]
        ],
    )


def _conditions(provenance: Provenance) -> dg.MarkdownMetadataValue:
    rows = [
        ("PostgreSQL", provenance["server_version"]),
        *provenance["settings"].items(),
        ("time zone", provenance["time_zone"]),
        *((f"rows of {table}", f"{rows:,}") for table, rows in provenance["rows"].items()),
        ("measured", "all events" if provenance["one_user_in"] == 1 else f"one user in {provenance['one_user_in']}"),
        ("other sessions at work", provenance["other_sessions"]),
        ("load of the machine before", f"{provenance['load']} on {provenance['processors']} processors"),
        ("when", provenance["measured_at"]),
    ]
    return markdown_table(["condition", "value"], rows)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1024:,.0f} KiB"
