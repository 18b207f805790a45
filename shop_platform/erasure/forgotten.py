"""Who was erased, known by keyed hashes alone, and a source without them. No database."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from shop_platform.sources.base import Extract, SourceOver, Truth

if TYPE_CHECKING:
    import pyarrow as pa

#: Why a row of theirs is left out of a load.
REASON = "of somebody who was erased"

#: What stands in the quarantine for a row of theirs.
REDACTED = '{"erased": true}'

#: What separates the values in a line that could not be read.
_BETWEEN = re.compile(r"[\s,;|\"'<>()\[\]{}=]+")


@dataclass(frozen=True)
class Forgotten:
    """People who were erased.

    Attributes:
        key: of the hashes, 32 bytes.
        users: hashes of their ids.
        mails: hashes of their mail addresses.
    """

    key: bytes
    users: frozenset[bytes] = frozenset()
    mails: frozenset[bytes] = frozenset()
    _known: dict[str, bool] = field(default_factory=dict, repr=False, compare=False)

    def digest(self, text: str) -> bytes:
        """What is kept of an id or a mail address: HMAC-SHA-256 (RFC 2104), 32 bytes."""
        return hmac.digest(self.key, text.encode(), "sha256")

    def holds(self, user_id: str | None) -> bool:
        """Whether that user was erased."""
        if user_id is None:
            return False
        known = self._known.get(user_id)
        if known is None:
            known = self._known[user_id] = self.digest(user_id) in self.users
        return known

    def told_of_in(self, row: str) -> bool:
        """Whether a row as the source gives it, as JSON, names one of them by id or mail address.

        Its columns are the source's own, so that any value counts, and any word of a line that could not be read: of
        two rows with the number 17, one of which is a quantity, both are taken for user 17's.
        """
        hashes = self.users | self.mails
        return any(self.digest(word) in hashes for word in _words(json.loads(row)))

    @property
    def fingerprint(self) -> str:
        """Another one when somebody else was erased."""
        return hashlib.sha256(b"".join(sorted(self.users))).hexdigest()[:12]


@dataclass(frozen=True)
class SourceWithout(SourceOver):
    """A source that gives no row of people who were erased; counts them among those that are left out.

    Attributes:
        forgotten: who.
    """

    forgotten: Forgotten

    def fingerprint(self) -> str:
        """Another one when the source changes, or somebody else is erased."""
        return f"{self.source.fingerprint()}-{self.forgotten.fingerprint}"

    def users(self) -> Extract:
        """Users, without them."""
        return self._without(self.source.users())

    def events(self) -> Extract:
        """Events, without theirs."""
        return self._without(self.source.events())

    def searches(self) -> Extract:
        """Search logs, without theirs."""
        return self._without(self.source.searches())

    def truth(self) -> Truth | None:
        """What the data was drawn from, without what was drawn for them."""
        truth = self.source.truth()
        return None if truth is None else Truth(truth.parameters, (each for each, _ in self._kept(truth.personas)))

    def _without(self, extract: Extract) -> Extract:
        left_out = dict(extract.left_out)

        def batches() -> Iterator[pa.RecordBatch]:
            for batch, gone in self._kept(extract.batches):
                if gone:
                    left_out[REASON] = left_out.get(REASON, 0) + gone
                yield batch

        quarantine = map(self._redacted, extract.quarantine)
        return replace(extract, batches=batches(), left_out=left_out, quarantine=quarantine)

    def _kept(self, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Each batch without their rows, and how many these were."""
        import pyarrow as pa

        for batch in batches:
            users = batch.column("user_id").to_pylist()
            keep = [not self.forgotten.holds(user) for user in users]
            gone = keep.count(False)
            yield (batch.filter(pa.array(keep, pa.bool_())) if gone else batch), gone

    def _redacted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        import pyarrow as pa

        rows = [REDACTED if self.forgotten.told_of_in(row) else row for row in batch.column("row").to_pylist()]
        return batch.set_column(batch.schema.get_field_index("row"), "row", pa.array(rows, pa.string()))


def _words(value: object) -> Iterator[str]:
    """All that may be an id or an address in a row."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _words(each)
    elif isinstance(value, list):
        for each in value:
            yield from _words(each)
    elif isinstance(value, str):
        yield value
        yield from _BETWEEN.split(value)
    elif isinstance(value, float) and value.is_integer():
        # An id that a file has as 17850.0.
        yield str(int(value))
    elif value is not None:
        yield str(value)
