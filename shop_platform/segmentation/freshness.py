"""Whether search logs came, changed or went since their segments were written: the state that the sensor compares."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shop_platform.records import find_record
from shop_platform.segmentation.describing import PROFILES
from shop_platform.segmentation.logs import ALIAS
from shop_platform.segmentation.marks import history, mark_of, position_text
from shop_platform.segmentation.segmenting import RECORD, WRITTEN
from shop_platform.segmentation.segments import Segment, segments_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from elasticsearch import Elasticsearch

    from shop_platform.resources.postgres import Connection


@dataclass(frozen=True)
class LogState:
    """What the search logs look like, and what their segments are made with.

    Attributes:
        total: number of documents.
        segmented: of them, those with a segment.
        last: the last operation on each shard of the index; empty while one has no node.
        made_with: encoder and segments.
    """

    total: int
    segmented: int
    last: str = ""
    made_with: str = ""

    def __str__(self) -> str:
        """The form in which a sensor's cursor holds it."""
        return f"{self.total}:{self.segmented}:{self.last}:{self.made_with}"


def log_state(client: Elasticsearch, prefix: str, encoder_name: str, segments: Sequence[Segment]) -> LogState:
    """State of the search logs; nothing of nothing where none were loaded yet.

    Any other failure to read is raised: it must not be taken for empty logs.
    """
    from elasticsearch import NotFoundError

    alias = f"{prefix}{ALIAS}"
    try:
        at = history(client, alias)
        answer = client.search(
            index=alias,
            size=0,
            track_total_hits=True,
            allow_partial_search_results=False,
            aggs={"segmented": {"filter": {"exists": {"field": "segment"}}}},
        )
    except NotFoundError:
        return LogState(0, 0)
    return LogState(
        total=answer["hits"]["total"]["value"],
        segmented=answer["aggregations"]["segmented"]["doc_count"],
        last="" if at is None else position_text(*at),
        made_with=f"{encoder_name}/{segments_digest(segments)}",
    )


def settled_state(connection: Connection, now: LogState) -> LogState | None:
    """What the state would be had nothing changed since the segments were written; None where they never were."""
    written, told = find_record(connection, WRITTEN), find_record(connection, RECORD)
    if written is None or told is None:
        return None
    mark = mark_of(written)
    basis = told.get("basis", {})
    settled = replace(now, segmented=now.total, made_with=f"{basis.get('encoder')}/{basis.get('segments')}")
    last = "" if mark is None else position_text(mark.index, mark.seq_nos)
    return settled if not now.last else replace(settled, last=last)


def profiles_due(connection: Connection) -> bool:
    """Whether the segments were never described, or by another model, or not within the last day."""
    row = connection.execute(
        "SELECT profiles.record ->> 'version' = told.record ->> 'version'"
        # Of later than now where the clock was ahead: that must not hold until it has caught up.
        " AND profiles.created_at BETWEEN now() - interval '1 day' AND now()"
        " FROM analytics.records AS profiles, analytics.records AS told"
        " WHERE profiles.name = %s AND told.name = %s",
        [PROFILES, RECORD],
    ).fetchone()
    return row is None or not row[0]
