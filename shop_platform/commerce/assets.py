"""The assets `users`, `products` and `events`: one step, because the three tables only make sense together."""

from collections.abc import Iterator

import dagster as dg

from shop_platform.commerce.loading import TABLES, Load, load_or_refuse, rows_in_table
from shop_platform.metadata import Materialized, column_schema, markdown_table
from shop_platform.quarantine import rows_in_quarantine
from shop_platform.resources.postgres import WRITER, Connection, PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.sources.base import Shop

_DESCRIPTIONS = {
    "users": "People who signed up: one row a user, with the time of the signup. Personal data stays here.",
    "products": "What the shop sells: one row a product, with its category and present price.",
    "events": "What users did: one row for each product viewed, put into the cart or purchased.",
}

_SCHEMAS = {
    "users": {
        "user_id": ("text", "Primary key."),
        "signup_date": ("timestamptz", "When the user signed up."),
        "name": ("text", "Personal data."),
        "email": ("text", "Personal data."),
        "city": ("text", "Personal data."),
        "country": ("text", "Country of residence."),
    },
    "products": {
        "product_id": ("text", "Primary key."),
        "name": ("text", "What customers see."),
        "category": ("text", "One category a product."),
        "price": ("numeric(12, 2)", "Price in the shop's currency."),
    },
    "events": {
        "event_id": ("bigint", "Primary key; given by the database where left out."),
        "user_id": ("text", "Who: a row of users."),
        "product_id": ("text", "What: a row of products."),
        "event_type": ("text", "viewed, add_to_cart or purchased."),
        "timestamp": ("timestamptz", "When."),
    },
}


def _spec(table: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        table,
        group_name="commerce",
        kinds={"postgres", "table"},
        owners=["team:data-platform"],
        description=_DESCRIPTIONS[table],
        code_version="1",
        metadata={"dagster/column_schema": column_schema(_SCHEMAS[table]), "dagster/table_name": f"public.{table}"},
    )


@dg.multi_asset(
    name="load_commerce",
    specs=[_spec(table) for table in TABLES],
    check_specs=[
        *(dg.AssetCheckSpec("rows_match_source", asset=table, blocking=True) for table in TABLES),
        dg.AssetCheckSpec("starts_at_signup", asset="events"),
    ],
)
def commerce(
    context: dg.AssetExecutionContext, postgres: PostgresResource, shop: ShopResource
) -> Iterator[Materialized]:
    """Load the shop's source into users, products and events, in one transaction."""
    the_shop = shop.shop()
    loads = load_or_refuse(postgres, the_shop)
    if any(load.changed for load in loads.values()):
        context.log.info("Loaded %s%s.", the_shop.title, f": {moved}" if (moved := loads["events"].moved) else "")
    else:
        context.log.info("%s is loaded already and has not changed.", the_shop.title)
    if any(load.changed for load in loads.values()):
        with postgres.connect(autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE) users, products, events")
    with postgres.connect(autocommit=True, role=WRITER) as connection:
        for table in TABLES:
            yield _result(connection, the_shop, table, loads[table])


def _result(connection: Connection, shop: Shop, table: str, load: Load) -> Materialized:
    rows = rows_in_table(connection, table)
    quarantined = rows_in_quarantine(connection, table)
    checks = [_rows_match_source(table, load, rows, quarantined)]
    if table == "events":
        checks.append(_starts_at_signup(connection))
    return dg.MaterializeResult(
        asset_key=table,
        metadata={
            "dagster/row_count": rows,
            "source": shop.title,
            "loaded in this run": load.changed,
            "rows from elsewhere": rows - load.rows_loaded - load.kept,
            "rows gone from the source, kept as others refer to them": load.kept,
            "left out": markdown_table(["reason", "rows"], load.left_out.items()),
            "quarantined": markdown_table(["reason", "rows"], load.quarantined.items()),
            **_changes(load),
        },
        check_results=checks,
    )


def _changes(load: Load) -> dict[str, int | str]:
    if load.difference is None:
        return {}
    done = load.difference
    found = {"rows added": done.added, "rows updated": done.updated, "rows removed": done.removed}
    return found | ({} if load.moved is None else {"files": str(load.moved)})


def _rows_match_source(table: str, load: Load, rows: int, quarantined: int) -> dg.AssetCheckResult:
    """Every row of the source is loaded, left out on purpose, or in the quarantine; others may have added rows."""
    out = sum(load.left_out.values())
    stored = quarantined == sum(load.quarantined.values())
    kept = (
        f" {load.kept:,} more are gone from the source and kept, as rows of others refer to them." if load.kept else ""
    )
    return dg.AssetCheckResult(
        asset_key=table,
        check_name="rows_match_source",
        passed=load.adds_up and stored and rows >= load.rows_loaded + load.kept,
        # Once loaded, the shop may delete rows of its own: worth a look, no reason to stop.
        severity=dg.AssetCheckSeverity.ERROR if load.changed else dg.AssetCheckSeverity.WARN,
        description=f"The source holds {load.rows_read:,} rows; {load.rows_loaded:,} were loaded, {out:,} left out on "
        f"purpose and {sum(load.quarantined.values()):,} quarantined, of which ops.quarantine holds {quarantined:,}. "
        f"The table holds {rows:,}.{kept}",
        metadata={
            "rows_in_table": rows,
            "rows_read": load.rows_read,
            "rows_loaded": load.rows_loaded,
            "left_out": out,
            "quarantined": sum(load.quarantined.values()),
            "rows_in_quarantine": quarantined,
        },
    )


def _starts_at_signup(connection: Connection) -> dg.AssetCheckResult:
    row = connection.execute(
        "SELECT count(*) FROM events JOIN users USING (user_id) WHERE timestamp < signup_date"
    ).fetchone()
    early = int(row[0]) if row else 0
    return dg.AssetCheckResult(
        asset_key="events",
        check_name="starts_at_signup",
        passed=early == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{early:,} events lie before their user's signup; retention leaves them out.",
        metadata={"events_before_signup": early},
    )
