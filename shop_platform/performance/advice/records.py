"""The shape of what the advice stores."""

from __future__ import annotations

from typing import TypedDict

from shop_platform.performance.effects import Interval
from shop_platform.performance.records import Measured, Provenance
from shop_platform.performance.statistics import Verdict


class CandidateTried(TypedDict):
    """An index that was built on the copy and tried.

    Attributes:
        name: of the index.
        table: that it is on.
        kind: such as `partial` or `covering`; `given` for one of `sql/indexes/`.
        statement: that builds it, on the live tables while people work.
        reason: why it was tried.
        size_bytes: on the measured rows.
        build_ms: time that a plain build took.
        queries: what it does for each query, by name.
        chosen: whether it is in the advised set.
        live: name of an index on the live tables that is the same; None where there is none.
        lock: what building it locks.
        insert_slowdown: for the chosen: time of an insert with this index alone over the time without any.
    """

    name: str
    table: str
    kind: str
    statement: str
    reason: str
    size_bytes: int
    build_ms: float
    queries: dict[str, CandidateEffect]
    chosen: bool
    live: str | None
    lock: str
    insert_slowdown: Interval | None


class CandidateEffect(TypedDict):
    """What one candidate alone does for a query: not timed where the planner does not use it."""

    used: bool
    speedup: Interval | None
    verdict: Verdict


class OtherAdvice(TypedDict):
    """A rewriting, or a table to keep, that gives the same answer.

    Attributes:
        statements: SQL to paste: of the query, or of the table and then of the query that reads it.
        reason: why it may help, and for a table what keeps it fresh.
        median_ms: of the query.
        speedup: as_written over it.
        verdict: the word for it.
    """

    statements: list[str]
    reason: str
    median_ms: float
    speedup: Interval
    verdict: Verdict


class QueryAdvice(TypedDict):
    """What the advised set of indexes does for one query, measured in turns.

    Attributes:
        name: of the query.
        rounds: number of rounds.
        as_written: without any index but primary keys.
        given: with the indexes of `sql/indexes/`.
        advised: with the advised set.
        advised_speedup: as_written over advised.
        against_given: given over advised: above 1 where the advised set beats them.
        verdict: on the advised set, against as_written.
        rewriting: with the advised set; None where there is none.
        summary: None where the query can't be answered from a table of its groups.
    """

    name: str
    rounds: int
    as_written: Measured
    given: Measured
    advised: Measured
    advised_speedup: Interval
    against_given: Interval
    verdict: Verdict
    rewriting: OtherAdvice | None
    summary: OtherAdvice | None


class Advice(TypedDict):
    """The record of `index_advice`, which `shop-platform results --json` publishes.

    Attributes:
        provenance: conditions of the measurement.
        tables_bytes: size of the measured tables, without indexes.
        budget_bytes: room that the advised set may take.
        advised_bytes: room that it takes.
        candidates: all that were tried, those chosen first.
        unbuilt: by name, why a candidate could not be built.
        queries: what the advised set does, by query.
    """

    provenance: Provenance
    tables_bytes: int
    budget_bytes: int
    advised_bytes: int
    candidates: list[CandidateTried]
    unbuilt: dict[str, str]
    queries: list[QueryAdvice]
