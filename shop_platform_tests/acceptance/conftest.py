"""A small shop after a demo, and a browser to look at it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch
from elasticsearch.helpers import scan
from playwright.sync_api import Browser, sync_playwright

from shop_platform.segmentation.profiles import SHARED_BY
from shop_platform.segmentation.queries import normalise
from shop_platform.services import postgres as postgres_service
from shop_platform.settings import Settings
from shop_platform_tests.small import SMALL

COMMAND = str(Path(sys.executable).with_name("shop-platform"))

#: A password, API key and address of a webhook.
SECRET = "c4n4ry-of-the-browsed-sh0p"

#: Nothing that a browser would fetch or store for itself.
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, headless, with an empty profile."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no Chromium: install Debian's package chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=list(_FLAGS))
        yield started
        started.close()


@pytest.fixture(scope="package")
def shop(
    server_settings: Settings,
    elasticsearch_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, str]]:
    """The environment of a small shop whose demo has run; with a demo's own indexes, which are removed at the end."""
    # A new one each time: in one that has been measured before, a demo does not measure again.
    database = postgres_service.url(server_settings, f"browsed_shop_{uuid.uuid4().hex}")
    environment = {
        **SMALL,
        # So many that the segments hold, with so few users.
        "SHOP_SEARCHES": "2000",
        # What is added later is a quarter of all events, which else would be measured again.
        "SHOP_REMEASURE_GROWTH": "1",
        # With secrets that open nothing here, and are nowhere to be found afterwards.
        "DATABASE_URL": database.replace("@", f":{SECRET}@"),
        "ELASTICSEARCH_API_KEY": SECRET,
        "SHOP_ALERT_WEBHOOK": f"http://127.0.0.1:9/{SECRET}",
        "SHOP_SOURCE_DATABASE_URL": f"postgresql://reader:{SECRET}@127.0.0.1/none",
        "ELASTICSEARCH_URL": elasticsearch_url,
        "SHOP_HOME": str(tmp_path_factory.mktemp("browsed_shop")),
    }  # fmt: skip
    demo = [COMMAND, "--debug", "demo"]
    done = subprocess.run(demo, env=os.environ | environment, check=True, capture_output=True, timeout=240)
    printed_by(environment).write_bytes(done.stdout + done.stderr)
    yield environment
    with Elasticsearch(elasticsearch_url) as client:
        for alias in ("user_logs", "search_embeddings"):
            for index in client.options(ignore_status=404).indices.get(index=f"{alias}*"):
                client.indices.delete(index=index)


def queries_of(shop: dict[str, str]) -> tuple[list[str], list[str]]:
    """What few people typed, in lower case, and what so many did that it may be shown."""
    users, typed = defaultdict(set), defaultdict(set)
    with Elasticsearch(shop["ELASTICSEARCH_URL"]) as client:
        for hit in scan(client, index="user_logs", source=["user_id", "search_query"]):
            text = hit["_source"]["search_query"]
            users[normalise(text)].add(hit["_source"]["user_id"])
            typed[normalise(text)] |= {normalise(text), text.lower()}
    shared = [text for text, who in users.items() if len(who) >= SHARED_BY]
    # Not those whose words stand in a query that many share, or that are too short to be told from other text.
    lone = [
        spelling
        for text, who in users.items()
        if len(who) < SHARED_BY and len(text) > 12 and not any(text in other for other in shared)
        for spelling in typed[text]
    ]
    return lone, shared


def printed_by(shop: dict[str, str]) -> Path:
    """The file with what the demo printed."""
    return Path(f"{shop['SHOP_HOME']}.printed")


@pytest.fixture(scope="package")
def report(shop: dict[str, str]) -> Path:
    """The report that the demo wrote."""
    return Path(shop["SHOP_HOME"]) / "shops" / "shop" / "report.html"
