"""Searches all that the platform keeps for traces of a person."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import sql

from shop_platform.segmentation.embeddings import ALIAS as EMBEDDINGS
from shop_platform.segmentation.logs import ALIAS as LOGS

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from shop_platform.resources.postgres import Connection

#: An id of this form may be any number: a file is not searched for it.
_NUMBER = re.compile(r"[0-9]{1,11}")

_COLUMNS = """
SELECT nspname, relname, array_agg(attname::text ORDER BY attnum), array_agg(typname::text ORDER BY attnum)
FROM pg_class AS tables
    JOIN pg_namespace AS schemas ON schemas.oid = relnamespace
    JOIN pg_attribute ON attrelid = tables.oid AND attnum > 0 AND NOT attisdropped
    JOIN pg_type AS types ON types.oid = atttypid
WHERE relkind IN ('r', 'm') AND nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
    AND typname IN ('text', 'varchar', 'bpchar', 'citext', '_text', '_varchar', 'json', 'jsonb')
    AND has_schema_privilege(schemas.oid, 'USAGE') AND has_table_privilege(tables.oid, 'SELECT')
GROUP BY nspname, relname
ORDER BY nspname, relname
"""


@dataclass
class Search:
    """What was searched, and what was found.

    Attributes:
        searched: tables, indexes and files, counted by kind.
        found: rows, documents and files with a trace, by where; empty where nothing is left.
        files_by: what files were searched for: `id`, `mail address`.
    """

    searched: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    files_by: tuple[str, ...] = ()

    def note(self, kind: str, place: str, found: int) -> None:
        """Count a place, and what was found there."""
        self.searched[kind] = self.searched.get(kind, 0) + 1
        if found:
            self.found[place] = found


def search_for(
    connection: Connection, client: Elasticsearch, prefix: str, folder: Path, names: Sequence[str], mail: str | None
) -> Search:
    """Search every table of the database, the indexes and the shop's folder for a person.

    A table has a trace where a column of text, or any value within JSON, is the id or the address. A file has one where
    they stand in it as words; an id that is a mere number is not looked for in files, where it may count anything.

    Args:
        connection: to the shop's database.
        client: of the search logs.
        prefix: of the names of indexes.
        folder: the shop's: reports, exports, Dagster's own records.
        names: ids by which the person may be known.
        mail: address, where there was one.
    """
    search = Search()
    words = [*names] if mail is None else [*names, mail]
    for schema, table, columns, types in connection.execute(_COLUMNS).fetchall():
        search.note("tables", f"{schema}.{table}", _rows(connection, schema, table, columns, types, words))
    for index in client.indices.get(index=f"{prefix}{LOGS}*,{prefix}{EMBEDDINGS}*", allow_no_indices=True).body:
        search.note("indexes", index, int(client.count(index=index, query=_documents(words))["count"]))
    by = {"id": [name for name in names if not _NUMBER.fullmatch(name)], "mail address": [mail] if mail else []}
    search.files_by = tuple(kind for kind, found in by.items() if found)
    if search.files_by:
        pattern = _pattern([word for found in by.values() for word in found])
        for path in _files(folder):
            search.note("files", str(path), _holds(path, pattern))
    return search


def _rows(
    connection: Connection, schema: str, table: str, columns: Sequence[str], types: Sequence[str], words: list[str]
) -> int:
    tests = []
    for column, type_ in zip(columns, types, strict=True):
        name = sql.Identifier(column)
        if type_ in ("json", "jsonb"):
            # Numbers too: an id may be one in a row as the source gives it.
            tests.append(
                sql.SQL(
                    "EXISTS (SELECT FROM jsonb_path_query({}::jsonb, 'strict $.**') AS value"
                    " WHERE value #>> '{{}}' = ANY(%(words)s))"
                ).format(name)
            )
        elif type_.startswith("_"):
            tests.append(sql.SQL("{}::text[] && %(words)s").format(name))
        else:
            tests.append(sql.SQL("{}::text = ANY(%(words)s)").format(name))
    query = sql.SQL("SELECT count(*) FROM {} WHERE {}").format(
        sql.Identifier(schema, table), sql.SQL(" OR ").join(tests)
    )
    row = connection.execute(query, {"words": words}).fetchone()
    return int(row[0]) if row else 0


def _documents(words: Sequence[str]) -> dict[str, Any]:
    """Documents of the person's, and searches or queries in which somebody has typed one of the words."""
    typed = [{"match_phrase": {name: word}} for name in ("search_query", "query") for word in words]
    return {"bool": {"should": [{"terms": {"user_id": list(words)}}, *typed]}}


def _pattern(words: Sequence[str]) -> re.Pattern[bytes]:
    alternatives = b"|".join(re.escape(word.encode()) for word in words)
    return re.compile(rb"(?<![0-9A-Za-z_])(?:" + alternatives + rb")(?![0-9A-Za-z_])")


def _files(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def _holds(path: Path, pattern: re.Pattern[bytes]) -> bool:
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                return False
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return pattern.search(content) is not None
    except FileNotFoundError:
        # Gone since it was listed.
        return False
