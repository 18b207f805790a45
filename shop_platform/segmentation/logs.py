"""The search logs in Elasticsearch: their mapping, and loading a source's into a new index behind the alias."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shop_platform.errors import DataError
from shop_platform.resources.elasticsearch import alias_target, create_index, snapshot, write_bulk
from shop_platform.sources.base import Shop

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

ALIAS = "user_logs"

#: Raised when the mapping changes; the logs are then loaded into a new index.
MAPPING_VERSION = 1

#: Ids of documents that come from a source begin with this; any other document is somebody else's.
OWN = "row-"

#: Share of a source's rows that Elasticsearch may refuse before nothing of it is published.
REFUSED_AT_MOST = 0.01

MAPPINGS: Mapping[str, Any] = {
    "dynamic": "strict",
    "properties": {
        "user_id": {"type": "keyword"},
        "search_query": {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 1_000}}},
        "clicked_product_ids": {"type": "keyword"},
        "timestamp": {"type": "date"},
        "segment": {"type": "keyword"},
        "segment_confidence": {"type": "float"},
        "segment_model": {"type": "keyword"},
    },
}


@dataclass(frozen=True)
class LogLoad:
    """How the index stands to its source: rows the source holds, rows loaded, rows left out by reason."""

    rows_read: int
    rows_loaded: int
    left_out: Mapping[str, int]
    documents: int
    changed: bool

    @property
    def adds_up(self) -> bool:
        """Whether every row that the source holds was loaded or left out for a reason."""
        return self.rows_read == self.rows_loaded + sum(self.left_out.values())


def load_logs(client: Elasticsearch, prefix: str, shop: Shop) -> LogLoad:
    """Bring the search logs to what the shop's source gives. Call with the writer's lock held.

    A source that is loaded already is left alone, with whatever was added since. Otherwise its rows go into a new
    index, which takes the alias over at once when it is complete: readers see the old logs or the new ones. A load
    that was interrupted is gone on with.

    Raises:
        DataError: the logs are another shop's, or hold documents that the source did not give and that replacing
            would lose; Elasticsearch refuses more than a hundredth of the rows.
    """
    alias = f"{prefix}{ALIAS}"
    fingerprint = f"{MAPPING_VERSION}:{shop.source.fingerprint()}"
    old = alias_target(client, alias)
    if old is not None:
        made = _made(client, old)
        if made is None or made.get("shop") != shop.name:
            raise DataError(
                f"{alias} in this Elasticsearch does not hold the search logs of the shop {shop.name}. Use another "
                "Elasticsearch, or remove that alias."
            )
        if made.get("fingerprint") == fingerprint:
            _drop_leftovers(client, alias, keep=old)
            # A replacement that was killed may have left it closed for writing.
            client.indices.put_settings(index=old, settings={"index.blocks.write": None})
            documents = _count(client, old)
            return LogLoad(made["rows_read"], made["rows_loaded"], made["left_out"], documents, changed=False)
        _refuse_to_lose_documents(client, old)
    new = f"{alias}-{hashlib.sha256(fingerprint.encode()).hexdigest()[:12]}"
    _drop_leftovers(client, alias, keep=old, resume=new)
    load = _fill(client, new, f"{alias}-loading", shop)
    mark = {"shop": shop.name, "fingerprint": fingerprint, "rows_read": load.rows_read}
    mark |= {"rows_loaded": load.rows_loaded, "left_out": dict(load.left_out), "alias": alias}
    client.indices.put_mapping(index=new, meta={"shop_platform": mark})
    _switch(client, alias, old, new)
    _drop_leftovers(client, alias, keep=new)
    return load


def document_id(document: Mapping[str, Any], occurrence: int) -> str:
    """Id of a source's row: the same for the same content, another for each further row that equals it."""
    text = json.dumps([document, occurrence], sort_keys=True, ensure_ascii=False)
    return OWN + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass
