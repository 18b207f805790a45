"""How long search logs are kept: what is older is loaded no more, and goes from the index, whoever wrote it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shop_platform.resources.elasticsearch import alias_target
from shop_platform.resources.snapshots import snapshot
from shop_platform.segmentation.logs import ALIAS, remove_logs
from shop_platform.sources.base import Extract, Shop, SourceOver

if TYPE_CHECKING:
    import pyarrow as pa
    from elasticsearch import Elasticsearch

#: Why a row of the source is no document.
REASON = "older than SHOP_SEARCH_LOGS_KEEP_DAYS"


def first_kept(days: int | None, now: dt.datetime) -> dt.datetime | None:
    """From when on search logs are kept: midnight in UTC, so that it moves once a day; None to keep all."""
    return (
        None
        if days is None
        else dt.datetime.combine(now.astimezone(dt.UTC).date(), dt.time(), dt.UTC) - dt.timedelta(days)
    )


def keeping_since(shop: Shop, first: dt.datetime | None) -> Shop:
    """The shop with a source that gives no older search logs; as it is where all are kept."""
    return shop if first is None else replace(shop, source=SourceSince(shop.source, first))


def remove_older(client: Elasticsearch, prefix: str, first: dt.datetime | None) -> int:
    """Delete the documents that are older, those of others included; returns how many. None of them comes back."""
    alias = f"{prefix}{ALIAS}"
    if first is None or alias_target(client, alias) is None:
        return 0
    with snapshot(client, alias) as taken:
        ids = [hit.id for hit in taken.hits([], query={"range": {"timestamp": {"lt": first.isoformat()}}})]
    remove_logs(client, alias, ids)
    client.indices.refresh(index=alias)
    return len(ids)


@dataclass(frozen=True)
class SourceSince(SourceOver):
    """A source that gives no search logs from before a moment; counts them among those that are left out."""

    first: dt.datetime

    def fingerprint(self) -> str:
        """Another one each day, since there is less to load."""
        return f"{self.source.fingerprint()}-since-{self.first:%Y%m%d}"

    def searches(self) -> Extract:
        """Search logs since then."""
        import pyarrow as pa
        import pyarrow.compute as pc

        extract = self.source.searches()
        left_out = dict(extract.left_out)
        first = pa.scalar(self.first, pa.timestamp("us", "UTC"))

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in extract.batches:
                kept = batch.filter(pc.greater_equal(batch.column("timestamp"), first))
                if kept.num_rows < batch.num_rows:
                    left_out[REASON] = left_out.get(REASON, 0) + batch.num_rows - kept.num_rows
                yield kept

        return replace(extract, batches=batches(), left_out=left_out)
