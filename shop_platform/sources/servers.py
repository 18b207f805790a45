"""Copies of tables of an existing PostgreSQL and of indices of an existing Elasticsearch, as files to read like others.

Only ever read: in PostgreSQL in one read-only transaction, so that all tables are of one moment; in Elasticsearch at a
point in time of each index.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from shop_platform.errors import SettingsError, SourceError
from shop_platform.services.transport import refusal, safe_conninfo
from shop_platform.settings import Settings

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

#: Types that expressions may reckon with; whatever else stays the text that PostgreSQL shows.
_TYPES = {
    "smallint": "BIGINT",
    "integer": "BIGINT",
    "bigint": "BIGINT",
    "real": "DOUBLE",
    "double precision": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp without time zone": "TIMESTAMP",
    "timestamp with time zone": "TIMESTAMPTZ",
}

#: Documents that are asked for at a time.
_PAGE = 2_000


def copy_table(
    connection: psycopg.Connection[TupleRow], table: str, path: Path, limit: int | None = None
) -> dict[str, str]:
    """Write a table or view as CSV with a header; returns the type of each column in DuckDB's words.

    Args:
        connection: as `reading` gives it.
        table: name as SQL has it, with or without a schema.
        path: of the file.
        limit: rows at most, where not all are wanted.

    Raises:
        SourceError: there is no such table, or this role may not read it.
    """
    name, columns = _columns(connection, table)
    statement = sql.SQL("COPY (SELECT {} FROM {} LIMIT {}) TO STDOUT (FORMAT csv, HEADER)").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), name, sql.Literal(limit)
    )
    try:
        with path.open("wb") as file, connection.cursor() as cursor, cursor.copy(statement) as copy:
            for chunk in copy:
                file.write(chunk)
    except psycopg.errors.InsufficientPrivilege:
        raise SourceError(
            f"The role of SHOP_SOURCE_DATABASE_URL may not read {table}: GRANT SELECT ON {table} to it, and "
            "USAGE on its schema."
        ) from None
    return {column: _type(type_) for column, type_ in columns.items()}


def copy_index(client: Elasticsearch, index: str, path: Path, limit: int | None = None) -> None:
    """Write the documents of an index, alias or pattern as JSON lines, each with its `_id`; one page is in memory.

    Args:
        client: as `reading_documents` gives it.
        index: which.
        path: of the file.
        limit: documents at most, where not all are wanted.

    Raises:
        SourceError: there is no such index.
    """
    from elasticsearch import ApiError, NotFoundError

    from shop_platform.resources.snapshots import Snapshot

    try:
        point = client.open_point_in_time(index=index, keep_alive="5m")["id"]
    except NotFoundError:
        raise SourceError(f"The Elasticsearch of SHOP_SOURCE_ELASTICSEARCH_URL has no index {index}.") from None
    except ApiError as error:
        raise SourceError(f"The index {index} can't be read: Elasticsearch says {error.error}.") from None
    taken = Snapshot(client, point)
    try:
        with path.open("w", encoding="utf-8") as file:
            for hit in islice(taken.hits(["*"], page=_PAGE), limit):
                file.write(json.dumps({"_id": hit.id, **hit.source}) + "\n")
    finally:
        client.options(ignore_status=404).close_point_in_time(id=taken.point)


def list_tables(connection: psycopg.Connection[TupleRow]) -> list[str]:
    """Tables and views that this role may read, with their schemas, as SQL names them."""
    rows = connection.execute(
        "SELECT format('%I.%I', nspname, relname) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
        " WHERE relkind IN ('r', 'v', 'm', 'p', 'f') AND NOT relispartition AND nspname !~ '^pg_'"
        " AND nspname <> 'information_schema' AND has_schema_privilege(pg_namespace.oid, 'USAGE')"
        " AND has_table_privilege(pg_class.oid, 'SELECT') ORDER BY 1"
    )
    return [row[0] for row in rows]


def list_indices(client: Elasticsearch) -> list[str]:
    """Indices that may be read, hidden ones left out."""
    return sorted(client.indices.get(index="*", expand_wildcards="open", features="aliases").body)


def tables_state(settings: Settings, tables: Mapping[str, str]) -> str:
    """What moves when rows of these tables, or of tables below these views, come, go or change; reads no row.

    PostgreSQL's own counters, which lag behind by up to a second. They know nothing of foreign tables.
    """
    with reading(settings) as connection:
        oids = []
        for table in tables.values():
            row = connection.execute("SELECT to_regclass(%s)::oid", [table]).fetchone()
            oids.append(row[0] if row else None)
        counted = connection.execute(_COUNTERS, [[oid for oid in oids if oid is not None]]).fetchall()
    return json.dumps([*map(str, oids), *counted])


def index_state(client: Elasticsearch, index: str) -> str:
    """What moves when documents of an index come, go or change; reads none."""
    from elasticsearch import ApiError

    try:
        answer = client.search(
            index=index, size=0, track_total_hits=True, aggs={"seq": {"stats": {"field": "_seq_no"}}}
        )
    except ApiError as error:
        raise SourceError(f"The index {index} can't be read: Elasticsearch says {error.error}.") from None
    seq = answer["aggregations"]["seq"]
    return json.dumps([answer["hits"]["total"]["value"], seq["sum"], seq["max"]])


@contextmanager
def reading(settings: Settings) -> Iterator[psycopg.Connection[TupleRow]]:
    """A connection to the source's PostgreSQL, in one read-only transaction that sees one moment.

    Raises:
        SettingsError: `SHOP_SOURCE_DATABASE_URL` is missing or no URL, or leads to another host without verified TLS.
        SourceError: the server can't be reached, or turns the role away. No message shows the URL.
    """
    if settings.source_database_url is None:
        raise SettingsError(
            "The mapping names tables of a PostgreSQL: set SHOP_SOURCE_DATABASE_URL to a URL of it, best of a role "
            "that may only read."
        )
    address = settings.source_database_url.get_secret_value()
    conninfo = safe_conninfo(address, "SHOP_SOURCE_DATABASE_URL", settings)
    try:
        connection = psycopg.connect(conninfo, connect_timeout=10, application_name="shop_platform source")
    except psycopg.OperationalError as error:
        raise SourceError(
            f"The PostgreSQL of SHOP_SOURCE_DATABASE_URL can't be reached, or turns the role away "
            f"({refusal(error)}). Check host, port, database, role and password."
        ) from None
    with connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.execute(
            "SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'; SET LOCAL IntervalStyle = 'iso_8601'"
        )
        yield connection
        connection.rollback()


@contextmanager
def reading_documents(settings: Settings) -> Iterator[Elasticsearch]:
    """A client of the source's Elasticsearch.

    Raises:
        SettingsError: `SHOP_SOURCE_ELASTICSEARCH_URL` is missing or can't be used.
        SourceError: it can't be reached.
    """
    from elasticsearch import AuthenticationException, AuthorizationException, Elasticsearch, TransportError

    from shop_platform.services.elasticsearch import client_options

    if settings.source_elasticsearch_url is None:
        raise SettingsError(
            "The mapping names indices of an Elasticsearch: set SHOP_SOURCE_ELASTICSEARCH_URL to a URL of it, and "
            "SHOP_SOURCE_ELASTICSEARCH_API_KEY where it asks who reads."
        )
    theirs = settings.model_copy(
        update={
            "elasticsearch_url": settings.source_elasticsearch_url,
            "elasticsearch_api_key": settings.source_elasticsearch_api_key,
            "elasticsearch_username": None,
            "elasticsearch_password": None,
        }
    )
    try:
        # Somebody waits for the answer whether it is there.
        options = client_options(theirs, "SHOP_SOURCE_ELASTICSEARCH_URL") | {"max_retries": 3}
        with Elasticsearch(**options) as client:
            yield client
    except (AuthenticationException, AuthorizationException):
        raise SourceError(
            "The Elasticsearch of SHOP_SOURCE_ELASTICSEARCH_URL turns the reader away: check "
            "SHOP_SOURCE_ELASTICSEARCH_API_KEY, which needs the privilege `read` on the indices."
        ) from None
    except TransportError as error:
        raise SourceError(
            f"The Elasticsearch of SHOP_SOURCE_ELASTICSEARCH_URL can't be reached ({type(error).__name__})."
        ) from None


_COUNTERS = """
WITH RECURSIVE below AS (
    SELECT unnest(%s::oid[]) AS oid
    UNION
    SELECT found.oid
    FROM below CROSS JOIN LATERAL (
        SELECT refobjid AS oid
        FROM pg_rewrite JOIN pg_depend ON objid = pg_rewrite.oid AND classid = 'pg_rewrite'::regclass
        WHERE ev_class = below.oid AND refclassid = 'pg_class'::regclass
        UNION ALL
        SELECT inhrelid FROM pg_inherits WHERE inhparent = below.oid
    ) AS found
)
SELECT relid::bigint, n_tup_ins, n_tup_upd, n_tup_del
FROM pg_stat_all_tables JOIN below ON relid = below.oid
ORDER BY relid
"""


def _type(type_: str) -> str:
    """DuckDB's type for one of PostgreSQL's; a number keeps its digits, so that ids stay what they are."""
    numeric = re.fullmatch(r"numeric\(\d+,(\d+)\)", type_)
    return f"DECIMAL(38, {numeric[1]})" if numeric else _TYPES.get(type_.split("(")[0], "VARCHAR")


def _columns(connection: psycopg.Connection[TupleRow], table: str) -> tuple[sql.Composed, dict[str, str]]:
    """The table's name, quoted, and PostgreSQL's type of each column."""
    try:
        row = connection.execute(
            "SELECT oid, relnamespace::regnamespace::text, relname FROM pg_class WHERE oid = to_regclass(%s)", [table]
        ).fetchone()
    except psycopg.errors.SyntaxError:
        row = None
    if row is None:
        raise SourceError(
            f"The PostgreSQL of SHOP_SOURCE_DATABASE_URL has no table or view {table}{_near(connection, table)}."
        )
    types: dict[str, str] = dict(
        connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            [row[0]],
        ).fetchall()
    )
    schema = row[1].strip('"').replace('""', '"')
    return sql.SQL("{}").format(sql.Identifier(schema, row[2])), types


def _near(connection: psycopg.Connection[TupleRow], table: str) -> str:
    """What may have been meant, for the end of a sentence."""
    connection.rollback()
    found = [
        f"{schema}.{name}"
        for schema, name in connection.execute(
            "SELECT relnamespace::regnamespace::text, relname FROM pg_class"
            " WHERE relkind IN ('r', 'v', 'm', 'p', 'f')"
            " AND relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')"
        )
    ]
    names = {each.split(".", 1)[1]: each for each in found} | {each: each for each in found}
    near = difflib.get_close_matches(table, names, n=1)
    return f"; is it {names[near[0]]}" if near else ""
