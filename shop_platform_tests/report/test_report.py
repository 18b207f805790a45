"""The results, their sentences and the page, from real results and from none at all."""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import dagster as dg
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from shop_platform.performance.ladder import rungs
from shop_platform.records import write_record
from shop_platform.report.assets import define_shop_report
from shop_platform.report.evaluations import Evaluation
from shop_platform.report.page import SECTIONS, line_of, missing_sections, render
from shop_platform.report.results import collect_results
from shop_platform.report.retention import tables
from shop_platform.report.sentences import lead
from shop_platform.report.terminal import print_results
from shop_platform.resources.postgres import PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.retention.cells import Counts, make_cell, pool
from shop_platform.retention.definition import Definition
from shop_platform.retention.heatmap import draw_heatmap

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "results.schema.json").read_text(encoding="utf-8"))
BASIS = {
    "users": 40, "events": 1, "data_end": "2025-01-02T00:00:00+00:00", "before_signup": 3, "in_future": 0,
    "run_id": "counted", "cohort_users": 40, "definition": "Active: any event.",
    "definition_settings": Definition(periods=3).as_record(), "differences": [],
}  # fmt: skip
PROFILES = {
    "version": "v", "segments": ["bargain_hunter", "fitness_focused"],
    "clicked": {"bargain_hunter": {"Tea & <b>more</b>": 3, "Coffee": 1}}, "bought": {"bargain_hunter": {"Coffee": 2}},
    "clicks_by_segment": 0.25, "map": [{"query": "cheap tea", "users": 7, "segment": "bargain_hunter", "x": 0, "y": 1}],
    "quality": {
        "users": 40, "silhouette": 0.1, "random_starts": 0.9, "resampled": 0.0125, "unsure": 0.031, "good": True,
        "second_method": 0.87, "overlap": [[0.75, 0.25], None],
    },
}  # fmt: skip
NOW = dt.datetime(2025, 4, 1, 12, 30, tzinfo=dt.UTC)


CONDITIONS: dict[str, Any] = {
    "rows": {"events": 1}, "fingerprints": {}, "settings": {}, "server_version": "18.4", "time_zone": "UTC",
    "queries": {}, "one_user_in": 1,
}  # fmt: skip


def measured(ms: float) -> dict[str, Any]:
    return {"median_ms": ms, "nodes": ["Seq Scan"], "indexes": [], "buffers_hit": 1, "buffers_read": 0}


def effects(used: tuple[bool, bool], verdict: str = "helps") -> dict[str, Any]:
    """A record of index_effects for one query and two indexes."""
    speedup = {"value": 4.0, "low": 3.5, "high": 4.5}
    uses = [
        {
            "name": f"idx_{n}", "used": use, "used_alone": use, "speedup": speedup, "verdict": "helps",
            "buffers_before": 2, "buffers_after": 1, "missed": "missed" if use else None,
            "missed_slowdown": speedup if use else None,
        }
        for n, use in enumerate(used)
    ]  # fmt: skip
    query = {
        "name": "weekly_active_users", "question": "Who?", "rows": 3, "expected_rows": 3, "rounds": 30,
        "as_written": measured(20.0), "with_indexes": measured(5.0), "rewritten": None,
        "from_summaries": measured(5.0), "indexes_speedup": speedup, "rewritten_speedup": None,
        "summaries_speedup": speedup, "indexes_verdict": verdict, "rewritten_verdict": None,
        "summaries_verdict": "helps", "indexes": uses, "cold": None,
    }  # fmt: skip
    made = [
        {
            "name": use["name"], "table": "events", "columns": "user_id", "size_bytes": 8192, "build_ms": 1.5,
            "insert_slowdown": {"value": 1.5 + n, "low": 1.4 + n, "high": 1.7 + n},
            "rows_per_second": {"without": 3.0, "with": 2.0},
        }
        for n, use in enumerate(uses)
    ]  # fmt: skip
    return {"provenance": CONDITIONS, "queries": [query], "indexes": made, "findings": []}


