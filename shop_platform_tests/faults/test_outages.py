"""Servers that stop, restart or are killed in the middle of something."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from shop_platform.commerce.loading import load_or_refuse
from shop_platform.errors import ServiceError
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform.segmentation.marks import history
from shop_platform.services import elasticsearch as elasticsearch_service
from shop_platform.services import postgres as postgres_service
from shop_platform.settings import Settings
from shop_platform.sources.base import Extract

from ..commerce.lists import ListSource, shop_of
from ..conftest import TEMPLATE
from ..segmentation.conftest import LogSource, load, search
from ..services.asking import kill
from .children import child, materialise
from .shops import shop_of_events, source_of_events, tables

EVENTS = 5_000


def halfway(extract: Extract, happens: Callable[[], object]) -> Extract:
    """The same rows, with something that happens in the middle of each batch."""

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in extract.batches:
            yield batch.slice(0, batch.num_rows // 2)
            happens()
            yield batch.slice(batch.num_rows // 2)

    return Extract(batches(), extract.rows_read)


class Interrupted(ListSource):
    """A source in the middle of whose events something happens."""

    happens: Callable[[], object]

    def events(self) -> Extract:
        return halfway(super().events(), self.happens)


def interrupted(happens: Callable[[], object]) -> Interrupted:
    source = source_of_events(EVENTS, "new")
    made = Interrupted(source.user_rows, source.product_rows, source.event_rows, version="new")
    made.happens = happens
    return made


@pytest.mark.parametrize("how", ["restarted", "killed"])
def test_postgresql_that_restarts_in_the_middle_of_a_load_keeps_the_old_rows_and_the_rerun_succeeds(
    postgres: PostgresResource, servers: Settings, how: str
) -> None:
    def restart() -> None:
        if how == "killed":
            kill(postgres_service.status(servers).pid)
        else:
            assert postgres_service.stop(servers)
        postgres_service.url(servers, TEMPLATE)

    load_or_refuse(postgres, shop_of_events(100, "old"))
    before = tables(postgres)
    with pytest.raises(ServiceError, match="The connection to PostgreSQL was lost"):
        load_or_refuse(postgres, shop_of(interrupted(restart)))
    assert tables(postgres) == before
    assert load_or_refuse(postgres, shop_of(interrupted(lambda: None)))["events"].rows_loaded == EVENTS
    assert tables(postgres)["events"][0] == EVENTS


class InterruptedLogs(LogSource):
    """Search logs in the middle of which something happens."""

    happens: Callable[[], object]

    def searches(self) -> Extract:
        return halfway(super().searches(), self.happens)


def interrupted_logs(happens: Callable[[], object]) -> InterruptedLogs:
    made = InterruptedLogs([search(query=f"query {number}") for number in range(9_000)])
    made.happens = happens
    return made


@pytest.mark.parametrize(
    ("seconds", "silence"),
    [(4, "1"), pytest.param(30, "10", marks=pytest.mark.exhaustive)],
)
def test_elasticsearch_that_stands_still_in_the_middle_of_a_load_is_waited_for_and_no_document_is_lost_or_doubled(
    elasticsearch: ElasticsearchResource,
    servers: Settings,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    silence: str,
) -> None:
    monkeypatch.setenv("SHOP_SILENCE", silence)
    pid = elasticsearch_service.status(servers).pid
    assert pid is not None
    node = psutil.Process(pid)
    again = threading.Timer(seconds, node.resume)

    def stand_still() -> None:
        node.suspend()
        again.start()

    done = load(elasticsearch, interrupted_logs(stand_still))
    again.join()
    assert (done.documents, done.rows_loaded, done.own) == (9_000, 9_000, 9_000)


@pytest.mark.exhaustive
def test_elasticsearch_that_is_killed_in_the_middle_of_a_load_ends_it_by_name_and_the_rerun_is_whole(
    elasticsearch: ElasticsearchResource, servers: Settings
) -> None:
    with pytest.raises(ServiceError, match="Elasticsearch does not answer"):
        load(elasticsearch, interrupted_logs(lambda: kill(elasticsearch_service.status(servers).pid)))
    elasticsearch_service.url(servers)
    done = load(elasticsearch, interrupted_logs(lambda: None))
    assert (done.documents, done.rows_loaded, done.own) == (9_000, 9_000, 9_000)


def test_a_run_that_finds_no_server_when_it_begins_says_so(tmp_path: Path) -> None:
    settings = {
        "DATABASE_URL": "postgresql://nobody:hush@127.0.0.1:1/nowhere",
        "SHOP_HOME": str(tmp_path / "home"), "DAGSTER_HOME": str(tmp_path),
    }  # fmt: skip
    with child(materialise, os.environ | settings, "", ["users", "products", "events"]) as run:
        assert run.hear() == "ready"
        run.tell("begin")
        ((what, why),) = run.hear()  # type: ignore[misc]
    assert (what, why.partition(" (")[0]) == ("run", "PostgreSQL cannot be reached")
    assert "hush" not in why


def test_an_index_that_a_node_has_not_taken_up_yet_after_its_start_is_waited_for(
    elasticsearch: ElasticsearchResource,
) -> None:
    alias = f"{elasticsearch.index_prefix}user_logs"
    nowhere = {"index.routing.allocation.require._name": "nobody"}
    with elasticsearch.client() as client:
        client.indices.create(
            index=f"{alias}-1", aliases={alias: {}}, settings=nowhere, wait_for_active_shards=0, timeout="1s"
        )
        taken = threading.Timer(1, lambda: client.indices.put_settings(index=alias, settings=dict.fromkeys(nowhere)))
        taken.start()
        found = history(client, alias)
        taken.join()
        uuid = client.indices.get_settings(index=alias).body[f"{alias}-1"]["settings"]["index"]["uuid"]
        assert found == (uuid, (-1,))


@pytest.mark.exhaustive
def test_elasticsearch_that_is_back_soon_after_it_was_killed_is_gone_on_with(
    elasticsearch: ElasticsearchResource, servers: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_SILENCE", "20")

    def restart() -> None:
        kill(elasticsearch_service.status(servers).pid)
        elasticsearch_service.url(servers)

    done = load(elasticsearch, interrupted_logs(restart))
    assert (done.documents, done.rows_loaded, done.own) == (9_000, 9_000, 9_000)
