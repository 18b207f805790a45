"""The retention matrix from summaries against direct SQL, and what keeping the summaries costs after new events."""

from __future__ import annotations

import datetime as dt
import time

from benchmarks.harness import Row, compare, in_turns
from benchmarks.refresh import NEW, last_day, remove_new
from benchmarks.shops import LABELS, database
from shop_platform.resources.postgres import PostgresResource
from shop_platform.retention.cells import Counts
from shop_platform.retention.counting import lock_matrix
from shop_platform.retention.definition import Definition
from shop_platform.retention.summaries import Refreshed, count_directly, count_from_summaries, refresh_retention

#: The default: months of signup, weeks 0 to 7 after each user's own signup.
_DEFINITION = Definition()


def matrix_row(size: str = "5m", rounds: int = 10) -> Row:
    """The matrix by both ways, equal in every cell in every round."""
    resource = database(f"bench_{size}")
    _refresh(resource)
    seen: list[list[Counts]] = []

    def check(name: str, cells: list[Counts]) -> None:
        seen.append(cells)
        if cells != seen[0] or not cells:
            raise RuntimeError(f"{name} gives other cells")
        del seen[1:]

    times = in_turns(
        {
            "direct": lambda: _count(resource, directly=True),
            "summaries": lambda: _count(resource, directly=False),
        },
        rounds,
        check,
    )
    return compare(
        LABELS[size], "retention matrix: summaries against direct SQL", times, "direct", "summaries", at_least=20
    )


def size_row(small: str = "50k", large: str = "5m", rounds: int = 15) -> Row:
    """The same 10,000 new events in both shops; then the refresh and the matrix in each, in turns."""
    for size in (small, large):
        _refresh(database(f"bench_{size}"))
    first = last_day(small, large)
    times: dict[str, list[float]] = {small: [], large: []}
    for number in range(-2, rounds):  # two to warm up
        for size in (small, large) if number % 2 else (large, small):
            seconds = _after_new_events(database(f"bench_{size}"), first + dt.timedelta(days=3 + number), 10_000)
            if number >= 0:
                times[size].append(seconds)
    for size in (small, large):
        remove_new(database(f"bench_{size}"))
    measure = f"retention after 10,000 new events against {LABELS[small]}"
    return compare(LABELS[large], measure, times, large, small, at_most=2)


def events_row(size: str = "5m", rounds: int = 15) -> Row:
    """The refresh and the matrix after 10,000 new events and after 1,000, in turns."""
    resource = database(f"bench_{size}")
    _refresh(resource)
    first = last_day(size)
    counts = {"10,000 events": 10_000, "1,000 events": 1_000}
    times: dict[str, list[float]] = {name: [] for name in counts}
    for number in range(-2, rounds):
        for name, events in counts.items() if number % 2 else reversed(counts.items()):
            seconds = _after_new_events(resource, first + dt.timedelta(days=3 + number), events)
            if number >= 0:
                times[name].append(seconds)
    remove_new(resource)
    measure = "retention after 10,000 new events against after 1,000"
    return compare(LABELS[size], measure, times, *counts, at_most=10)


def _after_new_events(resource: PostgresResource, day: dt.date, events: int) -> float:
    """Seconds of a refresh after so many new events, a tenth as many users', were committed."""
    with resource.connect() as connection:
        connection.execute(NEW, {"day": day, "events": events, "users": events // 10})
    started = time.perf_counter()
    done = _refresh(resource)
    seconds = time.perf_counter() - started
    if done.rebuilt is not None or done.users_recounted != events // 10:
        raise RuntimeError(f"expected a refresh of {events // 10} users, got {done}")
    return seconds


def _refresh(resource: PostgresResource) -> Refreshed:
    """What the asset does before it publishes."""
    with resource.connect() as connection:
        lock_matrix(connection)
        done = refresh_retention(connection, _DEFINITION)
        count_from_summaries(connection, _DEFINITION)
    return done


def _count(resource: PostgresResource, *, directly: bool) -> list[Counts]:
    with resource.connect() as connection:
        return (count_directly if directly else count_from_summaries)(connection, _DEFINITION)
