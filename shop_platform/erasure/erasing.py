"""Removes a person from PostgreSQL and Elasticsearch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from shop_platform.commerce.loading import lock_loading
from shop_platform.erasure.forgotten import REDACTED, Forgotten
from shop_platform.erasure.record import note_erasure, read_forgotten
from shop_platform.errors import DataError
from shop_platform.performance.laboratory import drop_copies, laboratory
from shop_platform.resources.elasticsearch import alias_target
from shop_platform.resources.snapshots import snapshot
from shop_platform.segmentation.embeddings import ALIAS as EMBEDDINGS
from shop_platform.segmentation.logs import ALIAS, remove_logs
from shop_platform.segmentation.publishing import lock_segmentation
from shop_platform.sources.base import Shop
from shop_platform.sources.pseudonyms import Pseudonymised, is_pseudonym, names_of

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from shop_platform.resources.postgres import Connection, PostgresResource

#: Where a person's rows are, those that refer to others first.
_TABLES = ("events", "analytics.user_queries", "analytics.user_segments", "truth.users", "users")

#: Rows of the quarantine that are looked at together.
_PAGE = 10_000

#: Seconds for Elasticsearch to write an index anew.
_PURGE_TIMEOUT = 3_600


@dataclass(frozen=True)
class Erased:
    """What was removed.

    Attributes:
        removed: rows and documents, by where they were; places that held none are left out.
        mail: the person's address, to be searched for; None where there was none.
        before: whether the person had been erased already.
    """

    removed: Mapping[str, int]
    mail: str | None
    before: bool


def erase_person(client: Elasticsearch, postgres: PostgresResource, prefix: str, shop: Shop, user: str) -> Erased:
    """Remove a person's rows and search logs, and note it, so that no load brings them back.

    What is derived from them goes with the next refresh of the assets. All of PostgreSQL goes in one transaction, which
    ends after Elasticsearch is done: interrupted, it is done again from the start.

    Args:
        client: of the search logs.
        postgres: the shop's database.
        prefix: of the names of indexes.
        shop: whose source may give pseudonyms of users.
        user: id, as the source has it.

    Raises:
        DataError: the id is a pseudonym, nothing is known of such a person, or a table of others refers to them.
        MeasurementError: queries are being measured, on a copy that holds the person.
    """
    if isinstance(shop.source, Pseudonymised) and is_pseudonym(user):
        raise DataError(
            f"{user} is a pseudonym. Give the id that the source has of this person: by that alone they are known "
            "again when the source is loaded."
        )
    with laboratory(postgres):
        drop_copies(postgres)
        with postgres.connect() as connection:
            lock_loading(connection)
            lock_segmentation(connection)
            return _erase(client, connection, f"{prefix}{ALIAS}", user, names_of(shop, user))


def purge(client: Elasticsearch, prefix: str) -> None:
    """Have Elasticsearch write its files anew, which still hold what was deleted from search logs and embeddings."""
    patient = client.options(request_timeout=_PURGE_TIMEOUT)
    for alias in (f"{prefix}{ALIAS}", f"{prefix}{EMBEDDINGS}"):
        if alias_target(client, alias) is not None:
            patient.indices.forcemerge(index=alias, max_num_segments=1)


def _erase(client: Elasticsearch, connection: Connection, alias: str, user: str, names: Sequence[str]) -> Erased:
    forgotten = read_forgotten(connection)
    digest = forgotten.digest(user)
    row = connection.execute("SELECT email FROM users WHERE user_id = ANY(%s)", [list(names)]).fetchone()
    mail = row[0] if row and row[0] else None
    one = Forgotten(forgotten.key, frozenset({digest}), frozenset({forgotten.digest(mail)} if mail else ()))
    removed = {table: _delete(connection, table, names) for table in _TABLES}
    connection.execute("DELETE FROM ops.loaded_keys WHERE table_name = 'users' AND key = ANY(%s)", [list(names)])
    removed["ops.quarantine"] = _redact(connection, one)
    removed[alias] = _delete_documents(client, alias, names)
    found = {place: count for place, count in removed.items() if count}
    before = digest in forgotten.users
    if not found and not before:
        raise DataError(f"Nothing is known of a user {user}: no row, no search log. Ids are compared letter by letter.")
    note_erasure(connection, digest, one.digest(mail) if mail else None, found)
    return Erased(found, mail, before)


def _delete(connection: Connection, table: str, names: Sequence[str]) -> int:
    try:
        query = sql.SQL("DELETE FROM {} WHERE user_id = ANY(%s)").format(sql.Identifier(*table.split(".")))
        return connection.execute(query, [list(names)]).rowcount
    except psycopg.errors.ForeignKeyViolation as error:
        raise DataError(
            f"The table {error.diag.schema_name}.{error.diag.table_name} refers to this user in {table}: erase them "
            "there first. Nothing was removed."
        ) from None


def _redact(connection: Connection, person: Forgotten) -> int:
    """Take what the quarantine says of a person; the rows stay, as loads have counted them."""
    found: list[int] = []
    with connection.cursor(name="quarantine") as rows:
        rows.itersize = _PAGE
        rows.execute("SELECT quarantine_id, row::text FROM ops.quarantine")
        found += [quarantine_id for quarantine_id, row in rows if person.told_of_in(row)]
    connection.execute("UPDATE ops.quarantine SET row = %s WHERE quarantine_id = ANY(%s)", [REDACTED, found])
    return len(found)


def _delete_documents(client: Elasticsearch, alias: str, names: Sequence[str]) -> int:
    if alias_target(client, alias) is None:
        return 0
    with snapshot(client, alias) as taken:
        ids = [hit.id for hit in taken.hits([], query={"terms": {"user_id": list(names)}})]
    remove_logs(client, alias, ids)
    client.indices.refresh(index=alias)
    return len(ids)
