"""The copy for Spark: whole months, in a manifest that is always valid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from psycopg import IsolationLevel
from pyarrow import parquet

from shop_platform.engines.export import bring_up, exclusive, prepare, size_and_hash
from shop_platform.engines.lake import Lake, Manifest
from shop_platform.errors import DataError
from shop_platform.resources.postgres import PostgresResource
from shop_platform_tests.performance.conftest import RANDOM, TINY

EXPORT = """
import sys
from shop_platform_tests.engines.test_export import export
from shop_platform.engines.lake import Lake
from shop_platform.resources.postgres import PostgresResource
export(PostgresResource(), Lake(sys.argv[1]))
"""


def export(postgres: PostgresResource, lake: Lake) -> Manifest:
    """Bring the copy up, as a refresh does."""
    prepare(postgres, lake)
    with exclusive(postgres), postgres.connect() as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        return bring_up(postgres, connection, lake)


def damaged(lake: Lake, manifest: Manifest) -> list[str]:
    """Files whose bytes are not those that were written."""
    parts = [part for parts in manifest.partitions.values() for part in parts.values()]
    return [part.file for part in parts if size_and_hash(lake, part.file) != (part.size, part.sha256)]


def test_every_row_is_copied_into_the_month_that_it_belongs_to(postgres: PostgresResource, lake: Lake) -> None:
    with postgres.connect() as connection:
        connection.execute(TINY)
        connection.execute("INSERT INTO users (user_id, signup_date, city) VALUES ('x\"\n,y', 'infinity', '')")
    manifest = export(PostgresResource(time_zone="Asia/Tokyo"), lake)
    assert {month: part.rows for month, part in manifest.partitions["events"].items()} == {"2024-12": 1, "2025-01": 5}
    assert damaged(lake, manifest) == []
    december = parquet.read_table(lake.path(manifest.partitions["events"]["2024-12"].file)).to_pylist()
    assert [(row["user_id"], row["event_type"], str(row["timestamp"])) for row in december] == [
        ("ann", "viewed", "2024-12-31 10:00:00+00:00")
    ]
    users = parquet.read_table(lake.path(manifest.partitions["users"]["all"].file)).to_pylist()
    assert users[-1] == {"user_id": 'x"\n,y', "signup_date": None, "attributes": '{"city": "", "country": null}'}
    products = parquet.read_table(lake.path(manifest.partitions["products"]["all"].file)).to_pylist()
    assert [str(row["price"]) for row in products] == ["19.99", "5.00", "400.10"]


def test_only_months_that_changed_are_written_again(postgres: PostgresResource, lake: Lake) -> None:
    with postgres.connect() as connection:
        connection.execute(RANDOM)
    first = export(postgres, lake)
    with postgres.connect() as connection:
        connection.execute("UPDATE events SET event_type = 'viewed' WHERE timestamp::date = '2025-05-05'")
        connection.execute("DELETE FROM events WHERE date_trunc('month', timestamp) = '2025-07-01'")
    second = export(postgres, lake)
    assert second.state != first.state
    before, after = first.partitions["events"], second.partitions["events"]
    assert {month for month in before if before[month] != after.get(month)} == {"2025-05", "2025-07"}
    assert "2025-07" not in after
    with postgres.connect() as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchall() == [(second.rows("events"),)]
        # TRUNCATE tells of no month: everything is copied anew.
        connection.execute("TRUNCATE events")
    assert export(postgres, lake).partitions["events"] == {}


def test_a_killed_copy_leaves_the_manifest_of_before_valid(postgres: PostgresResource, lake: Lake) -> None:
    with postgres.connect() as connection:
        connection.execute(RANDOM)
    before = export(postgres, lake)
    with postgres.connect() as connection:
        connection.execute("UPDATE events SET event_type = 'viewed' WHERE event_type = 'add_to_cart'")
    with psycopg.connect(postgres.url()) as other:
        # What is copied last waits for us, so that the others are written when the process is killed.
        other.execute("LOCK TABLE products IN ACCESS EXCLUSIVE MODE")
        process = subprocess.Popen([sys.executable, "-c", EXPORT, lake.location], env=os.environ)
        folder = Path(lake.location) / "users"
        while len(list(folder.rglob("*.parquet"))) < 2:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    assert lake.manifest() == before
    assert damaged(lake, before) == []
    after = export(postgres, lake)
    assert after.partitions["events"].keys() == before.partitions["events"].keys()
    assert not set(before.partitions["events"].values()) & set(after.partitions["events"].values())
    found = {str(path.relative_to(lake.location)) for path in Path(lake.location).rglob("*.parquet")}
    assert found == after.files(), "what the killed run left is gone"


def test_damage_is_found_and_told_with_what_to_do(postgres: PostgresResource, lake: Lake) -> None:
    with postgres.connect() as connection:
        connection.execute(TINY)
    manifest = export(postgres, lake)
    path = Path(lake.path(manifest.partitions["events"]["2025-01"].file))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert damaged(lake, manifest) == [manifest.partitions["events"]["2025-01"].file]
    path.unlink()
    with pytest.raises(DataError, match=r"is missing or not what was written: remove manifest\.json"):
        lake.manifest()


def test_events_at_infinity_are_refused(postgres: PostgresResource, lake: Lake) -> None:
    with postgres.connect() as connection:
        connection.execute(TINY)
        connection.execute("UPDATE events SET timestamp = 'infinity' WHERE event_id = 1")
    with pytest.raises(DataError, match="infinity"):
        export(postgres, lake)
    assert lake.manifest() is None
