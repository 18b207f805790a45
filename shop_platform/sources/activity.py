"""Who signs up when, in which weeks they come back, and what they do then: users, active weeks and events.

Times are microseconds since 1970 in UTC. A cell is one user in one week of seven days, counted from the signup.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from shop_platform.sources.catalogue import Product
from shop_platform.sources.draw import apportion, cumulated, generator, laid_out, pick
from shop_platform.sources.parameters import (
    AFFINITY,
    CATEGORIES,
    CONVERSION,
    PERSONAS,
    ShopParameters,
    return_probability,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

Scalar = TypeVar("Scalar", bound="np.generic")

SECOND = 1_000_000
DAY = 86_400 * SECOND
WEEK = 7 * DAY

#: Relative signups and sales by month, January first: gifts in November and December, a quiet summer.
_MONTHS = (1.0, 0.9, 1.0, 1.0, 1.05, 0.95, 0.85, 0.85, 1.0, 1.05, 1.35, 1.4)
#: By weekday, Monday first.
_WEEKDAYS = (1.0, 0.95, 0.95, 1.0, 1.05, 1.25, 1.3)
#: By hour of the day.
_HOURS = (2, 1, 1, 1, 1, 2, 4, 7, 9, 10, 10, 11, 12, 11, 10, 10, 11, 13, 15, 17, 18, 15, 9, 5)

#: A week that the end of the window cuts shorter than this holds nothing.
_LEAST = 3_600 * SECOND

#: Cells whose events are drawn together; part of what the bytes depend on.
_BLOCK = 20_000

#: Events a session has, at most; and seconds between two of them.
_SESSION, _GAP = 8, (15, 240)


@dataclass(frozen=True)
class Users:
    """All users, in the order of their signup: index of the persona, and time of the signup."""

    persona: Ints
    signup: Ints


@dataclass(frozen=True)
class Cells:
    """Active weeks, in the order of their start.

    There are some seven a user, so they take what room they must and no more: 16 bytes each.

    Attributes:
        user: index of the user, int32.
        start: first moment, int64.
        events: how many events lie in it, at least one, int32.
        closes: the moment after the shop's last, where the last cells end early.
    """

    user: NDArray[np.int32]
    start: Ints
    events: NDArray[np.int32]
    closes: int

    def end(self, rows: Ints | slice) -> Ints:
        """The moment after the last of some cells."""
        import numpy as np

        return np.minimum(self.start[rows] + WEEK, self.closes)


@dataclass(frozen=True)
class Events:
    """Events: indexes of user (int32), product (int32) and type (int8), and time (int64)."""

    user: NDArray[np.int32]
    product: NDArray[np.int32]
    kind: NDArray[np.int8]
    time: Ints


def window(parameters: ShopParameters) -> tuple[int, int]:
    """First moment of the shop, and the moment after its last."""
    first = dt.datetime.combine(parameters.start, dt.time(), dt.UTC)
    start = int(first.timestamp()) * SECOND
    return start, start + parameters.days * DAY


def draw_users(parameters: ShopParameters) -> Users:
    """Users with personas by their priors, and signups by season, weekday and hour."""
    import numpy as np

    rng = generator(parameters.seed, 1)
    start, end = window(parameters)
    season = day_weights(parameters)
    day = pick(cumulated(season), rng.random(parameters.users))
    signup = start + day * DAY + _time_of_day(rng.random(parameters.users), rng.random(parameters.users))
    # Nobody comes too late to do anything.
    signup = np.sort(np.minimum(signup, end - _LEAST))
    persona = pick(cumulated([parameters.priors.get(name, 0.0) for name in PERSONAS]), rng.random(parameters.users))
    return Users(persona, signup)


def day_weights(parameters: ShopParameters) -> Floats:
    """Relative traffic of each day of the window."""
    import numpy as np

    days = [parameters.start + dt.timedelta(days=n) for n in range(parameters.days)]
    return np.array([_MONTHS[day.month - 1] * _WEEKDAYS[day.weekday()] for day in days])


def draw_cells(parameters: ShopParameters, users: Users) -> Cells:
    """The weeks in which users are active, each drawn with the probability of its persona and age.

    The number of weeks is cut to the number of events, so that each has at least one; the others are shared out by
    weight. At its peak this holds some 40 bytes a cell.
    """
    import numpy as np

    rng = generator(parameters.seed, 2)
    start, end = window(parameters)
    season = day_weights(parameters)
    whos, weeks, weights = [], [], []
    for week in range(parameters.days // 7 + 1):
        begins = users.signup + week * WEEK
        chances = np.array([return_probability(name, week) for name in PERSONAS])[users.persona]
        drawn = rng.random((2, parameters.users))
        active = np.flatnonzero((drawn[0] < chances) & (begins <= end - _LEAST))
        if week == 0 and len(active) == 0:  # a very small shop still has somebody in it
            active = np.zeros(1, dtype=np.int64)
        day = np.minimum((begins[active] - start) // DAY, parameters.days - 1)
        # A long tail: most users look at a few things, some at very many. A short last week holds less.
        length = np.minimum(begins[active] + WEEK, end) - begins[active]
        whos.append(active.astype(np.int32))
        weeks.append(np.full(len(active), week, dtype=np.int16))
        weights.append(season[day] * (length / WEEK) / (0.15 + drawn[1][active]))
    user, week_of, weight = _latest_first(whos), _latest_first(weeks), _latest_first(weights)
    begin = users.signup[user]
    begin += np.multiply(week_of, WEEK, dtype=np.int64)
    del week_of
    # Users are in the order of their signup: of two cells that start at once, the later week is the earlier user's. So
    # with the last week in front, a stable sort by start leaves these in the order of users.
    order = np.argsort(begin, kind="stable")
    if len(order) > parameters.events:
        kept = np.sort(np.argsort(rng.random(len(order)), kind="stable")[: parameters.events])
        order = order[kept]
    user = user[order]  # one after the other, so that only one at a time is there twice
    begin = begin[order]
    weight = weight[order]
    del order
    events = apportion(parameters.events - len(user), weight)
    events += 1
    return Cells(user, begin, events.astype(np.int32), end)


def _latest_first(parts: list[NDArray[Scalar]]) -> NDArray[Scalar]:
    """The weeks' parts as one array, the last week in front; empties the list, so that nothing is held twice."""
    import numpy as np

    joined = np.concatenate(parts[::-1])
    parts.clear()
    return joined


