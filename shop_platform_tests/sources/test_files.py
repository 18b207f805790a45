"""A shop in files: every row is loaded or left out for one stated reason, and mistakes are named."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from shop_platform.errors import SourceError
from shop_platform.settings import Settings
from shop_platform.sources.base import Extract, Shop
from shop_platform.sources.files import files_shop

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"

MAPPING = """
[shop]
name = "corner"
title = "Corner shop"
time_zone = "Europe/Paris"

[files.tables]
people = "people.csv"
things = "things.jsonl"
acts = "acts/*.csv.gz"
words = "words.tsv"

[users]
from = "people"
leave_out = [{ reason = "a test account", where = "mail LIKE '%@test'" }]
[users.columns]
user_id = "id"
signup_date = "timezone('Europe/Paris', TRY_CAST(joined AS TIMESTAMP))"
country = "'France'"

[products]
from = "things"
columns = { product_id = "sku", name = "title", category = "kind", price = "cents / 100" }

[events]
from = "acts"
[events.columns]
user_id = "who"
product_id = "what"
event_type = "CASE did WHEN 'buy' THEN 'purchased' WHEN 'look' THEN 'viewed' ELSE did END"
timestamp = "moment"

[searches]
from = "words"
columns = { user_id = "who", search_query = "q", timestamp = "moment" }
"""


@pytest.fixture
def corner(tmp_path: Path) -> Path:
    """A shop in a few files with a mistake of every kind; returns the path of its mapping."""
    (tmp_path / "people.csv").write_text(
        "id,joined,mail\n"
        "a,2025-06-01 10:00:00,a@x\n"
        "b,2025-01-01 10:00:00,b@x\n"
        "b,2025-02-01 10:00:00,b2@x\n"
        "c,yesterday,c@x\n"
        ",2025-01-01 10:00:00,d@x\n"
        "t,2025-01-01 10:00:00,t@test\n",
        encoding="utf-8",
    )
    (tmp_path / "things.jsonl").write_text(
        '{"sku": "x", "title": "Tea, \\"green\\"", "kind": "Food", "cents": 1999}\n'
        '{"sku": "y", "title": null, "kind": "Food", "cents": 5}\n'
        '{"sku": "z", "title": "Refund", "kind": "Food", "cents": -100}\n',
        encoding="utf-8",
    )
    (tmp_path / "acts").mkdir()
    parts = {
        "1": "who,what,did,moment\na,x,look,2025-07-01T10:00:00Z\na,x,buy,2025-07-01T10:05:00Z\n",
        "2": "who,what,did,moment\nb,x,hover,2025-07-02T10:00:00Z\nz,x,look,2025-07-02T10:00:00Z\n"
        "b,q,look,2025-07-02T10:00:00Z\nb,x,look,soon\n",
    }
    for name, text in parts.items():
        (tmp_path / "acts" / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "words.tsv").write_text(
        "who\tq\tmoment\na\tgreen tea\t2025-07-01T09:59:00Z\na\t  \t2025-07-01T09:59:00Z\n", encoding="utf-8"
    )
    path = tmp_path / "corner.toml"
    path.write_text(MAPPING, encoding="utf-8")
    return path


def shop_of(path: Path) -> Shop:
    return files_shop(path, Settings())


def rows(extract: Extract) -> pd.DataFrame:
    return pa.Table.from_batches(list(extract.batches)).to_pandas()


def test_users_are_loaded_or_left_out_for_a_reason(corner: Path) -> None:
    users = shop_of(corner).source.users()
    assert users.left_out == {
        "a test account": 1,
        "no usable signup_date": 1,
        "no user_id": 1,
        "user_id stands more than once": 1,
    }
    assert users.rows_read == 6
    found = rows(users)
    assert found.user_id.tolist() == ["b", "a"]
    # Ten in the morning in Paris, in summer.
    assert found.signup_date.iloc[1] == pd.Timestamp("2025-06-01 08:00", tz="UTC")


def test_products_are_loaded_or_left_out_for_a_reason(corner: Path) -> None:
    products = shop_of(corner).source.products()
    assert products.left_out == {"no name or category": 1, "no usable price": 1}
    found = rows(products)
    assert found.name.tolist() == ['Tea, "green"']
    assert [str(price) for price in found.price] == ["19.99"]


def test_events_are_loaded_or_left_out_for_a_reason_from_several_files(corner: Path) -> None:
    events = shop_of(corner).source.events()
    assert events.left_out == {
        "no usable timestamp": 1,
        "unknown event_type": 1,
        "unknown product": 1,
        "unknown user": 1,
    }
    assert events.rows_read == 6
    assert rows(events).event_type.tolist() == ["viewed", "purchased"]


def test_searches_are_loaded_or_left_out_for_a_reason(corner: Path) -> None:
    searches = shop_of(corner).source.searches()
    assert searches.left_out == {"no search_query": 1}
    assert rows(searches).clicked_product_ids.map(list).tolist() == [[]]


def test_the_fingerprint_changes_with_the_files_and_with_the_mapping(corner: Path) -> None:
    before = shop_of(corner).source.fingerprint()
    assert shop_of(corner).source.fingerprint() == before
    with (corner.parent / "people.csv").open("a", encoding="utf-8") as file:
        file.write("e,2025-01-01 10:00:00,e@x\n")
    after = shop_of(corner).source.fingerprint()
    corner.write_text(MAPPING.replace("cents / 100", "cents / 10"), encoding="utf-8")
    assert len({before, after, shop_of(corner).source.fingerprint()}) == 3


def test_a_missing_file_is_named_with_the_folder_and_the_way_out(corner: Path) -> None:
    (corner.parent / "words.tsv").unlink()
    with pytest.raises(SourceError, match=r"no file words\.tsv in .*Set SHOP_DATA"):
        shop_of(corner).source.searches()


def test_shop_data_takes_the_place_of_the_folder(corner: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (corner.parent / "people.csv").rename(moved / "people.csv")
    source = files_shop(corner, Settings(data=moved)).source
    with pytest.raises(SourceError, match=r"things\.jsonl in .*elsewhere"):
        source.users()


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('title = "Corner shop"', "", "shop.title"),
        ('title = "Corner shop"', 'title = "Corner shop"\nowner = "me"', "shop.owner"),
        ('name = "corner"', 'name = "Corner Shop"', "shop.name"),
        ("Europe/Paris", "Mars/Olympus", "time_zone"),
        ("[shop]", "[shop", "as TOML"),
    ],
)
def test_a_mistake_in_the_mapping_is_named(corner: Path, before: str, after: str, complaint: str) -> None:
    corner.write_text(MAPPING.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(SourceError, match=complaint):
        shop_of(corner)


def test_a_wrong_expression_is_named(corner: Path) -> None:
    corner.write_text(MAPPING.replace('"id"', '"identity"'), encoding="utf-8")
    with pytest.raises(SourceError, match="identity"):
        shop_of(corner).source.users()


def test_a_mapping_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no file .*nowhere\.toml"):
        shop_of(tmp_path / "nowhere.toml")


retail = pytest.mark.skipif(not DATA.is_dir(), reason="the real data is not in ../shared/data")


@retail
def test_every_line_of_the_real_shop_is_accounted_for_as_pandas_counts_it() -> None:
    events = shop_of(ROOT / "examples" / "online_retail.toml").source.events()
    lines = pd.read_parquet(DATA / "online_retail.parquet")
    rest = lines
    counted = {}
    for reason, condition in {
        "no customer number": lambda f: f.customer_id.isna(),
        "cancellation": lambda f: f.invoice_no.str.startswith("C"),
        "quantity not positive": lambda f: f.quantity <= 0,
        "price not positive": lambda f: f.unit_price <= 0,
        "no product: postage, fee, voucher, sample or correction": lambda f: ~f.stock_code.str.match(r"\d{5}"),
    }.items():
        out = condition(rest)
        if out.any():
            counted[reason] = int(out.sum())
        rest = rest[~out]
    loaded = rows(events)
    assert events.rows_read == len(lines) == 541_909
    assert events.left_out == counted
    assert len(loaded) == len(rest)
    assert loaded.user_id.nunique() == rest.customer_id.nunique()
    assert loaded.product_id.nunique() == rest.stock_code.nunique()
    local = loaded.timestamp.dt.tz_convert("Europe/London").dt.tz_localize(None)
    assert sorted(local) == sorted(rest.invoice_date)


@retail
def test_customers_and_stock_codes_of_the_real_shop_add_up() -> None:
    source = shop_of(ROOT / "examples" / "online_retail.toml").source
    lines = pd.read_parquet(DATA / "online_retail.parquet")
    users, products, searches = source.users(), source.products(), source.searches()
    # The lines without a customer number are one row more.
    assert users.rows_read == lines.customer_id.nunique() + 1
    assert products.rows_read == lines.stock_code.nunique()
    assert len(rows(users)) + sum(users.left_out.values()) == users.rows_read
    assert len(rows(products)) + sum(products.left_out.values()) == products.rows_read
    assert len(rows(searches)) == searches.rows_read == 480


def test_a_conversion_that_fails_says_how_to_leave_the_row_out_instead(corner: Path) -> None:
    corner.write_text(MAPPING.replace("TRY_CAST", "CAST"), encoding="utf-8")
    with pytest.raises(SourceError, match="TRY_CAST"):
        shop_of(corner).source.users()
