"""Elasticsearch: the one whose nodes `ELASTICSEARCH_URL` names, or an embedded node on loopback."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from shop_platform.errors import SettingsError
from shop_platform.services import account, elasticsearch_server
from shop_platform.services.elasticsearch_jars import Progress, ensure_jars, pinned_version
from shop_platform.services.process import ServiceStatus, server_lock
from shop_platform.services.transport import require_safe_url, trusted_authorities
from shop_platform.settings import Settings


def url(settings: Settings, progress: Progress | None = None) -> str:
    """URL for curl and any other client; starts the embedded node when `ELASTICSEARCH_URL` is unset.

    Of several nodes that `ELASTICSEARCH_URL` names it is the first one's.

    Args:
        settings: where the node is, or where its data lies.
        progress: told of the jars that are fetched for the embedded node.

    Raises:
        ServiceError: the node's jars can't be had, or the node does not start; the message ends with its log.
    """
    if settings.elasticsearch_url is not None:
        return settings.elasticsearch_url.get_secret_value().split(",")[0].strip()
    folder = _folder(settings)
    found = elasticsearch_server.find_ready(folder)
    if found is None:
        jars = ensure_jars(progress)  # before the lock, so that nobody waits for a lock while we wait for a network
        account.private_home(settings)
        account.private_folder(folder, shared=False)
        with server_lock(folder):
            found = elasticsearch_server.find_ready(folder) or elasticsearch_server.start(
                folder, settings.elasticsearch_heap, jars, settings.elasticsearch_java_options
            )
    return found.url


def client_options(settings: Settings, variable: str = "ELASTICSEARCH_URL") -> dict[str, Any]:
    """Arguments for `Elasticsearch(...)`: where, who, and bounded patience. Credentials never stay inside a URL.

    Args:
        settings: where the node is, or where its data lies.
        variable: the setting that the URL stands in, for messages.

    Raises:
        SettingsError: the URL, or the credentials beside it, can't be used; no secret is shown.
        UnsafeConnectionError: it leads to another host without verified TLS, and no setting allows that.
        ServiceError: the embedded node can't be started.
    """
    from shop_platform.services.elasticsearch_http import Node

    named = settings.elasticsearch_url
    addresses = url(settings) if named is None else named.get_secret_value()
    nodes = [_parse(each, variable) for each in addresses.split(",")]
    address = _one_cluster(nodes)
    if named is not None:
        for node in nodes:
            require_safe_url(node.without_credentials, variable, settings)
    return {
        "hosts": [node.without_credentials for node in nodes],
        "node_class": Node,
        "request_timeout": settings.silence,
        "retry_on_timeout": True,
        # Pauses of random length that grow up to ten seconds: 13 to 26 s in all, in which a node can start again.
        "max_retries": 6,
        "retry_backoff_base": 1,
        "retry_backoff_cap": 10,
        **(_identity(settings, address) if named is not None else {}),
        **(_tls(settings) if address.secure else {}),
    }


def stop(settings: Settings) -> bool:
    """Stop the embedded node; returns whether one ran. Kills it when it does not end in time.

    Raises:
        ServiceError: it can't be stopped.
    """
    if settings.elasticsearch_url is not None or not _folder(settings).exists():
        return False
    folder = _folder(settings)
    with server_lock(folder):
        return elasticsearch_server.stop(folder)


def status(settings: Settings) -> ServiceStatus:
    """How the server stands. Starts nothing.

    Raises:
        SettingsError: the URL, or the credentials beside it, can't be used.
        ServiceError: `SHOP_HOME` is somebody else's.
    """
    if settings.elasticsearch_url is not None:
        options = client_options(settings)
        answers = elasticsearch_server.health(options) is not None
        return ServiceStatus(
            name="elasticsearch",
            embedded=False,
            running=answers,
            version=elasticsearch_server.version(options) if answers else None,
            url=",".join(options["hosts"]),
        )
    folder = _folder(settings)
    found = elasticsearch_server.find_ready(folder)
    return ServiceStatus(
        name="elasticsearch",
        embedded=True,
        running=found is not None,
        version=pinned_version() if found is None else found.version,
        url=None if found is None else found.url,
        pid=None if found is None else found.process.pid,
        data=str(folder / "data"),
    )


@dataclass(frozen=True)
class _Address:
    """An Elasticsearch URL taken apart; `repr` does not show the password."""

    without_credentials: str
    secure: bool
    username: str
    password: str

    def __repr__(self) -> str:
        return f"_Address({self.without_credentials!r})"


def _parse(address: str, variable: str) -> _Address:
    """Take a URL apart; the errors of the library that does it would show parts of a password."""
    try:
        parts = urlsplit(address.strip())
        port = parts.port
    except ValueError:
        parts = None
    # A slash inside a password that is not encoded ends the host.
    if (
        parts is None
        or parts.scheme not in ("http", "https")
        or not parts.hostname
        or (parts.query or parts.fragment or "@" in parts.path)
    ):
        raise SettingsError(
            f"{variable} must look like https://user:password@host:9200, with special characters of the "
            "password percent-encoded; or leave user and password out and set ELASTICSEARCH_USERNAME and "
            "ELASTICSEARCH_PASSWORD. Several nodes are several such URLs with commas between them."
        )
    secure = parts.scheme == "https"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return _Address(
        urlunsplit((parts.scheme, f"{host}:{port or (443 if secure else 80)}", parts.path, "", "")),
        secure,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )


def _one_cluster(nodes: list[_Address]) -> _Address:
    """The node whose credentials are those of all: of one that has some, where one has."""
    known = {(node.username, node.password) for node in nodes if node.username or node.password}
    if len(known) > 1 or len({node.secure for node in nodes}) > 1:
        raise SettingsError(
            "ELASTICSEARCH_URL names nodes with different users or passwords, or https beside http: they must be nodes "
            "of one cluster. Give user and password in one of the URLs, or in ELASTICSEARCH_USERNAME and "
            "ELASTICSEARCH_PASSWORD, and the same scheme in all."
        )
    return next((node for node in nodes if node.username or node.password), nodes[0])


def _identity(settings: Settings, address: _Address) -> dict[str, Any]:
    """Who we are: an API key before a user of the URL, before a user of the settings."""
    if settings.elasticsearch_api_key is not None:
        return {"api_key": settings.elasticsearch_api_key.get_secret_value()}
    username = address.username or settings.elasticsearch_username or ""
    password = address.password
    if not password and settings.elasticsearch_password is not None:
        password = settings.elasticsearch_password.get_secret_value()
    if not username:
        return {}
    if not password:
        raise SettingsError("Elasticsearch has a user but no password: set ELASTICSEARCH_PASSWORD.")
    return {"basic_auth": (username, password)}


def _tls(settings: Settings) -> dict[str, Any]:
    """How the server's certificate is verified."""
    if not settings.elasticsearch_verify_certs:
        return {"verify_certs": False, "ssl_show_warn": False}
    if settings.elasticsearch_ca_certs is None:
        return {"verify_certs": True, "ca_certs": str(trusted_authorities())}
    if not settings.elasticsearch_ca_certs.is_file():
        raise SettingsError(f"ELASTICSEARCH_CA_CERTS: there is no file {settings.elasticsearch_ca_certs}.")
    return {"verify_certs": True, "ca_certs": str(settings.elasticsearch_ca_certs)}


def _folder(settings: Settings) -> Path:
    return account.own_home(settings) / "elasticsearch"
