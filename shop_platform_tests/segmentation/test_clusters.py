"""Users' vectors, clusters and their names, on arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shop_platform.segmentation.clusters import assign_names, can_cluster, cluster_users, margins_of
from shop_platform.segmentation.pairs import pairs_of, scan_documents
from shop_platform.segmentation.profiles import distinguishing_queries
from shop_platform.segmentation.vectors import inverse_user_frequency, prototype_vectors, unit_rows, user_vectors

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


@settings(max_examples=25)
@given(st.integers(0, 1_000), st.permutations(range(4)))
def test_a_clusters_number_is_its_segments_in_whatever_order_the_segments_come(seed: int, order: list[int]) -> None:
    vectors, group = groups(seed, 30, 20, 10, 5)
    prototypes = AXES[order].astype(float)
    number = cluster_users(vectors, prototypes, prototypes, seed)
    assert [order[segment] for segment in number] == group.tolist()


@settings(max_examples=15)
@given(st.integers(0, 1_000))
def test_the_order_of_users_does_not_matter(seed: int) -> None:
    vectors, _ = groups(seed, 20, 20, 20, 20)
    order = np.random.default_rng(seed).permutation(len(vectors))
    axes = AXES.astype(float)
    as_is, shuffled = (cluster_users(rows, axes, axes, 1) for rows in (vectors, vectors[order]))
    assert shuffled.tolist() == as_is[order].tolist()


def test_clusters_that_start_where_they_were_keep_their_names() -> None:
    vectors, group = groups(5, 30, 20, 10, 5)
    swapped = AXES[[1, 0, 2, 3]].astype(float)
    assert cluster_users(vectors, swapped, AXES.astype(float), 1).tolist() == group.tolist()


@given(st.permutations(range(4)))
def test_each_name_goes_to_the_cluster_that_is_nearest_to_it_and_is_used_once(order: list[int]) -> None:
    assert assign_names(AXES[order].astype(float) * 3, AXES.astype(float)).tolist() == order


def test_names_are_assigned_for_the_best_sum_where_two_clusters_want_the_same() -> None:
    prototypes = unit_rows(np.array([[1.0, 0.0], [0.0, 1.0]]))
    centroids = unit_rows(np.array([[1.0, 0.2], [1.0, 0.1]]))
    assert assign_names(centroids, prototypes).tolist() == [1, 0]
    assert margins_of(centroids[::-1], prototypes, ints(0, 1))[1] < 0


def test_a_margin_is_to_all_other_prototypes_those_without_a_cluster_too() -> None:
    margins = margins_of(AXES[[0, 2]].astype(float), AXES.astype(float), ints(0, 3))
    assert margins.tolist() == [1.0, -1.0]


@pytest.mark.parametrize(("rows", "enough"), [([], False), ([0, 1, 2], False), ([0, 1, 2, 3], True), ([1] * 50, False)])
def test_as_many_different_users_as_segments_are_needed(rows: list[int], enough: bool) -> None:
    assert can_cluster(AXES[rows].astype(float), 4) == enough


def test_only_queries_that_enough_users_of_a_segment_share_are_shown() -> None:
    found = [(f"a{i}", "gaming mouse") for i in range(20)] + [(f"b{i}", "yoga mat") for i in range(20)]
    found += [(f"a{i}", "capture card") for i in range(4)] + [("a0", "my secret illness")]
    assert _set_apart(found) == (("gaming mouse",), ("yoga mat",))


def test_what_everybody_or_a_few_by_chance_search_for_sets_nobody_apart() -> None:
    found = [(f"a{i}", "gaming mouse") for i in range(60)] + [(f"b{i}", "yoga mat") for i in range(100)]
    found += [(f"{letter}{i}", "gift card") for letter in "ab" for i in range(40)]
    # Twice the share of others, as happens to some query in any two halves.
    found += [(f"a{i}", "linen bedding") for i in range(6)] + [(f"b{i}", "linen bedding") for i in range(5)]
    assert _set_apart(found) == (("gaming mouse",), ("yoga mat",))


def _set_apart(found: list[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    """Of segment 0, whose users' names begin with a, and of segment 1."""
    pairs = pairs_of(found)
    return distinguishing_queries(pairs, ints(*(int(user.startswith("b")) for user in pairs.users)), 2)


def test_pairs_are_the_same_for_the_same_searches_in_any_order_and_number() -> None:
    rows = [("u2", "b"), ("u1", "a"), ("u2", "a")]
    assert pairs_of(rows).digest() == pairs_of([*reversed(rows), rows[0]]).digest()
    assert pairs_of(rows).digest() != pairs_of(rows[:2]).digest()


def test_a_scan_counts_what_says_nothing_and_what_nobody_searched_for() -> None:
    rows = [{"user_id": "u", "search_query": q} for q in ("A", "a ", " ")] + [{"search_query": "b"}]
    scan = scan_documents(rows)
    assert (scan.documents, scan.blank, scan.nobody) == (4, 1, 1)
    assert set(scan.queries) == {"a", "b"}
    assert scan.by_user == {"u": 3}
    pairs = scan.pairs()
    assert (pairs.users, pairs.queries) == (("u",), ("a",))


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("abcd"))), st.sets(st.sampled_from("abcd")))
def test_pairs_are_the_distinct_ones_of_known_queries_in_order(found: list[tuple[str, str]], known: set[str]) -> None:
    scan = scan_documents({"user_id": user, "search_query": query} for user, query in found)
    pairs = scan.pairs(known)
    told = [(pairs.users[u], pairs.queries[q]) for u, q in zip(pairs.user.tolist(), pairs.query.tolist(), strict=True)]
    assert told == sorted({(user, query) for user, query in found if query in known})
    assert list(pairs.users) == sorted({user for user, _ in told})
    assert list(pairs.queries) == sorted({query for _, query in told})
