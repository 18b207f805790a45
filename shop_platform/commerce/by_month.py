"""The asset `events_by_month`: months of the table `events`, loaded again from the source, for backfills."""

from typing import Any

import dagster as dg

from shop_platform.commerce.months import MonthsLoad, Window, load_months
from shop_platform.metadata import Materialized, markdown_table
from shop_platform.resources.postgres import PostgresResource
from shop_platform.resources.shop import ShopResource

#: Tag of what is made by months only, which a run without a partition leaves out.
BY_MONTH = {"shop_platform/made": "by_month"}


def define_events_by_month(first: str, time_zone: str) -> dg.AssetsDefinition:
    """The asset, with a partition for each month of the shop's calendar from the first to the present one.

    Args:
        first: such as 2024-01.
        time_zone: IANA name of the zone in which months begin.
    """
    months = dg.MonthlyPartitionsDefinition(first, fmt="%Y-%m", timezone=time_zone, end_offset=1)

    @dg.asset(
        group_name="commerce",
        kinds={"postgres", "table"},
        owners=["team:data-platform"],
        tags=BY_MONTH,
        deps=["users", "products"],
        partitions_def=months,
        backfill_policy=dg.BackfillPolicy.single_run(),
        description="Chosen months of the table events, brought to what the source gives for them; the rest of the "
        "table is not touched.",
        code_version="1",
        metadata={"dagster/table_name": "public.events"},
        check_specs=[
            dg.AssetCheckSpec(
                "rows_match_source",
                asset="events_by_month",
                blocking=True,
                description="The rows of these months are those of the source, and every row of it is accounted for.",
            )
        ],
    )
    def events_by_month(
        context: dg.AssetExecutionContext, postgres: PostgresResource, shop: ShopResource
    ) -> Materialized:
        """Load the months in one transaction, reading the source once."""
        windows = {key: Window(*months.time_window_for_partition_key(key)) for key in context.partition_keys}
        the_shop = shop.shop()
        load = load_months(postgres, the_shop, windows)
        if load.changed:
            with postgres.connect(autocommit=True) as connection:
                connection.execute("VACUUM (ANALYZE) users, products, events")
        for key, month in load.months.items():
            context.add_asset_metadata(
                {
                    "dagster/partition_row_count": month.rows,
                    "rows added": month.added,
                    "rows removed": month.removed,
                },
                partition_key=key,
            )
        # The table is that of the asset `events`: its page tells of it as well.
        context.log_event(dg.AssetObservation("events", metadata=_told(load) | {"months": ", ".join(windows)}))
        return dg.MaterializeResult(
            metadata={
                "source": the_shop.title,
                "left out": markdown_table(["reason", "rows"], load.left_out.items()),
                "quarantined": markdown_table(["reason", "rows"], load.quarantined.items()),
                "all months of this run": markdown_table(["what", "rows"], _told(load).items()),
            },
            check_results=[_rows_match_source(load)],
        )

    return events_by_month


def _told(load: MonthsLoad) -> dict[str, Any]:
    return {
        "rows of these months": load.rows,
        "rows added": load.difference.added,
        "rows removed": load.difference.removed,
        "rows kept as others refer to them": load.difference.kept,
        "users added": load.parents.get("users", 0),
        "products added": load.parents.get("products", 0),
    }


def _rows_match_source(load: MonthsLoad) -> dg.AssetCheckResult:
    """Compared again after the load; a row may differ only where it is kept because another one refers to it."""
    out, quarantined = sum(load.left_out.values()), sum(load.quarantined.values())
    return dg.AssetCheckResult(
        check_name="rows_match_source",
        passed=load.adds_up and load.differing == load.difference.kept,
        description=f"The source holds {load.rows_read:,} rows; {load.rows:,} are of these months, {load.elsewhere:,} "
        f"of others, {out:,} left out on purpose and {quarantined:,} quarantined. {load.differing:,} rows of these "
        f"months differ from the table, of which {load.difference.kept:,} are kept as rows of others refer to them.",
        metadata={
            "rows_read": load.rows_read,
            "rows_of_these_months": load.rows,
            "rows_of_other_months": load.elsewhere,
            "left_out": out,
            "quarantined": quarantined,
            "rows_that_differ": load.differing,
        },
    )
