"""Dagster's UI as `shop-platform ui` opens it: every asset, its page, a run by clicking; and what it tells to whom."""

from __future__ import annotations

import ipaddress
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
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
from playwright.sync_api import Browser, Page, expect
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from shop_platform.automation import BY_SEGMENT, RETENTION, SEGMENTATION, SUMMARIES
from shop_platform.definitions import build_defs
from shop_platform.services import elasticsearch as elasticsearch_service
from shop_platform.services import postgres as postgres_service
from shop_platform.settings import Settings

from ..services.ports import free_ports
from ..small import COMMAND
from .conftest import SECRET, queries_of
from .dagster_answers import Asker, ask, every

# Dagster's pages load much before they show anything: more than Playwright's 5 s, where the machine is busy.
expect.set_options(timeout=60_000)

RUNS = "{ runsOrError { ... on Runs { results { runId status assetSelection { path } } } } }"
ENDED = ("SUCCESS", "FAILURE", "CANCELED")
REPOSITORY = 'repositoryName: "__repository__", repositoryLocationName: "shop_platform"'
LOOKS = (
    f'{{ sensorOrError(sensorSelector: {{{REPOSITORY}, sensorName: "retention_refresh"}})'
    " { ... on Sensor { sensorState { ticks { status } } } } }"
)
#: A tag that anybody may see.
NOTE = "launched-while-nobody-is-let-in"
LAUNCH = f"""mutation {{
    launchRun(executionParams: {{
        selector: {{
            {REPOSITORY}, pipelineName: "__ASSET_JOB", assetSelection: [{{path: ["retention_heatmap"]}}]
        }},
        mode: "default", runConfigData: {{}}, executionMetadata: {{tags: [{{key: "note", value: "{NOTE}"}}]}}
    }}) {{ ... on LaunchRunSuccess {{ run {{ runId }} }} ... on Error {{ message }} }}
}}"""
LOCATIONS = "{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"


@pytest.fixture(scope="module")
def served(shop: dict[str, str]) -> Iterator[tuple[psutil.Process, str]]:
    """A running UI over the small shop: its process, and its URL."""
    (port,) = free_ports(1)
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
                if ask(url, "{ version }"):
                    break
            except (OSError, urllib.error.URLError):
                time.sleep(0.5)
        yield psutil.Process(process.pid), url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def ui(served: tuple[psutil.Process, str]) -> str:
    """The URL of the running UI."""
    return served[1]


@pytest.fixture
def page(browser: Browser, ui: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1500, "height": 1600}, base_url=ui)
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    yield opened
    context.close()


def test_every_asset_is_there_and_nothing_failed_to_load(ui: str, page: Page, tmp_path: Path) -> None:
    (entry,) = ask(ui, LOCATIONS)["workspaceOrError"]["locationEntries"]
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
    # One that is under way may take in the new rows.
    before = {run["runId"] for run in ask(ui, RUNS)["runsOrError"]["results"] if run["status"] in ENDED}
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
        for run in ask(ui, RUNS)["runsOrError"]["results"]
        if run["runId"] not in before
        for key in run["assetSelection"]
    }
    affected = {*SUMMARIES, *RETENTION, *SEGMENTATION, *BY_SEGMENT, "shop_report"}
    assert {*SUMMARIES, *SEGMENTATION, "shop_report"} <= made <= affected


def test_a_materialisation_by_clicking_ends_green(ui: str, page: Page, tmp_path: Path) -> None:
    page.goto("/assets/retention_export")
    page.locator("button", has_text="Materialize").first.click()
    for _ in range(120):
        runs = ask(ui, RUNS)["runsOrError"]["results"]
        mine = [run for run in runs if run["assetSelection"] == [{"path": ["retention_export"]}]]
        if mine and mine[0]["status"] in ("SUCCESS", "FAILURE"):
            break
        time.sleep(0.5)
    (run,) = mine
    page.goto(f"/runs/{run['runId']}")
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    page.screenshot(path=tmp_path / "run.png")
    assert run["status"] == "SUCCESS"


def _all_of(process: psutil.Process) -> dict[str, set[str]]:
    """Where a process, those that it has started and all in their sessions may be spoken to, by pid and command."""
    tree = [process, *process.children(recursive=True)]
    sessions = {_session(each) for each in tree} - {os.getsid(0), None}
    places = {}
    for each in {*tree, *(each for each in psutil.process_iter() if _session(each) in sessions)}:
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            places[f"{each.pid} {' '.join(each.cmdline())}"] = set(_sockets(each))
    return places


def _session(process: psutil.Process) -> int | None:
    with suppress(ProcessLookupError):
        return os.getsid(process.pid)
    return None


def _sockets(process: psutil.Process) -> Iterator[str]:
    """Where a process may be spoken to: addresses with their ports, and paths."""
    for found in process.net_connections("all"):
        if found.family == socket.AF_UNIX:
            if found.laddr:
                yield str(found.laddr)
        elif found.status == psutil.CONN_LISTEN or (found.type == socket.SOCK_DGRAM and not found.raddr):
            yield f"{found.laddr.ip} {found.laddr.port}"


def _is_for_us_alone(place: str) -> bool:
    """Whether an address is loopback, or a socket's file is not for others to write, or not to be reached by them."""
    if place.startswith("/"):
        # A JVM binds the one by which it is attached to under another name, of which it then takes the end away.
        file = Path(place.removesuffix(".tmp") if "/.java_pid" in place else place)
        return not (file.stat().st_mode & 0o022 and file.parent.stat().st_mode & 0o011)
    try:
        address = ipaddress.ip_address(place.partition(" ")[0])
    except ValueError:
        return False  # a name without a file, which knows no rights
    return bool((getattr(address, "ipv4_mapped", None) or address).is_loopback)


