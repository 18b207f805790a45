"""A source's search logs as documents: an id that follows the content, and every row counted as it goes by."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shop_platform.sources.quarantine import storable

if TYPE_CHECKING:
    import pyarrow as pa

    from shop_platform.sources.base import Extract

#: Ids of documents that come from a source begin with this; any other document is somebody else's.
OWN = "row-"

_INCOMPLETE = "no user, query or time"


def document_id(document: Mapping[str, Any], occurrence: int) -> str:
    """Id of a source's row: the same for the same content, another for each further row that equals it."""
    text = json.dumps([document, occurrence], sort_keys=True, ensure_ascii=False)
    return OWN + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass
class Rows:
    """The rows of an extract as documents, counted as they go by.

    Knows equal rows by a hash of 16 bytes, so it takes about 100 bytes of memory a row.

    Attributes:
        extract: as the source gives it.
        given: documents that were given.
        broken: rows that turned out to break the contract only here, by reason.
    """

    extract: Extract
    given: int = 0
    broken: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)

    def documents(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each row's id and document."""
        seen: Counter[bytes] = Counter()
        for batch in self.extract.batches:
            for row in batch.to_pylist():
                if not row["user_id"] or row["search_query"] is None or row["timestamp"] is None:
                    self.quarantine(_INCOMPLETE, row)
                    continue
                document = {name: value for name, value in row.items() if value is not None}
                document["timestamp"] = row["timestamp"].isoformat().replace("+00:00", "Z")
                content = bytes.fromhex(document_id(document, 0).removeprefix(OWN))
                seen[content] += 1
                self.given += 1
                yield document_id(document, seen[content] - 1), document

    def quarantine(self, reason: str, row: Mapping[str, Any]) -> None:
        """Count and keep a row that can't be loaded."""
        self.broken.setdefault(reason, []).append(row)

    @property
    def quarantined(self) -> dict[str, int]:
        """Rows that break the contract, by reason; complete when all documents were taken."""
        return dict(
            Counter(self.extract.quarantined) + Counter({name: len(rows) for name, rows in self.broken.items()})
        )

    def quarantined_rows(self) -> Iterator[pa.RecordBatch]:
        """These rows, as `Extract.quarantine` gives them."""
        import pyarrow as pa

        yield from self.extract.quarantine
        for reason, rows in self.broken.items():
            texts = [storable(json.dumps(row, default=str)) for row in rows]
            yield pa.RecordBatch.from_pydict(
                {
                    "reason": pa.array([reason] * len(texts), pa.string()),
                    "origin": pa.nulls(len(texts), pa.string()),
                    "row": pa.array(texts, pa.string()),
                }
            )
