"""The shapes of what the benchmarks store, under which conditions it was measured, and when two may be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, cast

from shop_platform.errors import MeasurementError

#: Raised whenever a record's shape changes: older records are then measured anew, never misread.
FORMAT = 2

#: Server settings that change plans or times.
SERVER_SETTINGS = (
    "effective_cache_size",
    "hash_mem_multiplier",
    "jit",
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
    "random_page_cost",
    "seq_page_cost",
    "shared_buffers",
    "work_mem",
)


class Provenance(TypedDict):
    """Under which conditions something was measured.

    Attributes:
        format: of the record, `FORMAT`.
        server_version: of PostgreSQL, such as "18.4".
        settings: `SERVER_SETTINGS` by name, as the server words them.
        time_zone: in which weeks and days were cut.
        rows: rows of the copy by table.
        fingerprints: of these rows, by table.
        live_events: rows of the live table `events` when it was copied or compared; more than were measured where a
            sample was.
        one_user_in: k where the events of every k-th user were measured; 1 where all were.
        queries: fingerprint of its SQL by query.
        source: fingerprint of the loaded source, None where the events were not loaded by the platform.
        other_sessions: sessions of others at work on the server when measuring began.
        load: processes that wanted a processor, averaged over the minute before, on the machine that measures.
        processors: that this machine has.
        seed: of the order of the executions within a round.
        measured_at: ISO 8601, UTC.
    """

    format: int
    server_version: str
    settings: dict[str, str]
    time_zone: str
    rows: dict[str, int]
    fingerprints: dict[str, str]
    live_events: int
    one_user_in: int
    queries: dict[str, str]
    source: str | None
    other_sessions: int
    load: float
    processors: int
    seed: int
    measured_at: str


class Measured(TypedDict):
    """One variant of a query: its median time, and what its plan says (see `plans.Plan`)."""

    median_ms: float
    nodes: list[str]
    indexes: list[str]
    buffers_hit: int
    buffers_read: int


class BaselineQuery(TypedDict):
    """A query without indexes.

    Attributes:
        name: of the query.
        rounds: number of times.
        rows: rows of the answer.
        expected_rows: rows that it must have, counted in another way; None for queries of the user's.
        answer: fingerprint of the answer.
        measured: median and plan.
    """

    name: str
    rounds: int
    rows: int
    expected_rows: int | None
    answer: str
    measured: Measured


class Baseline(TypedDict):
    """The record of `baseline_benchmark`."""

    provenance: Provenance
    queries: list[BaselineQuery]


class IndexedQuery(TypedDict):
    """A query in all its variants, interleaved.

    Attributes:
        name: of the query.
        question: what it answers.
        rounds: number of rounds, each with one time of each variant.
        rows: rows of the answer.
        answers: fingerprint of the answer by variant.
        variants: medians and plans by variant: `as_written` without indexes, `with_indexes` with all of them,
            `rewritten` and `from_summaries` where the query has such twins, and `only <index>` for each index.
        times_ms: the times by variant, in order of the rounds.
        without: by index that helps alone and next to which others do too: times with all indexes and with all but
            this one, in turns of their own.
        cold: medians in ms `as_written` and `with_indexes` right after the tables' buffers were evicted; None where
            the server can't evict.
    """

    name: str
    question: str
    rounds: int
    rows: int
    answers: dict[str, str]
    variants: dict[str, Measured]
    times_ms: dict[str, list[float]]
    without: dict[str, Without]
    cold: dict[str, float] | None


class Without(TypedDict):
    """Times in ms of a query with all indexes and with all but one, and the indexes used without it."""

    with_all: list[float]
    without: list[float]


class LabIndex(TypedDict):
    """An index on the copy.

    Attributes:
        name: of the index.
        table: that it is on.
        columns: as SQL.
        size_bytes: of the index.
        build_ms: time that a plain build took.
        write: what it costs to insert rows into its table.
    """

    name: str
    table: str
    columns: str
    size_bytes: int
    build_ms: float
    write: WriteCost


class WriteCost(TypedDict):
    """Times in ms to insert `rows` rows in one statement, without any measured index and with only this one."""

    rows: int
    without_ms: list[float]
    with_ms: list[float]


class LabSummary(TypedDict):
    """A summary table on the copy: rows, size with its primary key, and how long filling it took."""

    name: str
    rows: int
    size_bytes: int
    build_ms: float


class Indexed(TypedDict):
    """The record of `indexed_benchmark`."""

    provenance: Provenance
    queries: list[IndexedQuery]
    indexes: list[LabIndex]
    summaries: list[LabSummary]


#: What must be equal for two records to be comparable.
_SAME = (
    "server_version",
    "settings",
    "time_zone",
    "rows",
    "fingerprints",
    "one_user_in",
    "queries",
)


def as_baseline(record: Mapping[str, Any]) -> Baseline:
    """A stored record of `baseline_benchmark`.

    Raises:
        MeasurementError: it does not say under which conditions it was measured, or is of another format.
    """
    require_provenance("baseline_benchmark", record)
    return cast("Baseline", record)


def as_indexed(record: Mapping[str, Any]) -> Indexed:
    """A stored record of `indexed_benchmark`.

    Raises:
        MeasurementError: it does not say under which conditions it was measured, or is of another format.
    """
    require_provenance("indexed_benchmark", record)
    return cast("Indexed", record)


def require_provenance(name: str, record: Mapping[str, Any]) -> None:
    """Refuse a record that does not say under which conditions it was measured.

    Raises:
        MeasurementError: something is missing, or the record has another format.
    """
    provenance = record.get("provenance") or {}
    missing = [key for key in Provenance.__annotations__ if key not in provenance]
    if not missing:
        missing = [f"settings.{key}" for key in SERVER_SETTINGS if key not in provenance["settings"]]
    if missing:
        raise MeasurementError(
            f"The record of {name} does not say under which conditions it was measured (missing: "
            f"{', '.join(missing)}): materialise {name} again."
        )
    if provenance["format"] != FORMAT:
        raise MeasurementError(
            f"The record of {name} was written by another version of the platform: materialise {name} again."
        )


def differing_conditions(first: Provenance, second: Provenance) -> list[str]:
    """What keeps two records from being compared: each condition that differs, with both values."""
    return [
        f"{key} was {before!r}, then {after!r}"
        for key, before, after in ((key, first[key], second[key]) for key in _SAME)  # type: ignore[literal-required]
        if before != after
    ]


def require_same_conditions(first: Provenance, second: Provenance) -> None:
    """Refuse to compare what was measured under different conditions.

    Raises:
        MeasurementError: names each condition that differs, with both values.
    """
    differing = differing_conditions(first, second)
    if differing:
        raise MeasurementError(
            "baseline_benchmark and indexed_benchmark can't be compared: "
            f"{'; '.join(differing)}. Materialise both again, one after the other."
        )
