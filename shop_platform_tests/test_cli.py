"""The command as a stranger uses it: a small shop from nothing to the report, new data, errors, servers."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import jsonschema
import psutil
import psycopg
import pytest
from elasticsearch import Elasticsearch

from shop_platform.definitions import build_defs
from shop_platform.services import postgres as postgres_service
from shop_platform.settings import Settings

from .services.ports import free_ports
from .small import COMMAND, SMALL, remove_demo_indexes
from .terminal import on_a_terminal

ROOT = Path(__file__).parents[1]

Run = Callable[..., subprocess.CompletedProcess[str]]


def run_with(environment: dict[str, str]) -> Run:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *arguments],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def environment(
    server_settings: Settings, elasticsearch_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """A shop of its own on this run's servers; its indexes are removed at the end."""
    yield SMALL | {
        "DATABASE_URL": postgres_service.url(server_settings, "small_shop"),
        "ELASTICSEARCH_URL": elasticsearch_url,
        "SHOP_HOME": str(tmp_path_factory.mktemp("small_shop")),
        "COLUMNS": "200",
    }
    with Elasticsearch(elasticsearch_url) as client:
        remove_demo_indexes(client)


@pytest.fixture(scope="module")
def run(environment: dict[str, str]) -> Run:
    return run_with(environment)


@pytest.fixture(scope="module")
def first_demo(run: Run) -> subprocess.CompletedProcess[str]:
    """The outcome of the first `shop-platform demo` on the small shop."""
    return run("demo")


def counts(environment: dict[str, str]) -> dict[str, int]:
    with psycopg.connect(environment["DATABASE_URL"]) as connection:
        found = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608  three names
            for table in ("users", "products", "events")
        }
    with Elasticsearch(environment["ELASTICSEARCH_URL"]) as client:
        documents = client.count(index="user_logs")["count"]
        segmented = client.count(index="user_logs", query={"exists": {"field": "segment"}})["count"]
    return {name: row[0] for name, row in found.items() if row} | {"documents": documents, "segmented": segmented}


