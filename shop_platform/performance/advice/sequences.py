"""In which order keys are worth standing in an index, by what the query does with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shop_platform.performance.advice.keys import Key
from shop_platform.performance.advice.reading import Use


@dataclass(frozen=True)
class Sequenced:
    """Keys in their order, and the sentence, without its full stop, that says why."""

    keys: tuple[Key, ...]
    reason: str


def sequences(use: Use) -> Iterator[Sequenced]:
    """Orders of keys worth trying for one use of a table, the most promising first; keys may come twice.

    The first may have no keys at all, where a predicate is all that the query asks.
    """
    equal = tuple(sorted(use.equal, key=lambda key: (-key.distinct, key.sql)))
    yield from _limited(use, equal)
    yield from _joined(use, equal)
    yield from _grouped(use, equal)
    for key in use.alternatives:
        yield Sequenced((key,), f"Finds the rows of one side of the OR by {_names((key,))}")
    if not use.joins and not use.groups:
        yield Sequenced(equal, f"Finds the rows by {_names(equal)}" if equal else "Finds the rows that are wanted")


def _limited(use: Use, equal: tuple[Key, ...]) -> Iterator[Sequenced]:
    """Values that are equal first: within them, the rest is in order."""
    for key in use.ranges:
        within = f" within {_names(equal)}" if equal else ""
        yield Sequenced((*equal, key), f"Reads one range of {_names((key,))}{within}")
    for order in use.orders:
        within = f" of {_names(equal)}" if equal else ""
        yield Sequenced((*equal, *order), f"Gives the rows{within} in the order of {_names(order)}, without sorting")


def _joined(use: Use, equal: tuple[Key, ...]) -> Iterator[Sequenced]:
    joins = tuple(use.joins)
    if len(joins) > 1:
        yield Sequenced((*joins, *equal), f"Finds the partners of a row by {_names(joins)} together")
    for key in joins:
        yield Sequenced((key, *equal), f"Finds or sorts the partners of a row by {_names((key,))}")
    if equal:
        for key in joins:
            yield Sequenced((*equal, key), f"Finds the rows by {_names(equal)}, in the order of {_names((key,))}")


def _grouped(use: Use, equal: tuple[Key, ...]) -> Iterator[Sequenced]:
    groups, counted = tuple(use.groups), tuple(use.counted)
    if groups:
        yield Sequenced(
            (*equal, *groups, *counted), f"Gives the rows in the order of their groups, by {_names(groups + counted)}"
        )
    if counted:
        yield Sequenced((*equal, *counted, *groups), f"Gives what is counted in order, by {_names(counted + groups)}")


def _names(keys: tuple[Key, ...] | list[Key]) -> str:
    names = [key.sql if key.expression else key.columns[0] for key in keys]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
