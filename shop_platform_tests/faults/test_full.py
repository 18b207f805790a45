"""Disks that are truly full: what runs into that ends by name, what was there stays, and with room all goes on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch

from shop_platform.commerce.loading import load_or_refuse
from shop_platform.errors import ServiceError, StorageError
from shop_platform.resources.elasticsearch import ElasticsearchResource, create_index, write_bulk
from shop_platform.resources.postgres import PostgresResource
from shop_platform.services import postgres as postgres_service
from shop_platform.settings import load_settings

from ..segmentation.conftest import LogSource, load
from .children import child, materialise
from .disks import MIB, Disk, disk
from .shops import shop_of_events, tables
from .test_outages import interrupted_logs

COMMERCE = ("users", "products", "events")
ARTEFACTS = ("cohort_retention", "retention_heatmap", "retention_export")


class Runs:
    """Runs of a small shop in one database, whose home is where it is said."""

    def __init__(self, elasticsearch: ElasticsearchResource, dagster: Path) -> None:
        self.prefix, self.dagster = elasticsearch.index_prefix, dagster
        dagster.mkdir(parents=True, exist_ok=True)

    def make(self, home: Path, assets: Sequence[str], events: int) -> list[tuple[str, str]]:
        """What failed, and why."""
        settings = {
            "SHOP_HOME": str(home), "DAGSTER_HOME": str(self.dagster), "SHOP_USERS": "40", "SHOP_EVENTS": str(events),
        }  # fmt: skip
        with child(materialise, os.environ | settings, self.prefix, assets) as run:
            assert run.hear() == "ready"
            run.tell("begin")
            return run.hear()  # type: ignore[return-value]


def files(folder: Path) -> dict[str, bytes]:
    """Those of the shop, temporary ones among them."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "filler"]
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.exhaustive
@pytest.mark.usefixtures("postgres")
def test_artefacts_for_which_there_is_no_room_are_refused_by_name_and_one_more_run_with_room_is_whole(
    elasticsearch: ElasticsearchResource, tmp_path: Path
) -> None:
    runs, home, roomy = Runs(elasticsearch, tmp_path / "dagster"), tmp_path / "home", tmp_path / "roomy"
    folder = home / "shops" / "shop"
    with disk(folder, 4 * MIB) as small:
        assert runs.make(home, [*COMMERCE, *ARTEFACTS], 600) == []
        old = files(folder)
        small.fill()
        failures = runs.make(home, [*COMMERCE, *ARTEFACTS], 700)
        assert {what for what, _ in failures} == {"retention_heatmap", "retention_export"}
        for _, why in failures:
            assert "can't be written: No space left on device. Make room" in why
        assert files(folder) == old
        small.make_room()
        assert runs.make(home, [*COMMERCE, *ARTEFACTS], 700) == []
        new = files(folder)
    assert runs.make(roomy, ARTEFACTS, 700) == []
    made = files(roomy / "shops" / "shop")
    assert new.keys() == made.keys()
    assert {name for name in new if new[name] != old[name]} >= {name for name in new if name.endswith(".csv")}
    assert all(new[name] == made[name] for name in new if name.endswith(".csv"))


@pytest.mark.usefixtures("postgres")
def test_a_history_of_runs_for_which_there_is_no_room_is_named_and_with_room_the_run_is_whole(
    elasticsearch: ElasticsearchResource, tmp_path: Path
) -> None:
    with disk(tmp_path / "disk", 8 * MIB) as small:
        runs = Runs(elasticsearch, small.folder / "dagster")
        assert runs.make(tmp_path / "home", COMMERCE, 600) == []
        small.fill()
        ((what, why),) = runs.make(tmp_path / "home", COMMERCE, 700)
        assert what == "StorageError"
        assert re.search(r"Dagster's history in .* can't be written: (disk I/O error|.*full)\. Make room", why)
        small.make_room()
        assert runs.make(tmp_path / "home", COMMERCE, 700) == []


