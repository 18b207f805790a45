"""To another host goes only TLS whose certificate is verified: by policy, and against servers that really speak it.

Only this machine is there to connect to. 0.0.0.0 leads to it as well, and is no loopback address: it stands for
another host.
"""

from __future__ import annotations

import datetime as dt
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import trustme
from psycopg.conninfo import conninfo_to_dict

from shop_platform.errors import ServiceError, SettingsError, SourceError, UnsafeConnectionError
from shop_platform.hosts import is_this_machine
from shop_platform.resources.elasticsearch import ElasticsearchResource
from shop_platform.resources.postgres import PostgresResource
from shop_platform.services import elasticsearch
from shop_platform.services.transport import safe_conninfo, trusted_authorities
from shop_platform.settings import Settings, load_settings
from shop_platform.sources.servers import reading, reading_documents
from shop_platform_tests.services.tls import SYSTEM_POSTGRES, PostgresServer, TlsProxy, running, unix_socket, written

NAME = "db.shop.test"
ELSEWHERE = "0.0.0.0"  # noqa: S104  nothing is bound to it
ALLOWED = "in-a-private-network"


@pytest.fixture(autouse=True)
def without_libpq_s_own_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGSSLMODE", "PGSSLROOTCERT", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # ~/.postgresql/root.crt


@pytest.mark.parametrize(
    "host",
    ["", "/run/postgresql", "@abstract", "localhost", "LOCALHOST.", "127.0.0.1", "127.8.9.1", "::1", "[::1]",
     "::ffff:127.0.0.1"],
)  # fmt: skip
def test_a_socket_or_loopback_is_this_machine(host: str) -> None:
    assert is_this_machine(host)


@pytest.mark.parametrize(
    "host",
    [ELSEWHERE, "db", "localhost.example", "10.0.0.1", "128.0.0.1", "::2", "::ffff:10.0.0.1", "127.0.0.1.example",
     "2130706433"],
)  # fmt: skip
def test_anything_else_is_another_host(host: str) -> None:
    assert not is_this_machine(host)


@pytest.mark.fault
@pytest.mark.parametrize(
    "address",
    ["postgresql://u@db/x", "host=db", "host=/run,db", "host=127.0.0.1,db", "hostaddr=10.0.0.1 host=localhost",
     "host=localhost,localhost hostaddr=127.0.0.1,10.0.0.1", "service=mine", "host=db sslmode=verify-full",
     "host=localhost sslrootcert=system"],
)  # fmt: skip
def test_another_host_is_verified_whoever_it_is_named_by(address: str) -> None:
    parts = conninfo_to_dict(safe_conninfo(address, "DATABASE_URL", Settings()))
    assert (parts["sslmode"], parts["sslrootcert"]) == ("verify-full", str(trusted_authorities()))


@pytest.mark.parametrize(
    "address", ["", "postgresql:///x", "host=localhost", "host=db hostaddr=127.0.0.1", "host=/run"]
)
def test_this_machine_is_left_as_it_is_asked_for(address: str) -> None:
    assert safe_conninfo(address, "DATABASE_URL", Settings()) == address


def test_what_libpq_reads_from_its_own_variables_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PGHOST", "db")
    assert "sslmode=verify-full" in safe_conninfo("dbname=x", "DATABASE_URL", Settings())
    monkeypatch.setenv("PGSSLROOTCERT", "mine.crt")
    assert "sslrootcert=mine.crt" in safe_conninfo("dbname=x", "DATABASE_URL", Settings())
    monkeypatch.setenv("PGSSLMODE", "prefer")
    with pytest.raises(UnsafeConnectionError):
        safe_conninfo("dbname=x", "DATABASE_URL", Settings())
    monkeypatch.delenv("PGSSLMODE")
    monkeypatch.delenv("PGSSLROOTCERT")
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").touch()
    assert str(tmp_path) in safe_conninfo("dbname=x", "DATABASE_URL", Settings())
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    assert safe_conninfo("dbname=x", "DATABASE_URL", Settings()) == "dbname=x"


