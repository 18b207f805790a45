"""What describes the segments: clicks, purchases, how good they are; on real servers and on arrays."""

from __future__ import annotations

import numpy as np
import pytest

from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform.segmentation import behaviour, checks
from shop_platform.segmentation.model import fit_model
from shop_platform.segmentation.quality import measure_quality, sample_users

from .conftest import LogSource, add_log, load, publish, search
from .test_model import shop


@pytest.fixture
def tables(postgres: PostgresResource) -> PostgresResource:
    """Two users of two segments, two products of two categories, and what the users bought."""
    with postgres.connect() as connection:
        connection.execute(
            "INSERT INTO users (user_id, signup_date) VALUES ('a', now()), ('b', now()), ('c', now());"
            "INSERT INTO products (product_id, name, category, price) VALUES"
            " ('p1', 'x', 'Tech', 1), ('p2', 'y', 'Home', 1);"
            "INSERT INTO events (event_id, user_id, product_id, event_type, timestamp) VALUES"
            " (1, 'a', 'p1', 'purchased', now()), (2, 'a', 'p1', 'purchased', now()), (3, 'a', 'p2', 'viewed', now()),"
            " (4, 'b', 'p2', 'purchased', now()), (5, 'c', 'p2', 'purchased', now())"
        )
    publish(postgres, ("a", "tech", 1.0), ("b", "home", 1.0))
    return postgres


def test_purchases_are_counted_by_the_buyers_segment(tables: PostgresResource) -> None:
    with tables.connect() as connection:
        assert behaviour.bought_categories(connection) == {"home": {"Home": 1}, "tech": {"Tech": 2}}


def test_clicks_are_counted_by_the_searchers_segment_over_pages(
    tables: PostgresResource, elasticsearch: ElasticsearchResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behaviour, "_PAGE", 1)
    load(elasticsearch, LogSource([search(clicked_product_ids=[])]))
    for segment, products in (("tech", ["p1", "p2"]), ("tech", ["p1"]), ("home", ["p2", "gone"]), (None, ["p1"])):
        add_log(elasticsearch, user_id="a", clicked_product_ids=products, segment=segment)
    with elasticsearch.client() as client, tables.connect() as connection:
        found = behaviour.clicked_categories(client, f"{elasticsearch.index_prefix}user_logs", connection)
    assert found == {"home": {"Home": 1}, "tech": {"Tech": 2, "Home": 1}}
    assert behaviour.shares(found, "tech") == "Tech 67%, Home 33%"
    assert behaviour.shares(found, "nobody's") == ""


def test_association_is_one_where_segments_click_apart_and_nothing_where_alike() -> None:
    apart = {"a": {"x": 50}, "b": {"y": 50}}
    alike = {"a": {"x": 50, "y": 20}, "b": {"x": 100, "y": 40}}
    assert behaviour.association(apart, ["a", "b", "c"]) == pytest.approx(1.0)
    assert behaviour.association(alike, ["a", "b"]) == pytest.approx(0.0, abs=1e-6)
    assert behaviour.association({}, ["a", "b"]) is None
    assert behaviour.association({"a": {"x": 1}}, ["a", "b"]) is None


def test_clear_segments_are_good_and_the_check_says_so() -> None:
    pairs, vectors, phrases, _ = shop(7, 40, 30, 20, 15)
    quality = measure_quality(pairs, vectors, phrases, fit_model(pairs, vectors, phrases, 1), 1)
    assert quality is not None
    assert quality.good
    assert (quality.users, quality.resampled, quality.second_method) == (105, 0.0, 1.0)
    assert quality.silhouette is not None
    assert quality.silhouette > 0.5
    assert 0.3 < quality.random_starts <= 1
    assert all(row is not None and row[number] > 0.9 for number, row in enumerate(quality.overlap))
    assert checks.segments_hold(quality.as_record() | {"good": True}, 105).passed


def test_segments_of_noise_are_not_good() -> None:
    pairs, vectors, phrases, _ = shop(7, 40, 30, 20, 15)
    noise = np.random.default_rng(1).permutation(vectors)
    model = fit_model(pairs, vectors, phrases, 1)
    quality = measure_quality(pairs, noise, phrases, model, 1)
    assert quality is not None
    assert not quality.good
    assert quality.resampled > 0.3
    assert not checks.segments_hold(quality.as_record() | {"good": False}, 105).passed


def test_an_unsupported_segment_overlaps_with_nothing_and_too_few_users_have_no_quality() -> None:
    pairs, vectors, phrases, _ = shop(7, 40, 40, 40)
    quality = measure_quality(pairs, vectors, phrases, fit_model(pairs, vectors, phrases, 1), 1)
    assert quality is not None
    assert quality.overlap[3] is None
    few, others, phrases, _ = shop(7, 1, 1)
    assert measure_quality(few, others, phrases, fit_model(few, others, phrases, 1), 1) is None
    assert not checks.segments_hold(None, 2).passed


def test_a_sample_keeps_all_searches_of_its_users() -> None:
    pairs, _, _, _ = shop(7, 10, 10)
    some, queries = sample_users(pairs, 5, 1)
    assert len(some.users) == 5
    assert [pairs.queries[each] for each in queries] == list(some.queries)
    whole = {(pairs.users[u], pairs.queries[q]) for u, q in zip(pairs.user, pairs.query, strict=True)}
    assert {(some.users[u], some.queries[q]) for u, q in zip(some.user, some.query, strict=True)} == {
        (user, query) for user, query in whole if user in some.users
    }
