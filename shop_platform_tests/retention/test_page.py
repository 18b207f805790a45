"""What docs/retention.md shows of the default shop is what the default shop gives."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

from shop_platform.commerce.loading import load_shop_tables
from shop_platform.resources.postgres import PostgresResource
from shop_platform.retention.cells import make_cell
from shop_platform.retention.definition import Definition
from shop_platform.retention.summaries import count_directly
from shop_platform.settings import Settings
from shop_platform.sources.synthetic import synthetic_shop

PAGE = (Path(__file__).parents[2] / "docs" / "retention.md").read_text(encoding="utf-8")
COHORT = dt.date(2025, 11, 1)


def percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def test_the_three_anchors_and_the_usual_sql_are_what_the_page_says(postgres: PostgresResource) -> None:
    usual = re.search(r"```sql\n(WITH cohort_users.*?)```", PAGE, re.DOTALL)
    assert usual is not None
    rows = []
    with postgres.connect() as connection:
        load_shop_tables(connection, synthetic_shop(Settings()))
        for anchor in ("user", "calendar", "cohort"):
            counted = count_directly(connection, Definition(anchor=anchor))  # type: ignore[arg-type]
            cells = [make_cell(counts) for counts in counted if counts.cohort == COHORT]
            rows.append([f"`{anchor}`", *(percent(cell.rate or 0) for cell in cells)])
            rows.append(["users observed", *(str(cell.users_observed) for cell in cells)])
        wrong = dict(connection.execute(usual[1]).fetchall())
    rows.append(["usual SQL", *(percent(wrong[week]) for week in range(8))])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    assert table in PAGE
    # Weeks that no calendar has: what was done at the end of December.
    assert sorted(week for week in wrong if week < 0) == [-47, -46, -45, -44, -43]
    last = cells[7]
    assert last.users_observed == 101
