"""Shops whose users' personas are known, and ways to find them that the platform is compared with."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from shop_platform.resources.encoder import EncoderResource
from shop_platform.segmentation.model import Model, fit_model
from shop_platform.segmentation.pairs import Pairs, scan_documents
from shop_platform.segmentation.reader import fit_reader
from shop_platform.segmentation.segments import load_segments
from shop_platform.segmentation.vectors import user_vectors
from shop_platform.sources.parameters import PERSONAS, ShopParameters
from shop_platform.sources.synthetic import SyntheticSource

EVEN = dict(zip(PERSONAS, (0.25, 0.30, 0.20, 0.25), strict=True))

#: What is special about each shop of 1,000 users; else of 20,000 searches, by some users far more than by others.
WORLDS: Mapping[str, Mapping[str, Any]] = {
    "default mix": {},
    "20 searches each": {"each": 20, "searches": 250_000},
    "5 searches a user": {"searches": 5_000},
    "40/40/20 mix": {"mix": (0.4, 0.4, 0.2)},
    "priors 15/70/10/5": {"priors": dict(zip(PERSONAS, (0.15, 0.70, 0.10, 0.05), strict=True))},
    "bargain hunters with a topic": {"bargain_topic": 0.7, "bargain_words": 0.5},
}

# As the platform does: threads that wait for each other take far longer where the tests run on two processes.
threadpool_limits(limits=1)

_ENCODER = EncoderResource()
_KNOWN: dict[str, NDArray[np.float32]] = {}


def embed(texts: tuple[str, ...]) -> NDArray[np.float32]:
    """Embeddings, each made once."""
    missing = [text for text in dict.fromkeys(texts) if text not in _KNOWN]
    _KNOWN.update(zip(missing, _ENCODER.encode(missing), strict=True))
    return np.stack([_KNOWN[text] for text in texts])


@dataclass(frozen=True)
class World:
    """A shop: who searched for what, embeddings of the queries, and the number of each user's persona."""

    pairs: Pairs
    vectors: NDArray[np.float32]
    truth: NDArray[np.int64]

    @property
    def settled(self) -> NDArray[np.bool_]:
        """Users with three distinct queries or more."""
        return np.bincount(self.pairs.user) >= 3

    def fit(self, seed: int = 42) -> Model:
        """The platform's model."""
        return fit_model(self.pairs, self.vectors, phrases(), seed)

    def found(self) -> NDArray[np.int64]:
        """The platform's segments."""
        return self.fit().users(self.pairs, self.vectors)[0]

    def by_kmeans_over_documents(self) -> NDArray[np.int64]:
        """The obvious way: searches are clustered, and a user is where most of the user's distinct searches are."""
        cluster = KMeans(4, n_init=3, random_state=0).fit_predict(self.vectors[self.pairs.query])
        votes = np.zeros((len(self.pairs.users), 4))
        np.add.at(votes, (self.pairs.user, cluster), 1)
        return np.asarray(votes.argmax(axis=1))

    def by_kmeans_over_users(self) -> NDArray[np.int64]:
        """Better: users' vectors are clustered, from one random start."""
        vectors = user_vectors(self.pairs.user, self.pairs.query, self.vectors)
        return np.asarray(KMeans(4, n_init=1, random_state=0).fit_predict(vectors))

    def by_the_truth(self) -> NDArray[np.int64]:
        """The ceiling: the same reader, trained on the truth of four fifths of the users, tells the others."""
        told = np.zeros(len(self.truth), dtype=np.int64)
        for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(self.truth, self.truth):
            users = np.zeros((len(self.truth), 4))
            users[train] = np.eye(4)[self.truth[train]]
            counts, sums = np.zeros((len(self.vectors), 4)), np.zeros((len(self.truth), 4))
            np.add.at(counts, self.pairs.query, users[self.pairs.user])
            reader = fit_reader(self.vectors, counts, users[train].mean(axis=0))
            np.add.at(sums, self.pairs.user, reader.evidence(self.vectors)[self.pairs.query])
            told[test] = reader.of_users(sums)[test].argmax(axis=1)
        return told


@functools.cache
def phrases() -> list[NDArray[np.float32]]:
    """Embeddings of the segments' phrases."""
    return [embed(segment.phrases) for segment in load_segments()]


def world(seed: int, *, each: int | None = None, **special: Any) -> World:
    """A shop of 1,000 users; of each one's searches only the first few where `each` says how many."""
    source = SyntheticSource(ShopParameters(**({"seed": seed, "users": 1_000, "searches": 20_000} | special)))
    pairs = scan_documents(_first_of_each(source.searches().batches, each)).pairs()
    truth = source.truth()
    assert truth is not None
    persona = {row["user_id"]: PERSONAS.index(row["persona"]) for batch in truth.personas for row in batch.to_pylist()}
    return World(pairs, embed(pairs.queries), np.array([persona[user] for user in pairs.users]))


def _first_of_each(batches: Iterable[pa.RecordBatch], most: int | None) -> Iterator[dict[str, Any]]:
    seen = Counter[str]()
    for row in itertools.chain.from_iterable(batch.to_pylist() for batch in batches):
        seen[row["user_id"]] += 1
        if most is None or seen[row["user_id"]] <= most:
            yield row


def some_users(of: World, share: float, seed: int) -> tuple[World, NDArray[np.int64]]:
    """The same with a share of the users only; and their numbers."""
    count = len(of.pairs.users)
    users = np.sort(np.random.default_rng(seed).choice(count, int(share * count), replace=False))
    kept = np.isin(of.pairs.user, users)
    query, number = np.unique(of.pairs.query[kept], return_inverse=True)
    pairs = Pairs(
        tuple(of.pairs.users[each] for each in users),
        tuple(of.pairs.queries[each] for each in query),
        np.searchsorted(users, of.pairs.user[kept]),
        number,
    )
    return World(pairs, of.vectors[query], of.truth[users]), users
