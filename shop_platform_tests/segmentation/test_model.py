"""The model: what it learns, what it refuses to invent, that it comes back from bytes as it was, and no other does."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shop_platform.errors import DataError
from shop_platform.segmentation.artefact import pack, unpack, version_of
from shop_platform.segmentation.model import LOW_MARGIN, Model, fit_model
from shop_platform.segmentation.pairs import Pairs, pairs_of
from shop_platform.segmentation.reader import Reader, fit_reader
from shop_platform.segmentation.vectors import unit_rows

Vectors = NDArray[np.float32]

#: Directions of what four kinds of queries are about; a fifth is what anybody searches for.
TOPICS = np.eye(8, dtype=np.float32)[:5]


def around(topic: int, count: int, rng: np.random.Generator) -> Vectors:
    """Embeddings of queries about something."""
    return unit_rows(TOPICS[topic] + rng.normal(scale=0.15, size=(count, 8))).astype(np.float32)


def shop(seed: int, *sizes: int) -> tuple[Pairs, Vectors, list[Vectors], dict[str, int]]:
    """Users of four kinds who search for 6 of 40 queries of their own and 3 of anybody's; the truth of each."""
    rng = np.random.default_rng(seed)
    of = {f"{topic} {n:02}": vector for topic in range(5) for n, vector in enumerate(around(topic, 40, rng))}
    found, truth = [], {}
    for topic, size in enumerate(sizes):
        for number in range(size):
            user = f"u{topic}{number:03}"
            truth[user] = topic
            found += [(user, f"{topic} {n:02}") for n in rng.choice(40, 6, replace=False)]
            found += [(user, f"4 {n:02}") for n in rng.choice(40, 3, replace=False)]
    pairs = pairs_of(found)
    vectors = np.stack([of[query] for query in pairs.queries])
    return pairs, vectors, [around(topic, 12, rng) for topic in range(4)], truth


def right(model: Model, pairs: Pairs, vectors: Vectors, truth: dict[str, int]) -> float:
    number, _ = model.users(pairs, vectors)
    return float(np.mean([truth[user] == each for user, each in zip(pairs.users, number, strict=True)]))


