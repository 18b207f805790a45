"""What advice knows about tables: columns, types, different values, layout. The only module that asks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shop_platform.errors import DataError
from shop_platform.resources.postgres import Connection


@dataclass(frozen=True)
class Column:
    """A column and its statistics.

    Attributes:
        name: as it is stored, without quotes.
        type: as `format_type` writes it, e.g. `numeric(12,2)`.
        distinct: how many different values PostgreSQL expects in the whole table; None without statistics.
        correlation: between the order of values and the order of rows on disk, from -1 to 1; None without statistics.
        width: average bytes of a value; None without statistics.
    """

    name: str
    type: str
    distinct: float | None = None
    correlation: float | None = None
    width: int | None = None


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: without schema and quotes.
        rows: PostgreSQL's estimate from the latest ANALYZE.
        size_bytes: of the table without its indexes.
        columns: in their order.
        primary_key: names of its columns, in the key's order; empty where there is none.
    """

    name: str
    rows: int
    size_bytes: int
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()

    def column(self, name: str) -> Column | None:
        """The column of this name, if there is one."""
        return next((column for column in self.columns if column.name == name), None)


# Virtual generated columns are left out: PostgreSQL 18 can't index them.
_COLUMNS = """
SELECT c.relname, c.reltuples, pg_relation_size(c.oid), a.attname, format_type(a.atttypid, a.atttypmod),
       CASE WHEN s.n_distinct < 0 THEN -s.n_distinct * greatest(c.reltuples, 0) ELSE s.n_distinct END,
       s.correlation, s.avg_width
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
                    AND NOT s.inherited
WHERE n.nspname = %s AND c.relname = ANY(%s) AND c.relkind IN ('r', 'm')
ORDER BY c.relname, a.attnum
"""

_PRIMARY_KEYS = """
SELECT c.relname, array_agg(a.attname::text ORDER BY array_position(i.indkey::int2[], a.attnum))
FROM pg_index i
JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey::int2[])
WHERE i.indisprimary AND n.nspname = %s AND c.relname = ANY(%s)
GROUP BY c.relname
"""


def read_catalog(connection: Connection, schema: str, tables: Iterable[str]) -> dict[str, Table]:
    """Read what advice needs to know about tables, from PostgreSQL's catalog and statistics.

    Args:
        connection: any; its role must be allowed to read the tables, or there are no statistics.
        schema: of the tables.
        tables: their names; ANALYZE has been run on them.

    Returns:
        Tables by name.

    Raises:
        DataError: a table is not there, can't be indexed (a view), or was never analysed.
    """
    names = sorted(set(tables))
    keys: dict[str, list[str]] = dict(connection.execute(_PRIMARY_KEYS, [schema, names]).fetchall())
    found: dict[str, Table] = {}
    for name, rows, size, *column in connection.execute(_COLUMNS, [schema, names]).fetchall():
        if rows < 0:
            raise DataError(f"There are no statistics on {schema}.{name}: run ANALYZE on it first.")
        before = found[name].columns if name in found else ()
        found[name] = Table(name, int(rows), size, (*before, Column(*column)), tuple(keys.get(name, ())))
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(
            f"In schema {schema} there is no table of the name {', '.join(missing)} that could be indexed: create it, "
            "or name the tables that a view reads."
        )
    return found
