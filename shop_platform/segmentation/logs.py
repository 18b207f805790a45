"""The search logs in Elasticsearch: their mapping, and bringing them to what a source gives."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shop_platform.errors import DataError, SchemaError
from shop_platform.loaded import due_of, holds, until
from shop_platform.progress import TOLD_EVERY, Advance, track
from shop_platform.quarantine import refuse_over_threshold
from shop_platform.resources.elasticsearch import alias_target, create_index, once, write_bulk
from shop_platform.resources.snapshots import snapshot
from shop_platform.segmentation.rows import OWN, Rows
from shop_platform.settings import load_settings
from shop_platform.sources.base import Shop

if TYPE_CHECKING:
    import pyarrow as pa
    from elasticsearch import Elasticsearch

ALIAS = "user_logs"

#: Raised when the mapping changes; the logs are then loaded into a new index.
MAPPING_VERSION = 1

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
        "query_segment": {"type": "keyword"},
        "segment_confidence": {"type": "float"},
        "segment_model": {"type": "keyword"},
    },
}


@dataclass(frozen=True)
class LogLoad:
    """How the index stands to its source.

    Attributes:
        rows_read: rows that the source holds.
        rows_loaded: rows that are documents now.
        left_out, quarantined: the other rows, by reason.
        own: documents of the source that the index was found to hold; None where the source was loaded before.
        documents: all documents, those of others included.
        added, removed: documents of the source that this load did.
        changed: whether the source was loaded just now.
        due: when the same source gives more rows; see `Extract`.
    """

    rows_read: int
    rows_loaded: int
    left_out: Mapping[str, int]
    quarantined: Mapping[str, int]
    own: int | None
    documents: int
    added: int
    removed: int
    changed: bool
    due: dt.datetime | None = None

    @property
    def adds_up(self) -> bool:
        """Whether every row that the source holds was loaded, left out on purpose or quarantined."""
        return self.rows_read == self.rows_loaded + sum(self.left_out.values()) + sum(self.quarantined.values())


#: Takes the rows that a load quarantines.
Keep = Callable[[Iterable["pa.RecordBatch"]], object]


def load_logs(
    client: Elasticsearch, prefix: str, shop: Shop, keep: Keep = list, *, now: dt.datetime | None = None
) -> LogLoad:
    """Bring the search logs to what the shop's source gives. Call with the writer's lock held.

    A source that is loaded already is left alone, with whatever was added since. The first one goes into an index that
    takes the alias when it is complete. From a source that changed, the documents that are new are added and those
    that are gone removed; the others stay as they are, with their segments, and nobody else's is touched. Readers see
    none of it before all is written, unless somebody else refreshes the index meanwhile. A load that was interrupted
    is gone on with.

    Args:
        client: to write with.
        prefix: of the names of indexes.
        shop: whose source it is.
        keep: called once with the quarantined rows of a source that is loaded, before anybody sees its documents.
        now: what lies in the future is later; None for this machine's clock.

    Raises:
        RefusedLoadError: too many rows break the contract.
        DataError: the logs are another shop's, or hold documents of others that a new mapping would lose;
            Elasticsearch refuses more than a hundredth of the rows.
        SchemaError: a newer version of the platform has made the index; nothing was written.
    """
    alias = f"{prefix}{ALIAS}"
    fingerprint = f"{MAPPING_VERSION}:{shop.source.fingerprint()}"
    old = alias_target(client, alias)
    made = {} if old is None else _made(client, old)
    if old is not None and (made is None or made.get("shop") != shop.name):
        raise DataError(
            f"{alias} in this Elasticsearch does not hold the search logs of the shop {shop.name}. Use another "
            "Elasticsearch, or remove that alias."
        )
    if old is not None and made:
        _refuse_newer(old, made)
        _drop_leftovers(client, alias, keep=old)
        # A load that was killed may have left it closed for writing, or without refreshes.
        client.indices.put_settings(index=old, settings={"index.blocks.write": None, "index.refresh_interval": None})
        if holds(made["fingerprint"], fingerprint, now or dt.datetime.now(dt.UTC)):
            counts = made["rows_read"], made["rows_loaded"], made["left_out"], made.get("quarantined", {})
            return LogLoad(*counts, None, _count(client, old), 0, 0, changed=False, due=due_of(made["fingerprint"]))
        if made["fingerprint"].startswith(f"{MAPPING_VERSION}:"):
            load = _write(client, old, alias, shop, keep)
            _mark(client, old, alias, shop, fingerprint, load)
            return load
        _refuse_to_lose_documents(client, old)
    new = f"{alias}-{hashlib.sha256(fingerprint.encode()).hexdigest()[:12]}"
    _drop_leftovers(client, alias, keep=old, resume=new)
    mappings = {**MAPPINGS, "_meta": {"shop_platform": {"loading": alias}}}
    create_index(client, new, f"{alias}-loading", mappings, shards=load_settings().elasticsearch_shards)
    load = _write(client, new, f"{alias}-loading", shop, keep)
    _mark(client, new, alias, shop, fingerprint, load)
    _switch(client, alias, old, new)
    _drop_leftovers(client, alias, keep=new)
    return load


def _refuse_newer(index: str, made: Mapping[str, Any]) -> None:
    found = made["fingerprint"].partition(":")[0]
    if int(found) > MAPPING_VERSION:
        raise SchemaError(
            f"The index {index} was made by a newer shop_platform, with version {found} of its mapping, where this one "
            f"knows version {MAPPING_VERSION}: upgrade this one, or use another Elasticsearch. Nothing was written."
        )


def _write(client: Elasticsearch, index: str, alias: str, shop: Shop, keep: Keep) -> LogLoad:
    """Add the source's documents that an index lacks, then remove those that the source gives no longer."""
    rows = Rows(shop.source.searches())
    vanished = _own(client, index)
    added: set[str] = set()
    with _unseen(client, index):
        try:
            refused = _add(client, alias, rows, vanished, added)
            _refuse_too_many(shop, rows, refused)
            keep(rows.quarantined_rows())
        except Exception:
            remove_logs(client, alias, added)
            raise
        remove_logs(client, alias, vanished)
    extract, loaded = rows.extract, rows.given - refused
    own = len(_own(client, index))
    if own != loaded:
        raise DataError(
            f"{index} holds {own:,} documents of the source after loading {loaded:,}: somebody else changes them."
        )
    return LogLoad(
        extract.rows_read, loaded, dict(extract.left_out), rows.quarantined, own, _count(client, index),
        len(added), len(vanished), changed=True, due=extract.due,
    )  # fmt: skip


