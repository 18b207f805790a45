"""Which hosts are this machine: only what goes to others can be read on its way."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

#: What to do instead, for the end of a refusal to send something to another host unprotected.
OR_ALLOW = "or, where nobody else can listen in the network between, set SHOP_ALLOW_UNENCRYPTED=in-a-private-network"


def is_this_machine(host: str) -> bool:
    """Whether what goes to a host never leaves this machine: a Unix socket's folder, or a loopback name or address."""
    if not host or host.startswith(("/", "@")) or host.lower().rstrip(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_safe_web_address(address: str) -> bool:
    """Whether what is sent to a web address can't be read on its way: it stays on this machine, or goes by TLS."""
    parts = urlsplit(address)
    return parts.scheme == "https" or is_this_machine(parts.hostname or "")