@pytest.mark.fault
def test_all_that_runs_listens_on_loopback_and_unix_sockets_alone(
    served: tuple[psutil.Process, str], shop: dict[str, str], server_settings: Settings
) -> None:
    process, url = served
    running = _all_of(process)
    assert [part for part in ("dagster_webserver", "dagster._daemon", "code-server") if part not in str(running)] == []
    for status in (postgres_service.status(server_settings), elasticsearch_service.status(server_settings)):
        running |= _all_of(psutil.Process(status.pid))
    places = set().union(*running.values())
    ports = {int(place.rpartition(" ")[2]) for place in places if not place.startswith("/")}
    assert {urlsplit(each).port for each in (url, shop["ELASTICSEARCH_URL"])} <= ports
    assert any(place.endswith("/.s.PGSQL.5432") for place in places)
    open_to_all = {place for place in places if not _is_for_us_alone(place)}
    assert {each: found & open_to_all for each, found in running.items() if found & open_to_all} == {}


@pytest.fixture(scope="module")
def failed(ui: str, shop: dict[str, str]) -> str:
    """The id of a run that failed, and some sensors' looks with it, because PostgreSQL let nobody in."""
    admin = make_conninfo(shop["DATABASE_URL"], dbname="postgres")
    name = sql.Identifier(str(conninfo_to_dict(shop["DATABASE_URL"])["dbname"]))
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        try:
            launched = ask(ui, LAUNCH)["launchRun"]["run"]["runId"]
            for _ in range(240):
                statuses = {run["runId"]: run["status"] for run in ask(ui, RUNS)["runsOrError"]["results"]}
                looks = every(ask(ui, LOOKS), "status")
                if statuses[launched] == "FAILURE" and "FAILURE" in looks:
                    break
                time.sleep(0.5)
        finally:
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
    return str(launched)


@pytest.fixture(scope="module")
def told(ui: str, failed: str) -> list[str]:
    """All that Dagster answers to whoever may see its UI, as it comes; not before it is seen to be all."""
    asker = Asker(ui)
    selector = f"(repositorySelector: {{{REPOSITORY}}})"
    asker.ask_for("workspaceOrError", open_up=["Workspace", "RepositoryLocation", "Repository"])
    asker.ask_for("repositoryOrError", selector, open_up=["Repository", "Job", "Pipeline", "Mode"], depth=5)
    asker.ask_for("instance", open_up=["Instance"])
    resources = asker.ask_for("allTopLevelResourceDetailsOrError", selector)
    assert {"postgres", "elasticsearch", "shop"} <= set(every(resources, "ResourceDetails_name"))
    assert "time_zone" in every(resources, "ConfigTypeField_name")
    for kind in ("schedule", "sensor"):
        found = asker.ask_for(f"{kind}sOrError", selector, open_up=["Schedule", "Sensor"])
        for name in every(found, f"{kind.capitalize()}_name"):
            one = f'({kind}Selector: {{{REPOSITORY}, {kind}Name: "{name}"}})'
            told = asker.ask_for(f"{kind}OrError", one, open_up=["Schedule", "Sensor", "InstigationState"], depth=6)
            assert name != "retention_refresh" or "cannot be reached" in str(every(told, "InstigationTick_error"))
    asker.ask_for("autoMaterializeTicks")
    asker.ask_for("assetsOrError", open_up=["Asset"])
    for node in asker.ask_for("assetNodes", open_up=["AssetCheck"]):
        (key,) = node["AssetNode_assetKey"]["AssetKey_path"]
        asset = f'assetKey: {{path: ["{key}"]}}'
        asker.ask_for("assetConditionEvaluationRecordsOrError", f"({asset}, limit: 1000)")
        for check in every(node, "AssetCheck_name"):
            made = asker.ask_for("assetCheckExecutions", f'({asset}, checkName: "{check}", limit: 1000)')
            assert every(made, "AssetCheckEvaluation_success"), (key, check)
    runs = asker.ask_for("runsOrError", open_up=["Run"], depth=3)
    logs = {run: _logs(asker, run) for run in every(runs, "Run_runId")}
    assert "cannot be reached" in logs[failed]
    assert len(asker.left_out) < 20, asker.left_out
    return asker.answers


def _logs(asker: Asker, run: str) -> str:
    """All events of a run, and what it printed meanwhile."""
    events = asker.ask_for("logsForRun", f'(runId: "{run}")')
    assert every(events, "EventConnection_hasMore") == [False]
    for key in set(every(events, "LogsCapturedEvent_fileKey")):
        asker.ask_for("capturedLogs", f'(logKey: ["{run}", "compute_logs", "{key}"])')
    return str(events)


@pytest.mark.fault
def test_no_secret_is_in_any_answer_of_dagsters(told: list[str]) -> None:
    together = "".join(told)
    # It is searched where it would be: in tags, metadata, errors with their stacks, and what a run printed.
    public = (
        NOTE,
        "retention_heatmap",
        "tech_enthusiast",
        "PostgreSQL cannot be reached",
        "resources/postgres.py",
        "Loaded ",
    )
    assert [text for text in public if text not in together] == []
    assert re.findall(f".{{0,60}}{SECRET}", together) == []


@pytest.mark.fault
def test_no_query_of_fewer_than_k_users_is_in_any_answer_of_dagsters(told: list[str], shop: dict[str, str]) -> None:
    lone, _ = queries_of(shop)
    assert len(lone) > 20
    together = "".join(json.dumps(json.loads(text), ensure_ascii=False) for text in told).lower()
    assert "tech_enthusiast" in together
    assert [text for text in lone if text in together] == []
