"""What every source of shop data offers. Column batches and counts; no database, no Dagster."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

if TYPE_CHECKING:
    import pyarrow as pa

USER_COLUMNS = ("user_id", "signup_date", "name", "email", "city", "country")
PRODUCT_COLUMNS = ("product_id", "name", "category", "price")
EVENT_COLUMNS = ("event_id", "user_id", "product_id", "event_type", "timestamp")
SEARCH_COLUMNS = ("user_id", "search_query", "clicked_product_ids", "timestamp")


#: Share of a kind's rows that may be quarantined before nothing is loaded, where neither setting nor mapping says.
QUARANTINE_AT_MOST = 0.05


@dataclass(frozen=True)
class Extract:
    """Rows of one kind from a source: `rows_read` is `batches`, `left_out` and `quarantined` together.

    Attributes:
        batches: the rows that fit, as record batches with the columns named above. Times are `timestamp[us, UTC]`,
            prices `decimal128(12, 2)`, ids strings, `event_id` int64 counting from 1, `clicked_product_ids` lists
            of strings. Made lazily, to be read once.
        rows_read: rows that the source holds of this kind.
        left_out: rows that were left out on purpose, by the rules of the mapping itself or as somebody was erased,
            counted by reason; complete once `batches` were read.
        quarantined: rows that break the contract or can't be read, counted by reason.
        quarantine: these rows, as record batches with the texts `reason`, `origin` (the file that the row came from
            and its line, or as much of that as can be told; else null) and `row` (the row as the source gives it,
            as a JSON object that PostgreSQL takes). Made lazily, to be read once, also without reading `batches`.
        due: when the first of the rows happens that are quarantined as lying in the future; from then on the same data
            give more rows. None where there are none.
    """

    batches: Iterator[pa.RecordBatch]
    rows_read: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    quarantined: Mapping[str, int] = field(default_factory=dict)
    quarantine: Iterator[pa.RecordBatch] = field(default_factory=lambda: iter(()))
    due: dt.datetime | None = None

    @property
    def fit(self) -> int:
        """Rows that `batches` hold, as far as it is known before they are read."""
        return self.rows_read - sum(self.left_out.values()) - sum(self.quarantined.values())


class Part(NamedTuple):
    """One file of a source, or whatever else it is made of, as it was when it was read."""

    size: int
    digest: str


class Source(Protocol):
    """A shop's data. Every call gives the same rows again, in the same order, as long as the data does not change."""

    def at(self, moment: dt.datetime) -> Source:  # noqa: ARG002  of use to those that have such rows
        """The same source for which rows from after a moment lie in the future; itself where it has none."""
        return self

    def fingerprint(self) -> str:
        """Short hash that changes when the data that this source gives would change."""
        ...

    def state(self) -> str:
        """What a sensor compares: cheaper than the fingerprint where that reads the data, and moving at least as often.

        May move without need: then a load finds the same fingerprint and changes nothing.
        """
        return self.fingerprint()

    def manifest(self) -> Mapping[str, Part]:
        """What the source is made of, by name, so that a load can say what is new, changed or gone."""
        return {}

    def users(self) -> Extract:
        """Users, with `USER_COLUMNS`."""
        ...

    def products(self) -> Extract:
        """Products, with `PRODUCT_COLUMNS`."""
        ...

    def events(self) -> Extract:
        """Events, with `EVENT_COLUMNS`."""
        ...

    def searches(self) -> Extract:
        """Search logs, with `SEARCH_COLUMNS`."""
        ...

    def truth(self) -> Truth | None:
        """What the data was drawn from; None where nobody knows."""
        ...


@dataclass(frozen=True)
class Truth:
    """What a synthetic shop was drawn from, for schema `truth`.

    Attributes:
        parameters: name to JSON-able value.
        personas: batches with columns `user_id`, `persona`, `traits` (a JSON text).
    """

    parameters: Mapping[str, Any]
    personas: Iterator[pa.RecordBatch]


@dataclass(frozen=True)
class SourceOver(Source):
    """A source that gives what another one gives, but for what a subclass says.

    Attributes:
        source: the other one.
    """

    source: Source

    def at(self, moment: dt.datetime) -> Self:
        """The same over the other one's."""
        return replace(self, source=self.source.at(moment))

    def fingerprint(self) -> str:
        """The other one's; a subclass adds what it depends on itself."""
        return self.source.fingerprint()

    def state(self) -> str:
        """The other one's."""
        return self.source.state()

    def manifest(self) -> Mapping[str, Part]:
        """The other one's."""
        return self.source.manifest()

    def users(self) -> Extract:
        """The other one's."""
        return self.source.users()

    def products(self) -> Extract:
        """The other one's."""
        return self.source.products()

    def events(self) -> Extract:
        """The other one's."""
        return self.source.events()

    def searches(self) -> Extract:
        """The other one's."""
        return self.source.searches()

    def truth(self) -> Truth | None:
        """The other one's."""
        return self.source.truth()


@dataclass(frozen=True)
class Shop:
    """One shop: its name and conventions, and where its data comes from.

    Attributes:
        name: lower-case identifier; names the embedded database and the folder for reports. "shop" is the default one.
        title: for people.
        time_zone: IANA name of the zone in which days, weeks and months are cut.
        currency: ISO 4217 code, for labels.
        source: the data.
        searchers_are_users: whether `user_id` in search logs refers to `users`.
        notes: sentences on how the data was read, shown in the report.
        quarantine_at_most: share of a kind's rows that may be quarantined before nothing is loaded.
    """

    name: str
    title: str
    time_zone: str
    currency: str
    source: Source
    searchers_are_users: bool = True
    notes: tuple[str, ...] = ()
    quarantine_at_most: float = QUARANTINE_AT_MOST

    def at(self, moment: dt.datetime) -> Shop:
        """The same shop for which rows from after a moment lie in the future."""
        return replace(self, source=self.source.at(moment))

    @property
    def index_prefix(self) -> str:
        """What goes before this shop's index names; nothing for the default shop."""
        return "" if self.name == "shop" else f"{self.name}_"
