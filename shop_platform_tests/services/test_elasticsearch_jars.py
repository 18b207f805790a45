"""The jars are verified each time; what is missing or spoilt is fetched from a Maven repository, here on loopback."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shop_platform.errors import ServiceError
from shop_platform.services import elasticsearch_jars
from shop_platform.services.elasticsearch_jars import cache_folder, ensure_jars

CORE = "elasticsearch-core-*.jar"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the user's cache, laid out as a Maven repository, with every jar whole."""
    ensure_jars()
    copy = tmp_path_factory.mktemp("repository") / "maven"
    shutil.copytree(cache_folder(), copy, copy_function=os.link)  # links: nothing here writes into a jar
    return copy


@pytest.fixture
def cache(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, full."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(whole, cache_folder())
    return cache_folder()


class Repository(http.server.ThreadingHTTPServer):
    """A Maven repository on loopback that notes which jars were asked for, and sends the first ones spoilt."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        self.asked: list[str] = []
        self.spoilt = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Sends files; a spoilt one ends before the length that was announced."""

    def do_GET(self) -> None:
        assert isinstance(self.server, Repository)
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        self.server.asked.append(path.name)
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.server.spoilt > 0:
            self.server.spoilt -= 1
            content = content[: len(content) // 2]
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def repository(whole: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """Such a repository, with every jar; no proxy stands before it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Repository(whole) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No way to Maven Central."""
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")


def spoil(jar: Path, how: str) -> bytes:
    content = jar.read_bytes()
    if how == "remove":
        jar.unlink()
    elif how == "truncate":
        jar.write_bytes(content[: len(content) // 2])
    else:
        jar.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return content


@pytest.mark.parametrize("how", ["remove", "truncate", "tamper"])
def test_a_spoilt_jar_is_fetched_again_and_no_other(cache: Path, repository: Repository, how: str) -> None:
    jar = next(cache.rglob(CORE))
    content = spoil(jar, how)
    told: list[tuple[int, int]] = []
    ensure_jars(lambda done, total: told.append((done, total)), repository=repository.url)
    assert jar.read_bytes() == content
    assert repository.asked == [jar.name]
    assert told == [(1, 1)]


def test_an_empty_cache_is_filled_and_nothing_else_left_in_it(cache: Path, repository: Repository) -> None:
    shutil.rmtree(cache)
    jars = ensure_jars(repository=repository.url)
    files = {file for file in cache.rglob("*") if file.is_file()}
    assert files == {*jars.lib, *jars.netty, cache / "fetch.lock"}


def test_a_download_that_breaks_off_is_tried_once_more(cache: Path, repository: Repository) -> None:
    content = spoil(next(cache.rglob(CORE)), "remove")
    repository.spoilt = 1
    ensure_jars(repository=repository.url)
    assert next(cache.rglob(CORE)).read_bytes() == content
    assert len(repository.asked) == 2


def test_a_download_that_breaks_off_twice_is_named_and_leaves_nothing(cache: Path, repository: Repository) -> None:
    jar = next(cache.rglob(CORE))
    spoil(jar, "remove")
    repository.spoilt = 2
    with pytest.raises(ServiceError, match=r"elasticsearch-core:.* can't be fetched"):
        ensure_jars(repository=repository.url)
    assert not jar.exists()
    assert [entry.name for entry in cache.iterdir() if entry.is_dir() and entry.name.startswith("tmp")] == []


def test_a_jar_that_is_not_the_one_we_trust_is_never_kept(cache: Path, repository: Repository, tmp_path: Path) -> None:
    jar = next(cache.rglob(CORE))
    other = tmp_path / "other" / jar.relative_to(cache)
    other.parent.mkdir(parents=True)
    other.write_bytes(b"not what was asked for")
    jar.unlink()
    repository.RequestHandlerClass = functools.partial(Handler, directory=str(tmp_path / "other"))
    with pytest.raises(ServiceError, match="does not have the checksum"):
        ensure_jars(repository=repository.url)
    assert not jar.exists()
    assert len(repository.asked) == 2


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("how", ["remove", "truncate", "tamper"])
def test_a_spoilt_jar_without_a_network_is_named_with_what_to_do(cache: Path, how: str) -> None:
    spoil(next(cache.rglob(CORE)), how)
    with pytest.raises(ServiceError, match=r"elasticsearch-core:.* can't be fetched .*Connect to the network"):
        ensure_jars()


@pytest.mark.usefixtures("no_network")
def test_whole_jars_need_neither_network_nor_lock(cache: Path) -> None:
    (cache / "fetch.lock").unlink(missing_ok=True)
    jars = ensure_jars()
    assert all(jar.is_relative_to(cache) for jar in (*jars.lib, *jars.netty))
    assert jars.version == elasticsearch_jars.pinned_version()
    assert not (cache / "fetch.lock").exists()


def test_a_cache_that_can_not_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ServiceError, match="set XDG_CACHE_HOME"):
        ensure_jars()


@pytest.fixture
def authority(repository: Repository, tmp_path: Path) -> Path:
    """Certificate that the repository shows from now on; nobody knows it but whoever trusts this file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on this machine to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "authority.pem"
    request = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*request, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    repository.socket = context.wrap_socket(repository.socket, server_side=True)
    repository.url = repository.url.replace("http:", "https:")
    return certificate


@pytest.mark.parametrize("trusted", [True, False])
def test_the_authorities_of_the_system_are_trusted_and_no_others(
    cache: Path, repository: Repository, authority: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    spoil(next(cache.rglob(CORE)), "remove")
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        ensure_jars(repository=repository.url)
    else:
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        with pytest.raises(ServiceError, match=r"can't be fetched \(SSLError\)"):
            ensure_jars(repository=repository.url)
    assert len(list(cache.rglob(CORE))) == trusted
    assert "REQUESTS_CA_BUNDLE" not in os.environ


def test_a_spoilt_jar_is_fetched_again_from_maven_central(cache: Path) -> None:
    jar = next(cache.rglob(CORE))
    content = spoil(jar, "truncate")
    try:
        ensure_jars()
    except ServiceError as error:
        if "can't be fetched" not in str(error):
            raise
        pytest.skip(f"Maven Central can't be reached: {error}")
    assert jar.read_bytes() == content


def test_each_jar_is_in_one_place_only() -> None:
    jars = ensure_jars()
    names = [jar.name for jar in (*jars.lib, *jars.netty)]
    assert len(names) == len(set(names))
    assert any(name.startswith("transport-netty4-") for name in names)
