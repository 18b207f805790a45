"""The mapping's form: every key that is unknown, missing or wrong is named, with the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from shop_platform.errors import SourceError
from shop_platform.sources.mapping import read_mapping

TOML = """
[shop]
name = "a_shop"
title = "A shop"
[files]
tables = { t = "t.csv" }
[users]
from = "t"
columns = { user_id = "a", signup_date = "b" }
[products]
from = "t"
columns = { product_id = "a", name = "b", category = "c", price = "d" }
[events]
from = "t"
columns = { user_id = "a", product_id = "b", event_type = "c", timestamp = "d" }
[searches]
from = "t"
columns = { user_id = "a", search_query = "b", timestamp = "c" }
"""


def test_what_is_not_said_has_a_default(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(TOML)
    mapping = read_mapping(tmp_path / "shop.toml")
    assert (mapping.shop.time_zone, mapping.shop.currency, mapping.files.base) == ("UTC", "EUR", ".")
    assert mapping.users.columns.email == "NULL"
    assert mapping.searches.columns.clicked_product_ids == "[]"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('title = "A shop"', 'title = "A shop"\ncolour = "red"', "the key shop.colour is unknown"),
        ('signup_date = "b"', 'signup_date = "b", phone = "c"', "the key users.columns.phone is unknown"),
        ('signup_date = "b"', 'name = "b"', "signup_date has no expression"),
        ("[searches]", "[searchez]", "the key searchez is unknown"),
        ('title = "A shop"', 'title = "A shop"\nnaive_times = "Mars/Base"', "'Mars/Base' is no IANA time zone"),
        ("tables =", "table =", "the key files.tables is missing"),
        ("[users]", '[postgres]\ntables = { t = "x" }\n[users]', "the name t stands for more than one table"),
        ("[files]", '[files]\nencodings = { t = "latin-99" }', "no encoding that Python knows"),
        ('[files]\ntables = { t = "t.csv" }', "", "says where the data is"),
        ('title = "A shop"', 'title = "A shop"\ntime_zone = "Mars/Base"', "'Mars/Base' is no IANA time zone"),
        ('title = "A shop"', 'title = "A shop"\ncurrency = "euro"', "shop.currency"),
        ('name = "a_shop"', 'name = "A shop"', "shop.name"),
        ('name = "a_shop"', 'name = "shop"', "shop.name: 'shop' is taken"),
        ('name = "a_shop"', 'name = "postgres"', "shop.name: 'postgres' is taken"),
        ('t = "t.csv"', 't = "/t.csv"', "files.tables.t: '/t.csv' is no file name or pattern"),
        ('t = "t.csv"', "", "files.tables"),
        ('from = "t"', 'from = ""', "users.from"),
    ],
)
def test_what_does_not_fit_is_named_with_the_file(tmp_path: Path, old: str, new: str, told: str) -> None:
    path = tmp_path / "shop.toml"
    path.write_text(TOML.replace(old, new, 1))
    with pytest.raises(SourceError) as raised:
        read_mapping(path)
    assert told in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_mapping_that_is_not_there_or_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no file .*shop\.toml"):
        read_mapping(tmp_path / "shop.toml")
    (tmp_path / "shop.toml").write_text("[shop\n")
    with pytest.raises(SourceError, match=r"shop\.toml can't be read as TOML"):
        read_mapping(tmp_path / "shop.toml")
    with pytest.raises(SourceError, match="can't be read as TOML"):
        read_mapping(tmp_path)
