"""The calls that the platform makes of Elasticsearch are those that docs/operations.md names privileges for."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from elasticsearch import Elasticsearch
from rich.console import Console

from shop_platform.cli import run
from shop_platform.definitions import build_defs
from shop_platform.demo import materialise
from shop_platform.services import postgres as postgres_service
from shop_platform.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("### An API key for Elasticsearch")[2].partition("\n## ")[0]

#: What needs each privilege, by https://www.elastic.co/docs/reference/elasticsearch/security-privileges: `manage` of an
#: index holds the last four.
PRIVILEGES = {
    "monitor (cluster)",
    "read",
    "write",
    "manage",
    "view_index_metadata",
    "maintenance",
    "delete_index",
    "monitor",
}


#: Calls that this small shop has no need of: a document that somebody changed meanwhile is read and updated by itself,
#: an index of an older mapping is closed for writing and removed.
SELDOM = {
    "GET /{index}/_doc/{id}", "POST /{index}/_update/{id}", "PUT /{index}/_block/{block}", "DELETE /{index}",
}  # fmt: skip


def documented() -> dict[str, str]:
    """The privilege that the page names for each call."""
    return dict(re.findall(r"^\| `([A-Z]+ [^`]+)` \| `([^`]+)` \|$", SECTION, re.MULTILINE))


def call_of(method: str, url: str) -> str:
    """A call without what names an index, a document or a point in time."""
    parts = [part for part in urlsplit(url).path.split("/") if part]
    if parts and not parts[0].startswith("_"):
        parts[0] = "{index}"
    if len(parts) == 3 and parts[1] in ("_doc", "_update"):
        parts[2] = "{id}"
    if parts[:1] == ["_alias"]:
        parts[1:] = ["{name}"]
    if parts[1:2] in (["_stats"], ["_settings"]):
        parts = parts[:2]
    if parts[1:2] == ["_block"]:
        parts[2:] = ["{block}"]
    return f"{method} /{'/'.join(parts)}"


class Recorder(logging.Handler):
    """Notes each request that the client has sent."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.calls: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if sent := re.match(r"([A-Z]+) (https?://\S+) \[status:", record.getMessage()):
            self.calls.add(call_of(sent[1], sent[2]))


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    logger = logging.getLogger("elastic_transport.transport")
    handler, before = Recorder(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


def test_a_demo_a_search_and_an_erasure_call_what_the_page_names(
    server_settings: Settings,
    elasticsearch_url: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    recorder: Recorder,
) -> None:
    for name, value in {
        "SHOP_USERS": "40", "SHOP_EVENTS": "400", "SHOP_SEARCHES": "400",
        "DATABASE_URL": postgres_service.url(server_settings, "recorded_shop"),
        "ELASTICSEARCH_URL": elasticsearch_url, "DAGSTER_HOME": str(home / "shops" / "shop" / "dagster"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assets = ["users", "products", "events", "user_logs", "search_embeddings", "user_segments", "segmented_user_logs",
              "segment_profiles"]  # fmt: skip
    try:
        materialise(Console(quiet=True), build_defs(), assets)
        assert run(["--quiet", "search", "shoes"]) == 0
        assert run(["--quiet", "segment", "u0001"]) in (0, 3)
        run(["--quiet", "erase", "u0003", "--yes"])
        assert run(["--quiet", "status"]) == 0
    finally:
        made = recorder.calls.copy()
        with Elasticsearch(elasticsearch_url) as client:
            for index in client.indices.get(index="user_logs*,search_embeddings*"):
                client.indices.delete(index=index)
    assert made - documented().keys() == set()
    assert documented().keys() - made <= SELDOM


def test_the_key_holds_each_privilege_that_a_call_needs() -> None:
    assert set(documented().values()) <= PRIVILEGES
    key = json.loads(SECTION.partition("```json")[2].partition("```")[0])["role_descriptors"]["shop_platform"]
    (indices,) = key["indices"]
    assert {name.rstrip("*") for name in indices["names"]} == {"user_logs", "search_embeddings"}
    held = {f"{each} (cluster)" for each in key["cluster"]} | set(indices["privileges"])
    if "manage" in held:
        held |= {"monitor", "view_index_metadata", "maintenance", "delete_index"}
    assert set(documented().values()) <= held
    # No more than is needed: each one is somebody's, and none is a name for everything.
    assert set(indices["privileges"]) == {"read", "write", "manage"}
    assert key["cluster"] == ["monitor"]


@pytest.mark.parametrize(
    ("method", "url", "call"),
    [
        ("POST", "http://h:1/user_logs-1/_search?size=1", "POST /{index}/_search"),
        ("GET", "http://h:1/_cluster/health", "GET /_cluster/health"),
        ("POST", "http://h:1/user_logs/_update/abc", "POST /{index}/_update/{id}"),
        ("PUT", "http://h:1/user_logs", "PUT /{index}"),
        ("GET", "http://h:1/_alias/user_logs", "GET /_alias/{name}"),
        ("GET", "http://h:1/", "GET /"),
    ],
)
def test_a_call_is_known_without_the_names_in_it(method: str, url: str, call: str) -> None:
    assert call_of(method, url) == call
