"""Retention of a real shop, cell by cell against an independent count in DuckDB, straight from the file."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from shop_platform.commerce.loading import load_shop_tables
from shop_platform.resources.postgres import PostgresResource
from shop_platform.retention.cells import make_cell
from shop_platform.retention.definition import Definition
from shop_platform.retention.summaries import count_directly, count_from_summaries, refresh_retention
from shop_platform.settings import Settings
from shop_platform.sources.load import load_shop

PROJECT = Path(__file__).resolve().parents[2]
FILE = PROJECT.parent / "shared" / "data" / "online_retail.parquet"

pytestmark = pytest.mark.skipif(
    not FILE.exists(),
    reason="../shared/data/online_retail.parquet is not there: the real shop's data is no part of the project",
)

#: By the clock of the shop, which the file's times are: no time zone is needed. December 2011 ends on the ninth.
INDEPENDENT = """
WITH bought AS (
    SELECT customer_id, invoice_date, date_trunc('month', invoice_date)::DATE AS month
    FROM read_parquet(?)
    WHERE customer_id IS NOT NULL AND NOT starts_with(invoice_no, 'C') AND quantity > 0 AND unit_price >= 0
        AND regexp_matches(stock_code, '^[0-9]{5}')
),
firsts AS (
    SELECT customer_id, min(month) AS cohort FROM bought GROUP BY customer_id
),
sizes AS (
    SELECT cohort, count(*) AS size FROM firsts GROUP BY cohort
),
active AS (
    SELECT cohort, datediff('month', cohort, month) AS period, count(DISTINCT customer_id) AS active
    FROM bought JOIN firsts USING (customer_id)
    GROUP BY ALL
)
SELECT
    cohort,
    period,
    size,
    CASE WHEN cohort + to_months(period::INTEGER + 1) <= (SELECT max(invoice_date) FROM bought) THEN size ELSE 0 END,
    coalesce(active, 0)
FROM sizes CROSS JOIN range(13) AS periods(period) LEFT JOIN active USING (cohort, period)
ORDER BY cohort, period
"""


def test_monthly_cohorts_by_first_purchase_equal_an_independent_count(postgres: PostgresResource) -> None:
    shop = load_shop(Settings(config=PROJECT / "examples" / "online_retail.toml"))
    resource = postgres.model_copy(update={"time_zone": shop.time_zone})
    definition = Definition(start="purchased", unit="month", periods=13, anchor="calendar", time_zone=shop.time_zone)
    with resource.connect() as connection:
        load_shop_tables(connection, shop)
        refresh_retention(connection, definition)
        counted = count_from_summaries(connection, definition)
        assert counted == count_directly(connection, definition)
    independent = duckdb.execute(INDEPENDENT, [str(FILE)]).fetchall()
    assert len(independent) == 13 * 13
    cells = {(counts.cohort, counts.period): make_cell(counts) for counts in counted}
    for cohort, period, size, observed, active in independent:
        cell = cells.pop((cohort, period))
        known = active if observed else None
        assert (cell.cohort_size, cell.users_observed, cell.active_users) == (size, observed, known)
        assert cell.rate == (None if known is None else known / observed)
        assert cell.users_unrecorded == 0
    assert not cells
