"""As whom the tables of the shop are written."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from shop_platform.resources.postgres import WRITER, Connection, as_role

_log = logging.getLogger(__name__)

_UNREADABLE = """
SELECT DISTINCT format('%%I.%%I', nspname, relname)
FROM pg_constraint
JOIN pg_class ON pg_class.oid = conrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
JOIN pg_roles ON rolname = %s
WHERE contype = 'f' AND conparentid = 0 AND confrelid IN ('users'::regclass, 'products'::regclass, 'events'::regclass)
    AND NOT (
        has_schema_privilege(pg_roles.oid, pg_namespace.oid, 'USAGE')
        AND has_table_privilege(pg_roles.oid, conrelid, 'SELECT')
    )
ORDER BY 1
"""


@contextmanager
def as_writer(connection: Connection) -> Iterator[None]:
    """Within it, the caller's transaction goes on as the role that may change rows of the shop's tables.

    A load has to know which rows tables of the shop's own refer to. Where the role may not read these tables, all is
    done as whoever logs in, with a warning.
    """
    unreadable = [row[0] for row in connection.execute(_UNREADABLE, [WRITER])]
    if unreadable:
        _warn(", ".join(unreadable))
        yield
        return
    with as_role(connection, WRITER):
        yield


@cache
def _warn(tables: str) -> None:
    _log.warning(
        "Loads work with all rights of whoever logs in: the role %s may not read %s, which refer to the shop's tables. "
        "Run GRANT SELECT ON %s TO %s, and GRANT USAGE on their schema where that is not public.",
        WRITER,
        tables,
        tables,
        WRITER,
    )
