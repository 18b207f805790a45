"""Databases of a test's own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo


@contextmanager
def clone_of(template: str) -> Iterator[str]:
    """URL of a new database with what another holds that nobody is connected to; dropped at the end."""
    parts = {key: str(value) for key, value in conninfo_to_dict(template).items()}
    admin, name = make_conninfo(template, dbname="postgres"), f"test_{uuid.uuid4().hex}"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(parts["dbname"]))
        )
    yield make_conninfo(**parts | {"dbname": name})
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
