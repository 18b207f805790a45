"""Two shops with the same data: one whose runs are killed, and one whose runs never are; and all that they hold."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from elasticsearch import Elasticsearch
from PIL import Image
from psycopg import sql

from ..databases import clone_of
from .children import Child, child, materialise

#: Assets in the order in which they are made, those of one step together.
STEPS: tuple[tuple[str, ...], ...] = (
    ("users", "products", "events"),
    ("activity_summaries",),
    ("baseline_benchmark",),
    ("commerce_indexes",),
    ("indexed_benchmark",),
    ("index_effects",),
    ("index_advice",),
    ("cohort_retention",),
    ("retention_heatmap",),
    ("retention_curves",),
    ("retention_export",),
    ("user_logs",),
    ("search_embeddings",),
    ("user_segments",),
    ("segment_retention",),
    ("segmented_user_logs",),
    ("segment_profiles",),
    ("shop_report",),
)

#: Tables that say who did something when, what was measured, or hold a key drawn at random.
_NOT_COMPARED = (
    "analytics.records",
    "ops.event_changes",
    "ops.event_changes_before",
    "ops.consumed",
    "ops.erasure_key",
    "ops.migrations",
)

#: Columns that say when, and numbers that sequences give: what is rolled back uses them up.
_LEFT_OUT = (
    "event_id", "quarantine_id", "change_id", "last_id", "ids", "artefact", "loaded_at", "made_at", "built_at",
    "erased_at", "shop_home",
)  # fmt: skip

#: Files that say when something was made or how long it took.
_BY_NAME = ("report.html", "alerts.json", "ladder.png")


@dataclass
class Twin:
    """A small shop in a database, indexes and a folder of its own.

    Attributes:
        url: of its database.
        search: URL of Elasticsearch.
        home: its `SHOP_HOME`.
        prefix: of its indexes.
        settings: of its source; others make another source.
    """

    url: str
    search: str
    home: Path
    prefix: str
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """All settings."""
        return self.settings | {
            "DATABASE_URL": self.url, "ELASTICSEARCH_URL": self.search, "SHOP_HOME": str(self.home),
            "DAGSTER_HOME": str(self.folder / "dagster"), "DAGSTER_DISABLE_TELEMETRY": "yes",
        }  # fmt: skip

    @property
    def folder(self) -> Path:
        """Where its artefacts are."""
        return self.home / "shops" / "shop"

    @contextmanager
    def beginning(self, assets: Sequence[str]) -> Iterator[Child]:
        """A run of assets that has just begun, in a process of its own."""
        self.folder.joinpath("dagster").mkdir(parents=True, exist_ok=True)
        with child(materialise, os.environ | self.environment, self.prefix, assets) as run:
            assert run.hear() == "ready"
            run.tell("begin")
            yield run

    def run(self, assets: Sequence[str]) -> float:
        """Make assets, and fail where they do; returns the seconds that it took."""
        with self.beginning(assets) as run:
            started = time.monotonic()
            assert run.hear() == []
            return time.monotonic() - started

    def run_elsewhere(self, assets: Sequence[str], **variables: str) -> None:
        """Make assets in a process that was not forked off another, with these variables in its environment."""
        self.folder.joinpath("dagster").mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "shop_platform_tests.faults.children", self.prefix, *assets]
        environment = os.environ | self.environment | variables
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr

    def state(self) -> dict[str, str]:
        """A hash, or a count and a hash, of all that stays: tables, schemas, indexes, documents, files."""
        with psycopg.connect(self.url, autocommit=True) as connection, Elasticsearch(self.search) as client:
            return _in_postgres(connection) | _in_elasticsearch(client, self.prefix) | _in_files(self.folder)


@contextmanager
def twins(template_url: str, search: str, home: Path) -> Iterator[tuple[Twin, Twin]]:
    """Both shops, empty; removed at the end."""
    names = [f"twin_{uuid.uuid4().hex[:12]}" for _ in range(2)]
    with clone_of(template_url) as first, clone_of(template_url) as second:
        one, other = (
            Twin(url, search, home / name, f"{name}_") for url, name in zip((first, second), names, strict=True)
        )
        yield one, other
    with Elasticsearch(search) as client:
        for name in names:
            for index in client.indices.get(index=f"{name}_*", expand_wildcards="all"):
                client.indices.delete(index=index)


def _in_postgres(connection: psycopg.Connection[tuple[object, ...]]) -> dict[str, str]:
    found: dict[str, str] = {}
    columns = connection.execute(
        "SELECT table_schema, table_name, array_agg(column_name::text ORDER BY ordinal_position)"
        " FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)"
        " WHERE table_schema IN ('public', 'truth', 'analytics', 'ops') AND table_type = 'BASE TABLE'"
        " AND column_name <> ALL (%s) GROUP BY 1, 2",
        [list(_LEFT_OUT)],
    ).fetchall()
    for schema, table, names in columns:
        if f"{schema}.{table}" in _NOT_COMPARED:
            continue
        row = connection.execute(
            sql.SQL("SELECT count(*), coalesce(sum(hash_record_extended(ROW({}), 0)), 0) FROM {}").format(
                sql.SQL(", ").join(map(sql.Identifier, names)),  # type: ignore[arg-type]
                sql.Identifier(str(schema), str(table)),
            )
        ).fetchone()
        assert row is not None
        found[f"table {schema}.{table}"] = f"{row[0]} rows, {row[1]}"
    for kind, query in {
        "schemas": "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1",
        "indexes": "SELECT relname, indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid"
        " WHERE relnamespace::regnamespace::text IN ('public', 'analytics', 'ops') ORDER BY 1",
        "records": "SELECT name FROM analytics.records ORDER BY 1",
        "settled": "SELECT consumer, changes = (SELECT count(*) FROM ops.event_changes) + (SELECT changes FROM"
        " ops.event_changes_before) FROM ops.consumed ORDER BY 1",
        "constraints": "SELECT conname, convalidated FROM pg_constraint WHERE connamespace = 'public'::regnamespace"
        " ORDER BY 1",
        "triggers": "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1",
    }.items():
        found[kind] = str(connection.execute(query).fetchall())  # type: ignore[call-overload]
    return found


def _in_elasticsearch(client: Elasticsearch, prefix: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for index, made in client.indices.get(index=f"{prefix}*", expand_wildcards="all").body.items():
        client.indices.refresh(index=index)
        name = index.removeprefix(prefix)
        settings = made["settings"]["index"]
        kept = {key: settings.get(key) for key in ("refresh_interval", "blocks")}
        found[f"index {name}"] = f"{sorted(alias.removeprefix(prefix) for alias in made['aliases'])} {kept}"
        hits = client.search(index=index, size=10_000, source={"exclude_vectors": False})["hits"]["hits"]
        documents = sorted(f"{hit['_id']} {sorted(hit['_source'].items())}" for hit in hits)
        found[f"documents {name}"] = f"{len(documents)}, {_hash(chr(10).join(documents).encode())}"
    return found


def _in_files(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name.startswith("dagster/"):
            continue
        if path.name.endswith(_BY_NAME):
            found[f"file {name}"] = "there"
        elif path.suffix == ".png":
            # The file also says which run has drawn it.
            with Image.open(path) as image:
                found[f"file {name}"] = _hash(image.convert("RGBA").tobytes())
        else:
            found[f"file {name}"] = _hash(path.read_bytes())
    return found


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