@pytest.mark.fault
@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca"])
def test_less_is_refused_unless_a_setting_says_so_in_words(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"postgresql://u:canary@db/x?sslmode={mode}"
    with pytest.raises(UnsafeConnectionError, match=f"^DATABASE_URL asks for sslmode={mode} ") as raised:
        safe_conninfo(address, "DATABASE_URL", Settings())
    assert "canary" not in str(raised.value)
    monkeypatch.setenv("SHOP_ALLOW_UNENCRYPTED", "1")
    with pytest.raises(SettingsError, match=f"SHOP_ALLOW_UNENCRYPTED: .*{ALLOWED}"):
        load_settings()
    monkeypatch.setenv("SHOP_ALLOW_UNENCRYPTED", ALLOWED)
    assert safe_conninfo(address, "DATABASE_URL", load_settings()) == address


@pytest.mark.fault
@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"elasticsearch_url": "http://es:9200"}, "ELASTICSEARCH_URL leads to another host by plain HTTP"),
        ({"elasticsearch_url": "https://es", "elasticsearch_verify_certs": False}, "ELASTICSEARCH_VERIFY_CERTS is off"),
    ],
)
def test_elasticsearch_is_refused_alike(changed: dict[str, object], complaint: str) -> None:
    with pytest.raises(UnsafeConnectionError, match=complaint):
        elasticsearch.client_options(Settings(**changed))  # type: ignore[arg-type]
    assert elasticsearch.client_options(Settings(**changed, allow_unencrypted=ALLOWED))  # type: ignore[arg-type]


def test_a_source_is_refused_alike_and_named() -> None:
    refused = pytest.raises(UnsafeConnectionError, match=r"^SHOP_SOURCE_DATABASE_URL asks for sslmode=require")
    with refused, reading(Settings(source_database_url="postgresql://u@db/x?sslmode=require")):  # type: ignore[arg-type]
        pass
    refused = pytest.raises(UnsafeConnectionError, match=r"^SHOP_SOURCE_ELASTICSEARCH_URL leads to another host")
    with refused, reading_documents(Settings(source_elasticsearch_url="http://es")):  # type: ignore[arg-type]
        pass


def test_an_alert_goes_to_another_host_by_tls_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_ALERT_WEBHOOK", "http://hooks.example/canary")
    with pytest.raises(SettingsError, match=r"SHOP_ALERT_WEBHOOK: .*plain HTTP") as raised:
        load_settings()
    assert "canary" not in str(raised.value)
    monkeypatch.setenv("SHOP_ALLOW_UNENCRYPTED", ALLOWED)
    assert load_settings().alert_webhook


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(authority, tmp_path_factory.mktemp("ca") / "ca.crt")


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """The file of an authority that has signed nothing here."""
    return written(trustme.CA(), tmp_path / "stranger.crt")


def expired(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert(NAME, ELSEWHERE, not_after=dt.datetime.now(dt.UTC) - dt.timedelta(days=1))


@pytest.fixture(scope="module", params=["a server", "a proxy"])
def tls_postgres(
    request: pytest.FixtureRequest, authority: trustme.CA, template_url: str
) -> Iterator[PostgresServer | TlsProxy]:
    """PostgreSQL with TLS: the system's own where there is one, and the embedded one behind a proxy that ends it."""
    certificate = authority.issue_cert(NAME)
    if request.param == "a proxy":
        path = Path(str(conninfo_to_dict(template_url)["host"])) / ".s.PGSQL.5432"
        with running(TlsProxy(lambda: unix_socket(path), certificate, postgres=True)) as proxy:
            yield proxy
        return
    if SYSTEM_POSTGRES is None:
        pytest.skip("no PostgreSQL of the system's own")
    with tempfile.TemporaryDirectory(prefix="shop_platform_tests_") as folder:
        server = PostgresServer(Path(folder), certificate)
        yield server
        server.stop()


def connect(monkeypatch: pytest.MonkeyPatch, port: int, **parts: str | Path) -> bool:
    """Connect as the platform does; returns whether by TLS."""
    named = {"host": NAME, "hostaddr": ELSEWHERE, "user": "postgres", "dbname": "postgres"} | parts
    monkeypatch.setenv("DATABASE_URL", psycopg.conninfo.make_conninfo(port=port, **named))
    with PostgresResource().connect() as connection:
        return bool(connection.pgconn.ssl_in_use)


@pytest.mark.fault
def test_postgres_is_verified_by_default(
    tls_postgres: PostgresServer | TlsProxy, ca_file: Path, stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = tls_postgres.port
    assert connect(monkeypatch, port, sslrootcert=ca_file) is True
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))  # the authorities of this system
    assert connect(monkeypatch, port) is True
    with pytest.raises(ServiceError, match="not signed by an authority that we trust, or has expired"):
        connect(monkeypatch, port, sslrootcert=stranger)
    with pytest.raises(ServiceError, match="its certificate is for another host name"):
        connect(monkeypatch, port, sslrootcert=ca_file, host="other.shop.test")
    with pytest.raises(ServiceError, match="its certificate is for another host name"):
        connect(monkeypatch, port, sslrootcert=ca_file, host=ELSEWHERE)
    with pytest.raises(ServiceError, match="the file of sslrootcert can't be read"):
        connect(monkeypatch, port, sslrootcert="nowhere.crt")