@pytest.mark.usefixtures("first_demo")
class TestDemo:
    """What holds after a first demo. In this order: later tests add data."""

    def test_it_ends_well_and_says_what_it_found(self, first_demo: subprocess.CompletedProcess[str]) -> None:
        assert first_demo.returncode == 0, first_demo.stdout + first_demo.stderr
        for text in ("Queries, in turns on a copy", "Retention", "Segments", "Report:"):
            assert text in first_demo.stdout
        assert "\x1b" not in first_demo.stdout, "no escape codes where there is no terminal"

    def test_a_steps_lines_are_printed_though_what_dagster_passes_output_on_by_is_too_slow(
        self, environment: dict[str, str], tmp_path: Path
    ) -> None:
        tail = tmp_path / "tail"
        tail.write_text("#!/bin/sh\nexec sleep 60\n")
        tail.chmod(0o755)
        told = run_with(environment | {"PATH": f"{tmp_path}:{os.environ['PATH']}"})("report")
        assert materialised(told.stdout) == {"shop_report"}, told.stdout + told.stderr

    def test_every_row_and_document_is_there_with_a_segment(self, environment: dict[str, str]) -> None:
        assert counts(environment) == {
            "users": 120, "products": 20, "events": 4000, "documents": 900, "segmented": 900,
        }  # fmt: skip

    def test_the_three_indexes_are_valid(self, environment: dict[str, str]) -> None:
        with psycopg.connect(environment["DATABASE_URL"]) as connection:
            rows = connection.execute(
                "SELECT indexrelid::regclass::text, indisvalid FROM pg_index"
                " WHERE indexrelid::regclass::text LIKE 'idx\\_%' ORDER BY 1"
            ).fetchall()
        assert rows == [
            ("idx_events_product_type", True),
            ("idx_events_user_time", True),
            ("idx_products_category", True),
        ]

    def test_each_document_has_one_of_the_four_segments(self, environment: dict[str, str]) -> None:
        with Elasticsearch(environment["ELASTICSEARCH_URL"]) as client:
            answer = client.search(index="user_logs", size=0, aggs={"s": {"terms": {"field": "segment"}}})
        names = {bucket["key"] for bucket in answer["aggregations"]["s"]["buckets"]}
        assert names <= {"tech_enthusiast", "lifestyle_shopper", "fitness_focused", "bargain_hunter"}

    def test_the_copies_for_measuring_are_gone(self, environment: dict[str, str]) -> None:
        with psycopg.connect(environment["DATABASE_URL"]) as connection:
            assert connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'lab%'").fetchall() == []

    def test_each_materialisation_carries_the_lineage_of_its_columns(self, environment: dict[str, str]) -> None:
        graph = build_defs().resolve_asset_graph()
        with dg.DagsterInstance.from_config(f"{environment['SHOP_HOME']}/shops/shop/dagster") as instance:
            for key in graph.materializable_asset_keys:
                made = instance.get_latest_materialization_event(key)
                assert made is not None
                assert made.asset_materialization is not None
                found = made.asset_materialization.metadata.get("dagster/column_lineage")
                assert found == graph.get(key).metadata.get("dagster/column_lineage"), key

    def test_results_follow_their_schema(self, run: Run) -> None:
        schema = json.loads((ROOT / "docs" / "results.schema.json").read_text(encoding="utf-8"))
        found: dict[str, Any] = json.loads(run("results", "--json").stdout)
        jsonschema.validate(found, schema)
        assert None not in found.values()
        assert sum(segment["users"] for segment in found["segments"]) <= 120
        assert len(found["cohort_retention"]) == 12 * 8

    def test_a_users_segment_is_shown_with_what_tells_it(self, run: Run, environment: dict[str, str]) -> None:
        with psycopg.connect(environment["DATABASE_URL"]) as connection:
            user, segment, queries = connection.execute(
                "SELECT user_id, segment, distinct_queries FROM analytics.user_segments ORDER BY 3 DESC, 1 LIMIT 1"
            ).fetchone() or ("", "", 0)
            bought = connection.execute(
                "SELECT count(*) FROM events WHERE user_id = %s AND event_type = 'purchased'", [user]
            ).fetchone()
        found = json.loads(run("segment", user, "--json").stdout)
        assert (found["user"], found["segment"], found["provisional"]) == (user, segment, False)
        assert len({each["query"] for each in found["queries"]}) == queries
        assert (sum(found["bought"].values()),) == bought
        text = run("segment", user).stdout
        assert text.startswith((f"{user}: {segment}, confidence 0.", f"{user}: {segment}, confidence 1."))
        assert found["queries"][0]["query"] in text
        stranger = run("segment", "nobody")
        assert (stranger.returncode, stranger.stdout) == (3, "")
        assert "No searcher nobody was segmented" in stranger.stderr

    def test_the_report_is_written_again_and_its_path_alone_is_printed_when_quiet(
        self, run: Run, environment: dict[str, str]
    ) -> None:
        path = Path(environment["SHOP_HOME"]) / "shops" / "shop" / "report.html"
        path.unlink()
        written = run("--quiet", "report")
        assert (written.returncode, written.stdout) == (0, f"{path}\n")
        assert "<h1>" in path.read_text(encoding="utf-8")

    def test_a_query_of_ones_own_is_measured_and_leaves_the_results_and_no_copy(self, run: Run, tmp_path: Path) -> None:
        before = json.loads(run("results", "--json").stdout)
        file = tmp_path / "last_buyers.sql"
        file.write_text(
            "-- Who bought last?\nSELECT user_id, max(timestamp) FROM events WHERE event_type = 'purchased' GROUP BY 1"
        )
        found = json.loads(run("benchmark", str(file), "--json").stdout)
        (query,) = found["effects"]["queries"]
        assert (query["name"], query["as_written"]["median_ms"] > 0) == ("last_buyers", True)
        assert [each["name"] for each in found["advice"]["queries"]] == ["last_buyers"]
        file.write_text("DROP TABLE events")
        refused = run("benchmark", str(file))
        assert (refused.returncode, str(file) in refused.stderr) == (3, True)
        assert run("benchmark", str(tmp_path / "none.sql")).returncode == 3
        assert json.loads(run("results", "--json").stdout) == before

    def test_a_terminal_gets_bars_with_rate_and_time_left_which_are_gone_at_the_end(
        self, environment: dict[str, str], query: Path
    ) -> None:
        screen = on_a_terminal([COMMAND, "benchmark", str(query)], environment)
        assert re.search(r"measuring last_buyers .* \d+ of \d+ rounds, [\d.,]+/s, \d+ s left", screen)
        assert "rounds" not in screen[screen.index("Queries, in turns") :]

    def test_elsewhere_there_are_plain_lines_on_stderr_and_results_stay_alone(
        self, environment: dict[str, str], query: Path
    ) -> None:
        program = "import sys; from shop_platform.cli import bars, run; bars.EVERY = 0.5; sys.exit(run(sys.argv[1:]))"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program, "benchmark", str(query), "--json"],
            env=os.environ | environment, capture_output=True, text=True, timeout=240, check=True,
        )  # fmt: skip
        assert json.loads(done.stdout).keys() == {"effects", "advice"}
        lines = done.stderr.splitlines()
        told = re.compile(r"(measuring|inserting) [\w ,]+: \d+ of \d+ rounds, [\d.,]+/s, \d+ (s|min) left")
        assert lines
        assert all(told.fullmatch(line) for line in lines)

    @pytest.fixture
    def query(self, tmp_path: Path) -> Path:
        file = tmp_path / "last_buyers.sql"
        file.write_text("SELECT user_id, max(timestamp) FROM events WHERE event_type = 'purchased' GROUP BY 1")
        return file

    def test_a_second_demo_changes_nothing_and_does_not_load_the_model(
        self, run: Run, environment: dict[str, str]
    ) -> None:
        before = (counts(environment), self.hashes(environment))
        second = run("demo")
        assert second.returncode == 0, second.stdout + second.stderr
        assert "still hold" in second.stdout
        assert "Encod" not in second.stdout
        assert (counts(environment), self.hashes(environment)) == before

    def hashes(self, environment: dict[str, str]) -> list[Any]:
        """Hash of each published table, and the versions of the documents."""
        tables = ("users", "products", "events", "analytics.cohort_retention", "analytics.user_segments")
        with psycopg.connect(environment["DATABASE_URL"]) as connection:
            found: list[Any] = [
                connection.execute(f"SELECT sum(hash_record_extended(t, 0)) FROM {table} t").fetchone()  # noqa: S608
                for table in tables
            ]
        with Elasticsearch(environment["ELASTICSEARCH_URL"]) as client:
            hits = client.search(index="user_logs", size=1_000, sort="_doc", version=True)["hits"]["hits"]
        return [*found, sorted((hit["_id"], hit["_version"]) for hit in hits)]

    def test_a_refresh_without_anything_new_does_nothing(self, run: Run) -> None:
        refreshed = run("refresh")
        assert refreshed.returncode == 0, refreshed.stdout + refreshed.stderr
        assert refreshed.stdout.splitlines() == [
            "source: No new data in the source.",
            "performance: No new events.",
            "retention: No new events.",
            "segmentation: No new search logs.",
        ]

    def test_new_events_and_searches_refresh_what_they_affect_and_no_more(
        self, run: Run, environment: dict[str, str]
    ) -> None:
        self.add_events(environment, 100)
        refreshed = run("refresh")
        assert refreshed.returncode == 0, refreshed.stdout + refreshed.stderr
        assert materialised(refreshed.stdout) == {
            "activity_summaries", "cohort_retention", "retention_heatmap", "retention_curves", "retention_export",
            "segment_retention", "shop_report",
        }  # fmt: skip
        assert "segmentation: No new search logs." in refreshed.stdout
        with Elasticsearch(environment["ELASTICSEARCH_URL"]) as client:
            for number in range(100):
                document = {
                    "user_id": f"u{number + 1:04d}",
                    "search_query": f"wireless headphones {number % 7}",
                    "clicked_product_ids": ["p01", "p02"],
                    "timestamp": "2025-04-01T12:30:00Z",
                }
                client.index(index="user_logs", document=document)
            client.indices.refresh(index="user_logs")
        refreshed = run("refresh")
        assert refreshed.returncode == 0, refreshed.stdout + refreshed.stderr
        assert materialised(refreshed.stdout) == {
            "search_embeddings", "user_segments", "segmented_user_logs", "segment_retention", "shop_report",
        }  # fmt: skip
        assert counts(environment) == {
            "users": 120, "products": 20, "events": 4100, "documents": 1000, "segmented": 1000,
        }  # fmt: skip
        assert run("refresh").stdout.count("No new") == 4

    def add_events(self, environment: dict[str, str], count: int) -> None:
        with psycopg.connect(environment["DATABASE_URL"]) as connection:
            connection.execute(
                "INSERT INTO events (user_id, product_id, event_type, timestamp)"
                " SELECT user_id, 'p01', 'viewed', '2025-12-31 12:00Z' FROM users ORDER BY user_id LIMIT %s",
                [count],
            )

    def test_another_source_takes_the_place_of_the_one_before_and_loses_none_of_those_events(
        self, environment: dict[str, str]
    ) -> None:
        other = run_with(environment | {"SHOP_SEED": "43"})
        loaded = other("demo")
        assert loaded.returncode == 0, loaded.stdout + loaded.stderr
        assert counts(environment) == {
            "users": 120, "products": 20, "events": 4100, "documents": 1000, "segmented": 1000,
        }  # fmt: skip
        with psycopg.connect(environment["DATABASE_URL"]) as connection:
            added = "SELECT count(*) FROM events WHERE timestamp = '2025-12-31 12:00Z'"
            assert connection.execute(added).fetchone() == (100,)  # type: ignore[call-overload]
        assert "source: No new data in the source." in other("refresh", "source").stdout


