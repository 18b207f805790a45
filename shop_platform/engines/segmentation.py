"""Part III on Spark: embeddings and write-back, by the workers straight into Elasticsearch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from shop_platform.engines.workers import add_packed, embed, write_back
from shop_platform.resources.elasticsearch import snapshot
from shop_platform.segmentation.encoding import Store
from shop_platform.segmentation.writeback import Choose, Labels, Pass, WriteOnce, all_documents, write_once
from shop_platform.services.elasticsearch import client_options
from shop_platform.settings import load_settings

if TYPE_CHECKING:
    import pandas as pd
    from elasticsearch import Elasticsearch
    from pyspark.sql import SparkSession

    from shop_platform.progress import Advance
    from shop_platform.segmentation.embeddings import Text

#: Texts of one task, and slices of the documents: enough for workers to share, and little to repeat where one dies.
_TEXTS, _SLICES = 2_048, 8


def storing(spark: SparkSession, prefix: str, model: str) -> Store:
    """What encodes and stores texts on the workers."""

    def store(client: Elasticsearch, texts: Sequence[Text], advance: Advance) -> None:  # noqa: ARG001  as others do
        rows = [(text.origin, text.text) for text in texts]
        tasks = max(1, -(-len(rows) // _TEXTS), min(len(rows), spark.sparkContext.defaultParallelism))
        frame = spark.createDataFrame(rows, "origin string, text string").repartition(tasks)
        options = client_options(load_settings())

        def task(parts: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
            return embed(parts, options, prefix, model)

        done = frame.mapInPandas(task, "texts bigint").collect()
        advance(sum(row.texts for row in done))

    return store


def writing(spark: SparkSession) -> WriteOnce:
    """What reads all documents and writes segments on the workers; some documents are written from here."""

    def write(client: Elasticsearch, alias: str, read: Callable[[], Labels], choose: Choose = all_documents) -> Pass:
        if choose is not all_documents:
            return write_once(client, alias, read, choose)
        done = Pass()
        # As there: the snapshot is taken before the segments are read.
        with snapshot(client, alias) as taken:
            labels = read()
            done.total = taken.count()
            point, shards, options = taken.point, taken.shards, client_options(load_settings())

            def task(parts: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
                return write_back(parts, options, alias, (point, shards), _SLICES, labels)

            slices = spark.range(0, _SLICES, 1, _SLICES)
            for row in slices.mapInPandas(task, "done string").collect():
                add_packed(done, row.done)
        return done

    return write