def draw_events(parameters: ShopParameters, users: Users, cells: Cells, products: list[Product]) -> Iterator[Events]:
    """Exactly `parameters.events` events in the order of time, a block after the other.

    Holds a block and a week of events at a time: what a later block draws can't lie before its first cell's start.
    """
    import numpy as np

    tastes = [cumulated(weights) for weights in taste(products)]
    waiting: Events | None = None
    for block, first in enumerate(range(0, len(cells.user), _BLOCK)):
        part = slice(first, first + _BLOCK)
        rng = generator(parameters.seed, 3, block)
        drawn = _in_order(_draw_block(rng, users, cells, part, tastes))
        waiting = drawn if waiting is None else _in_order(_joined(waiting, drawn))
        follows = first + _BLOCK
        ready = (
            len(waiting.time)
            if follows >= len(cells.user)
            else int(np.searchsorted(waiting.time, cells.start[follows], side="left"))
        )
        yield _taken(waiting, slice(0, ready))
        waiting = _taken(waiting, slice(ready, None))


def taste(products: list[Product]) -> Floats:
    """Weight of each product for each persona, shape (personas, products): affinity, long tail, and price.

    Popularity falls with the rank within a category; bargain hunters prefer what costs less.
    """
    import numpy as np

    ranks: dict[str, int] = {}
    popularity = np.zeros(len(products))
    for index, product in enumerate(products):
        ranks[product.category] = ranks.get(product.category, 0) + 1
        popularity[index] = 1 / (ranks[product.category] * ranks[product.category] + 1)
    column = [CATEGORIES.index(product.category) for product in products]
    weights = np.array([[AFFINITY[name][category] for category in column] for name in PERSONAS]) * popularity
    weights[PERSONAS.index("bargain_hunter")] /= np.array([20 + float(product.price) for product in products])
    return weights


