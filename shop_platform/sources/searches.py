"""Search logs of the synthetic shop: who searches when, for what, typed how, and what is clicked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shop_platform.sources.activity import SECOND, Cells, Users
from shop_platform.sources.catalogue import Product
from shop_platform.sources.draw import cumulated, generator, pick
from shop_platform.sources.parameters import AFFINITY, CATEGORIES, PERSONAS, ShopParameters
from shop_platform.sources.phrases import AFTER, ANYBODY, BEFORE, THINGS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: Share of searches that repeat one of the user's few favourite queries.
_REPEATS = 0.3

#: Shares of searches typed with a slip, with other letter case, with blanks too many, or only half.
_SLIPS = (0.02, 0.12, 0.05, 0.01)


#: Affinity to a category from which on a persona speaks of it in words of its own.
_AT_HOME = 0.15


@dataclass(frozen=True)
class Searches:
    """All searches in the order of time: index of the user, time, query, and indexes of the products clicked."""

    user: NDArray[np.int32]
    time: Ints
    query: list[str]
    clicked: list[list[int]]


def draw_searches(parameters: ShopParameters, users: Users, cells: Cells, products: list[Product]) -> Searches:
    """Exactly `parameters.searches` searches, each within a week in which its user is active."""
    import numpy as np

    rng = generator(parameters.seed, 4)
    count = parameters.searches
    cell = np.floor(rng.random(count) * len(cells.user)).astype(np.int64)
    length = cells.end(cell) - cells.start[cell]
    time = cells.start[cell] + np.floor(rng.random(count) * length).astype(np.int64)
    time -= time % SECOND
    order = np.lexsort((cells.user[cell], time))
    user, time = cells.user[cell][order], time[order]
    # A favourite is drawn from numbers that belong to the user alone: the same each time it comes up.
    draws = rng.random((count, 8))
    favourites = generator(parameters.seed, 5).random((parameters.users, 3, 6))
    repeated = draws[:, 6] < _REPEATS
    draws[repeated, :6] = favourites[user[repeated], (draws[repeated, 7] * 3).astype(np.int64)]
    topic = favourites[:, 0, 5]
    writer = _Writer(parameters)
    queries, categories = writer.write(users.persona[user], topic[user], draws[:, :6])
    return Searches(user, time, _typed(rng, queries), _clicked(rng, categories, products))


class _Writer:
    """Makes a query from a persona and six uniform numbers."""

    def __init__(self, parameters: ShopParameters) -> None:
        self._mix = cumulated(parameters.mix)
        self._parameters = parameters
        self._affinity = {name: cumulated(AFFINITY[name]) for name in PERSONAS}
        # A long tail: what stands first is searched for most.
        self._things = {c: cumulated([1 / (n + 3) for n in range(len(t))]) for c, t in THINGS.items()}
        self._anybody = cumulated([1 / (n + 4) for n in range(len(ANYBODY))])

    def write(self, persona: Ints, topic: Floats, draws: Floats) -> tuple[list[str], list[str]]:
        """Queries, and the category that each is about ("" for none)."""
        pairs = [
            self._one(PERSONAS[who], about, row)
            for who, about, row in zip(persona.tolist(), topic.tolist(), draws.tolist(), strict=True)
        ]
        return [query for query, _ in pairs], [category for _, category in pairs]

    def _one(self, persona: str, topic: float, row: list[float]) -> tuple[str, str]:
        intent = _index(self._mix, row[0])
        if intent == 1:
            return ANYBODY[_index(self._anybody, row[1])], ""
        if intent == 2:
            others = [name for name in PERSONAS if name != persona]
            persona = others[int(row[5] * len(others))]
        category = self._category(persona, topic, row[1])
        thing = THINGS[category][_index(self._things[category], row[2])]
        before, after = BEFORE[persona], AFTER[persona]
        if persona == "bargain_hunter" and row[5] >= self._parameters.bargain_words:
            return thing, category
        if AFFINITY[persona][CATEGORIES.index(category)] < _AT_HOME:
            return thing, category
        # Squared: the first words of a list, often none at all, come up most.
        words = (before[int(row[3] * row[3] * len(before))], thing, after[int(row[4] * row[4] * len(after))])
        return " ".join(word for word in words if word), category

    def _category(self, persona: str, topic: float, drawn: float) -> str:
        share = self._parameters.bargain_topic
        if persona == "bargain_hunter" and drawn < share:
            return CATEGORIES[int(topic * len(CATEGORIES))]
        if persona == "bargain_hunter" and share > 0:
            drawn = (drawn - share) / (1 - share)
        return CATEGORIES[_index(self._affinity[persona], drawn)]


def _index(cumulative: Floats, drawn: float) -> int:
    return min(int(cumulative.searchsorted(drawn, side="right")), len(cumulative) - 1)


def _typed(rng: np.random.Generator, queries: list[str]) -> list[str]:
    """The queries as people type them: a few with a slip, in capitals, with blanks too many, or only half."""
    kinds: tuple[Callable[[str, float], str], ...] = (_slipped, _cased, _spaced, _half, lambda query, _: query)
    bounds = cumulated([*_SLIPS, 1 - sum(_SLIPS)])
    chosen = pick(bounds, rng.random(len(queries))).tolist()
    drawn = rng.random(len(queries)).tolist()
    return [kinds[kind](query, value) for kind, query, value in zip(chosen, queries, drawn, strict=True)]


def _slipped(query: str, drawn: float) -> str:
    """Two neighbouring letters swapped, or one left out."""
    place = int(drawn * (len(query) - 1))
    if int(drawn * 1_000) % 2:
        return query[:place] + query[place + 1 :]
    return query[:place] + query[place + 1] + query[place] + query[place + 2 :]


def _cased(query: str, drawn: float) -> str:
    return query.title() if drawn < 0.7 else query.upper()


def _spaced(query: str, drawn: float) -> str:
    return query.replace(" ", "  ", 1) if drawn < 0.4 else f" {query}" if drawn < 0.5 else f"{query} "


def _half(query: str, drawn: float) -> str:
    return query[: max(3, int(len(query) * (0.4 + drawn / 2)))].rstrip()


def _clicked(rng: np.random.Generator, categories: list[str], products: list[Product]) -> list[list[int]]:
    """None to four products of the category searched for, most often one or two."""
    import numpy as np

    shelves = {c: [i for i, product in enumerate(products) if product.category == c] for c in CATEGORIES}
    numbers = pick(cumulated((0.25, 0.35, 0.25, 0.1, 0.05)), rng.random(len(categories))).tolist()
    starts = np.floor(rng.random(len(categories)) * 1_000_000).astype(np.int64).tolist()
    return [
        [shelf[(start + step) % len(shelf)] for step in range(min(number, len(shelf)))] if shelf else []
        for number, start, shelf in zip(numbers, starts, (shelves.get(c, []) for c in categories), strict=True)
    ]