class _Rows:
    """A source's rows as documents, counted as they go by.

    Knows equal rows by a hash of 16 bytes, so it takes about 100 bytes of memory a row.
    """

    shop: Shop
    rows_read: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    sent: int = 0

    def actions(self) -> Iterator[dict[str, Any]]:
        extract = self.shop.source.searches()
        seen: Counter[bytes] = Counter()
        for batch in extract.batches:
            for row in batch.to_pylist():
                if not row["user_id"] or row["search_query"] is None or row["timestamp"] is None:
                    self.left_out["no user, query or time"] += 1
                    continue
                document = {name: value for name, value in row.items() if value is not None}
                document["timestamp"] = row["timestamp"].isoformat().replace("+00:00", "Z")
                content = bytes.fromhex(document_id(document, 0).removeprefix(OWN))
                seen[content] += 1
                self.sent += 1
                yield {"_op_type": "create", "_id": document_id(document, seen[content] - 1), **document}
        # Known only when the batches are through: a source may count what it leaves out as it goes.
        self.rows_read = extract.rows_read
        self.left_out.update(extract.left_out)


def _fill(client: Elasticsearch, index: str, loading: str, shop: Shop) -> LogLoad:
    """Load all rows into an index that no reader sees yet."""
    create_index(client, index, loading, {**MAPPINGS, "_meta": {"shop_platform": {"loading": loading}}})
    rows = _Rows(shop)
    refused: Counter[str] = Counter()
    client.indices.put_settings(index=index, settings={"refresh_interval": "-1"})
    try:
        for written in write_bulk(client, loading, rows.actions()):
            if written.error and written.status != 409:  # 409: a load before this one got that far
                refused[f"refused by Elasticsearch: {written.error}"] += 1
    finally:
        client.indices.put_settings(index=index, settings={"refresh_interval": None})
    if refused.total() > REFUSED_AT_MOST * rows.sent:
        raise DataError(
            f"Elasticsearch refused {refused.total():,} of {rows.sent:,} search logs of {shop.title} "
            f"({', '.join(f'{count:,} {reason}' for reason, count in refused.items())}); none was published."
        )
    loaded = rows.sent - refused.total()
    documents = _count(client, index)
    if documents != loaded:
        raise DataError(f"{index} holds {documents:,} documents after loading {loaded:,}: somebody else writes to it.")
    return LogLoad(rows.rows_read, loaded, rows.left_out + refused, documents, changed=True)


def _switch(client: Elasticsearch, alias: str, old: str | None, new: str) -> None:
    """Point the alias at the new index, in one step, when nothing was added to the old one meanwhile."""
    actions: list[dict[str, Any]] = [{"add": {"index": new, "alias": alias}}]
    actions.append({"remove": {"index": new, "alias": f"{alias}-loading", "must_exist": False}})
    if old is not None:
        client.indices.add_block(index=old, block="write")
        try:
            _refuse_to_lose_documents(client, old)
        except DataError:
            client.indices.put_settings(index=old, settings={"index.blocks.write": None})
            raise
        actions.append({"remove": {"index": old, "alias": alias}})
    client.indices.update_aliases(actions=actions)


def _refuse_to_lose_documents(client: Elasticsearch, index: str) -> None:
    with snapshot(client, index) as taken:
        others = sum(not hit.id.startswith(OWN) for hit in taken.hits([], page=5_000))
    if others:
        raise DataError(
            f"{index} holds {others:,} search logs that were not loaded from this shop's source, and the source has "
            "changed: replacing it would lose them. Use another SHOP_HOME or Elasticsearch for the changed source, or "
            "delete those documents yourself."
        )


def _drop_leftovers(client: Elasticsearch, alias: str, *, keep: str | None, resume: str | None = None) -> None:
    """Remove indexes of ours that loads of other sources left behind; nobody else's."""
    for name in client.indices.get(index=f"{alias}-*", allow_no_indices=True).body:
        made = _made(client, name)
        if made is not None and name not in (keep, resume):
            client.options(ignore_status=404).indices.delete(index=name)


def _made(client: Elasticsearch, index: str) -> dict[str, Any] | None:
    """What we noted on an index of ours; None for another's."""
    mark = client.indices.get_mapping(index=index)[index]["mappings"].get("_meta", {}).get("shop_platform")
    return mark if isinstance(mark, dict) else None


def _count(client: Elasticsearch, index: str) -> int:
    client.indices.refresh(index=index)
    return int(client.count(index=index)["count"])
