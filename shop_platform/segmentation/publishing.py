"""The segments of users in PostgreSQL: replaced as a whole or user by user, and the models that told them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from shop_platform.resources.locks import be_the_only_one
from shop_platform.segmentation.pairs import Pairs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from shop_platform.resources.postgres import Connection

#: Transaction-level advisory lock: one writer of search logs, embeddings or segments at a time.
SEGMENTATION_LOCK = 7_301_003

#: Decimals of a confidence: finer ones would have documents written again for changes that mean nothing.
DECIMALS = 2


@dataclass(frozen=True)
class Label:
    """What is written on a document: its searcher's segment, how sure that is, and by which model."""

    segment: str
    confidence: float
    model: str


@dataclass(frozen=True)
class Told:
    """What a model told of some users and queries.

    Attributes:
        pairs: who searched for what.
        documents: search logs of each user, in the order of `pairs.users`.
        users: segment of each user, and its probability.
        query_ids: id of each of `pairs.queries`.
        queries: segment of each query, and its probability.
        model: name of the model, as it stands on documents.
    """

    pairs: Pairs
    documents: Sequence[int]
    users: tuple[Sequence[str], NDArray[np.float64]]
    query_ids: Sequence[str]
    queries: tuple[Sequence[str], NDArray[np.float64]]
    model: str


def lock_segmentation(connection: Connection) -> None:
    """Wait until nobody else writes, and keep others waiting until the caller's transaction ends.

    Raises:
        BusyError: somebody else has written for too long.
    """
    be_the_only_one(connection, SEGMENTATION_LOCK, "writing search logs, embeddings or segments")


def replace_segments(connection: Connection, told: Told, only: Iterable[str] | None = None) -> None:
    """Put what was told in place of what was before, in the caller's transaction.

    Deletes and copies rather than swapping tables: views and grants stay, and readers see the old rows until the
    commit.

    Args:
        connection: in the transaction.
        told: about all users, or some.
        only: these users, whether they still have a segment or not; None for all.
    """
    import numpy as np

    if only is None:
        connection.execute(
            "DELETE FROM analytics.user_segments; DELETE FROM analytics.user_queries;"
            "DELETE FROM analytics.query_segments"
        )
    else:
        ids = list(only)
        connection.execute("DELETE FROM analytics.user_segments WHERE user_id = ANY(%s)", [ids])
        left = connection.execute(
            "DELETE FROM analytics.user_queries WHERE user_id = ANY(%s) RETURNING query_id", [ids]
        )
        # Of queries that these users no longer have, those stay that somebody else has.
        queries = list({row[0] for row in left} | set(told.query_ids))
        connection.execute(
            "DELETE FROM analytics.query_segments AS gone WHERE query_id = ANY(%s) AND (query_id = ANY(%s)"
            " OR NOT EXISTS (SELECT FROM analytics.user_queries AS others WHERE others.query_id = gone.query_id))",
            [queries, list(told.query_ids)],
        )
    pairs = told.pairs
    distinct = np.bincount(pairs.user, minlength=len(pairs.users)).tolist()
    _copy(
        connection,
        "COPY analytics.user_segments (user_id, segment, confidence, distinct_queries, model, documents) FROM STDIN",
        (
            (user, segment, confidence, count, told.model, documents)
            for user, segment, confidence, count, documents in zip(
                pairs.users, told.users[0], _rounded(told.users[1]), distinct, told.documents, strict=True
            )
        ),
    )
    _copy(
        connection,
        "COPY analytics.user_queries (user_id, query_id) FROM STDIN",
        (
            (pairs.users[user], told.query_ids[query])
            for user, query in zip(pairs.user.tolist(), pairs.query.tolist(), strict=True)
        ),
    )
    _copy(
        connection,
        "COPY analytics.query_segments (query_id, segment, confidence) FROM STDIN",
        zip(told.query_ids, told.queries[0], _rounded(told.queries[1]), strict=True),
    )


def store_model(connection: Connection, version: str, artefact: bytes) -> None:
    """Keep a model and the one in use until now, in the caller's transaction; those before them go."""
    connection.execute(
        "INSERT INTO ops.segment_models (version, artefact) VALUES (%s, %s) ON CONFLICT DO NOTHING", [version, artefact]
    )
    connection.execute(
        "DELETE FROM ops.segment_models WHERE version <> %s AND version NOT IN"
        " (SELECT record ->> 'version' FROM analytics.records WHERE name = 'user_segments')",
        [version],
    )


def read_model(connection: Connection, version: str) -> bytes | None:
    """The bytes of a model; None where it was deleted."""
    row = connection.execute("SELECT artefact FROM ops.segment_models WHERE version = %s", [version]).fetchone()
    return None if row is None else bytes(row[0])


def read_labels(connection: Connection, users: Sequence[str] | None = None) -> dict[str, Label]:
    """The segment of each user, or of some."""
    rows = connection.execute(
        "SELECT user_id, segment, confidence, model FROM analytics.user_segments"
        " WHERE %(users)s::text[] IS NULL OR user_id = ANY(%(users)s)",
        {"users": users},
    )
    return {row[0]: Label(row[1], row[2], row[3]) for row in rows}


def read_query_segments(connection: Connection, users: Sequence[str] | None = None) -> dict[str, str]:
    """The segment that each distinct query looks like, by the query's id; of all queries, or of some users'."""
    if users is None:
        rows = connection.execute("SELECT query_id, segment FROM analytics.query_segments").fetchall()
    else:
        rows = connection.execute(
            "SELECT DISTINCT query_id, segment FROM analytics.user_queries"
            " JOIN analytics.query_segments USING (query_id) WHERE user_id = ANY(%s)",
            [users],
        ).fetchall()
    return dict(rows)


def label_of_unknown(connection: Connection, names: Sequence[str], model: str) -> Label:
    """What documents carry whose searcher has no segment: the largest; the first of equals, in the order of `names`."""
    sizes: dict[str, int] = dict(
        connection.execute("SELECT segment, count(*) FROM analytics.user_segments GROUP BY segment").fetchall()
    )
    return Label(max(names, key=lambda name: sizes.get(name, 0)), 0.0, model)


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(value, DECIMALS) for value in values.tolist()]


def _copy(connection: Connection, statement: LiteralString, rows: Iterable[tuple[object, ...]]) -> None:
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
