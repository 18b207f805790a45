"""The embedded Elasticsearch is started once, found again, mended after a crash, and gone after `stop`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from elasticsearch import Elasticsearch

from shop_platform.errors import ServiceError, SettingsError
from shop_platform.services import elasticsearch, elasticsearch_jars
from shop_platform.settings import Settings


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings with a home for the tests of this module, stopped at their end."""
    found = Settings(home=tmp_path_factory.mktemp("elasticsearch") / "home", elasticsearch_heap="512m")
    yield found
    elasticsearch.stop(found)


def client(settings: Settings) -> Elasticsearch:
    return Elasticsearch(**elasticsearch.client_options(settings))


def pid_of(settings: Settings) -> int:
    pid = elasticsearch.status(settings).pid
    assert pid is not None
    return pid


def test_four_processes_that_ask_at_once_get_one_node_on_loopback(settings: Settings) -> None:
    program = (
        "from shop_platform.services import elasticsearch as e; from shop_platform.settings import load_settings as s; "
    )
    command = [sys.executable, "-c", program + "print(e.url(s()), e.status(s()).pid)"]
    environment = os.environ | {"SHOP_HOME": str(settings.home), "SHOP_ELASTICSEARCH_HEAP": "512m"}
    asking = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = {process.communicate(timeout=180)[0].strip() for process in asking}
    assert [process.returncode for process in asking] == [0] * 4
    assert len(answers) == 1
    listening = [c for c in psutil.Process(pid_of(settings)).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening
    assert {connection.laddr.ip for connection in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert stat.S_IMODE((settings.home / "elasticsearch").stat().st_mode) == 0o700


def test_the_heap_is_bounded_and_no_index_is_made_by_accident(settings: Settings) -> None:
    with client(settings) as es:
        heap = es.nodes.stats(metric="jvm")["nodes"].popitem()[1]["jvm"]["mem"]["heap_max_in_bytes"]
        assert heap <= 512 * 2**20
        response = es.options(ignore_status=404).index(index="made_by_accident", document={"a": 1})
        assert response.meta.status == 404


def test_a_killed_node_comes_back_with_its_data(settings: Settings) -> None:
    before = elasticsearch.url(settings)
    with client(settings) as es:
        es.indices.create(index="kept", settings={"number_of_replicas": 0})
        es.index(index="kept", document={"a": 1}, refresh=True)
    pid = pid_of(settings)
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
    assert not elasticsearch.status(settings).running
    assert elasticsearch.url(settings) == before
    with client(settings) as es:
        es.cluster.health(index="kept", wait_for_status="yellow")
        assert es.count(index="kept")["count"] == 1


def test_a_state_file_that_names_a_stranger_is_seen_through(settings: Settings) -> None:
    elasticsearch.url(settings)
    state_file = settings.home / "elasticsearch" / "server.json"
    state = json.loads(state_file.read_text())
    assert elasticsearch.stop(settings)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        state_file.write_text(json.dumps(state | {"pid": stranger.pid}))
        assert not elasticsearch.status(settings).running
        assert not elasticsearch.stop(settings)
        assert stranger.poll() is None
        stranger.kill()


def test_a_state_file_that_is_no_json_is_seen_through(settings: Settings) -> None:
    (settings.home / "elasticsearch" / "server.json").write_text("{")
    assert not elasticsearch.status(settings).running


def test_nothing_is_left_after_stop(settings: Settings) -> None:
    elasticsearch.url(settings)
    process = psutil.Process(pid_of(settings))
    family = [process, *process.children(recursive=True)]
    assert elasticsearch.stop(settings)
    assert not [member for member in family if member.is_running() and member.status() != psutil.STATUS_ZOMBIE]
    assert not elasticsearch.stop(settings)


def test_a_url_in_the_environment_starts_nothing_and_hides_its_password(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", elasticsearch_url="https://reader:hu%2Fsh@127.0.0.1:1/es")
    options = elasticsearch.client_options(settings)
    assert options["hosts"] == ["https://127.0.0.1:1/es"]
    assert options["basic_auth"] == ("reader", "hu/sh")
    assert options["verify_certs"] is True
    status = elasticsearch.status(settings)
    assert not status.running
    assert "hu" not in str(status.url)
    assert not elasticsearch.stop(settings)
    assert not settings.home.exists()


def test_an_api_key_and_a_certificate_authority_are_handed_on(tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_text("")
    options = elasticsearch.client_options(
        Settings(elasticsearch_url="https://es", elasticsearch_api_key="key", elasticsearch_ca_certs=authority)
    )
    assert (options["api_key"], options["ca_certs"]) == ("key", str(authority))
    assert "basic_auth" not in options


def test_a_user_and_password_beside_the_url_are_handed_on() -> None:
    settings = Settings(elasticsearch_url="http://es", elasticsearch_username="u", elasticsearch_password="p")
    assert elasticsearch.client_options(settings)["basic_auth"] == ("u", "p")


def test_verification_can_be_turned_off() -> None:
    settings = Settings(elasticsearch_url="https://es", elasticsearch_verify_certs=False)
    assert elasticsearch.client_options(settings)["verify_certs"] is False


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"elasticsearch_url": "localhost:9200"}, "must look like"),
        ({"elasticsearch_url": "http://es", "elasticsearch_username": "u"}, "ELASTICSEARCH_PASSWORD"),
        ({"elasticsearch_url": "https://es", "elasticsearch_ca_certs": Path("nowhere.crt")}, "nowhere.crt"),
    ],
)
def test_settings_that_contradict_each_other_are_named(changed: dict[str, object], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        elasticsearch.client_options(Settings(**changed))  # type: ignore[arg-type]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the jars' cache that a test may spoil; the repository can't be reached while it does."""
    elasticsearch_jars.ensure_jars()
    whole = elasticsearch_jars.cache_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copy = elasticsearch_jars.cache_folder()
    shutil.copytree(whole, copy)
    return copy


@pytest.mark.parametrize("spoil", ["truncate", "tamper", "remove"])
def test_a_spoilt_jar_is_noticed_and_without_a_network_named(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    jar = next(own_cache.rglob("elasticsearch-core-*.jar"))
    content = jar.read_bytes()
    if spoil == "remove":
        jar.unlink()
    else:
        jar.write_bytes(content[: len(content) // 2] if spoil == "truncate" else content[:-1] + b"x")
    with pytest.raises(ServiceError, match=r"elasticsearch-core:.* can't be fetched"):
        elasticsearch_jars.ensure_jars()


def test_whole_jars_need_no_network(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    jars = elasticsearch_jars.ensure_jars()
    assert all(jar.is_relative_to(own_cache) for jar in (*jars.lib, *jars.netty))
    assert jars.version.startswith("9.2.")


def test_a_spoilt_jar_is_fetched_again(own_cache: Path) -> None:
    jar = next(own_cache.rglob("elasticsearch-core-*.jar"))
    whole = jar.read_bytes()
    jar.write_bytes(whole[:1_000])
    fetched: list[tuple[int, int]] = []
    try:
        elasticsearch_jars.ensure_jars(lambda done, total: fetched.append((done, total)))
    except ServiceError as error:
        pytest.skip(f"the repository of the jars can't be reached: {error}")
    assert jar.read_bytes() == whole
    assert fetched == [(1, 1)]


def test_a_node_that_can_not_start_says_why(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", elasticsearch_heap="1m")
    with pytest.raises(ServiceError, match="Elasticsearch ended with exit code") as caught:
        elasticsearch.url(settings)
    assert "process.log" in str(caught.value)
    assert not elasticsearch.status(settings).running
