"""The asset `shop_report`."""

import datetime as dt
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dagster as dg

from shop_platform.files import write_atomically
from shop_platform.metadata import PUBLISHED, Materialized
from shop_platform.pictures import read_facts
from shop_platform.report.evaluations import Evaluation, latest_evaluations
from shop_platform.report.page import SECTIONS, missing_sections, render, sections_with_results
from shop_platform.report.results import collect_results
from shop_platform.report.sentences import about_checks, lead
from shop_platform.resources.postgres import READER, PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.retention.by_segment import PICTURE

#: Larger than this, a page is slow to open on a phone.
MOST_BYTES = 2_000_000


def define_shop_report(checked: Sequence[dg.AssetsDefinition]) -> dg.AssetsDefinition:
    """The asset `shop_report`, which also tells what the checks of the given assets found."""
    checks = sorted({key for assets in checked for key in assets.check_keys}, key=lambda key: (key.asset_key, key.name))

    @dg.asset(
        group_name="report",
        kinds={"html", "jinja"},
        owners=["team:data-platform"],
        deps=[
            "index_effects",
            "activity_summaries",
            "cohort_retention",
            "retention_heatmap",
            "retention_curves",
            "segment_retention",
            "segmented_user_logs",
            "segment_profiles",
        ],
        description="One page for people, from the stored results: what was found, with the numbers behind it.",
        code_version="3",
        freshness_policy=PUBLISHED,
        # Also where a result is not in this Dagster's records: the page shows what PostgreSQL holds.
        automation_condition=dg.AutomationCondition.eager().without(~dg.AutomationCondition.any_deps_missing()),
        check_specs=[
            dg.AssetCheckSpec(
                "is_whole",
                asset="shop_report",
                description="The file has a section for each stored result, under 2 MB.",
            )
        ],
    )
    def shop_report(context: dg.AssetExecutionContext, postgres: PostgresResource, shop: ShopResource) -> Materialized:
        """Write the page in place of the one before."""
        return _write(context, postgres, shop, latest_evaluations(context.instance, checks))

    return shop_report


def _write(
    context: dg.AssetExecutionContext,
    postgres: PostgresResource,
    shop: ShopResource,
    evaluations: Sequence[Evaluation],
) -> Materialized:
    the_shop = shop.shop()
    folder = shop.folder()
    with postgres.connect(role=READER) as connection:
        results = collect_results(connection)
    page = render(
        results,
        title=the_shop.title,
        currency=the_shop.currency,
        notes=the_shop.notes,
        run_id=context.run.run_id,
        made_at=dt.datetime.now(dt.UTC),
        versions={name: version(name) for name in ("shop-platform", "dagster", "seaborn", "scikit-learn")}
        | {"Python": platform.python_version()},
        heatmap=_picture(folder / "retention_heatmap.png", results["retention_basis"]),
        curves=_picture(folder / "retention_curves.png", results["retention_basis"]),
        by_segment=_picture(folder / PICTURE, results["retention_basis"]),
        evaluations=evaluations,
    )
    path = folder / "report.html"
    write_atomically(path, page.encode())
    lacking = missing_sections(path.read_text(encoding="utf-8"), results)
    absent = [name for name in SECTIONS if name not in sections_with_results(results)]
    size = path.stat().st_size
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(str(path)),
            "report": dg.MetadataValue.url(path.as_uri()),
            "bytes": size,
            "in short": dg.MetadataValue.md(
                "\n".join(f"- {sentence}" for sentence in [*about_checks(evaluations), *lead(results)])
            ),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="is_whole",
                passed=not lacking and size < MOST_BYTES,
                description=f"{size:,} bytes. "
                + (
                    f"Results are stored but not shown: {', '.join(lacking)}. "
                    if lacking
                    else "Every result is shown. "
                )
                + (f"Nothing is stored yet for: {', '.join(absent)}." if absent else ""),
            )
        ],
    )


def _picture(path: Path, basis: dict[str, Any] | None) -> bytes | None:
    """A picture of the stored matrix; None where there is none, or where it shows the matrix of another run."""
    if basis is None or not path.exists():
        return None
    png = path.read_bytes()
    return png if read_facts(png).get("matrix") == basis["run_id"] else None