@settings(max_examples=5)
@given(st.integers(0, 100))
def test_users_are_told_by_what_they_search_for_and_names_are_the_segments_own(seed: int) -> None:
    pairs, vectors, phrases, truth = shop(seed, 40, 30, 20, 15)
    model = fit_model(pairs, vectors, phrases, 1)
    assert model.fitted
    assert model.supported == (0, 1, 2, 3)
    assert right(model, pairs, vectors, truth) == 1.0
    number, probability = model.users(pairs, vectors)
    assert ((probability > 0.5) & (probability <= 1)).all()
    looks, _ = model.queries(vectors)
    assert [int(query[0]) for query in pairs.queries if query[0] != "4"] == [
        int(each) for query, each in zip(pairs.queries, looks, strict=True) if query[0] != "4"
    ]
    assert set(number.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("absent", range(4))
def test_a_segment_that_nobody_is_in_is_said_to_be_unsupported_and_nobody_is_put_into_it(absent: int) -> None:
    pairs, vectors, phrases, truth = shop(7, *(0 if topic == absent else 40 for topic in range(4)))
    model = fit_model(pairs, vectors, phrases, 1)
    assert model.supported == tuple(topic for topic in range(4) if topic != absent)
    assert model.margins is not None
    assert model.margins[absent] < LOW_MARGIN
    assert right(model, pairs, vectors, truth) == 1.0


def test_one_kind_of_users_leaves_one_segment() -> None:
    pairs, vectors, phrases, truth = shop(3, 0, 60)
    model = fit_model(pairs, vectors, phrases, 1)
    assert model.supported == (1,)
    assert right(model, pairs, vectors, truth) == 1.0
    assert model.users(pairs, vectors)[1].tolist() == [1.0] * 60


def test_where_no_segment_is_clear_none_is_supported() -> None:
    pairs, vectors, phrases, _ = shop(3, 20, 20, 20, 20)
    alike = [np.concatenate(phrases)] * 4
    assert fit_model(pairs, vectors, alike, 1).supported == ()


def test_too_few_users_are_told_by_the_example_phrases() -> None:
    pairs, vectors, phrases, truth = shop(3, 1, 1, 1)
    model = fit_model(pairs, vectors, phrases, 1)
    assert not model.fitted
    assert model.margins is None
    assert right(model, pairs, vectors, truth) == 1.0


def test_nobody_at_all_is_no_error() -> None:
    _, vectors, phrases, _ = shop(3, 1)
    model = fit_model(pairs_of([]), vectors[:0], phrases, 1)
    assert model.users(pairs_of([]), vectors[:0])[0].tolist() == []


def test_learning_anew_from_an_earlier_model_keeps_the_names_and_finds_who_came_since() -> None:
    pairs, vectors, phrases, _ = shop(7, 40, 40, 40, 0)
    before = fit_model(pairs, vectors, phrases, 1)
    more, others, _, truth = shop(7, 40, 40, 40, 30)
    again = fit_model(more, others, phrases, 1, before)
    assert before.supported == (0, 1, 2)
    assert again.supported == (0, 1, 2, 3)
    assert right(again, more, others, truth) == 1.0


def test_what_anybody_searches_for_is_no_evidence() -> None:
    rng = np.random.default_rng(1)
    vectors = np.concatenate([around(topic, 30, rng) for topic in range(3)])
    counts = np.repeat([[9.0, 0.0], [0.0, 9.0], [5.0, 5.0]], 30, axis=0)
    reader = fit_reader(vectors, counts, np.array([0.5, 0.5]))
    evidence = np.abs(reader.evidence(vectors)).max(axis=1).reshape(3, 30).mean(axis=1)
    assert evidence[2] * 4 < min(evidence[:2])


def test_probabilities_are_right_on_average() -> None:
    """Users of two kinds whose searches overlap: of those told with 80 %, some 80 % are told right."""
    rng = np.random.default_rng(2)
    vectors = around(0, 400, rng) + rng.normal(scale=0.1, size=(400, 8)).astype(np.float32)
    leaning = 1 / (1 + np.exp(-6 * vectors[:, 1]))
    kind = rng.random(3_000) < 0.3
    found = []
    for user, one in enumerate(kind):
        weight = leaning if one else 1 - leaning
        found += [(f"{user:04}", f"{n:03}") for n in rng.choice(400, 3, replace=False, p=weight / weight.sum())]
    pairs = pairs_of(found)
    rows = vectors[[int(query) for query in pairs.queries]]
    users = np.eye(2)[kind.astype(int)]
    counts = np.zeros((len(rows), 2))
    np.add.at(counts, pairs.query, users[pairs.user])
    reader = fit_reader(rows, counts, users.mean(axis=0))
    sums = np.zeros((3_000, 2))
    np.add.at(sums, pairs.user, reader.evidence(rows)[pairs.query])
    probability = reader.of_users(sums)[:, 1]
    for low, high in ((0.1, 0.3), (0.3, 0.5), (0.5, 0.7)):
        some = (probability >= low) & (probability < high)
        assert kind[some].mean() == pytest.approx(probability[some].mean(), abs=0.08)


@pytest.fixture(scope="module")
def model() -> Model:
    pairs, vectors, phrases, _ = shop(7, 20, 20, 20)
    return fit_model(pairs, vectors, phrases, 1)


def test_a_model_comes_back_from_its_bytes_as_it_was(model: Model) -> None:
    data = pack(model, {"seed": 1})
    back = unpack(data, version_of(data), 8)
    assert back.supported == model.supported
    assert back.margins == model.margins
    assert all((getattr(back.reader, n) == getattr(model.reader, n)).all() for n in vars(model.reader))
    assert pack(model, {"seed": 1}) == data


def changed(model: Model, **arrays: NDArray[np.float64]) -> bytes:
    return pack(replace(model, reader=replace(model.reader, **arrays)), {})


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (lambda m: changed(m, weights=m.reader.weights[:, :5]), "its arrays are weights"),
        (lambda m: changed(m, weights=m.reader.weights.astype(np.float32)), "its arrays are weights float32"),
        (lambda m: changed(m, intercepts=np.array([0.0, np.nan, 0.0])), "numbers that are none"),
        (lambda m: changed(m, query_shares=np.zeros(3)), "shares of nothing"),
        (lambda m: pack(m, {})[:-40], "can't be read"),
        (lambda _: b"", "can't be read"),
        (lambda _: pickle.dumps(print), "can't be read"),
        (lambda m: pack(m, {}).replace(b'\\"method\\": 2', b'\\"method\\": 1'), "made by method 1"),
        (lambda m: pack(m, {}).replace(b"supported", b"surported"), "can't be read"),
    ],
)
@pytest.mark.fault
def test_bytes_that_are_no_model_are_refused_with_why(model: Model, broken: object, why: str) -> None:
    data = broken(model)  # type: ignore[operator]
    with pytest.raises(DataError, match=f"refused: .*{why}"):
        unpack(data, version_of(data), 8)


@pytest.mark.fault
def test_other_bytes_than_the_version_says_are_refused(model: Model) -> None:
    data = pack(model, {})
    with pytest.raises(DataError, match="SHA-256"):
        unpack(data + b" ", version_of(data))


def test_a_reader_of_nothing_but_one_segment_is_certain() -> None:
    reader = fit_reader(TOPICS[:3], np.array([[1.0, 0.0]] * 3), np.array([1.0, 0.0]))
    assert reader.of_queries(TOPICS[:1])[0, 0] == pytest.approx(1.0)
    assert isinstance(reader, Reader)
