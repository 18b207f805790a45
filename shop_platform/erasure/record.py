"""The record of erasures in PostgreSQL, and a shop as its loads may see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from psycopg.types.json import Jsonb

from shop_platform.erasure.forgotten import Forgotten, SourceWithout
from shop_platform.resources.postgres import Connection
from shop_platform.sources.base import Shop
from shop_platform.sources.pseudonyms import Pseudonymised


def read_forgotten(connection: Connection) -> Forgotten:
    """Everybody who was erased."""
    ((key,),) = connection.execute("SELECT key FROM ops.erasure_key").fetchall()
    rows = connection.execute("SELECT digest, mail FROM ops.erasures").fetchall()
    return Forgotten(key, frozenset(row[0] for row in rows), frozenset(row[1] for row in rows if row[1]))


def without_erased(connection: Connection, shop: Shop) -> Shop:
    """The shop with a source that gives nothing of people who were erased. Call with the loader's lock held."""
    forgotten, source = read_forgotten(connection), shop.source
    if not forgotten.users:
        return shop
    if isinstance(source, Pseudonymised):
        # People are known by their ids, so that they stay away when the key of the pseudonyms changes.
        return replace(shop, source=replace(source, source=SourceWithout(source.source, forgotten)))
    return replace(shop, source=SourceWithout(source, forgotten))


def note_erasure(connection: Connection, digest: bytes, mail: bytes | None, removed: Mapping[str, int]) -> None:
    """Note, in the transaction that erases, who is gone; one who is erased again stays noted from the first time."""
    connection.execute(
        "INSERT INTO ops.erasures (digest, mail, removed) VALUES (%s, %s, %s) ON CONFLICT (digest) DO UPDATE"
        " SET mail = coalesce(excluded.mail, erasures.mail)",
        [digest, mail, Jsonb(dict(removed))],
    )
