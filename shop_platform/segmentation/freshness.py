"""Which search logs have no segment yet: the state that the sensor compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shop_platform.segmentation.logs import ALIAS

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch


@dataclass(frozen=True)
class LogState:
    """Number of documents in the search logs, and of those with a segment."""

    total: int
    segmented: int

    def __str__(self) -> str:
        """The form in which a sensor's cursor holds it."""
        return f"{self.total}:{self.segmented}"


def log_state(client: Elasticsearch, prefix: str) -> LogState:
    """State of the search logs; nothing of nothing where none were loaded yet.

    Any other failure to read is raised: it must not be taken for empty logs.
    """
    from elasticsearch import NotFoundError

    try:
        answer = client.search(
            index=f"{prefix}{ALIAS}",
            size=0,
            track_total_hits=True,
            aggs={"segmented": {"filter": {"exists": {"field": "segment"}}}},
        )
    except NotFoundError:
        return LogState(0, 0)
    return LogState(answer["hits"]["total"]["value"], answer["aggregations"]["segmented"]["doc_count"])