def advice(**conditions: Any) -> dict[str, Any]:
    """A record of index_advice that advises one index for the same query."""
    speedup = {"value": 8.0, "low": 7.5, "high": 8.5}
    candidate = {
        "name": "idx_best", "table": "events", "kind": "partial", "reason": "It holds purchases only.",
        "statement": "CREATE INDEX CONCURRENTLY idx_best ON events (product_id) WHERE event_type = 'purchased';",
        "size_bytes": 4096, "build_ms": 2.0, "chosen": True, "live": None, "lock": "Blocks nobody.",
        "insert_slowdown": speedup,
        "queries": {"weekly_active_users": {"used": True, "speedup": speedup, "verdict": "helps"}},
    }  # fmt: skip
    other = {"name": "idx_other", "chosen": False, "insert_slowdown": None} | {
        "queries": {"weekly_active_users": {"used": False, "speedup": None, "verdict": "no effect"}}
    }
    query = {
        "name": "weekly_active_users", "rounds": 30, "as_written": measured(20.0), "given": measured(5.0),
        "advised": measured(2.5), "advised_speedup": speedup, "against_given": speedup, "verdict": "helps",
        "rewriting": None,
        "summary": {"statements": ["CREATE TABLE t", "SELECT 1"], "reason": "r", "median_ms": 1.0,
                    "speedup": speedup, "verdict": "helps"},
    }  # fmt: skip
    return {
        "provenance": CONDITIONS | conditions, "tables_bytes": 100, "budget_bytes": 5000, "advised_bytes": 4096,
        "candidates": [candidate, candidate | other], "unbuilt": {}, "queries": [query],
    }  # fmt: skip


BY_SEGMENT: dict[str, Any] = {
    "matrix": "counted",
    "definition": "Active: any event.",
    "differences": [
        {"among": "groups", "period": 1, "rows": 2, "statistic": 9.0, "degrees": 1, "p": 0.002, "p_adjusted": 0.002}
    ],
    "rows": [
        {
            "segment": segment, "period": 1, "cohorts": 1, "users_observed": observed, "users_unrecorded": 0,
            "active_users": observed and 3, "rate": observed and 3 / observed, "rate_low": observed and 0.1,
            "rate_high": observed and 0.9, "revenue": None,
        }
        for segment, observed in (("bargain_hunter", 10), ("fitness_focused", 30))
    ],
}  # fmt: skip


