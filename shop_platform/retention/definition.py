"""What retention means: the choices that a shop makes, checked, and in words for people. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from shop_platform.errors import SettingsError
from shop_platform.settings import Settings

Cohort = Literal["day", "week", "month", "quarter"]
Unit = Literal["day", "week", "month"]
Event = Literal["viewed", "add_to_cart", "purchased"]
Start = Literal["signup", "viewed", "add_to_cart", "purchased"]
Activity = Literal["any", "viewed", "add_to_cart", "purchased"]
Anchor = Literal["user", "calendar", "cohort"]
Measure = Literal["n-period", "unbounded", "revenue"]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

#: A user's periods are bits of a 64-bit number.
MOST_PERIODS = 60

#: What a break-down by category or segment, or by a column without a value, calls users who have none.
NONE = "(none)"

#: Columns of `users` that tell who somebody is: no break-down is made by them.
_PERSONAL = ("user_id", "name", "email", "signup_date")

_DID = {"viewed": "view", "add_to_cart": "add-to-cart event", "purchased": "purchase"}


@dataclass(frozen=True, kw_only=True)
class Definition:
    """How retention is counted. The defaults: months of signup, weeks 0 to 7 after each user's own signup.

    Attributes:
        cohort: calendar period by whose first day users are put together.
        start: what puts a user into a cohort: the signup, or the first event of a kind; a user without is in none.
        unit: length of a period of activity.
        periods: how many there are; the first is number 0.
        anchor: from where periods are counted. "user": the moment of the user's own start. "calendar": the calendar
            period that holds it. "cohort": the calendar period that holds the cohort's first day.
        activity: which events count.
        minimum: how many of them make a user active.
        measure: "n-period": active in the period. "unbounded": in the period or later. "revenue": as "n-period" by
            purchases, with their sum at the products' present prices.
        breakdown: "" for none; "category": of the user's first event from the start on; "segment": as published by
            the segmentation; anything else: a column of `users`.
        week_start: first day of a calendar week.
        time_zone: the shop's, an IANA name.
        least_users: cells with fewer observed users are marked.
    """

    cohort: Cohort = "month"
    start: Start = "signup"
    unit: Unit = "week"
    periods: int = 8
    anchor: Anchor = "user"
    activity: Activity = "any"
    minimum: int = 1
    measure: Measure = "n-period"
    breakdown: str = ""
    week_start: Weekday = "monday"
    time_zone: str = "UTC"
    least_users: int = 30

    def __post_init__(self) -> None:
        """Refuse what can't be counted.

        Raises:
            SettingsError: names the setting.
        """
        if not 1 <= self.periods <= MOST_PERIODS:
            raise SettingsError(f"SHOP_RETENTION_PERIODS is {self.periods}: use a number from 1 to {MOST_PERIODS}.")
        if self.measure == "revenue" and self.activity not in ("any", "purchased"):
            raise SettingsError(
                f"SHOP_RETENTION_MEASURE=revenue counts purchases, but SHOP_RETENTION_ACTIVITY is {self.activity}: "
                "unset one of them."
            )
        if self.breakdown in _PERSONAL:
            raise SettingsError(
                f"SHOP_RETENTION_BREAKDOWN={self.breakdown} would show single people: use category, segment or a "
                "column of users that many share, such as country."
            )

    @classmethod
    def of(cls, settings: Settings, time_zone: str) -> Definition:
        """The definition that the settings make, in the shop's time zone."""
        return cls(
            cohort=settings.retention_cohort,
            start=settings.retention_start,
            unit=settings.retention_period,
            periods=settings.retention_periods,
            anchor=settings.retention_anchor,
            activity=settings.retention_activity,
            minimum=settings.retention_minimum,
            measure=settings.retention_measure,
            breakdown=settings.retention_breakdown or "",
            week_start=settings.week_start,
            time_zone=time_zone,
            least_users=settings.retention_least_users,
        )

    @property
    def counted(self) -> Activity:
        """Kind of the events that count; revenue is made by purchases alone."""
        return "purchased" if self.measure == "revenue" else self.activity

    def parameters(self) -> dict[str, Any]:
        """Parameters of the SQL in `sql/retention/` and `sql/queries/cohort_retention*.sql`."""
        return {
            "cohort": self.cohort,
            "start": self.start,
            "unit": self.unit,
            "periods": self.periods,
            "anchor": self.anchor,
            "activity": self.counted,
            "minimum": self.minimum,
            "measure": self.measure,
            "breakdown": self.breakdown,
            "week_start": get_args(Weekday).index(self.week_start),
        }

    def as_record(self) -> dict[str, Any]:
        """All attributes, JSON-able."""
        return asdict(self)

    def summarised(self) -> dict[str, Any]:
        """Attributes on which the summary tables depend: with others they are other tables."""
        return {name: value for name, value in asdict(self).items() if name != "least_users"}

    def column(self, period: int) -> str:
        """Name of a period, such as "week 3"."""
        return f"{self.unit} {period}"

    @property
    def cohort_label(self) -> str:
        """What a row of the matrix is, such as "month of signup"."""
        return f"{self.cohort} of {self._start}"

    @property
    def period_label(self) -> str:
        """What a column of the matrix is, such as "weeks since the user's own signup"."""
        since = {
            "user": f"since the user's own {self._start}",
            "calendar": f"of the calendar since the one of the user's {self._start}",
            "cohort": "of the calendar since the one of the cohort's first day",
        }[self.anchor]
        return f"{self.unit}s {since}"

    @property
    def title(self) -> str:
        """What the matrix shows, such as "share of users active in the weeks after their signup"."""
        since = "from the cohort's first day on" if self.anchor == "cohort" else f"after their {self._start}"
        what = "revenue per user in" if self.measure == "revenue" else "share of users active in"
        return f"{what} the {self.unit}s {since}" + (", or later" if self.measure == "unbounded" else "")

    def sentences(self) -> list[str]:
        """How the matrix is counted, in full sentences that stand on every chart."""
        weeks = f" (weeks begin on {self.week_start.capitalize()})" if self._by_weeks else ""
        counted = (
            f"A cell counts only users whose whole {self.unit} lies within the data, and in whose {self.unit} the shop "
            "recorded anything at all."
        )
        cohort = f"Cohort: {self.cohort} of the {self._start}{weeks}, {self.time_zone} time."
        return [cohort, self._active, self._periods, counted]

    @property
    def text(self) -> str:
        """The sentences as one text."""
        return " ".join(self.sentences())

    @property
    def _start(self) -> str:
        return "signup" if self.start == "signup" else f"first {_DID[self.start]}"

    @property
    def _by_weeks(self) -> bool:
        return self.cohort == "week" or (self.unit == "week" and self.anchor != "user")

    @property
    def _active(self) -> str:
        """Who is active."""
        one = "any event" if self.counted == "any" else f"a {_DID[self.counted]}".replace("a add", "an add")
        many = f"{self.minimum} or more {'events' if self.counted == 'any' else _DID[self.counted] + 's'}"
        what = one if self.minimum == 1 else many
        if self.measure == "unbounded":
            return f"Active: {what} in the {self.unit} or later; who came late has had less time for it."
        if self.measure == "revenue":
            return f"Active: {what}; revenue at the products' present prices, of the users who are counted."
        return f"Active: {what}."

    @property
    def _periods(self) -> str:
        """Where period n lies."""
        name = self.unit.capitalize()
        if self.anchor == "calendar":
            return f"{name} n is the n-th calendar {self.unit} after the one of the user's {self._start}, which is 0."
        if self.anchor == "cohort":
            return (
                f"{name} n is the n-th calendar {self.unit} after the one of the cohort's first day, which is 0; all "
                "users of the cohort count in each, those who came later too."
            )
        length = {"day": "n days", "week": "7n days", "month": "n months"}[self.unit]
        lasts = {"day": "a day", "week": "7 days", "month": "a month"}[self.unit]
        return f"{name} n runs from {length} after each user's own {self._start}, to the hour, for {lasts}."
