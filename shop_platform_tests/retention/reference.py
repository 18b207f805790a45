"""Retention counted slowly and plainly, from the definitions in docs/retention.md: pandas and loops, no SQL.

Written to be read beside the definitions. Shares no code with what it is compared with.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import pandas as pd

from shop_platform.retention.definition import Definition

#: Price and category by product.
PRODUCTS = {"p1": (Decimal("19.99"), "Home"), "p2": (Decimal("0.01"), "Sports"), "p3": (Decimal(0), "Home")}

WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

Key = tuple[str | None, dt.date, int]
Counted = tuple[int, int, int, int, Decimal | None]


@dataclass(frozen=True)
class Event:
    """What one user did when."""

    user: str
    at: dt.datetime
    kind: str = "viewed"
    product: str = "p1"


@dataclass
class Shop:
    """Users with signup and country, segments of some of them, and events in the order in which they were inserted."""

    users: dict[str, tuple[dt.datetime, str | None]]
    events: list[Event] = field(default_factory=list)
    segments: dict[str, str] = field(default_factory=dict)


def moment(wall: dt.datetime, zone: str) -> pd.Timestamp:
    """When the clock of the zone shows this.

    An hour that it shows twice means the second pass; one that it skips, the hour after. Both are the later reading.
    """
    readings = [wall.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(dt.UTC) for fold in (0, 1)]
    return pd.Timestamp(max(readings))


def first_day(day: dt.date, unit: str, definition: Definition) -> dt.date:
    """First day of the calendar period that holds a day."""
    if unit == "day":
        return day
    if unit == "week":
        while WEEKDAYS[day.weekday()] != definition.week_start:
            day -= dt.timedelta(days=1)
        return day
    if unit == "month":
        return day.replace(day=1)
    return day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)


def later(wall: dt.datetime, unit: str, number: int) -> dt.datetime:
    """So many days, weeks or months later by the calendar; a day that a month lacks means its last."""
    step = {
        "day": pd.DateOffset(days=number),
        "week": pd.DateOffset(weeks=number),
        "month": pd.DateOffset(months=number),
    }
    result: dt.datetime = (pd.Timestamp(wall) + step[unit]).to_pydatetime()
    return result


def periods(start: pd.Timestamp, definition: Definition) -> Iterator[tuple[pd.Timestamp, pd.Timestamp]]:
    """Begin and end of each of a user's periods; the end belongs to the next."""
    zone = definition.time_zone
    wall = start.tz_convert(ZoneInfo(zone)).to_pydatetime().replace(tzinfo=None)
    if definition.anchor == "calendar":
        wall = dt.datetime.combine(first_day(wall.date(), definition.unit, definition), dt.time())
    if definition.anchor == "cohort":
        cohort = first_day(wall.date(), definition.cohort, definition)
        wall = dt.datetime.combine(first_day(cohort, definition.unit, definition), dt.time())
    bounds = [moment(later(wall, definition.unit, number), zone) for number in range(definition.periods + 1)]
    if definition.anchor == "user":
        bounds[0] = start
    yield from pairwise(bounds)


def reference(shop: Shop, definition: Definition) -> dict[Key, Counted]:
    """By break-down, cohort and period: size, observed, unrecorded, active, revenue."""
    recorded = pd.Series([pd.Timestamp(event.at) for event in shop.events], dtype="datetime64[us, UTC]")
    rows = [row for user in shop.users for row in _rows_of(user, shop, definition, recorded)]
    if not rows:
        return {}
    columns = ["group", "cohort", "period", "size", "observed", "unrecorded", "active", "revenue"]
    frame = pd.DataFrame(rows, columns=columns)
    counted: dict[Key, Counted] = {}
    parts = [(None, frame)] if not definition.breakdown else [(None, frame), *frame.groupby("group")]
    for group, part in parts:
        for (cohort, period), cell in part.groupby(["cohort", "period"]):
            sums = [int(cell[name].sum()) for name in ("size", "observed", "unrecorded", "active")]
            money = sum(cell["revenue"], Decimal(0)) if definition.measure == "revenue" else None
            counted[group, cohort, period] = (*sums, money)
    return counted


def _rows_of(user: str, shop: Shop, definition: Definition, recorded: pd.Series) -> Iterator[tuple[object, ...]]:
    """One row for each period of a user; none for a user who is in no cohort."""
    signup, country = shop.users[user]
    own = [event for event in shop.events if event.user == user and event.at >= signup]
    start = signup
    if definition.start != "signup":
        firsts = [event.at for event in own if event.kind == definition.start]
        if not firsts:
            return
        start = min(firsts)
        own = [event for event in own if event.at >= start]
    begun = pd.Timestamp(start).tz_convert("UTC")
    cohort = first_day(begun.tz_convert(ZoneInfo(definition.time_zone)).date(), definition.cohort, definition)
    group = _group_of(user, own, country, shop, definition)
    kind = "purchased" if definition.measure == "revenue" else definition.activity
    counting = [event for event in own if kind in ("any", event.kind)]
    for number, (begin, end) in enumerate(periods(begun, definition)):
        over = len(recorded) > 0 and end <= recorded.max()
        silent = not ((recorded >= begin) & (recorded < end)).any()
        inside = [event for event in counting if begin <= event.at < end]
        enough = [event for event in counting if event.at >= begin] if definition.measure == "unbounded" else inside
        observed = over and not silent
        active = observed and len(enough) >= definition.minimum
        revenue = sum((PRODUCTS[event.product][0] for event in inside), Decimal(0)) if observed else Decimal(0)
        yield group, cohort, number, 1, observed, over and silent, active, revenue


def _group_of(user: str, own: list[Event], country: str | None, shop: Shop, definition: Definition) -> str:
    if definition.breakdown == "country":
        return country or "(none)"
    if definition.breakdown == "segment":
        return shop.segments.get(user, "(none)")
    if definition.breakdown == "category" and own:
        first = min(own, key=lambda event: event.at)  # of several at once, the first that was inserted
        return PRODUCTS[first.product][1]
    return "(none)" if definition.breakdown else ""