def _draw_block(rng: np.random.Generator, users: Users, cells: Cells, part: slice, tastes: list[Floats]) -> Events:
    """Events of a slice of cells: journeys (a product viewed, maybe put into the cart, maybe purchased) in sessions."""
    import numpy as np

    user, counts = cells.user[part], cells.events[part].astype(np.int64)
    persona = users.persona[user]
    # As many journeys as events would be enough if each were one view long; those past the cell's end are cut off.
    cell, _ = laid_out(counts)
    chance = rng.random((3, len(cell)))
    to_cart = np.array([CONVERSION[name][0] for name in PERSONAS])[persona[cell]]
    to_purchase = np.array([CONVERSION[name][1] for name in PERSONAS])[persona[cell]]
    steps = 1 + (chance[0] < to_cart) + ((chance[0] < to_cart) & (chance[1] < to_purchase))
    through = np.cumsum(steps)
    before_cell = np.concatenate(([0], through))[np.cumsum(counts) - counts]
    first = through - steps - before_cell[cell]
    steps = np.clip(counts[cell] - first, 0, steps)
    product = np.zeros(len(cell), dtype=np.int32)
    for index, cumulative in enumerate(tastes):
        mine = persona[cell] == index
        product[mine] = pick(cumulative, chance[2][mine])
    journey, kind = laid_out(steps)
    time = _draw_times(rng, cells, part, cell[journey], session_in_cell=first[journey] // _SESSION)
    return Events(user[cell[journey]], product[journey], kind.astype(np.int8), time)


def _draw_times(rng: np.random.Generator, cells: Cells, part: slice, cell: Ints, session_in_cell: Ints) -> Ints:
    """Times of events: each session, of about `_SESSION` events, at a believable moment of its cell's week."""
    import numpy as np

    start, end = cells.start[part], cells.end(part)
    is_first = np.append(True, (np.diff(cell) != 0) | (np.diff(session_in_cell) != 0))
    opens = np.flatnonzero(is_first)
    session = np.cumsum(is_first) - 1
    gaps = rng.integers(_GAP[0], _GAP[1], size=len(cell)) * SECOND + rng.integers(0, SECOND, size=len(cell))
    elapsed = np.cumsum(gaps)
    elapsed -= elapsed[opens][session]
    length = np.maximum.reduceat(elapsed, opens)
    owner = cell[opens]
    midnight = start[owner] - start[owner] % DAY
    day = pick(cumulated(_WEEKDAYS), rng.random(len(opens)))
    # The weekday drawn, counted from the one of the cell's start (1970-01-01 was a Thursday).
    ahead = (day - (midnight // DAY + 3)) % 7
    opening = midnight + ahead * DAY + _time_of_day(rng.random(len(opens)), rng.random(len(opens)))
    opening = np.where(opening < start[owner], opening + WEEK, opening)
    latest = np.maximum(end[owner] - length - 1, start[owner])
    short = np.maximum(latest - start[owner] + 1, 1)
    opening = np.where(opening > latest, start[owner] + (opening - start[owner]) % short, opening)
    times: Ints = opening[session] + elapsed
    return times


def _time_of_day(hour: Floats, within_hour: Floats) -> Ints:
    import numpy as np

    return pick(cumulated(_HOURS), hour) * (3_600 * SECOND) + np.floor(within_hour * 3_600 * SECOND).astype(np.int64)


def _in_order(events: Events) -> Events:
    """Events by time, user and type; equal ones stay as they are.

    By time alone at first, which takes little where two ordered runs are merged; then the few that happen at once.
    """
    import numpy as np

    order = np.argsort(events.time, kind="stable")
    time = events.time[order]
    same = time[1:] == time[:-1]
    if same.any():
        rows = np.flatnonzero(np.append(same, False) | np.append(False, same))
        tied = order[rows]
        order[rows] = tied[np.lexsort((events.kind[tied], events.user[tied], time[rows]))]
    return _taken(events, order)


def _joined(one: Events, other: Events) -> Events:
    import numpy as np

    return Events(
        *(np.concatenate((getattr(one, name), getattr(other, name))) for name in ("user", "product", "kind", "time"))
    )


def _taken(events: Events, rows: Ints | slice) -> Events:
    return Events(events.user[rows], events.product[rows], events.kind[rows], events.time[rows])
