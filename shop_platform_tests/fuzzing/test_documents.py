"""Search logs of any content, from a source and from others: each is a document, or quarantined, or refused."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform.resources.snapshots import snapshot
from shop_platform.segmentation.logs import load_logs
from shop_platform.segmentation.orphans import FIELDS as OF_ORPHANS
from shop_platform.segmentation.orphans import find_orphans
from shop_platform.segmentation.pairs import FIELDS, scan_documents
from shop_platform_tests.segmentation.conftest import LogSource, search, shop_of

from .cases import TEXT, TOTAL, cases, taken

pytestmark = pytest.mark.timeout(300 + TOTAL)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from(["abc123", "p01", "2025-04-01"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
NAMES = st.sampled_from(["user_id", "search_query", "clicked_product_ids", "timestamp", "segment", "segment_model"])
DOCUMENTS = st.lists(st.dictionaries(NAMES, VALUES), min_size=1, max_size=30)

TIMES = st.none() | st.datetimes(timezones=st.just(dt.UTC))
UTF8 = st.none() | TEXT.map(lambda text: text.encode(errors="replace").decode())
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "user_id": UTF8,
            "search_query": UTF8,
            "clicked_product_ids": st.none() | st.lists(UTF8, max_size=3),
            "timestamp": TIMES,
        }
    ),
    min_size=1,
    max_size=10,
)


@cases("searches")
@given(ROWS, st.integers(0, 1_000_000))
def test_every_row_of_a_source_is_a_document_or_quarantined(
    fuzzed_logs: ElasticsearchResource, rows: list[dict[str, Any]], version: int
) -> None:
    source = LogSource(rows, version=str(version))
    kept: list[int] = []

    def keep(batches: Any) -> None:
        kept.extend(batch.num_rows for batch in batches)

    with fuzzed_logs.client() as client:
        shop = replace(shop_of(source), quarantine_at_most=1)
        done = taken(lambda: load_logs(client, fuzzed_logs.index_prefix, shop, keep))
    if done is not None and done.changed:
        assert done.adds_up
        assert done.rows_read == len(rows)
        assert (done.own, sum(kept)) == (done.rows_loaded, sum(done.quarantined.values()))


@cases("documents")
@given(DOCUMENTS)
def test_whatever_others_add_is_read_or_refused_by_elasticsearch(
    fuzzed_logs: ElasticsearchResource, fuzzed: PostgresResource, added: list[dict[str, Any]]
) -> None:
    prefix = fuzzed_logs.index_prefix
    alias = f"{prefix}user_logs"
    with fuzzed_logs.client() as client:
        if not client.indices.exists_alias(name=alias):
            load_logs(client, prefix, shop_of(LogSource([search()])))
        before = client.count(index=alias)["count"]
        lines = [line for each in added for line in ({"create": {}}, storable(each))]
        answer = client.options(request_timeout=60).bulk(index=alias, operations=lines, refresh=True)
        created = [item["create"]["_id"] for item in answer["items"] if item["create"]["status"] == 201]
        with snapshot(client, alias) as taken_at, fuzzed.connect() as connection:
            scan = scan_documents(hit.source for hit in taken_at.hits(FIELDS))
            scan.pairs()
            assert scan.documents == before + len(created)
            assert scan.documents == taken_at.count()
            find_orphans(connection, taken_at.hits(OF_ORPHANS), searchers_are_users=True)
        gone = [{"delete": {"_id": key}} for key in created]
        if gone:
            client.bulk(index=alias, operations=gone, refresh=True)


def storable(value: Any) -> Any:
    """A value as the client can send it: JSON in UTF-8, without NaN and infinities."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, float):
        return value if abs(value) < 1e300 else str(value)
    if isinstance(value, list):
        return [storable(each) for each in value]
    if isinstance(value, dict):
        return {storable(name): storable(each) for name, each in value.items()}
    return value