def materialised(output: str) -> set[str]:
    """Steps that a run reports as finished."""
    return {line.split()[0] for line in output.splitlines() if line.startswith("  ") and "finished" in line}


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "complaint"),
    [
        (["demo", "--config", "nowhere.toml"], {}, 3, "There is no file"),
        (["demo"], {"SHOP_USERS": "none"}, 3, "SHOP_USERS"),
        (["demo"], {"SHOP_TIME_ZONE": "Mars/Olympus"}, 3, "SHOP_TIME_ZONE"),
        (["results"], {"DATABASE_URL": "postgresql://u:hush@127.0.0.1:1/x"}, 3, "cannot be reached"),
        (["results"], {"DATABASE_URL": "postgres//u:hush@x"}, 3, "not a URL"),
        (["url", "mysql"], {}, 2, "mysql"),
    ],
)
@pytest.mark.fault
def test_a_mistake_is_named_in_a_sentence_without_a_trace_or_a_secret(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], code: int, complaint: str
) -> None:
    failed = run_with({"SHOP_HOME": str(tmp_path)} | environment)(*arguments)
    assert failed.returncode == code
    assert complaint in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "hush" not in failed.stdout + failed.stderr


def test_data_that_is_not_there_is_named_with_the_way_out(tmp_path: Path, environment: dict[str, str]) -> None:
    own = environment | {"SHOP_HOME": str(tmp_path), "SHOP_DATA": str(tmp_path / "nothing")}
    failed = run_with(own)("demo", "--config", str(ROOT / "examples" / "online_retail.toml"))
    assert failed.returncode == 1
    assert "There is no file online_retail.parquet" in failed.stderr
    assert "Set SHOP_DATA" in failed.stderr


