"""Vectors, clusters, names and confidence on arrays, and the quality on a shop whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from shop_platform.resources.encoder import EncoderResource
from shop_platform.segmentation.clusters import assign_names, cluster_users, confidence_of, margins_of
from shop_platform.segmentation.model import distinguishing_queries, segment_users
from shop_platform.segmentation.pairs import pairs_of, scan_documents
from shop_platform.segmentation.segments import Segment, load_segments
from shop_platform.segmentation.vectors import inverse_user_frequency, prototype_vectors, unit_rows, user_vectors
from shop_platform.sources.parameters import ShopParameters
from shop_platform.sources.synthetic import SyntheticSource

AXES = np.eye(4, dtype=np.float32)


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def groups(seed: int, *sizes: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Users around the four axes, with the group of each."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    return unit_rows(AXES[group] + np.random.default_rng(seed).normal(scale=0.15, size=(len(group), 4))), group


def test_what_everybody_searches_for_weighs_nothing_and_what_one_user_does_weighs_most() -> None:
    weights = inverse_user_frequency(ints(0, 1, 2, 0, 1, 2), ints(0, 0, 0, 1, 1, 2), 3)
    assert weights == pytest.approx([0.0, np.log(4 / 3), np.log(2)])


def test_a_users_vector_is_the_weighted_mean_of_their_queries_of_length_one() -> None:
    vectors = user_vectors(ints(0, 0, 1, 2), ints(0, 1, 1, 2), AXES[:3])
    rare, shared = np.log(4 / 2), np.log(4 / 3)
    assert vectors[0] == pytest.approx(np.array([rare, shared, 0, 0]) / np.hypot(rare, shared))
    assert vectors[1] == pytest.approx([0, 1, 0, 0])


def test_a_user_who_searched_only_for_what_everybody_does_still_has_a_direction() -> None:
    assert user_vectors(ints(0, 1), ints(0, 0), AXES[:1]) == pytest.approx(AXES[[0, 0]])


def test_nobody_has_no_vector() -> None:
    assert user_vectors(ints(), ints(), AXES[:0]).shape == (0, 4)


def test_a_prototype_is_the_direction_of_the_mean_of_its_phrases() -> None:
    assert prototype_vectors([AXES[:2], AXES[2:3]]) == pytest.approx(
        np.array([[0.5**0.5, 0.5**0.5, 0, 0], [0, 0, 1, 0]])
    )


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1_000), st.permutations(range(4)))
def test_a_clusters_number_is_its_segments_in_whatever_order_the_segments_come(seed: int, order: list[int]) -> None:
    vectors, group = groups(seed, 30, 20, 10, 5)
    clusters = cluster_users(vectors, AXES[order].astype(float), seed)
    assert [order[segment] for segment in clusters.segment] == group.tolist()
    assert clusters.margins.min() > 0.5


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1_000))
def test_the_order_of_users_does_not_matter(seed: int) -> None:
    vectors, _ = groups(seed, 20, 20, 20, 20)
    order = np.random.default_rng(seed).permutation(len(vectors))
    as_is, shuffled = (cluster_users(rows, AXES.astype(float), 1) for rows in (vectors, vectors[order]))
    assert shuffled.segment.tolist() == as_is.segment[order].tolist()


@given(st.permutations(range(4)))
def test_each_name_goes_to_the_cluster_that_is_nearest_to_it_and_is_used_once(order: list[int]) -> None:
    assert assign_names(AXES[order].astype(float) * 3, AXES.astype(float)).tolist() == order


def test_names_are_assigned_for_the_best_sum_where_two_clusters_want_the_same() -> None:
    prototypes = unit_rows(np.array([[1.0, 0.0], [0.0, 1.0]]))
    centroids = unit_rows(np.array([[1.0, 0.2], [1.0, 0.1]]))
    assert assign_names(centroids, prototypes).tolist() == [1, 0]
    assert margins_of(centroids[::-1], prototypes)[1] < 0


def test_a_segment_that_nobody_is_in_has_a_low_margin() -> None:
    vectors, _ = groups(3, 40, 40, 40, 0)
    assert cluster_users(vectors, AXES.astype(float), 1).margins[3] < 0.1


@pytest.mark.parametrize("users", [0, 1, 3])
def test_too_few_users_to_cluster_get_the_nearest_prototype(users: int) -> None:
    clusters = cluster_users(AXES[:users].astype(float), AXES.astype(float), 1)
    assert not clusters.fitted
    assert clusters.segment.tolist() == list(range(users))


def test_many_users_who_search_for_the_same_get_the_nearest_prototype() -> None:
    clusters = cluster_users(np.repeat(AXES[1:3].astype(float), 50, axis=0), AXES.astype(float), 1)
    assert not clusters.fitted
    assert clusters.segment.tolist() == [1] * 50 + [2] * 50


def test_confidence_is_one_at_a_centroid_and_nothing_on_the_border() -> None:
    assert confidence_of(np.array([[0.0, 2.0, 5.0], [3.0, 3.0, 9.0], [2.0, 1.0, 4.0]])) == pytest.approx([1, 0, 0.5])


@given(st.lists(st.lists(st.floats(0, 10), min_size=4, max_size=4), min_size=1, max_size=9))
def test_confidence_lies_between_nothing_and_one(distances: list[list[float]]) -> None:
    confidence = confidence_of(np.array(distances))
    assert (confidence >= 0).all()
    assert (confidence <= 1).all()


def test_only_queries_that_enough_users_of_a_segment_share_are_shown() -> None:
    found = [(f"a{i}", "gaming mouse") for i in range(5)] + [(f"b{i}", "yoga mat") for i in range(4)]
    found += [(f"{letter}{i}", "gift card") for letter in "ab" for i in range(4)] + [("a0", "my secret illness")]
    pairs = pairs_of(found)
    segment = ints(*(int(user.startswith("b")) for user in pairs.users))
    assert distinguishing_queries(pairs, segment, 2) == (("gaming mouse",), ())


def test_pairs_are_the_same_for_the_same_searches_in_any_order_and_number() -> None:
    rows = [("u2", "b"), ("u1", "a"), ("u2", "a")]
    assert pairs_of(rows).digest() == pairs_of([*reversed(rows), rows[0]]).digest()
    assert pairs_of(rows).digest() != pairs_of(rows[:2]).digest()


def test_a_scan_counts_what_says_nothing_and_what_nobody_searched_for() -> None:
    rows = [{"user_id": "u", "search_query": q} for q in ("A", "a ", " ")] + [{"search_query": "b"}]
    scan = scan_documents(rows)
    assert (scan.documents, scan.blank, scan.nobody) == (4, 1, 1)
    assert scan.queries == {"a", "b"}
    assert scan.pairs == {("u", "a")}


def test_a_segment_without_users_has_a_profile_and_is_not_supported() -> None:
    pairs = pairs_of([("u", "a")])
    segments = [Segment(name, "", ("x",)) for name in "abcd"]
    found = segment_users(pairs, AXES[:1], segments, [AXES[i : i + 1] for i in range(4)], 1)
    assert [profile.users for profile in found.profiles] == [1, 0, 0, 0]
    assert [profile.supported for profile in found.profiles] == [True, False, False, False]


def test_searchers_are_found_on_a_shop_whose_truth_is_known_where_kmeans_over_searches_fails(
    encoder: EncoderResource,
) -> None:
    source = SyntheticSource(ShopParameters(seed=7, users=250, searches=5_000))
    rows = [row for batch in source.searches().batches for row in batch.to_pylist()]
    persona = {row["user_id"]: row["persona"] for batch in source.truth().personas for row in batch.to_pylist()}
    pairs = pairs_of(scan_documents(rows).pairs)
    embeddings = encoder.encode(pairs.queries)
    segments = load_segments()
    phrases = [encoder.encode(segment.phrases) for segment in segments]

    found = segment_users(pairs, embeddings, segments, phrases, seed=42)

    truth = [persona[user] for user in pairs.users]
    named = [segments[number].name for number in found.clusters.segment]
    by_search = KMeans(4, n_init=1, random_state=42).fit_predict(embeddings[pairs.query])
    assert adjusted_rand_score(truth, named) > 0.75
    assert np.mean([a == b for a, b in zip(truth, named, strict=True)]) > 0.9
    assert adjusted_rand_score([truth[user] for user in pairs.user], by_search) < 0.4
    assert all(profile.supported for profile in found.profiles)
