"""The example on a real shop: its numbers add up, and an independent count in pandas finds the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from shop_platform.settings import Settings
from shop_platform.sources.base import Extract, Shop
from shop_platform.sources.load import load_shop

PROJECT = Path(__file__).resolve().parents[2]
CONFIG = PROJECT / "examples" / "online_retail.toml"
DATA = PROJECT.parent / "shared" / "data"

pytestmark = pytest.mark.skipif(
    not (DATA / "online_retail.parquet").exists(),
    reason="../shared/data/online_retail.parquet is not there: the real shop's data is no part of the project",
)


@pytest.fixture(scope="module")
def shop() -> Shop:
    return load_shop(Settings(config=CONFIG))


@pytest.fixture(scope="module")
def lines() -> pd.DataFrame:
    return pd.read_parquet(DATA / "online_retail.parquet")


@pytest.fixture(scope="module")
def kept(lines: pd.DataFrame) -> pd.DataFrame:
    """The lines that are purchases, by pandas."""
    return lines[
        lines["customer_id"].notna()
        & ~lines["invoice_no"].str.startswith("C")
        & (lines["quantity"] > 0)
        & (lines["unit_price"] >= 0)
        & lines["stock_code"].str.match(r"\d{5}")
    ].assign(
        user_id=lambda rows: rows["customer_id"].astype(int).astype(str),
        at=lambda rows: rows["invoice_date"].dt.tz_localize("Europe/London").dt.tz_convert("UTC"),
    )


def frame(extract: Extract) -> pd.DataFrame:
    found: pd.DataFrame = pa.Table.from_batches(extract.batches).to_pandas()
    assert len(found) + sum(extract.left_out.values()) == extract.rows_read
    return found


def reasons_in_turn(lines: pd.DataFrame) -> Iterator[tuple[str, int]]:
    """Each reason with the number of lines for which it is the first that holds."""
    rest = lines
    for reason, holds in (
        ("no customer number", lambda rows: rows["customer_id"].isna()),
        ("cancellation", lambda rows: rows["invoice_no"].str.startswith("C")),
        ("quantity not positive", lambda rows: rows["quantity"] <= 0),
        ("price negative", lambda rows: rows["unit_price"] < 0),
        (
            "no product: postage, fee, voucher, sample or correction",
            lambda rows: ~rows["stock_code"].str.match(r"\d{5}"),
        ),
    ):
        left = holds(rest)
        if left.any():
            yield reason, int(left.sum())
        rest = rest[~left]


def test_all_lines_are_read_and_each_is_a_purchase_or_left_out_for_one_reason(
    shop: Shop, lines: pd.DataFrame, kept: pd.DataFrame
) -> None:
    extract = shop.source.events()
    assert extract.rows_read == len(lines) == 541_909
    assert extract.left_out == dict(reasons_in_turn(lines))
    events = frame(extract)
    assert len(events) == len(kept)
    columns = ["user_id", "product_id", "timestamp"]
    expected = kept.rename(columns={"stock_code": "product_id", "at": "timestamp"})[columns]
    counted = events[columns].value_counts().sort_index()
    assert counted.to_dict() == expected.value_counts().sort_index().to_dict()
    assert set(events["event_type"]) == {"purchased"}
    assert events["event_id"].tolist() == list(range(1, len(events) + 1))
    assert events["timestamp"].is_monotonic_increasing


def test_all_customers_are_read_and_each_signs_up_with_the_first_purchase(
    shop: Shop, lines: pd.DataFrame, kept: pd.DataFrame
) -> None:
    extract = shop.source.users()
    users = frame(extract)
    assert extract.rows_read == lines["customer_id"].nunique() == 4_372
    assert extract.left_out == {"never purchased a product": 4_372 - kept["user_id"].nunique()}
    signups = kept.groupby("user_id")["at"].min()
    assert users.set_index("user_id")["signup_date"].to_dict() == signups.to_dict()
    assert users["user_id"].str.fullmatch(r"\d{5}").all()
    assert str(extract.left_out["never purchased a product"]) in "".join(shop.notes)


def test_all_stock_codes_are_read_and_named_and_priced_by_what_was_sold(
    shop: Shop, lines: pd.DataFrame, kept: pd.DataFrame
) -> None:
    extract = shop.source.products()
    products = frame(extract).set_index("product_id")
    codes = pd.Series(lines["stock_code"].unique())
    none = int((~codes.str.match(r"\d{5}")).sum())
    assert extract.rows_read == len(codes) == 4_070
    assert extract.left_out == {
        "never sold to a known customer": len(codes) - none - kept["stock_code"].nunique(),
        "no product: postage, fee, voucher, sample or correction": none,
    }
    medians = kept.assign(price=kept["unit_price"].astype(float)).groupby("stock_code")["price"].median()
    assert (products["price"].astype(float) - medians).abs().max() < 0.00501
    descriptions = kept.assign(description=kept["description"].str.strip())
    often = descriptions.groupby("stock_code")["description"].agg(lambda each: each.mode().iloc[0])
    assert products["name"].to_dict() == often.to_dict()


def test_categories_are_believable_and_most_products_have_one(shop: Shop) -> None:
    products = frame(shop.source.products())
    by_name = products.set_index("name")["category"]
    assert by_name["WHITE HANGING HEART T-LIGHT HOLDER"] == "Candles & Lights"
    assert by_name["REGENCY CAKESTAND 3 TIER"] == "Kitchen & Table"
    assert by_name["JUMBO BAG RED RETROSPOT"] == "Bags"
    shares = products["category"].value_counts(normalize=True)
    assert len(shares) == 10
    assert shares["Other"] < 0.15


def test_the_480_queries_are_searches_of_nobody_in_particular(shop: Shop) -> None:
    extract = shop.source.searches()
    searches = frame(extract)
    queries = pd.read_csv(DATA / "wands_queries.tsv", sep="\t", keep_default_na=False)
    assert extract.rows_read == len(searches) == len(queries) == 480
    assert searches["search_query"].tolist() == queries["query"].tolist()
    assert searches["user_id"].tolist() == [f"wands-{number}" for number in queries["query_id"]]
    assert searches["timestamp"].iloc[0] == pd.Timestamp("2011-12-09", tz="UTC")
    assert searches["clicked_product_ids"].map(len).sum() == 0
    assert not shop.searchers_are_users


def test_reading_again_gives_the_same_rows_in_the_same_order(shop: Shop) -> None:
    for read in (shop.source.users, shop.source.products, shop.source.events, shop.source.searches):
        assert frame(read()).equals(frame(read()))
    assert shop.source.fingerprint() == load_shop(Settings(config=CONFIG)).source.fingerprint()


def test_the_shop_keeps_british_time_and_money(shop: Shop) -> None:
    assert (shop.name, shop.time_zone, shop.currency) == ("online_retail", "Europe/London", "GBP")
