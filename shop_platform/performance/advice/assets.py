"""The asset `index_advice`: what to build, measured on a copy. It never changes the live tables."""

from typing import cast

import dagster as dg

from shop_platform.files import write_atomically
from shop_platform.metadata import Materialized, markdown_table, png_markdown
from shop_platform.performance.advice import checks
from shop_platform.performance.advice.records import Advice
from shop_platform.performance.assets import POOL
from shop_platform.performance.effects import Effects, times_as_fast
from shop_platform.performance.laboratory import laboratory
from shop_platform.performance.queries import measured_queries
from shop_platform.performance.rounds import interleaved
from shop_platform.records import read_record, write_record
from shop_platform.resources.postgres import WRITER, PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.settings import load_settings


@dg.asset(
    group_name="performance",
    kinds={"postgres", "sqlglot", "png"},
    owners=["team:data-platform"],
    deps=["index_effects"],
    pool=POOL,
    code_version="1",
    check_specs=[checks.WITHIN_BUDGET, checks.NOT_SLOWER],
    description="The best set of indexes under a size budget, from candidates that were built and measured on a copy, "
    "with the DDL to paste; and the ladder from the query as written to the summaries. Live tables stay as they are.",
)
def index_advice(context: dg.AssetExecutionContext, postgres: PostgresResource, shop: ShopResource) -> Materialized:
    """Try what might help the measured queries, and draw the ladder."""
    from shop_platform.performance.advice.trying import measure_advice
    from shop_platform.performance.ladder import draw_ladder, rungs

    settings = load_settings()
    with laboratory(postgres):
        advice = measure_advice(
            postgres,
            measured_queries(settings.queries),
            time_limit=settings.query_time_limit,
            rule=interleaved(settings.measure_seconds),
            budget_share=settings.index_budget,
        )
    with postgres.connect(role=WRITER) as connection:
        effects = cast("Effects", read_record(connection, "index_effects"))
        write_record(connection, "index_advice", context.run.run_id, dict(advice))
    rows = advice["provenance"]["rows"]["events"]
    png = draw_ladder(
        rungs(effects, advice),
        f"{shop.shop().title}. Medians of queries run in turns on a copy of {rows:,} events; "
        f"PostgreSQL {advice['provenance']['server_version']}. Each ratio is from one run.",
        {"run": context.run.run_id},
    )
    path = shop.folder() / "ladder.png"
    write_atomically(path, png)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(advice["candidates"]),
            "ladder": png_markdown(png, "How many times as fast as written each way to answer is"),
            "path": dg.MetadataValue.path(str(path)),
            "to paste": dg.MetadataValue.md(_statements(advice)),
            "effect": _effect_table(advice),
            "candidates": _candidate_table(advice),
        },
        check_results=[checks.within_budget(advice), checks.not_slower(advice)],
    )


def _statements(advice: Advice) -> str:
    chosen = [candidate for candidate in advice["candidates"] if candidate["chosen"]]
    if not chosen:
        return "No index helps these queries enough to be advised."
    return "\n\n".join(
        f"{candidate['live']} is there already: {candidate['reason']}"
        if candidate["live"]
        else f"```sql\n{candidate['statement']}\n```\n{candidate['reason']} {candidate['lock']}"
        for candidate in chosen
    )


def _effect_table(advice: Advice) -> dg.MarkdownMetadataValue:
    return markdown_table(
        ["query", "as written", "advised", "against as written", "against the three given"],
        [
            (
                query["name"],
                f"{query['as_written']['median_ms']:.3g} ms",
                f"{query['advised']['median_ms']:.3g} ms",
                f"{query['verdict']}: {times_as_fast(query['advised_speedup'])}",
                times_as_fast(query["against_given"]),
            )
            for query in advice["queries"]
        ],
    )


def _candidate_table(advice: Advice) -> dg.MarkdownMetadataValue:
    return markdown_table(
        ["candidate", "kind", "size", "time to build", "query", "alone", "advised"],
        [
            (
                candidate["name"],
                candidate["kind"],
                f"{candidate['size_bytes'] / 1024:,.0f} KiB",
                f"{candidate['build_ms']:.3g} ms",
                name,
                "not used by the planner"
                if effect["speedup"] is None
                else f"{effect['verdict']}: {times_as_fast(effect['speedup'])}",
                "yes" if candidate["chosen"] else "",
            )
            for candidate in advice["candidates"]
            for name, effect in candidate["queries"].items()
        ],
    )