def _add(client: Elasticsearch, alias: str, rows: Rows, vanished: set[str], added: set[str]) -> int:
    """Write the documents that are not there, and take those that the source gives out of `vanished`.

    Puts the ids of the new ones into `added`, before they are sent: where the rest fails, some are written of which
    nobody has heard. Returns how many rows Elasticsearch refused. These are quarantined.
    """
    under_way: dict[str, dict[str, Any]] = {}
    refused = 0

    def actions(advance: Advance) -> Iterator[dict[str, Any]]:
        for number, (key, document) in enumerate(rows.documents(), 1):
            if number % TOLD_EVERY == 0:
                advance(TOLD_EVERY)
            if key in vanished:
                vanished.remove(key)
            else:
                under_way[key] = document
                added.add(key)
                yield {"_op_type": "create", "_id": key, **document}

    with track("loading search logs", rows.extract.fit, "rows") as advance:
        for written in write_bulk(client, alias, actions(advance)):
            document = under_way.pop(written.id)
            # 409: made by this very request, whose answer was lost, so that it was made again.
            if written.error and written.status != 409:
                added.remove(written.id)
                rows.quarantine(f"refused by Elasticsearch: {written.error}", document)
                refused += 1
    return refused


def _refuse_too_many(shop: Shop, rows: Rows, refused: int) -> None:
    refuse_over_threshold(shop, "user_logs", rows.extract.rows_read, rows.quarantined, rows.quarantined_rows())
    if refused > REFUSED_AT_MOST * rows.given:
        reasons = [f"{len(some):,} {reason}" for reason, some in rows.broken.items() if reason.startswith("refused")]
        raise DataError(
            f"Elasticsearch refused {refused:,} of {rows.given:,} search logs of {shop.title} "
            f"({', '.join(reasons)}); none was published."
        )


def remove_logs(client: Elasticsearch, alias: str, ids: Iterable[str]) -> None:
    """Delete documents; one that is gone already is no matter."""
    actions = [{"_op_type": "delete", "_id": each} for each in ids]
    for written in write_bulk(client, alias, actions, what="removing search logs", total=len(actions)):
        if written.error and written.status != 404:
            raise DataError(f"Elasticsearch does not delete a search log from {alias}: {written.error}.")


@contextmanager
def _unseen(client: Elasticsearch, index: str) -> Iterator[None]:
    """What is written within is seen by nobody before the block ends."""
    client.indices.put_settings(index=index, settings={"index.refresh_interval": "-1"})
    try:
        yield
    finally:
        client.indices.put_settings(index=index, settings={"index.refresh_interval": None})


def _mark(client: Elasticsearch, index: str, alias: str, shop: Shop, fingerprint: str, load: LogLoad) -> None:
    """Note on the index what it holds."""
    mark = {"shop": shop.name, "fingerprint": until(fingerprint, load.due), "rows_read": load.rows_read}
    mark |= {"rows_loaded": load.rows_loaded, "left_out": dict(load.left_out), "alias": alias}
    mark |= {"quarantined": dict(load.quarantined)}
    client.indices.put_mapping(index=index, meta={"shop_platform": mark})


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
    once(client, lambda client: client.indices.update_aliases(actions=actions))


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


def _own(client: Elasticsearch, index: str) -> set[str]:
    """Ids of the source's documents that an index holds."""
    with snapshot(client, index) as taken:
        return {hit.id for hit in taken.hits([], page=5_000) if hit.id.startswith(OWN)}


def _count(client: Elasticsearch, index: str) -> int:
    with snapshot(client, index) as taken:
        return taken.count()