def test_servers_are_started_found_and_stopped(server_folder: Path) -> None:
    home = server_folder / "home"
    run = run_with({"SHOP_HOME": str(home), "SHOP_ELASTICSEARCH_HEAP": "512m"})
    assert not any(state["running"] for state in json.loads(run("status", "--json").stdout).values())
    started = run("up")
    assert started.returncode == 0, started.stderr
    states = json.loads(run("status", "--json").stdout)
    assert all(state["running"] and state["embedded"] for state in states.values())
    assert "embedded, running" in run("status").stdout
    with psycopg.connect(run("url", "postgres").stdout.strip()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    url = run("url", "elasticsearch").stdout.strip()
    with urllib.request.urlopen(f"{url}/_cluster/health", timeout=10) as answer:  # noqa: S310  loopback
        assert json.load(answer)["status"] in ("green", "yellow")
    assert run("down").stdout == f"Stopped elasticsearch and postgres of {home}.\n"
    assert run("down").stdout == f"No embedded server of {home} was running.\n"
    assert not any(psutil.pid_exists(state["pid"]) and _lives(state["pid"]) for state in states.values())


def _lives(pid: int) -> bool:
    return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_the_ui_answers_on_loopback_and_ends_with_all_that_it_started(environment: dict[str, str]) -> None:
    (port,) = free_ports(1)
    with subprocess.Popen(
        [COMMAND, "ui", "--port", str(port)], env=os.environ | environment, stdout=subprocess.DEVNULL
    ) as process:
        names = asset_names(port)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=15) == 0
    graph = build_defs().resolve_asset_graph()
    assert names == {key.to_user_string() for key in graph.materializable_asset_keys}
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []


def asset_names(port: int) -> set[str]:
    """Assets that the UI's own API lists, once the code location is loaded."""
    query = json.dumps({"query": "{ assetNodes { assetKey { path } } }"}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", query, {"Content-Type": "application/json"})
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  loopback
                found = {node["assetKey"]["path"][0] for node in json.load(answer)["data"]["assetNodes"]}
        except OSError:
            found = set()
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError("the UI did not list any asset within two minutes")


def test_a_port_that_is_taken_is_named(environment: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = run_with(environment)("ui", "--port", str(taken.getsockname()[1]))
    assert refused.returncode == 3
    assert "is taken" in refused.stderr


def test_the_version_is_that_of_the_package() -> None:
    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert run_with({})("--version").stdout == f"shop-platform {package['version']}\n"


def test_env_prints_what_dagster_needs(environment: dict[str, str]) -> None:
    printed = run_with(environment)("env").stdout
    assert "export DAGSTER_DISABLE_TELEMETRY=yes" in printed
    home = next(line.split("=", 1)[1] for line in printed.splitlines() if "DAGSTER_HOME" in line)
    assert (Path(home) / "dagster.yaml").read_text(encoding="utf-8").count("enabled: false") == 2