@pytest.mark.fault
def test_postgres_with_an_expired_certificate_is_refused(
    tls_postgres: PostgresServer | TlsProxy, authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls_postgres.serve(expired(authority))
    try:
        with pytest.raises(ServiceError, match="or has expired"):
            connect(monkeypatch, tls_postgres.port, sslrootcert=ca_file)
    finally:
        tls_postgres.serve(authority.issue_cert(NAME))
    assert connect(monkeypatch, tls_postgres.port, sslrootcert=ca_file) is True


def test_postgres_goes_unencrypted_only_where_that_is_allowed(
    tls_postgres: PostgresServer | TlsProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnsafeConnectionError):
        connect(monkeypatch, tls_postgres.port, sslmode="disable")
    monkeypatch.setenv("SHOP_ALLOW_UNENCRYPTED", ALLOWED)
    assert connect(monkeypatch, tls_postgres.port, sslmode="disable") is False
    assert connect(monkeypatch, tls_postgres.port) is True  # what it can, where nothing is asked for


def test_a_source_with_another_certificate_is_refused(
    tls_postgres: PostgresServer | TlsProxy, ca_file: Path, stranger: Path
) -> None:
    def read(root: Path) -> None:
        url = f"postgresql://postgres@{NAME}:{tls_postgres.port}/postgres?hostaddr={ELSEWHERE}&sslrootcert={root}"
        with reading(Settings(source_database_url=url)) as connection:  # type: ignore[arg-type]
            connection.execute("SELECT 1")

    read(ca_file)
    with pytest.raises(SourceError, match="not signed by an authority that we trust"):
        read(stranger)


@contextmanager
def behind_tls(
    monkeypatch: pytest.MonkeyPatch, elasticsearch_url: str, certificate: trustme.LeafCert, **settings: str | Path
) -> Iterator[None]:
    """`ELASTICSEARCH_URL` leads through a proxy that ends TLS, by an address that is not loopback's."""
    node = urlsplit(elasticsearch_url)
    reach = partial(socket.create_connection, (node.hostname, node.port))
    with running(TlsProxy(reach, certificate)) as proxy:
        monkeypatch.setenv("ELASTICSEARCH_URL", f"https://{ELSEWHERE}:{proxy.port}")
        for name, value in settings.items():
            monkeypatch.setenv(name, str(value))
        yield


def ask() -> str:
    with ElasticsearchResource().client() as client:
        return str(client.cluster.health()["cluster_name"])


@pytest.mark.fault
def test_elasticsearch_is_verified_by_default(
    elasticsearch_url: str,
    authority: trustme.CA,
    ca_file: Path,
    stranger: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = "Elasticsearch's certificate is refused"
    good = authority.issue_cert(ELSEWHERE)
    with behind_tls(monkeypatch, elasticsearch_url, good, ELASTICSEARCH_CA_CERTS=ca_file):
        assert ask()
        monkeypatch.setenv("ELASTICSEARCH_CA_CERTS", str(stranger))
        with pytest.raises(ServiceError, match=refused):
            ask()
        monkeypatch.delenv("ELASTICSEARCH_CA_CERTS")
        with pytest.raises(ServiceError, match=refused):
            ask()
        monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))  # the authorities of this system
        assert ask()
        monkeypatch.delenv("SSL_CERT_FILE")
        monkeypatch.setenv("ELASTICSEARCH_VERIFY_CERTS", "false")
        with pytest.raises(UnsafeConnectionError):
            ask()
        monkeypatch.setenv("SHOP_ALLOW_UNENCRYPTED", ALLOWED)
        assert ask()


@pytest.mark.fault
@pytest.mark.parametrize("kind", ["for another host name", "expired"])
def test_elasticsearch_with_a_certificate_that_is_not_good_is_refused(
    kind: str, elasticsearch_url: str, authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = expired(authority) if kind == "expired" else authority.issue_cert(NAME, "127.0.0.1")
    with (
        behind_tls(monkeypatch, elasticsearch_url, certificate, ELASTICSEARCH_CA_CERTS=ca_file),
        pytest.raises(ServiceError, match="Elasticsearch's certificate is refused"),
    ):
        ask()
