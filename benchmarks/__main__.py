"""Measures what the platform promises about speed and memory: `make bench`, or python -m benchmarks --only refresh.

Needs about 15 GB of disk for the shop of 50 million events, and 12 GB of memory for the engines that hold it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

PARTS = ("load", "answers", "retention", "memory", "refresh", "engines", "encoding", "segmentation")

#: Where the figures go.
RESULTS = Path(__file__).parent / "results" / "performance.json"


def main() -> int:
    """Run the parts that were asked for; returns 1 where a bound is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", help=f"some of {','.join(PARTS)}, comma-separated; the order is fixed")
    parser.add_argument("--small", action="store_true", help="try the scripts on 50,000 and 500,000 events")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where to write every time and the conditions")
    parser.add_argument("--home", type=Path, help="folder of the server, kept for another run; default: a new one")
    arguments = parser.parse_args()
    only = set((arguments.only or ",".join(PARTS)).split(","))
    if unknown := only - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="shop_platform_bench_") as folder:
        for name in [name for name in os.environ if name.startswith(("SHOP_", "DATABASE_URL"))]:
            del os.environ[name]
        os.environ["SHOP_HOME"] = str(arguments.home or folder)
        try:
            return _measure(only, small=arguments.small, results=arguments.json)
        finally:
            stop_servers()


def _measure(only: set[str], *, small: bool, results: Path) -> int:
    from benchmarks import answers, encoding, harness, load, refresh, retention, segmentation
    from benchmarks.shops import loaded

    tiny, middle, large = ("50k", "50k", "500k") if small else ("50k", "5m", "50m")
    found = harness.conditions(server_settings())
    rows: list[harness.Row] = []

    def part(name: str, *, needs: tuple[str, ...] = (), measure: Callable[[], list[harness.Row]]) -> None:
        if name in only:
            for size in needs:
                loaded(size)
            harness.out.print(f"{name} ...")
            new = measure()
            harness.show(new)
            rows.extend(new)

    part("load", measure=lambda: load.load_rows(middle))
    part("answers", needs=(middle,), measure=lambda: answers.as_written_rows(middle))
    part(
        "retention",
        needs=(tiny, middle),
        measure=lambda: [retention.matrix_row(middle), retention.size_row(tiny, middle), retention.events_row(middle)],
    )
    part("memory", measure=lambda: [load.memory_row(large)])
    part("refresh", needs=(tiny, large), measure=lambda: [refresh.refresh_row(tiny, large)])
    part(
        "engines",
        needs=(middle, large),
        measure=lambda: [row for size in (middle, large) for row in answers.engine_rows(size)],
    )
    part("encoding", measure=encoding.encoding_rows)
    part("segmentation", measure=lambda: segmentation.segmentation_rows(small=small))
    harness.show(rows)
    harness.write(results, rows, found)
    harness.out.print(f"Every time is in {results.name}.")
    return 0 if small or all(row.met for row in rows) else 1


def server_settings() -> dict[str, str]:
    """Version and settings of the server that is measured."""
    from benchmarks.shops import database
    from shop_platform.performance.records import SERVER_SETTINGS

    with database("shop").connect() as connection:
        row = connection.execute("SHOW server_version").fetchone()
        settings = connection.execute(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s)", [list(SERVER_SETTINGS)]
        ).fetchall()
    return {"version": str(row[0]).split()[0] if row else "", **dict(settings)}


def stop_servers() -> None:
    """End the benchmarks' servers."""
    from shop_platform.services import elasticsearch, postgres
    from shop_platform.settings import Settings

    os.environ.pop("DATABASE_URL", None)
    postgres.stop(Settings())
    elasticsearch.stop(Settings())


if __name__ == "__main__":
    sys.exit(main())
