"""What a synthetic shop is drawn from: the numbers, and where they stand. No drawing here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

PERSONAS = ("tech_enthusiast", "lifestyle_shopper", "fitness_focused", "bargain_hunter")

CATEGORIES = ("Electronics", "Home & Living", "Fashion", "Sports & Fitness", "Beauty & Care")

#: How a persona's interest spreads over the categories, in the order of `CATEGORIES`.
AFFINITY: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "tech_enthusiast": (0.70, 0.12, 0.06, 0.08, 0.04),
        "lifestyle_shopper": (0.08, 0.38, 0.28, 0.06, 0.20),
        "fitness_focused": (0.10, 0.06, 0.14, 0.62, 0.08),
        "bargain_hunter": (0.22, 0.22, 0.22, 0.17, 0.17),
    }
)

#: Probability to be active in week 0 after the signup, then in week w >= 1: floor + drop / (1 + w / 2).
RETURN: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        "tech_enthusiast": (0.92, 0.22, 0.48),
        "lifestyle_shopper": (0.88, 0.16, 0.42),
        "fitness_focused": (0.94, 0.30, 0.45),
        "bargain_hunter": (0.80, 0.08, 0.34),
    }
)

#: Probability that a product viewed is put into the cart, and that one in the cart is purchased.
CONVERSION: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "tech_enthusiast": (0.30, 0.45),
        "lifestyle_shopper": (0.34, 0.50),
        "fitness_focused": (0.36, 0.55),
        "bargain_hunter": (0.40, 0.30),
    }
)


@dataclass(frozen=True)
class ShopParameters:
    """Parameters of one synthetic shop.

    Attributes:
        seed: everything drawn follows from it and from the parameters below.
        users, products, events, searches: exact numbers of each.
        start: first day, UTC; signups, events and searches lie in the `days` days from it.
        days: length of the window in days.
        priors: share of each persona; need not sum to one.
        mix: shares of searches after one's own interests, after what anybody searches for, and after other
            personas' interests.
        bargain_topic: share of bargain hunters' own searches that are about one favourite category of theirs.
        bargain_words: share of bargain hunters' own searches that say that the price matters.
    """

    seed: int = 42
    users: int = 1_000
    products: int = 20
    events: int = 50_000
    searches: int = 12_000
    start: dt.date = dt.date(2025, 1, 1)
    days: int = 365
    priors: Mapping[str, float] = field(
        default_factory=lambda: dict(zip(PERSONAS, (0.25, 0.30, 0.20, 0.25), strict=True))
    )
    mix: tuple[float, float, float] = (0.7, 0.2, 0.1)
    bargain_topic: float = 0.0
    bargain_words: float = 0.9


def return_probability(persona: str, week: int) -> float:
    """Probability that a user of this persona is active in a week after the signup, counted from 0."""
    first, floor, drop = RETURN[persona]
    return first if week == 0 else floor + drop / (1 + week / 2)
