"""Tells whether what the laboratory found still holds for the shop as it is now."""

from __future__ import annotations

from collections.abc import Sequence

from shop_platform.errors import DataError, MeasurementError
from shop_platform.performance.indexes import LIVE, index_files, index_state
from shop_platform.performance.queries import Query
from shop_platform.performance.records import require_provenance
from shop_platform.records import read_record
from shop_platform.resources.postgres import Connection


def measurements_outgrown(connection: Connection, growth: float, queries: Sequence[Query]) -> bool:
    """Whether the benchmarks should run again.

    They should where they have not run yet, where the source, the queries or the server's version has changed since,
    where one of the indexes is missing or invalid on the live tables, and where the number of events has moved by
    `growth`, a share of what was measured. Counts the events.
    """
    try:
        record = read_record(connection, "index_effects")
        require_provenance("index_effects", record)
    except (DataError, MeasurementError):
        return True
    then = record["provenance"]
    row = connection.execute(
        "SELECT (SELECT count(*) FROM events), (SELECT fingerprint FROM ops.loads WHERE table_name = 'events'),"
        " current_setting('server_version'), current_setting('TimeZone')"
    ).fetchone()
    if row is None:
        raise AssertionError("a query without FROM returns one row")
    events, source, version, time_zone = row
    if (then["source"], then["server_version"], then["time_zone"]) != (source, version.split()[0], time_zone):
        return True
    if then["queries"] != {query.name: query.fingerprint for query in queries}:
        return True
    states = [index_state(connection, LIVE, file.name) for file in index_files()]
    if any(state is None or not state.valid for state in states):
        return True
    measured = then["live_events"]
    return bool(events != measured and abs(events - measured) >= growth * measured)
