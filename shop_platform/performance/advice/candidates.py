"""Indexes worth trying for a query. Nothing here says that they help: that is for measuring to say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from shop_platform.performance.advice.catalog import Table
from shop_platform.performance.advice.keys import WIDEST, Key
from shop_platform.performance.advice.naming import index_name, with_hash
from shop_platform.performance.advice.parsing import check_select
from shop_platform.performance.advice.quoting import quoted
from shop_platform.performance.advice.reading import Use, uses
from shop_platform.performance.advice.sequences import Sequenced, sequences

__all__ = ["Candidate", "check_select", "index_candidates"]

Kind = Literal["composite", "partial", "covering", "expression", "brin"]

#: Of each kind in turn, so that a short list shows every kind that the query gives rise to.
KINDS: tuple[Kind, ...] = ("covering", "partial", "expression", "composite", "brin")

#: More columns than this to include make a copy of the table rather than an index.
MOST_INCLUDED = 6

#: From this correlation on, values lie in the order of rows, and a block range holds few of them.
ORDERED = 0.9

# Types that have an operator class minmax.
_BRIN = (
    "smallint",
    "integer",
    "bigint",
    "numeric",
    "real",
    "double precision",
    "date",
    "time",
    "text",
    "character varying",
    "uuid",
)


@dataclass(frozen=True)
class Candidate:
    """An index worth trying.

    Attributes:
        name: at most 63 characters; the same definition always gets the same one.
        table: its table, without schema.
        kind: what is particular about it. A partial index that includes columns is `covering`; one on an expression is
            `expression`, whatever else it is.
        definition: SQL after the table's name, from USING on.
        reason: one sentence: why it might help the query.
    """

    name: str
    table: str
    kind: Kind
    definition: str
    reason: str

    def create(self, schema: str | None = None, concurrently: bool = False) -> str:
        """The statement that builds it.

        Args:
            schema: of the table; None leaves it to the search path.
            concurrently: build while others write. Such a statement can't run inside a transaction.
        """
        table = quoted(self.table) if schema is None else f"{quoted(schema)}.{quoted(self.table)}"
        return (
            f"CREATE INDEX {'CONCURRENTLY ' if concurrently else ''}{quoted(self.name)} ON {table} {self.definition};"
        )


@dataclass(frozen=True)
class _Draft:
    """A candidate on the way, with what its duplicates are told by."""

    candidate: Candidate
    keys: tuple[str, ...]
    rest: tuple[str, ...]
    primary_key: tuple[str, ...]

    def is_useless(self) -> bool:
        """Whether the primary key already finds every row by itself, so that no further key can narrow it."""
        key = tuple(map(quoted, self.primary_key))
        return bool(key) and self.candidate.kind == "composite" and self.keys[: len(key)] == key

    def is_within(self, other: _Draft) -> bool:
        """Whether another candidate does the same and more: same kind, and these keys are where its keys begin."""
        same = (self.candidate.table, self.candidate.kind, self.rest) == (
            other.candidate.table,
            other.candidate.kind,
            other.rest,
        )
        return same and len(self.keys) < len(other.keys) and other.keys[: len(self.keys)] == self.keys


def index_candidates(text: str, catalog: Mapping[str, Table], most: int = 12) -> list[Candidate]:
    """Indexes worth trying for a query, the most promising first, of every kind in turn.

    Args:
        text: one SELECT; placeholders of psycopg stand for unknown values.
        catalog: the tables that may get indexes, by name, from `read_catalog`.
        most: how many to return at most.

    Returns:
        Candidates of different definitions and names, none that the primary key makes useless. The same arguments
        give the same list.

    Raises:
        DataError: the text is not one SELECT.
    """
    places = sorted(uses(text, catalog), key=lambda use: -use.table.rows)
    drafts: dict[tuple[str, str], _Draft] = {}
    for use in places:
        for draft in _drafts(use):
            drafts.setdefault((draft.candidate.table, draft.candidate.definition), draft)
    kept = [draft for draft in drafts.values() if not draft.is_useless()]
    kept = [draft for draft in kept if not any(draft.is_within(other) for other in kept)]
    return _unique_names(_in_turn([draft.candidate for draft in kept])[:most])


def _in_turn(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The first of each kind, then the second of each, and so on."""
    ranks: dict[str, int] = dict.fromkeys(KINDS, 0)
    ranked = []
    for candidate in candidates:
        ranked.append((ranks[candidate.kind], KINDS.index(candidate.kind), candidate))
        ranks[candidate.kind] += 1
    return [candidate for _, _, candidate in sorted(ranked, key=lambda item: item[:2])]


