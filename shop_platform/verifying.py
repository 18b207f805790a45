"""A run that checks everything against a rebuild, where others check a sample: how it is asked for."""

from __future__ import annotations

import dagster as dg

#: Tags of such a run.
TAGS = {"shop_platform/verify": "everything"}


def verifies_everything(run: dg.DagsterRun) -> bool:
    """Whether the run was asked to compare all, not a sample."""
    return TAGS.items() <= run.tags.items()
