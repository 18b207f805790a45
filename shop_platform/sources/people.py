"""What people see of users: names, mail addresses, cities. Faker's words, put together by number."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from shop_platform.sources.draw import generator

if TYPE_CHECKING:
    from faker import Faker

#: Country by Faker's locale. Not it_IT, whose cities depend on the process's hash seed.
_LOCALES = {
    "en_GB": "United Kingdom",
    "de_DE": "Germany",
    "fr_FR": "France",
    "nl_NL": "Netherlands",
    "es_ES": "Spain",
    "pt_PT": "Portugal",
    "pl_PL": "Poland",
    "sv_SE": "Sweden",
}

#: Names drawn a locale; combined, they give 40,000 different full names in each.
_POOL = 200

#: Users whose draws are turned into Python's numbers at a time.
_CHUNK = 10_000

_DOMAINS = ("example.com", "example.org", "example.net")


def people(seed: int, count: int) -> Iterator[tuple[str, str, str, str]]:
    """Name, mail address, city and country of `count` users; no two mail addresses are alike.

    Mail addresses lie in the domains that RFC 2606 keeps for examples.
    """
    pools = [_pool(seed, locale) for locale in _LOCALES]
    countries = list(_LOCALES.values())
    rng = generator(seed, 20)
    draws = rng.integers(0, [len(pools), _POOL, _POOL, _POOL, len(_DOMAINS)], size=(count, 5))
    # Python's own numbers take many times the room of numpy's: some users' at a time.
    rows = (row for start in range(0, count, _CHUNK) for row in draws[start : start + _CHUNK].tolist())
    for number, (place, first, last, city, domain) in enumerate(rows, start=1):
        firsts, lasts, cities = pools[place]
        mailbox = f"{_plain(firsts[first])}.{_plain(lasts[last])}.{number}"
        yield f"{firsts[first]} {lasts[last]}", f"{mailbox}@{_DOMAINS[domain]}", cities[city], countries[place]


@lru_cache(maxsize=16)
def _pool(seed: int, locale: str) -> tuple[list[str], list[str], list[str]]:
    faker = _faker(seed, locale)
    return (
        [faker.first_name() for _ in range(_POOL)],
        [faker.last_name() for _ in range(_POOL)],
        [faker.city() for _ in range(_POOL)],
    )


def _faker(seed: int, locale: str) -> Faker:
    from faker import Faker

    faker = Faker(locale)
    faker.seed_instance(seed)
    return faker


def _plain(name: str) -> str:
    """A name in letters that fit a mail address."""
    decomposed = unicodedata.normalize(
        "NFKD", name.replace("ł", "l").replace("Ł", "L").replace("ß", "ss").replace("ø", "o")
    )
    return "".join(letter for letter in decomposed.lower() if letter.isascii() and letter.isalnum())
