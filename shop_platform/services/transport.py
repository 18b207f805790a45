"""Which connections are safe: to this machine any; to another host TLS alone, with a certificate that is verified.

Whoever can listen in a network between the platform and a server would read passwords and what people search for, and
could pretend to be the server. `SHOP_ALLOW_UNENCRYPTED` says in words that nobody can.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from shop_platform.errors import SettingsError, UnsafeConnectionError
from shop_platform.hosts import OR_ALLOW, is_safe_web_address, is_this_machine
from shop_platform.settings import Settings

#: Where systems keep the authorities that they trust, each in one file: Debian, Red Hat, SUSE, Alpine.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def trusted_authorities() -> Path:
    """The PEM file with the authorities that this system trusts; those of the package certifi where it has none.

    `SSL_CERT_FILE` names another, as for other programs.
    """
    import certifi

    found = ssl.get_default_verify_paths().cafile
    return Path(next((path for path in (found, *_BUNDLES) if path and Path(path).is_file()), certifi.where()))


def safe_conninfo(address: str, variable: str, settings: Settings) -> str:
    """A PostgreSQL URL as it may be connected to: to another host by `sslmode=verify-full`.

    Args:
        address: URL or words, as libpq takes them; what it leaves out comes from libpq's own variables.
        variable: the setting that it stands in, for messages.
        settings: whether connections to other hosts may go unencrypted.

    Raises:
        SettingsError: it is malformed; no part of it is shown.
        UnsafeConnectionError: it asks for less than verified TLS to another host, and no setting allows that.
    """
    try:
        given = conninfo_to_dict(address)
    except psycopg.ProgrammingError:
        raise SettingsError(f"{variable} is not a URL that PostgreSQL's client understands.") from None
    mode = given.get("sslmode") or os.environ.get("PGSSLMODE")
    root = given.get("sslrootcert") or os.environ.get("PGSSLROOTCERT")
    if root == "system":  # libpq asks for it with this; its OpenSSL may look where this system keeps none
        mode, root = mode or "verify-full", None
    if mode != "verify-full" and (settings.allow_unencrypted or not _leaves_this_machine(given)):
        return address
    if mode not in (None, "verify-full"):
        raise UnsafeConnectionError(
            f"{variable} asks for sslmode={mode} to another host, which does not verify who answers: leave it out or "
            f"set it to verify-full, with the authority's file as sslrootcert; {OR_ALLOW}."
        )
    verified = given | {"sslmode": "verify-full", "sslrootcert": root or _root_of_libpq()}
    return make_conninfo(**{name: str(value) for name, value in verified.items()})


def require_safe_url(address: str, variable: str, settings: Settings) -> None:
    """Refuse to send anything to another host by plain HTTP, or by TLS that is not verified.

    Raises:
        UnsafeConnectionError: the URL or the settings ask for it, and no setting allows it.
    """
    if settings.allow_unencrypted:
        return
    if not is_safe_web_address(address):
        raise UnsafeConnectionError(f"{variable} leads to another host by plain HTTP: use https://; {OR_ALLOW}.")
    if not (settings.elasticsearch_verify_certs or is_this_machine(urlsplit(address).hostname or "")):
        raise UnsafeConnectionError(
            f"ELASTICSEARCH_VERIFY_CERTS is off and {variable} leads to another host: name the authority by "
            f"ELASTICSEARCH_CA_CERTS; {OR_ALLOW}."
        )


def refusal(error: psycopg.OperationalError) -> str:
    """Why PostgreSQL can't be reached, in words of ours: the driver's may hold parts of a malformed URL.

    Returns:
        the end of a sentence.
    """
    told = str(error)
    reasons = {
        "does not match host name": "its certificate is for another host name",
        "certificate verify failed": "its certificate is not signed by an authority that we trust, or has expired",
        "root certificate file": "the file of sslrootcert can't be read",
        "does not support SSL": "it does not offer TLS",
        "password authentication failed": "it refuses the password",
        "no password supplied": "it wants a password",
    }
    return next((reason for phrase, reason in reasons.items() if phrase in told), type(error).__name__)


def _leaves_this_machine(given: dict[str, Any]) -> bool:
    """Whether any of the servers that libpq would try is another host."""
    if given.get("service"):  # its file may name any host
        return True
    defaults = {
        option.keyword.decode(): option.val.decode() for option in pq.Conninfo.get_defaults() if option.val is not None
    }
    asked = {name: str(given.get(name) or defaults.get(name) or "") for name in ("host", "hostaddr")}
    hosts, addresses = (asked[name].split(",") for name in ("host", "hostaddr"))
    # An address goes before the name beside it, which is then only what the certificate must say.
    count = max(len(hosts), len(addresses))
    pairs = zip(hosts + [""] * (count - len(hosts)), addresses + [""] * (count - len(addresses)), strict=True)
    return not all(is_this_machine(address or host) for host, address in pairs)


def _root_of_libpq() -> Path:
    """Where libpq looks for authorities that it trusts; the system's where there is nothing."""
    own = Path("~/.postgresql/root.crt").expanduser()
    return own if own.is_file() else trusted_authorities()
