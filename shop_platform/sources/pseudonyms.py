"""A source whose users have pseudonyms in place of their ids. No database."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from shop_platform.sources.base import Extract, Shop, SourceOver, Truth

if TYPE_CHECKING:
    import pyarrow as pa

_PSEUDONYM = re.compile(r"p_[0-9a-f]{32}")


@dataclass(frozen=True)
class Pseudonymised(SourceOver):
    """A source that gives a pseudonym wherever a user's id would be: in users, events and search logs alike.

    Quarantined rows stay as the source gives them: they are kept in PostgreSQL alone.

    Attributes:
        key: what the pseudonyms depend on; another one gives others.
    """

    key: bytes = field(repr=False)

    def name(self, user_id: str) -> str:
        """The pseudonym of an id: p_ and the first 128 bits of HMAC-SHA-256 (RFC 2104), hexadecimal."""
        return f"p_{hmac.digest(self.key, user_id.encode(), 'sha256')[:16].hex()}"

    def fingerprint(self) -> str:
        """Another one when the source or the key changes."""
        return f"{self.source.fingerprint()}-{self._of_key}"

    def state(self) -> str:
        """Moves with the source's, and with the key."""
        return f"{self.source.state()}-{self._of_key}"

    def users(self) -> Extract:
        """Users, by their pseudonyms."""
        return self._renamed(self.source.users())

    def events(self) -> Extract:
        """Events, by pseudonyms of users."""
        return self._renamed(self.source.events())

    def searches(self) -> Extract:
        """Search logs, by pseudonyms of users."""
        return self._renamed(self.source.searches())

    def truth(self) -> Truth | None:
        """What the data was drawn from, by pseudonyms of users."""
        truth = self.source.truth()
        return None if truth is None else Truth(truth.parameters, self._batches(truth.personas))

    @property
    def _of_key(self) -> str:
        # No user has an empty id, so this is nobody's pseudonym.
        return self.name("")[2:14]

    def _renamed(self, extract: Extract) -> Extract:
        return replace(extract, batches=self._batches(extract.batches))

    def _batches(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for batch in batches:
            place = batch.schema.get_field_index("user_id")
            ids = batch.column(place).dictionary_encode()
            names = pa.array([self.name(each) for each in ids.dictionary.to_pylist()], pa.string())
            yield batch.set_column(place, "user_id", names.take(ids.indices))


def known_as(shop: Shop, user: str) -> str:
    """What a user is called in the shop's tables: the pseudonym of an id, where there are pseudonyms, else the id."""
    source = shop.source
    return source.name(user) if isinstance(source, Pseudonymised) and not is_pseudonym(user) else user


def names_of(shop: Shop, user: str) -> tuple[str, ...]:
    """All that a user may be called in the shop's tables: the id, which others may have used, and the pseudonym."""
    return tuple(dict.fromkeys((user, known_as(shop, user))))


def is_pseudonym(user: str) -> bool:
    """Whether it has the form of a pseudonym."""
    return _PSEUDONYM.fullmatch(user) is not None
