"""Records as the benchmarks store them, made by hand: what tests of comparing start from."""

from __future__ import annotations

import json
from typing import Any

from shop_platform.performance.records import FORMAT, SERVER_SETTINGS

INDEXES = ("idx_events_product_type", "idx_events_user_time", "idx_products_category")


def provenance(**changes: Any) -> dict[str, Any]:
    conditions: dict[str, Any] = {
        "format": FORMAT,
        "server_version": "18.4",
        "settings": dict.fromkeys(SERVER_SETTINGS, "1"),
        "time_zone": "UTC",
        "rows": {"events": 50_000, "products": 20},
        "fingerprints": {"events": "1", "products": "2"},
        "live_events": 50_000,
        "one_user_in": 1,
        "queries": {"q": "abc"},
        "source": None,
        "other_sessions": 0,
        "load": 0.1,
        "processors": 2,
        "seed": 1,
        "measured_at": "2025-01-01T00:00:00+00:00",
    }
    return conditions | changes


def measured(median_ms: float, *indexes: str) -> dict[str, Any]:
    return {
        "median_ms": median_ms,
        "nodes": ["Seq Scan on events"],
        "indexes": list(indexes),
        "buffers_hit": 10,
        "buffers_read": 0,
    }


def baseline() -> dict[str, Any]:
    query = {"name": "q", "rounds": 11, "rows": 5, "expected_rows": 5, "answer": "x", "measured": measured(10)}
    return stored({"provenance": provenance(), "queries": [query]})


def indexed(
    as_written: float = 10.0,
    with_indexes: float = 5.0,
    from_summaries: float = 0.1,
    only: float = 10.0,
    without: float = 5.0,
) -> dict[str, Any]:
    """A record in which the planner uses the first index only, and with it alone takes as long as with all."""
    medians = {
        "as_written": as_written,
        "with_indexes": with_indexes,
        "rewritten": 4.0,
        "from_summaries": from_summaries,
        f"only {INDEXES[0]}": with_indexes,
        f"only {INDEXES[1]}": only,
        f"only {INDEXES[2]}": as_written,
    }
    using = ("with_indexes", f"only {INDEXES[0]}")
    query = {
        "name": "q",
        "question": "What is asked?",
        "rounds": 30,
        "rows": 5,
        "answers": dict.fromkeys(medians, "x"),
        "variants": {
            name: measured(median, *(INDEXES[:1] if name in using else ())) for name, median in medians.items()
        },
        "times_ms": {name: times(median) for name, median in medians.items()},
        "without": {INDEXES[0]: {"with_all": times(with_indexes), "without": times(without)}},
        "cold": None,
    }
    write = {"rows": 1_000, "without_ms": times(10), "with_ms": times(15)}
    made = [
        {"name": name, "table": "events", "columns": "a", "size_bytes": 8192, "build_ms": 1.0, "write": write}
        for name in INDEXES
    ]
    return stored({"provenance": provenance(), "queries": [query], "indexes": made, "summaries": []})


def times(median: float) -> list[float]:
    """Thirty times that start at a value and rise by a tenth of a percent each."""
    return [median * (1 + 0.001 * i) for i in range(30)]


def stored(record: dict[str, Any]) -> dict[str, Any]:
    """A copy as it comes back from the database."""
    copy: dict[str, Any] = json.loads(json.dumps(record))
    return copy
