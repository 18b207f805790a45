"""A small shop after a demo, and a browser to look at it."""

from __future__ import annotations

import shutil
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
from shop_platform_tests.small import shop_after_demo

#: A password, API key and address of a webhook.
SECRET = "c4n4ry-of-the-browsed-sh0p"

#: Nothing that a browser would fetch or store for itself.
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, headless, with an empty profile.

    Closed before other modules: while Playwright is there an event loop runs, and Dagster can't start one of its own.
    """
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
    """The environment of a small shop whose demo has run, with secrets that open nothing, to be found nowhere later."""
    secrets = {
        "DATABASE_URL": postgres_service.url(server_settings, f"browsed_shop_{uuid.uuid4().hex}").replace(
            "@", f":{SECRET}@"
        ),
        "ELASTICSEARCH_API_KEY": SECRET,
        "SHOP_ALERT_WEBHOOK": f"http://127.0.0.1:9/{SECRET}",
        "SHOP_SOURCE_DATABASE_URL": f"postgresql://reader:{SECRET}@127.0.0.1/none",
    }
    home = tmp_path_factory.mktemp("browsed_shop")
    with shop_after_demo({**secrets, "ELASTICSEARCH_URL": elasticsearch_url, "SHOP_HOME": str(home)}) as environment:
        yield environment


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


@pytest.fixture(scope="package")
def report(shop: dict[str, str]) -> Path:
    """The report that the demo wrote."""
    return Path(shop["SHOP_HOME"]) / "shops" / "shop" / "report.html"
