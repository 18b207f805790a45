"""The segments of users in PostgreSQL: replaced as a whole, read as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shop_platform.segmentation.pairs import Pairs

if TYPE_CHECKING:
    from shop_platform.resources.postgres import Connection
    from shop_platform.segmentation.clusters import Clusters

#: Transaction-level advisory lock: one writer of search logs, embeddings or segments at a time.
SEGMENTATION_LOCK = 7_301_003

#: Decimals of a confidence: finer ones would have documents written again for changes that mean nothing. One searcher
#: more among 977 moved 20 % of the documents with three decimals, 2.5 % with two.
DECIMALS = 2


@dataclass(frozen=True)
class Label:
    """What is written on a document: its searcher's segment, how sure that is, and by which model."""

    segment: str
    confidence: float
    model: str


def lock_segmentation(connection: Connection) -> None:
    """Wait until nobody else writes, and keep others waiting until the caller's transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [SEGMENTATION_LOCK])


def replace_segments(connection: Connection, pairs: Pairs, clusters: Clusters, names: list[str], model: str) -> None:
    """Put the segments of all users in place of the ones before, in the caller's transaction.

    Deletes and copies rather than swapping tables: views and grants stay, and readers see the old rows until the
    commit.
    """
    import numpy as np

    distinct = np.bincount(pairs.user, minlength=len(pairs.users)).tolist()
    confidence = np.round(clusters.confidence, DECIMALS).tolist()
    connection.execute("DELETE FROM analytics.user_segments")
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY analytics.user_segments (user_id, segment, confidence, distinct_queries, model) FROM STDIN"
        ) as copy,
    ):
        for user, segment, sure, count in zip(
            pairs.users, clusters.segment.tolist(), confidence, distinct, strict=True
        ):
            copy.write_row((user, names[segment], sure, count, model))


def read_labels(connection: Connection) -> dict[str, Label]:
    """The segment of each user."""
    rows = connection.execute("SELECT user_id, segment, confidence, model FROM analytics.user_segments")
    return {row[0]: Label(row[1], row[2], row[3]) for row in rows}
