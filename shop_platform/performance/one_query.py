"""Measures and advises on one query of somebody's, beside what is published."""

from __future__ import annotations

from pathlib import Path

from shop_platform.errors import DataError
from shop_platform.performance.advice.records import Advice
from shop_platform.performance.advice.trying import measure_advice
from shop_platform.performance.effects import Effects, compare
from shop_platform.performance.laboratory import drop_copies, laboratory
from shop_platform.performance.measuring import measure_baseline, measure_indexed
from shop_platform.performance.queries import read_query
from shop_platform.performance.rounds import Rule
from shop_platform.resources.postgres import PostgresResource


def measure_file(
    postgres: PostgresResource, path: Path, *, time_limit: int, budget_share: float, rule: Rule
) -> tuple[Effects, Advice]:
    """What the three indexes, each and together, and the best ones that are found do for the query of a file.

    Measured on a copy, as the laboratory measures all queries; nothing is stored, and the copy is removed.

    Args:
        postgres: the shop's database.
        path: an `.sql` file with one SELECT; other SQL for the same answer in `<name>_rewritten.sql` beside it.
        time_limit: seconds that one execution may take.
        budget_share: room that the advised indexes may take together, as a share of the tables' size.
        rule: how many rounds.

    Raises:
        DataError: there is no such file, or it is not one SELECT.
        MeasurementError: there is nothing to measure, somebody else measures, or the query can't be executed, takes
            too long, or changes its answer from one execution to the next.
    """
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    twin = path.with_name(f"{path.stem}_rewritten.sql")
    queries = [read_query(path, twin if twin.exists() else None)]
    with laboratory(postgres):
        try:
            baseline = measure_baseline(postgres, queries, time_limit)
            indexed = measure_indexed(postgres, queries, baseline, time_limit, rule)
            advice = measure_advice(postgres, queries, time_limit=time_limit, budget_share=budget_share, rule=rule)
        finally:
            drop_copies(postgres)
    return compare(baseline, indexed), advice