def _unique_names(candidates: Sequence[Candidate]) -> list[Candidate]:
    names = [candidate.name for candidate in candidates]
    return [
        candidate
        if names.count(candidate.name) == 1
        else replace(candidate, name=with_hash(candidate.name, f"{candidate.table} {candidate.definition}"))
        for candidate in candidates
    ]


def _drafts(use: Use) -> Iterator[_Draft]:
    for sequence in sequences(use):
        keys = _once(sequence.keys)
        yield from _partial(use, sequence, keys)
        yield from _whole(use, sequence, keys)
    yield from _brin(use)


def _partial(use: Use, sequence: Sequenced, keys: tuple[Key, ...]) -> Iterator[_Draft]:
    """Indexes of those rows only that the query can want."""
    if not use.predicates:
        return
    fixed = {predicate.column for predicate in use.predicates if predicate.fixes}
    free = tuple(key for key in keys if not set(key.columns) <= fixed)
    if not free:
        free = _fallback(use, fixed)
    if not free:
        return
    where = " AND ".join(predicate.sql for predicate in use.predicates)
    further = _further(use, free, use.beyond)
    # Nothing to include: the partial index itself has all that is read.
    if further:
        reason = f"{sequence.reason}; it holds only rows with {where}, and all further columns that the query reads."
        yield _draft(use, "covering", free, further, reason, partial=True)
    also = " and all that the query reads" if further == () else ""
    yield _draft(use, "partial", free, (), f"{sequence.reason}; it holds only rows with {where}{also}.", partial=True)


def _fallback(use: Use, fixed: set[str]) -> tuple[Key, ...]:
    """A key for an index whose rows are told by its predicate: a column that is read, or the primary key."""
    names = [name for name in use.read if name in use.beyond - fixed] or list(use.table.primary_key)
    usable = [name for name in names if (column := use.table.column(name)) and (column.width or 0) <= WIDEST]
    return tuple(Key(quoted(name), (name,)) for name in usable[:1])


def _whole(use: Use, sequence: Sequenced, keys: tuple[Key, ...]) -> Iterator[_Draft]:
    """Indexes of all rows."""
    if not keys:
        return
    further = _further(use, keys, use.read)
    if further:
        reason = f"{sequence.reason}; it has all further columns that the query reads, so the table need not be read."
        yield _draft(use, "covering", keys, further, reason)
    covers = further == () and len(keys) > 1
    also = "; it has all columns that the query reads, so the table need not be read" if covers else ""
    yield _draft(use, "covering" if covers else "composite", keys, (), f"{sequence.reason}{also}.")


def _further(use: Use, keys: Sequence[Key], read: Iterable[str]) -> tuple[str, ...] | None:
    """Columns to include so that the index has all that is read; None where they are too many or too wide."""
    held = {key.columns[0] for key in keys if not key.expression}
    further = tuple(name for name in use.read if name in set(read) and name not in held)
    widths = [column.width or 0 for name in further if (column := use.table.column(name))]
    return further if len(further) <= MOST_INCLUDED and all(width <= WIDEST for width in widths) else None


def _brin(use: Use) -> Iterator[_Draft]:
    """Block ranges of columns that lie in order: tiny, and enough to skip most of the table."""
    for key in use.ranges:
        column = use.table.column(key.columns[0])
        if key.expression or column is None or abs(column.correlation or 0) <= ORDERED:
            continue
        if column.type.startswith(_BRIN):
            reason = (
                f"Rows lie in the order of {column.name}, so that a few bytes for each block range tell which blocks "
                "the range needs."
            )
            yield _draft(use, "brin", (Key(quoted(column.name), key.columns),), (), reason)


def _draft(
    use: Use, kind: Kind, keys: tuple[Key, ...], include: tuple[str, ...], reason: str, partial: bool = False
) -> _Draft:
    if any(key.expression for key in keys):
        kind = "expression"
    predicates = use.predicates if partial else []
    listed = ", ".join(key.sql for key in keys)
    rest = f" INCLUDE ({', '.join(map(quoted, include))})" if include else ""
    rest += f" WHERE {' AND '.join(predicate.sql for predicate in predicates)}" if predicates else ""
    definition = f"USING {'brin' if kind == 'brin' else 'btree'} ({listed}){rest}"
    name = index_name("brin" if kind == "brin" else "idx", use.table, definition, keys, include, predicates)
    return _Draft(
        Candidate(name, use.table.name, kind, definition, reason),
        tuple(key.sql for key in keys),
        (rest,),
        use.table.primary_key,
    )


def _once(keys: Iterable[Key]) -> tuple[Key, ...]:
    """Keys without those that were there before, whatever their operator class or direction."""
    seen: dict[str, Key] = {}
    for key in keys:
        seen.setdefault(key.sql.split(" ")[0] if not key.expression else key.sql, key)
    return tuple(seen.values())
