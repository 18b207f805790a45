"""Dagster's UI as `shop-platform ui` opens it: every asset, its page, a run by clicking."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Browser, Page, expect

from shop_platform.automation import BY_SEGMENT, RETENTION, SEGMENTATION, SUMMARIES
from shop_platform.definitions import build_defs

from .conftest import COMMAND

RUNS = "{ runsOrError { ... on Runs { results { runId status assetSelection { path } } } } }"
LOCATIONS = "{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"


@pytest.fixture(scope="module")
def ui(shop: dict[str, str]) -> Iterator[str]:
    """The URL of a running UI over the small shop."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [COMMAND, "ui", "--port", str(port)],
        env=os.environ | shop,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                if graphql(url, "{ version }"):
                    break
            except (OSError, urllib.error.URLError):
                time.sleep(0.5)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


def graphql(url: str, query: str) -> Any:
    request = urllib.request.Request(  # noqa: S310  our own server
        f"{url}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  our own server
        return json.load(answer)["data"]


@pytest.fixture
def page(browser: Browser, ui: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1500, "height": 1600}, base_url=ui)
    opened = context.new_page()
    opened.set_default_timeout(30_000)
    yield opened
    context.close()


def test_every_asset_is_there_and_nothing_failed_to_load(ui: str, page: Page, tmp_path: Path) -> None:
    (entry,) = graphql(ui, LOCATIONS)["workspaceOrError"]["locationEntries"]
    assert entry["locationOrLoadError"]["__typename"] == "RepositoryLocation"
    page.goto("/assets")
    for key in build_defs().resolve_asset_graph().materializable_asset_keys:
        expect(page.locator(f"a[href*='/assets/{key.to_user_string()}']").first).to_be_visible()
    page.screenshot(path=tmp_path / "assets.png")


@pytest.mark.parametrize("asset", ["events", "cohort_retention", "user_segments"])
def test_the_page_of_a_table_shows_how_many_rows_it_has(page: Page, asset: str, tmp_path: Path) -> None:
    page.goto(f"/assets/{asset}")
    expect(page.get_by_text("Row count").first).to_be_visible()
    page.screenshot(path=tmp_path / f"{asset}.png")


def test_the_page_of_the_heatmap_shows_it(page: Page, tmp_path: Path) -> None:
    page.goto("/assets/retention_heatmap")
    page.get_by_text(re.compile("Show Markdown", re.IGNORECASE)).first.click()
    picture = page.get_by_alt_text(re.compile("Heatmap")).first
    expect(picture).to_be_visible()
    assert picture.evaluate("(image) => image.naturalWidth") > 300
    page.screenshot(path=tmp_path / "heatmap.png")


def test_new_events_and_searches_are_in_the_report_without_a_hand_and_nothing_else_was_made(
    ui: str, shop: dict[str, str], report: Path
) -> None:
    """Prints how long it took from the last row written to the report on the disk."""
    before = {run["runId"] for run in graphql(ui, RUNS)["runsOrError"]["results"]}
    with psycopg.connect(shop["DATABASE_URL"]) as connection:
        connection.execute(
            "INSERT INTO events (user_id, product_id, event_type, timestamp)"
            " SELECT user_id, product_id, 'viewed', '2026-01-07T12:00Z'"
            " FROM (SELECT user_id, row_number() OVER () AS n FROM users) AS users"
            " CROSS JOIN (SELECT product_id FROM products ORDER BY 1 LIMIT 10) AS products ORDER BY n LIMIT 1000"
        )
    documents = "".join(
        '{"create": {}}\n'
        + json.dumps({"user_id": f"new-{n % 20}", "search_query": f"yoga mat {n}", "timestamp": "2026-01-07T12:00:00Z"})
        + "\n"
        for n in range(200)
    )
    request = urllib.request.Request(  # noqa: S310  our own server
        f"{shop['ELASTICSEARCH_URL']}/user_logs/_bulk", documents.encode(), {"Content-Type": "application/x-ndjson"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  our own server
        assert not json.load(answer)["errors"]
    started = time.monotonic()
    while time.monotonic() - started < 180:
        page = report.read_text(encoding="utf-8")
        if '<th scope="row">2026-01-05</th>' in page and "2,200 search logs carry" in page:
            break
        time.sleep(0.5)
    else:
        pytest.fail("the report did not change")
    print(f"\nIn the report after {time.monotonic() - started:.0f} s.")  # noqa: T201  the figure that is promised
    made = {
        key["path"][0]
        for run in graphql(ui, RUNS)["runsOrError"]["results"]
        if run["runId"] not in before
        for key in run["assetSelection"]
    }
    affected = {*SUMMARIES, *RETENTION, *SEGMENTATION, *BY_SEGMENT, "shop_report"}
    assert {*SUMMARIES, *SEGMENTATION, "shop_report"} <= made <= affected


def test_a_materialisation_by_clicking_ends_green(ui: str, page: Page, tmp_path: Path) -> None:
    page.goto("/assets/retention_export")
    page.locator("button", has_text="Materialize").first.click()
    for _ in range(120):
        runs = graphql(ui, RUNS)["runsOrError"]["results"]
        mine = [run for run in runs if run["assetSelection"] == [{"path": ["retention_export"]}]]
        if mine and mine[0]["status"] in ("SUCCESS", "FAILURE"):
            break
        time.sleep(0.5)
    (run,) = mine
    page.goto(f"/runs/{run['runId']}")
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    page.screenshot(path=tmp_path / "run.png")
    assert run["status"] == "SUCCESS"
