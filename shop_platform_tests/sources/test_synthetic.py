"""The synthetic shop behaves like a shop, has exactly the size asked for, and is the same on every machine."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shop_platform.settings import Settings
from shop_platform.sources import activity
from shop_platform.sources.base import EVENT_COLUMNS, PRODUCT_COLUMNS, SEARCH_COLUMNS, USER_COLUMNS, Extract
from shop_platform.sources.parameters import PERSONAS, ShopParameters
from shop_platform.sources.synthetic import SyntheticSource, synthetic_shop

DEFAULT = SyntheticSource(ShopParameters())


def table(extract: Extract) -> pa.Table:
    return pa.Table.from_batches(list(extract.batches))


def digest(source: SyntheticSource) -> dict[str, str]:
    """Hash of the bytes of each kind of rows, as JSON lines."""
    found = {}
    for kind in ("users", "products", "events", "searches"):
        rows = table(getattr(source, kind)()).to_pylist()
        text = "\n".join(json.dumps(row, default=str, ensure_ascii=False) for row in rows)
        found[kind] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return found


@pytest.fixture(scope="module")
def shop() -> dict[str, pd.DataFrame]:
    """The default shop as frames."""
    return {kind: table(getattr(DEFAULT, kind)()).to_pandas() for kind in ("users", "products", "events", "searches")}


def test_the_same_seed_gives_the_same_bytes_on_any_machine() -> None:
    # Raise VERSION in synthetic.py, and take the new hashes over, whenever this must change.
    assert digest(DEFAULT) == {
        "users": "1284fade649a22ba",
        "products": "00c1e3d17d407492",
        "events": "bb707febc6ddd3bc",
        "searches": "994b9f70bab1db77",
    }


def test_another_seed_gives_another_shop() -> None:
    other = SyntheticSource(ShopParameters(seed=43))
    assert digest(other)["events"] != digest(DEFAULT)["events"]
    assert other.fingerprint() != DEFAULT.fingerprint()


def test_columns_and_types_are_those_of_the_contract() -> None:
    tables = [DEFAULT.users(), DEFAULT.products(), DEFAULT.events(), DEFAULT.searches()]
    wanted = [USER_COLUMNS, PRODUCT_COLUMNS, EVENT_COLUMNS, SEARCH_COLUMNS]
    for extract, columns in zip(tables, wanted, strict=True):
        schema = table(extract).schema
        assert set(schema.names) == set(columns)
        times = [field.type for field in schema if field.name in ("signup_date", "timestamp")]
        assert all(time == pa.timestamp("us", "UTC") for time in times)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.sampled_from([0, 42]),
    users=st.integers(1, 60),
    products=st.integers(1, 45),
    events=st.integers(1, 900),
    searches=st.integers(1, 200),
    days=st.integers(30, 400),
)
def test_any_size_is_met_exactly_and_obeys_the_rules_of_a_shop(
    seed: int, users: int, products: int, events: int, searches: int, days: int
) -> None:
    source = SyntheticSource(
        ShopParameters(seed=seed, users=users, products=products, events=events, searches=searches, days=days)
    )
    people = table(source.users()).to_pandas()
    happened = table(source.events()).to_pandas()
    searched = table(source.searches()).to_pandas()
    assert (len(people), len(happened), len(searched)) == (users, events, searches)
    assert len(table(source.products())) == products
    assert people.user_id.is_unique
    assert people.email.is_unique
    assert happened.event_id.tolist() == list(range(1, events + 1))
    assert happened.timestamp.is_monotonic_increasing
    end = pd.Timestamp(source.parameters.start, tz="UTC") + pd.Timedelta(days=days)
    assert happened.timestamp.max() < end
    assert searched.timestamp.max() < end
    for rows in (happened, searched):
        joined = rows.merge(people, on="user_id")
        # Searches are told to the second.
        assert (joined.timestamp >= joined.signup_date.dt.floor("s")).all()
    check_order_of_steps(happened)


def check_order_of_steps(happened: pd.DataFrame) -> None:
    """Each product is viewed before it is put into the cart, and put there before it is purchased."""
    counts = pd.crosstab(
        [happened.user_id, happened.product_id, happened.timestamp, happened.event_id], happened.event_type
    ).reindex(columns=["viewed", "add_to_cart", "purchased"], fill_value=0)
    so_far = counts.groupby(level=[0, 1]).cumsum()
    assert (so_far.viewed >= so_far.add_to_cart).all()
    assert (so_far.add_to_cart >= so_far.purchased).all()


def test_blocks_do_not_change_the_order_or_lose_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "_BLOCK", 50)
    happened = table(SyntheticSource(ShopParameters(events=5_000, users=200)).events()).to_pandas()
    assert len(happened) == 5_000
    assert happened.timestamp.is_monotonic_increasing
    check_order_of_steps(happened)


def test_events_at_the_same_moment_stand_in_the_order_of_users_and_types() -> None:
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, bound, 5_000) for bound in (9, 4, 3, 1_000)]
    events = activity.Events(*(column.astype(np.int32) for column in drawn))
    wanted = np.lexsort((events.kind, events.user, events.time))
    found = activity._in_order(events)  # noqa: SLF001  a replacement for one line of numpy's
    for name in ("user", "product", "kind", "time"):
        assert (getattr(found, name) == getattr(events, name)[wanted]).all()


def test_batches_and_active_weeks_take_bounded_memory() -> None:
    parameters = ShopParameters(users=20_000, events=1_000_000)
    users = activity.draw_users(parameters)
    tracemalloc.start()
    try:
        cells = activity.draw_cells(parameters, users)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Seven million active weeks of a million users: 350 MB.
    assert peak < 50 * len(cells.user)
    sizes = [len(batch) for batch in SyntheticSource(parameters).events().batches]
    assert sum(sizes) == 1_000_000
    assert max(sizes) <= 100_000


def test_every_week_has_events_and_every_category_purchases(shop: dict[str, pd.DataFrame]) -> None:
    events = shop["events"]
    weeks = events.timestamp.dt.tz_localize(None).dt.to_period("W")
    sold = events[events.event_type == "purchased"].merge(shop["products"], on="product_id")
    assert weeks.nunique() == 53
    assert sold.category.nunique() == shop["products"].category.nunique() == 5


def test_users_sign_up_in_every_month(shop: dict[str, pd.DataFrame]) -> None:
    assert shop["users"].signup_date.dt.month.nunique() == 12


def test_popularity_has_a_long_tail(shop: dict[str, pd.DataFrame]) -> None:
    views = shop["events"].product_id.value_counts()
    assert views.iloc[:5].sum() > 2 * views.iloc[-10:].sum()


def test_what_people_do_follows_their_persona(shop: dict[str, pd.DataFrame]) -> None:
    persona = table(pa_extract()).to_pandas().set_index("user_id").persona
    events = shop["events"].merge(shop["products"], on="product_id")
    share = pd.crosstab(events.user_id.map(persona), events.category, normalize="index")
    assert share["Electronics"].idxmax() == "tech_enthusiast"
    assert share["Sports & Fitness"].idxmax() == "fitness_focused"
    assert share["Home & Living"].idxmax() == "lifestyle_shopper"
    price = events.price.astype(float).groupby(events.user_id.map(persona)).mean()
    assert price.idxmin() == "bargain_hunter"


def pa_extract() -> Extract:
    return Extract(DEFAULT.truth().personas, DEFAULT.parameters.users)


def test_truth_holds_each_user_once_and_what_was_drawn_from() -> None:
    truth = DEFAULT.truth()
    personas = pa.Table.from_batches(list(truth.personas)).to_pandas()
    assert personas.user_id.is_unique
    assert set(personas.persona) == set(PERSONAS)
    assert truth.parameters["seed"] == 42
    assert json.loads(personas.traits.iloc[0])["weekly_return"][0] > 0.5


def test_searches_are_a_mix_with_repeats_slips_and_clicks(shop: dict[str, pd.DataFrame]) -> None:
    searches = shop["searches"]
    normal = searches.search_query.str.casefold().str.split().str.join(" ")
    assert 1_500 < normal.nunique() < 5_000
    assert (searches.search_query != normal).mean() > 0.05
    assert searches.clicked_product_ids.map(len).between(0, 4).all()
    assert 0.2 < (searches.clicked_product_ids.map(len) == 0).mean() < 0.6
    known = set(shop["products"].product_id)
    assert set(searches.clicked_product_ids.explode().dropna()) <= known


def test_a_search_of_the_documented_form_fits_the_columns() -> None:
    row: dict[str, Any] = {
        "user_id": "abc123",
        "search_query": "wireless headphones",
        "clicked_product_ids": ["p01", "p02"],
        "timestamp": dt.datetime(2025, 4, 1, 12, 30, tzinfo=dt.UTC),
    }
    schema = table(SyntheticSource(ShopParameters(users=3, events=9, searches=3)).searches()).schema
    assert pa.RecordBatch.from_pylist([row], schema=schema).to_pylist() == [row]


def test_a_shop_without_a_persona_has_none_of_it() -> None:
    priors = {"tech_enthusiast": 0.5, "lifestyle_shopper": 0.5}
    personas = table(Extract(SyntheticSource(ShopParameters(priors=priors)).truth().personas, 1)).to_pandas()
    assert set(personas.persona) == set(priors)


def test_every_number_is_a_setting() -> None:
    shop = synthetic_shop(Settings(seed=7, users=11, products=5, events=60, searches=12, time_zone="Europe/Paris"))
    assert shop.time_zone == "Europe/Paris"
    assert [len(table(e)) for e in (shop.source.users(), shop.source.products(), shop.source.events())] == [11, 5, 60]
    assert len(table(shop.source.searches())) == 12
