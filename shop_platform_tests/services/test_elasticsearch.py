"""The embedded Elasticsearch is started once, found again, mended after a crash, and gone after `stop`."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from elasticsearch import Elasticsearch

from shop_platform.errors import ServiceError
from shop_platform.services import elasticsearch
from shop_platform.services.process import birth_of
from shop_platform.settings import Settings
from shop_platform_tests.services.asking import alive, answers, ask, family, kill


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings with a home for the tests of this module, which each leave it usable; stopped at their end."""
    found = Settings(home=tmp_path_factory.mktemp("elasticsearch") / 'it\'s, "so" $odd', elasticsearch_heap="300m")
    yield found
    elasticsearch.stop(found)


def client(settings: Settings) -> Elasticsearch:
    return Elasticsearch(**elasticsearch.client_options(settings))


def keep_a_document(settings: Settings) -> None:
    with client(settings) as es:
        if not es.indices.exists(index="kept"):
            es.indices.create(index="kept", settings={"number_of_replicas": 0})
        es.index(index="kept", id="1", document={"a": 1})


def documents(settings: Settings) -> int:
    with client(settings) as es:
        es.indices.refresh(index="kept")
        return int(es.count(index="kept")["count"])


def state_file(settings: Settings) -> Path:
    return settings.home / "elasticsearch" / "server.json"


def state(settings: Settings) -> dict[str, Any]:
    found = json.loads(state_file(settings).read_text())
    assert isinstance(found, dict)
    return found


def pid(settings: Settings) -> int:
    found = elasticsearch.status(settings).pid
    assert found is not None
    return found


