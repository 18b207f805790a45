"""The truth is recovered: intervals cover the probabilities that a synthetic shop was drawn with.

RETENTION_SEEDS sets how many shops are drawn; 200 are what docs/retention.md states.
"""

from __future__ import annotations

import os

import pytest
from psycopg import sql

from shop_platform.resources.copying import copy_batches
from shop_platform.resources.postgres import PostgresResource
from shop_platform.retention.cells import Cell, make_cell
from shop_platform.retention.definition import Definition
from shop_platform.retention.summaries import count_from_summaries, refresh_retention
from shop_platform.sources.base import EVENT_COLUMNS, PRODUCT_COLUMNS, USER_COLUMNS
from shop_platform.sources.parameters import PERSONAS, ShopParameters, return_probability
from shop_platform.sources.synthetic import SyntheticSource

SEEDS = int(os.environ.get("RETENTION_SEEDS", "10"))

pytestmark = pytest.mark.timeout(15 * max(SEEDS, 20))


def cells_of(postgres: PostgresResource, parameters: ShopParameters) -> list[Cell]:
    """The matrix of one synthetic shop."""
    source = SyntheticSource(parameters)
    with postgres.connect(autocommit=True) as connection, connection.transaction(force_rollback=True):
        copy_batches(connection, sql.Identifier("users"), USER_COLUMNS, source.users().batches)
        copy_batches(connection, sql.Identifier("products"), PRODUCT_COLUMNS, source.products().batches)
        copy_batches(connection, sql.Identifier("events"), EVENT_COLUMNS, source.events().batches)
        assert refresh_retention(connection, Definition()).equal
        return [make_cell(counts) for counts in count_from_summaries(connection, Definition())]


def test_the_intervals_cover_the_true_probabilities(postgres: PostgresResource) -> None:
    covered = known = 0
    for seed in range(SEEDS):
        parameters = ShopParameters(seed=seed, users=1_000, events=20_000)
        total = sum(parameters.priors.values())
        truth = [
            sum(parameters.priors[name] / total * return_probability(name, week) for name in PERSONAS)
            for week in range(8)
        ]
        for cell in cells_of(postgres, parameters):
            if cell.rate is None:
                # Nobody has lived through it yet: the youngest cohort alone.
                assert (cell.cohort.year, cell.cohort.month, cell.active_users) == (2025, 12, None)
                continue
            assert cell.rate_low is not None
            assert cell.rate_high is not None
            known += 1
            covered += cell.rate_low <= truth[cell.period] <= cell.rate_high
    print(f"\n{covered:,} of {known:,} intervals cover the truth: {covered / known:.2%}")  # noqa: T201  a figure for the docs
    assert 0.93 <= covered / known <= 0.97
