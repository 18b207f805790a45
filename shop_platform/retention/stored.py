"""Reads the published matrix."""

from __future__ import annotations

from shop_platform.resources.postgres import Connection
from shop_platform.retention.cells import Cell, Pooled


def read_cells(connection: Connection) -> list[Cell]:
    """The published cells of all break-downs, that of all users first; empty where there are none yet."""
    rows = connection.execute(
        "SELECT breakdown, cohort, period, cohort_size, users_observed, users_unrecorded, active_users, rate, rate_low,"
        " rate_high, revenue FROM analytics.cohort_retention ORDER BY breakdown NULLS FIRST, cohort, period"
    )
    return [Cell(*row) for row in rows]


def read_pooled(connection: Connection) -> list[Pooled]:
    """The published rows of all cohorts together, in the same order."""
    rows = connection.execute(
        "SELECT breakdown, period, cohorts, users_observed, active_users, rate, rate_low, rate_high, revenue"
        " FROM analytics.pooled_retention ORDER BY breakdown NULLS FIRST, period"
    )
    return [Pooled(*row) for row in rows]
