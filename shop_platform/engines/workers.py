"""What Spark's Python workers run: embedding texts, and writing segments onto documents.

A worker imports this module by its name, so the platform must be installed where workers run. Addresses and
credentials of Elasticsearch come with the task, not by the environment, which Spark shows on its pages.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any

from shop_platform.errors import ModelError
from shop_platform.progress import unheard
from shop_platform.resources.encoder import EncoderResource
from shop_platform.resources.snapshots import Snapshot
from shop_platform.segmentation.embeddings import Text, store
from shop_platform.segmentation.writeback import FIELDS, Labels, Pass, write_hits

if TYPE_CHECKING:
    import pandas as pd


@cache
def encoder_of(model: str) -> EncoderResource:
    """The encoder of this process: a worker that is used again loads its model once.

    Raises:
        ModelError: this machine has another model than the one that asks.
    """
    encoder = EncoderResource()
    if encoder.model_name != model:
        raise ModelError(
            f"A worker of Spark would embed with {encoder.model_name}, not {model}: give all machines the same "
            "SHOP_ENCODER_MODEL."
        )
    return encoder


def embed(parts: Iterator[pd.DataFrame], options: Mapping[str, Any], prefix: str, model: str) -> Iterator[pd.DataFrame]:
    """Encode texts and store their embeddings; a task that runs again finds them there. Gives how many there were."""
    import pandas as pd
    from elasticsearch import Elasticsearch

    with Elasticsearch(**options) as client:
        for part in parts:
            texts = [Text(*row) for row in zip(part["origin"], part["text"], strict=True)]
            store(client, prefix, model, texts, encoder_of(model).encode([text.text for text in texts]))
            yield pd.DataFrame({"texts": [len(texts)]})


def write_back(
    parts: Iterator[pd.DataFrame],
    options: Mapping[str, Any],
    alias: str,
    at: tuple[str, int],
    slices: int,
    labels: Labels,
) -> Iterator[pd.DataFrame]:
    """Write the segments of slices of a snapshot's documents, guarded by the versions that it holds.

    `at` is a snapshot's point and shards. A task that runs again finds its own writes as newer versions and leaves
    them: nothing is written twice.
    """
    import pandas as pd
    from elasticsearch import Elasticsearch

    with Elasticsearch(**options) as client:
        for part in parts:
            for number in part["id"]:
                done = Pass()
                hits = Snapshot(client, *at).hits(FIELDS, part=(int(number), slices))
                write_hits(client, alias, labels, hits, done, unheard)
                yield pd.DataFrame({"done": [_packed(done)]})


def _packed(done: Pass) -> str:
    return json.dumps(
        {each.name: getattr(done, each.name) for each in fields(done)}
        | {"operations": {shard: list(numbers) for shard, numbers in done.operations.items()}}
    )


def add_packed(total: Pass, packed: str) -> None:
    """Add what one slice gave."""
    part = json.loads(packed)
    for name in ("documents", "correct", "waiting", "updated", "conflicts", "gone"):
        setattr(total, name, getattr(total, name) + part[name])
    total.segments.update(Counter(part["segments"]))
    total.lost = total.lost or part["lost"]
    for shard, numbers in part["operations"].items():
        total.operations[int(shard)].extend(numbers)