def test_eight_processes_that_ask_at_once_get_one_node_on_loopback(settings: Settings) -> None:
    url = "postgresql://reader:canary@there/shop"
    secret = {"DATABASE_URL": url, "SHOP_SOURCE_DATABASE_URL": url, "SHOP_ALERT_WEBHOOK": "https://there/canary"}
    names = ("ELASTICSEARCH_PASSWORD", "PGPASSWORD", "SHOP_SOURCE_ELASTICSEARCH_API_KEY", "DAGSTER_STORAGE_PASSWORD")
    secret |= dict.fromkeys(names, "canary")
    assert len(answers([ask("elasticsearch", settings, **secret) for _ in range(8)])) == 1
    listening = [c for c in psutil.Process(pid(settings)).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {connection.laddr.ip for connection in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert len(listening) == 2  # HTTP, and the transport between nodes
    for private in (settings.home, settings.home / "elasticsearch"):
        assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_the_node_is_not_handed_our_secrets(settings: Settings) -> None:
    elasticsearch.url(settings)  # started above, by a process that had some
    assert "canary" not in str(psutil.Process(pid(settings)).environ())


def test_the_heap_is_bounded_and_no_index_is_made_by_accident(settings: Settings) -> None:
    with client(settings) as es:
        heap = es.nodes.stats(metric="jvm")["nodes"].popitem()[1]["jvm"]["mem"]["heap_max_in_bytes"]
        assert heap <= 300 * 2**20
        response = es.options(ignore_status=404).index(index="made_by_accident", document={"a": 1})
        assert response.meta.status == 404


def test_its_java_gets_the_options_that_are_set(settings: Settings) -> None:
    assert settings.elasticsearch_java_options == "-XX:TieredStopAtLevel=1"  # conftest.py
    with client(settings) as es:
        (node,) = es.nodes.info(metric="jvm")["nodes"].values()
    assert settings.elasticsearch_java_options in node["jvm"]["input_arguments"]


def test_a_nearly_full_disk_does_not_block_writing(settings: Settings) -> None:
    with client(settings) as es:
        found = es.cluster.get_settings(include_defaults=True, flat_settings=True)
    assert found["defaults"]["cluster.routing.allocation.disk.threshold_enabled"] == "false"


def test_a_second_call_finds_the_same_node(settings: Settings) -> None:
    first = elasticsearch.url(settings), pid(settings)
    assert (elasticsearch.url(settings), pid(settings)) == first


def test_a_url_to_a_running_server_is_seen_to_answer(settings: Settings, tmp_path: Path) -> None:
    own = Settings(home=tmp_path / "home", elasticsearch_url=elasticsearch.url(settings))
    status = elasticsearch.status(own)
    assert (status.embedded, status.running, status.pid) == (False, True, None)
    assert not own.home.exists()


@pytest.mark.fault
def test_a_killed_node_comes_back_at_its_address_with_its_data(settings: Settings) -> None:
    before = elasticsearch.url(settings)
    keep_a_document(settings)
    kill(pid(settings))
    assert not elasticsearch.status(settings).running
    assert elasticsearch.url(settings) == before
    assert documents(settings) == 1


def test_nothing_is_left_after_stop_and_a_state_file_that_names_a_stranger_is_seen_through(settings: Settings) -> None:
    elasticsearch.url(settings)
    keep_a_document(settings)
    noted = state(settings)
    processes = family(pid(settings))
    assert elasticsearch.stop(settings)
    assert not alive(processes)
    assert not elasticsearch.stop(settings)
    with subprocess.Popen(["sleep", "60"]) as stranger, socket.create_server(("127.0.0.1", noted["port"])):
        changed = noted | {"pid": stranger.pid, "birth": birth_of(psutil.Process(stranger.pid))}
        state_file(settings).write_text(json.dumps(changed))
        assert not elasticsearch.status(settings).running
        assert not elasticsearch.stop(settings)
        state_file(settings).write_text(json.dumps(changed))
        assert elasticsearch.url(settings) != noted["url"]
        assert documents(settings) == 1
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x", "birth": "x/1", "url": "x"}', '{"pid": -1}'])
def test_a_node_whose_note_is_spoilt_is_still_stopped(settings: Settings, content: str) -> None:
    if content == "":  # once is enough: a start takes seconds
        elasticsearch.url(settings)
        node = psutil.Process(pid(settings))
        state_file(settings).write_text(content)
        assert not elasticsearch.status(settings).running
        assert elasticsearch.stop(settings)
        assert not alive([node])
    state_file(settings).write_text(content)
    assert not elasticsearch.status(settings).running
    assert not elasticsearch.stop(settings)


def test_whoever_starts_it_may_be_killed_meanwhile(settings: Settings) -> None:
    elasticsearch.stop(settings)
    state_file(settings).unlink(missing_ok=True)
    starter = ask("elasticsearch", settings)
    while "pid" not in state_or_nothing(settings):
        assert starter.poll() is None
        time.sleep(0.01)
    first = psutil.Process(state(settings)["pid"])
    starter.kill()
    starter.communicate()
    elasticsearch.url(settings)
    assert not alive([first])
    assert pid(settings) != first.pid


def state_or_nothing(settings: Settings) -> dict[str, Any]:
    try:
        return state(settings)
    except (OSError, ValueError):
        return {}


def test_a_node_whose_folder_is_removed_ends_by_itself(settings: Settings) -> None:
    elasticsearch.url(settings)
    node = psutil.Process(pid(settings))
    (settings.home / "elasticsearch").rename(settings.home.with_name("removed"))
    node.wait(timeout=60)


def test_a_node_that_can_not_start_says_why(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", elasticsearch_heap="1m")
    with pytest.raises(ServiceError, match="Elasticsearch ended with exit code") as caught:
        elasticsearch.url(settings)
    assert "process.log" in str(caught.value)
    assert "maximum heap size" in str(caught.value)
    assert not elasticsearch.status(settings).running


def test_a_node_that_finds_spoilt_data_says_why(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", elasticsearch_heap="300m")
    data = settings.home / "elasticsearch" / "data"
    data.mkdir(parents=True)
    (data / "nodes").mkdir()
    (data / "nodes" / "0").mkdir()
    (data / "nodes" / "0" / "_state").write_text("?")
    with pytest.raises(ServiceError, match="Elasticsearch ended with exit code 1"):
        elasticsearch.url(settings)


def test_a_url_in_the_environment_starts_nothing_and_hides_its_password(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", elasticsearch_url="https://reader:hu%2Fsh@127.0.0.1:1/es")
    assert elasticsearch.url(settings) == "https://reader:hu%2Fsh@127.0.0.1:1/es"
    status = elasticsearch.status(settings)
    assert (status.embedded, status.running, status.url) == (False, False, "https://127.0.0.1:1/es")
    assert "hu" not in repr(status)
    assert not elasticsearch.stop(settings)
    assert not settings.home.exists()
