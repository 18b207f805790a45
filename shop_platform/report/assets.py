"""The asset `shop_report`."""

import datetime as dt

import dagster as dg

from shop_platform.files import write_atomically
from shop_platform.metadata import Materialized
from shop_platform.report.page import render
from shop_platform.report.results import collect_results
from shop_platform.report.sentences import lead
from shop_platform.resources.postgres import PostgresResource
from shop_platform.resources.shop import ShopResource

#: Larger than this, a page is slow to open on a phone.
MOST_BYTES = 2_000_000


@dg.asset(
    group_name="report",
    kinds={"html", "jinja"},
    owners=["team:data-platform"],
    deps=["index_effects", "activity_summaries", "cohort_retention", "retention_heatmap", "segmented_user_logs"],
    description="One page for people, from the stored results: what was found, with the numbers behind it.",
    code_version="1",
    automation_condition=dg.AutomationCondition.eager(),
    check_specs=[dg.AssetCheckSpec("is_whole", asset="shop_report")],
)
def shop_report(context: dg.AssetExecutionContext, postgres: PostgresResource, shop: ShopResource) -> Materialized:
    """Write the page in place of the one before."""
    the_shop = shop.shop()
    folder = shop.folder()
    with postgres.connect() as connection:
        results = collect_results(connection)
    heatmap = folder / "retention_heatmap.png"
    page = render(
        results,
        title=the_shop.title,
        currency=the_shop.currency,
        notes=the_shop.notes,
        run_id=context.run.run_id,
        made_at=dt.datetime.now(dt.UTC),
        heatmap=heatmap.read_bytes() if heatmap.exists() else None,
    )
    path = folder / "report.html"
    write_atomically(path, page.encode())
    absent = [
        name for name in ("index_effects", "cohort_retention", "segments", "search_logs") if results[name] is None
    ]
    size = len(page.encode())
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(str(path)),
            "report": dg.MetadataValue.url(path.as_uri()),
            "bytes": size,
            "in short": dg.MetadataValue.md("\n".join(f"- {sentence}" for sentence in lead(results))),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="is_whole",
                passed=not absent and size < MOST_BYTES,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{size:,} bytes; "
                + (f"without {', '.join(absent)}." if absent else "every part is in it."),
            )
        ],
    )