def validate(results: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(SCHEMA, format_checker=checker).validate(json.loads(json.dumps(results)))


def fill(postgres: PostgresResource) -> None:
    """Results of every part, of a shop with one event."""
    with postgres.connect() as connection:
        connection.execute(
            "INSERT INTO users (user_id, signup_date) VALUES ('u', '2025-01-01');"
            "INSERT INTO products VALUES ('p', 'P', 'Tea & <b>more</b>', 2.5);"
            "INSERT INTO events (user_id, product_id, event_type, timestamp)"
            " VALUES ('u', 'p', 'purchased', '2025-01-02');"
            "INSERT INTO ops.loads (table_name, shop, fingerprint, rows_read, rows_loaded, left_out, quarantined)"
            " VALUES ('events', 'shop', 'f', 7, 1, '{\"cancelled\": 2}', '{\"unknown user\": 4}');"
            "INSERT INTO analytics.weekly_active_users VALUES ('2024-12-30', 1), ('2025-01-06', 3);"
            "INSERT INTO analytics.category_revenue (day, category, purchases, revenue)"
            " VALUES ('2025-01-02', 'Tea & <b>more</b>', 1, 2.50);"
            "INSERT INTO analytics.cohort_retention (cohort, period, cohort_size, users_observed, users_unrecorded,"
            " active_users, rate, rate_low, rate_high, few_users) VALUES"
            " ('2025-01-01', 0, 40, 40, 0, 20, 0.5, 0.35, 0.65, false),"
            " ('2025-01-01', 1, 40, 40, 0, 10, 0.25, 0.14, 0.4, false),"
            " ('2025-01-01', 2, 40, 0, 0, NULL, NULL, NULL, NULL, false);"
            "INSERT INTO analytics.pooled_retention (period, cohorts, users_observed, active_users, rate, rate_low,"
            " rate_high) VALUES (0, 1, 40, 20, 0.5, 0.35, 0.65), (1, 1, 40, 10, 0.25, 0.14, 0.4),"
            " (2, 0, 0, NULL, NULL, NULL, NULL);"
            "INSERT INTO analytics.user_segments VALUES ('u', 'bargain_hunter', 0.4, 3, 'm')"
        )
        write_record(connection, "index_effects", "run", effects((True, False)))
        write_record(connection, "index_advice", "run", advice())
        write_record(connection, "segmented_user_logs", "run", {"documents": 5, "segments": {"bargain_hunter": 5}})
        write_record(connection, "cohort_retention", "run", BASIS)
        write_record(connection, "segment_profiles", "run", PROFILES)
        write_record(connection, "segment_retention", "run", BY_SEGMENT)
        profile = {
            "name": "bargain_hunter",
            "description": "Looks for a low price.",
            "supported": False,
            "margin": 0.01,
            "queries": ["cheap tea"],
        }
        absent = {"name": "fitness_focused", "description": "", "supported": False, "margin": None, "queries": []}
        write_record(connection, "user_segments", "run", {"segments": [profile, absent]})


def line_results(*weeks: str) -> list[dict[str, Any]]:
    return [{"week": week, "active_users": 10} for week in weeks]


def page_of(results: dict[str, Any], heatmap: bytes | None = None, evaluations: Sequence[Evaluation] = ()) -> str:
    return render(
        results,
        title="A <shop>",
        currency="EUR",
        notes=("A note.",),
        run_id="12345678-9",
        made_at=NOW,
        versions={"Python": "3.11"},
        heatmap=heatmap,
        evaluations=evaluations,
    )


def collected(postgres: PostgresResource) -> dict[str, Any]:
    with postgres.connect() as connection:
        return collect_results(connection)


def test_results_of_every_part_follow_the_schema(postgres: PostgresResource) -> None:
    fill(postgres)
    results = collected(postgres)
    validate(results)
    assert results["revenue_by_category"] == [{"category": "Tea & <b>more</b>", "purchases": 1, "revenue": "2.50"}]
    assert results["loads"][0]["left_out"] == {"cancelled": 2}
    assert results["loads"][0]["quarantined"] == {"unknown user": 4}
    assert results["last_event"].startswith("2025-01-02T00:00:00")


def test_results_of_nothing_follow_the_schema_too(postgres: PostgresResource) -> None:
    results = collected(postgres)
    validate(results)
    assert results["index_effects"] is None
    assert lead(results) == []


def test_a_page_of_nothing_says_what_to_do(postgres: PostgresResource) -> None:
    page = page_of(collected(postgres))
    assert "materialise index_effects" in page
    assert "No events yet." in page


@pytest.mark.parametrize("absent", SECTIONS)
def test_a_section_without_results_is_left_out_with_a_sentence_and_the_others_stay(
    postgres: PostgresResource, absent: str
) -> None:
    fill(postgres)
    results = collected(postgres) | {SECTIONS[absent]: None}
    page = page_of(results)
    assert set(re.findall('<section id="(\\w+)">', page)) == (set(SECTIONS) | {"checks", "provenance"}) - {absent}
    assert page.count('<p class="absent">') == 1
    assert missing_sections(page, results) == ()


def test_a_page_that_lacks_a_result_is_noticed(postgres: PostgresResource) -> None:
    fill(postgres)
    results = collected(postgres)
    page = page_of(results | {"index_advice": None, "cohort_retention": None, "segments": None})
    assert missing_sections(page, results) == ("retention", "segments")


def test_the_page_opens_and_closes_its_elements_in_order(postgres: PostgresResource) -> None:
    fill(postgres)
    full = collected(postgres)
    for results in [full, *(full | {result: None} for result in SECTIONS.values())]:
        page = _Balance()
        page.feed(page_of(results, heatmap=b"\x89PNG"))
        assert (page.open, page.wrong) == ([], [])


class _Balance(HTMLParser):
    """Notes each end tag that closes another element than the one opened last."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002  its signature
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """`<line/>` opens nothing."""

    def handle_endtag(self, tag: str) -> None:
        if self.open.pop() != tag:
            self.wrong.append(tag)


def test_weeks_without_events_break_the_line() -> None:
    line = line_of(line_results("2025-01-06", "2025-01-13", "2025-02-03", "2025-02-17"))
    assert line is not None
    first, lonely, last = line["stretches"]
    assert first == "0.0,0.0 120.0,0.0"
    assert lonely == "480.0,0.0 480.0,0.0"
    assert last == "720.0,0.0 720.0,0.0"


@pytest.mark.parametrize("weeks", [(), ("2025-01-06",)])
def test_less_than_two_weeks_make_no_line(weeks: tuple[str, ...]) -> None:
    assert line_of(line_results(*weeks)) is None


def draw(home: Path, matrix: str) -> bytes:
    """A heatmap in the shop's folder, of the matrix that a run has counted."""
    cells = [make_cell(Counts(None, dt.date(2025, 1, 1), 0, 40, 40, 0, 20, None))]
    png = draw_heatmap(cells, Definition(periods=1), "A shop", "", {"matrix": matrix})
    folder = home / "shops" / "shop"
    folder.mkdir(parents=True)
    (folder / "retention_heatmap.png").write_bytes(png)
    return png


def report(postgres: PostgresResource) -> dg.ExecuteInProcessResult:
    return dg.materialize([define_shop_report([])], resources={"postgres": postgres, "shop": ShopResource()})


def test_the_asset_writes_the_page_with_the_picture_of_the_stored_matrix(
    postgres: PostgresResource, home: Path
) -> None:
    fill(postgres)
    png = draw(home, matrix="counted")
    result = report(postgres)
    page = (home / "shops" / "shop" / "report.html").read_text(encoding="utf-8")
    assert base64.b64encode(png).decode() in page
    assert result.run_id in page
    (check,) = result.get_asset_check_evaluations()
    assert (check.passed, check.severity) == (True, dg.AssetCheckSeverity.ERROR)


def test_a_picture_of_another_matrix_is_not_shown_beside_this_one(postgres: PostgresResource, home: Path) -> None:
    fill(postgres)
    draw(home, matrix="counted by an earlier run")
    report(postgres)
    page = (home / "shops" / "shop" / "report.html").read_text(encoding="utf-8")
    assert "data:image/png" not in page
    assert "materialise retention_heatmap" in page


def test_the_asset_writes_a_page_of_a_part(postgres: PostgresResource, home: Path) -> None:
    result = report(postgres)
    (check,) = result.get_asset_check_evaluations()
    assert check.passed
    assert "Nothing is stored yet for: performance" in (check.description or "")
    assert (home / "shops" / "shop" / "report.html").exists()


class _Page(HTMLParser):
    """Collects what a browser would load, and the pictures without a text."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.loads += [value for name in ("src", "href") if (value := found.get(name))]
        if tag == "img" and not found.get("alt"):
            self.silent.append(tag)


def test_the_page_needs_no_network_and_every_picture_has_a_text(postgres: PostgresResource) -> None:
    fill(postgres)
    page = _Page()
    page.feed(page_of(collected(postgres), heatmap=b"\x89PNG"))
    assert page.loads
    assert all(target.startswith(("data:", "#")) for target in page.loads)
    assert page.silent == []


def test_what_comes_from_the_data_is_escaped(postgres: PostgresResource) -> None:
    fill(postgres)
    page = page_of(collected(postgres))
    assert "A &lt;shop&gt;" in page
    assert "Tea &amp; &lt;b&gt;more&lt;/b&gt;" in page
    assert "<b>" not in page


def test_the_page_shows_what_was_found_in_each_part(postgres: PostgresResource) -> None:
    fill(postgres)
    page = page_of(collected(postgres))
    for text in (
        "idx_1",
        "not used",
        "not yet",
        "cancelled: 2",
        "cheap tea",
        "2.50",
        "by run 12345678",
        "3 events lie before",
        "Seq Scan",
        "Python",
    ):
        assert text in page


def test_the_terminal_shows_what_was_found_in_each_part(postgres: PostgresResource) -> None:
    fill(postgres)
    written = io.StringIO()
    print_results(Console(file=written, width=40), collected(postgres))
    text = written.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in text, "a file has room for all"
    for part in (
        "25%",
        "bargain_hunter",
        "3.5 to 4.5",
        "advised indexes",
        "CREATE INDEX CONCURRENTLY idx_best",
        "Jan 2025",
        "month of signup",
    ):
        assert part in text


def test_a_narrow_terminal_shows_as_many_periods_as_fit_and_says_so(postgres: PostgresResource) -> None:
    fill(postgres)
    written = io.StringIO()
    print_results(Console(file=written, force_terminal=True, color_system=None, width=44), collected(postgres))
    text = " ".join(written.getvalue().split())
    assert "The first 2 of 3 periods; all are in the report." in text
    table = text[text.index("Retention: ") : text.index("The first 2")]
    assert "\N{HORIZONTAL ELLIPSIS}" not in table
    assert "25%" in table


@pytest.mark.parametrize(
    ("used", "sentence"),
    [
        ((True, False), "One of the two indexes is used by none of the queries: idx_1."),
        ((False, False), "None of the two indexes is used by any of the queries."),
        (
            (True, False),
            "With idx_1, which helps nobody here, inserts take 2.5 times as long (95 % interval 2.4 to 2.7).",
        ),
    ],
)
def test_idle_indexes_are_named(used: tuple[bool, bool], sentence: str) -> None:
    results = {
        "loads": [],
        "index_effects": effects(used),
        "index_advice": None,
        "cohort_retention": None,
        "segments": None,
    }
    assert sentence in lead(results)


def test_no_sentence_about_indexes_where_all_are_used() -> None:
    results = {
        "loads": [],
        "index_effects": effects((True, True)),
        "index_advice": None,
        "cohort_retention": None,
        "segments": None,
    }
    assert not [sentence for sentence in lead(results) if "none of" in sentence or "inserts" in sentence]


def test_the_advice_is_told_where_it_beats_the_given_indexes() -> None:
    results = {"loads": [], "index_effects": effects((True, True)), "index_advice": advice(), "cohort_retention": None}
    sentence = "with the advised indexes 8.0 times as fast as with the three given (95 % interval 7.5 to 8.5)"
    assert any(sentence in told for told in lead(results | {"segments": None}))
    results["index_advice"]["queries"][0]["against_given"]["low"] = 0.9
    assert not any("advised" in told for told in lead(results | {"segments": None}))


def test_advice_from_other_rows_stands_on_no_ladder_of_these() -> None:
    ways = [rung["way"] for rung in rungs(cast("Any", effects((True, True))), cast("Any", advice()))]
    assert ways == ["as written", "three indexes", "advised indexes", "summaries"]
    other = advice(rows={"events": 2})
    assert len(rungs(cast("Any", effects((True, True))), cast("Any", other))) == 3


@pytest.mark.parametrize("verdict", ["helps", "hurts", "no effect", "unsure"])
def test_every_verdict_has_a_sentence(verdict: str) -> None:
    results = {
        "loads": [],
        "index_effects": effects((True, True), verdict),
        "index_advice": None,
        "cohort_retention": None,
        "segments": None,
    }
    assert "4.0 times as fast as the query as written (95 % interval 3.5 to 4.5)" in lead(results)[0]


@given(observed=st.integers(0, 200), share=st.floats(0, 1))
def test_a_rate_is_told_only_from_enough_users(observed: int, share: float) -> None:
    told = about(Definition(), observed, int(share * observed))
    pattern = r"\d+% of the users who signed up in March 2025 came back in week 1 \(95 % interval"
    assert any(re.match(pattern, each) for each in told) == (observed >= 30)


def about(definition: Definition, observed: int, active: int, unrecorded: int = 0) -> list[str]:
    """Sentences about a matrix of one cell."""
    cell = make_cell(Counts(None, dt.date(2025, 3, 1), 1, 200, observed, unrecorded, active, None))
    return lead(
        {
            "loads": [],
            "index_effects": None,
            "index_advice": None,
            "cohort_retention": [vars(cell) | {"cohort": "2025-03-01"}],
            "pooled_retention": [vars(row) for row in pool([cell])],
            "retention_basis": BASIS | {"definition_settings": definition.as_record()},
            "segments": None,
        }
    )


@pytest.mark.parametrize(
    ("definition", "sentence"),
    [
        (Definition(measure="unbounded"), "50% of the users who signed up in March 2025 came back in week 1 or later"),
        (
            Definition(measure="revenue", start="purchased", cohort="quarter", unit="month"),
            "50% of the users who first purchased in the first quarter of 2025 bought in month 1",
        ),
        (
            Definition(cohort="week", unit="day"),
            "50% of the users who signed up in the week from 2025-03-01 came back in day 1",
        ),
        (Definition(cohort="day"), "50% of the users who signed up on 2025-03-01 came back in week 1"),
    ],
)
def test_sentences_follow_the_definition(definition: Definition, sentence: str) -> None:
    found = about(definition, 100, 50)
    assert found[0].startswith(f"{sentence} (95 % interval 40% to 60%, 100 users).")
    assert found[1].startswith("Over all cohorts, 50% ")


def test_what_is_not_known_is_told_with_its_reason() -> None:
    assert about(Definition(), 0, 0) == ["One cell of the retention matrix can't be known yet."]
    assert about(Definition(), 0, 0, unrecorded=9) == ["One cell can't be known: the shop recorded nothing then."]


def test_all_cohorts_together_lack_a_number_for_the_reason_that_they_do() -> None:
    def row_of(unrecorded: int) -> dict[str, Any]:
        cell = make_cell(Counts(None, dt.date(2025, 3, 1), 0, 200, 0, unrecorded, 0, None))
        (table,) = tables(
            {
                "cohort_retention": [vars(cell) | {"cohort": "2025-03-01"}],
                "pooled_retention": [vars(row) for row in pool([cell])],
                "retention_basis": BASIS | {"definition_settings": Definition().as_record()},
            }
        )
        return dict(table["pooled"][0])

    assert row_of(0)["users_unrecorded"] == 0
    assert row_of(9)["users_unrecorded"] == 9