@pytest.fixture
def servers_disk(server_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """The disk of an embedded PostgreSQL of the test's own, which holds nothing yet."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    server_folder.chmod(0o755)
    with disk(server_folder / "disk", 300 * MIB) as made:
        monkeypatch.setenv("SHOP_HOME", str(made.folder / "home"))
        yield made
        postgres_service.stop(load_settings())


def test_a_load_that_fills_the_disk_of_postgresql_ends_by_name_and_with_room_all_goes_on(servers_disk: Disk) -> None:
    postgres = PostgresResource()
    postgres.migrate()
    load_or_refuse(postgres, shop_of_events(1_000, "old"))
    old = tables(postgres)
    servers_disk.fill(leaving=10 * MIB)
    with pytest.raises(StorageError, match=r"No space left on device.*Make room, then run it again"):
        load_or_refuse(postgres, shop_of_events(100_000, "new"))
    assert tables(postgres) == old
    servers_disk.make_room()
    assert load_or_refuse(postgres, shop_of_events(100_000, "new"))["events"].rows_loaded == 100_000


def use_up_the_log(postgres: PostgresResource) -> None:
    """Leave a hundredth of the last file of the write-ahead log, each of which takes 16 MiB."""
    with postgres.connect(autocommit=True) as connection:
        for statement in ("ALTER SYSTEM SET wal_recycle = off", "SELECT pg_reload_conf()", "CHECKPOINT"):
            connection.execute(statement)
        ahead = "SELECT count(*) > 0 FROM pg_ls_waldir() WHERE name > pg_walfile_name(pg_current_wal_insert_lsn())"
        while connection.execute(ahead).fetchone() == (True,):  # type: ignore[call-overload]
            connection.execute("SELECT pg_logical_emit_message(false, '', '')")
            connection.execute("SELECT pg_switch_wal()")
        connection.execute(
            "SELECT pg_logical_emit_message(false, '', repeat('x', (16777216 * 0.99 - mod(pg_wal_lsn_diff("
            "pg_current_wal_insert_lsn(), '0/0'), 16777216))::integer))"
        )


def test_postgresql_that_crashes_as_its_log_has_no_room_recovers_the_old_rows_once_it_has(servers_disk: Disk) -> None:
    postgres = PostgresResource()
    postgres.migrate()
    load_or_refuse(postgres, shop_of_events(5_000, "old"))
    old = tables(postgres)
    use_up_the_log(postgres)
    servers_disk.fill(leaving=12 * MIB)
    # Whichever of the server's processes is the first to need more of it.
    named = r"No space left on device.*Make room|The connection to PostgreSQL was lost"
    with pytest.raises((StorageError, ServiceError), match=named):
        load_or_refuse(postgres, shop_of_events(6_000, "new"))
    assert "PANIC" in (servers_disk.folder / "home" / "postgres" / "server.log").read_text()
    # Whether it can recover before there is room is its own affair: the old rows, or a named error.
    with suppress(ServiceError, StorageError):
        assert tables(postgres) == old
    servers_disk.make_room()
    assert tables(postgres) == old
    assert load_or_refuse(postgres, shop_of_events(6_000, "new"))["events"].rows_loaded == 6_000


def test_a_server_that_has_no_room_to_start_is_a_named_error_and_starts_once_it_has(servers_disk: Disk) -> None:
    postgres = PostgresResource()
    postgres.migrate()
    load_or_refuse(postgres, shop_of_events(1_000, "old"))
    old = tables(postgres)
    postgres_service.stop(load_settings())
    servers_disk.fill()
    with pytest.raises(ServiceError, match="No space left on device"), postgres.connect():
        pass
    servers_disk.make_room()
    assert tables(postgres) == old


NEARLY_FULL = r"disk is nearly full: .*flood-stage.*Make room there.*Then run it again"


@contextmanager
def flood_stage(client: Elasticsearch, alias: str) -> Iterator[None]:
    """Let the node watch its disk, and take it for nearly full whatever is free; and close an index before it does."""
    marks: dict[str, object] = {f"{DISK}.watermark.{mark}": "1000tb" for mark in ("low", "high", "flood_stage")}
    marks[f"{DISK}.threshold_enabled"] = True
    closed: dict[str, object] = {"index.blocks.read_only_allow_delete": True}
    client.cluster.put_settings(persistent=marks)
    client.indices.put_settings(index=alias, settings=closed)
    try:
        yield
    finally:
        client.cluster.put_settings(persistent=dict.fromkeys(marks))
        client.indices.put_settings(index="*", expand_wildcards="all", settings=dict.fromkeys(closed))


DISK = "cluster.routing.allocation.disk"


def test_an_index_that_a_full_disk_has_closed_is_asked_a_few_times_and_then_a_named_error(
    elasticsearch: ElasticsearchResource,
) -> None:
    alias = f"{elasticsearch.index_prefix}numbers"
    with elasticsearch.client() as client:
        create_index(client, f"{alias}-1", alias, {"properties": {"n": {"type": "integer"}}})
        with flood_stage(client, alias), pytest.raises(StorageError, match=NEARLY_FULL):
            list(write_bulk(client, alias, [{"_op_type": "create", "_id": "1", "n": 1}], backoff=0.01))
        assert client.count(index=alias)["count"] == 0


@pytest.mark.exhaustive
@pytest.mark.timeout(500)
def test_a_load_in_whose_middle_the_disk_of_elasticsearch_is_full_ends_by_name_and_the_rerun_is_whole(
    elasticsearch: ElasticsearchResource,
) -> None:
    load(elasticsearch, LogSource())
    with elasticsearch.client() as client, ExitStack() as full:
        at = f"{elasticsearch.index_prefix}user_logs"
        source = interrupted_logs(lambda: full.enter_context(flood_stage(client, at)))
        source.version = "2"
        with pytest.raises(StorageError, match=NEARLY_FULL):
            load(elasticsearch, source)
    source.happens = lambda: None
    done = load(elasticsearch, source)
    assert (done.documents, done.rows_loaded, done.own) == (9_000, 9_000, 9_000)
