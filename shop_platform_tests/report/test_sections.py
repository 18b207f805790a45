"""What the page says of segments and of checks, and what it draws charts from."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import dagster as dg

from shop_platform.report.assets import define_shop_report
from shop_platform.report.evaluations import Evaluation, latest_evaluations
from shop_platform.report.page import CHARTS
from shop_platform.report.sentences import about_checks, lead
from shop_platform.resources.postgres import PostgresResource
from shop_platform.resources.shop import ShopResource

from .test_report import collected, fill, line_results, page_of, validate

WHEN = dt.datetime(2025, 4, 1, 11, 59, tzinfo=dt.UTC)


def evaluation(check: str, *, passed: bool | None, error: bool = True) -> Evaluation:
    return Evaluation("events", check, passed, error, f"Because of <{check}>.", WHEN)


def test_each_segment_says_who_searches_clicks_and_buys_what_and_how_sure_that_is(postgres: PostgresResource) -> None:
    fill(postgres)
    page = page_of(collected(postgres))
    for text in (
        "1 users</strong>, 100%; mean confidence 0.40", "Tea &amp; &lt;b&gt;more&lt;/b&gt; 75%, Coffee 25%",
        "Coffee 100%",
        "Looks for a low price.", "Nobody.", "The data do not show that there are such users.",
        "would put 1.2 % elsewhere", "3.1 % are unsure", "adjusted Rand index of 0.87", "Cramér's V 0.25", "0.750",
    ):  # fmt: skip
        assert text in page


def test_retention_is_told_by_segment_where_it_is_of_the_matrix_that_is_shown(postgres: PostgresResource) -> None:
    fill(postgres)
    results = collected(postgres)
    page = page_of(results)
    assert "The segments differ, most clearly in week 1 (p = 0.002" in page
    assert re.search('Bargain hunter</th><td class="few">30%.*10% to 90%,.*3 of 10', page)
    assert re.search("Fitness focused</th><td>10%", page)
    for otherwise in (
        {"matrix": "another"},
        {"rows": [results["segment_retention"]["rows"][0] | {"segment": "(none)"}]},
    ):
        page = page_of(results | {"segment_retention": results["segment_retention"] | otherwise})
        assert "By segment" not in page
        assert "The segments differ" not in page


def test_a_page_of_segments_that_were_not_described_does_without(postgres: PostgresResource) -> None:
    fill(postgres)
    page = page_of(collected(postgres) | {"segment_profiles": None})
    assert '<section id="segments">' in page
    assert "query-map" not in page.partition("<script")[0]


def chart_data(page: str) -> dict[str, Any]:
    found = re.search('<script type="application/json" id="chart-data">(.*?)</script>', page)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_charts_are_drawn_from_the_results_and_break_at_weeks_without_events(postgres: PostgresResource) -> None:
    fill(postgres)
    results = collected(postgres) | {"weekly_active_users": line_results("2025-01-06", "2025-01-20")}
    data = chart_data(page_of(results))
    assert data["weeks"] == [
        {"week": "2025-01-06", "active_users": 10},
        {"week": "2025-01-13", "active_users": None},
        {"week": "2025-01-20", "active_users": 10},
    ]
    assert data["map"] == {"bargain_hunter": results["segment_profiles"]["map"]}


def test_estimated_users_are_called_estimated_with_their_error(postgres: PostgresResource) -> None:
    fill(postgres)
    assert collected(postgres)["active_users_error"] == 0
    assert "HyperLogLog" not in page_of(collected(postgres))
    with postgres.connect() as connection:
        connection.execute("UPDATE analytics.weekly_active_users SET estimated = true")
    results = collected(postgres)
    validate(results)
    assert "95&nbsp;% of the weeks lie within 0.8&nbsp;% of the true number" in page_of(results)


def test_a_query_cannot_end_the_script_that_it_stands_in(postgres: PostgresResource) -> None:
    fill(postgres)
    results = collected(postgres)
    results["segment_profiles"]["map"][0]["query"] = "</script><script>alert(1)"
    page = page_of(results)
    assert "<script>alert" not in page
    assert chart_data(page)["map"]["bargain_hunter"][0]["query"] == "</script><script>alert(1)"


def test_the_chart_library_is_the_published_one() -> None:
    """Chart.js 4.6.1, dist/chart.umd.min.js of the npm package chart.js."""
    published = "87364cc2b2a76a6684929e7d6b80b18a897794db38400caff1fcf1791c6925d2"
    assert hashlib.sha256(CHARTS.read_bytes()).hexdigest() == published


def test_what_did_not_pass_comes_first_and_leads_the_page(postgres: PostgresResource) -> None:
    evaluations = [
        evaluation("adds_up", passed=False), evaluation("is_recent", passed=False, error=False),
        evaluation("is_new", passed=None), evaluation("is_unique", passed=True),
    ]  # fmt: skip
    page = page_of(collected(postgres), evaluations=evaluations)
    assert "1 of 4 checks passed" in page
    for text in (
        ">failed<",
        ">warning<",
        ">not evaluated<",
        ">passed<",
        "Because of &lt;adds_up&gt;.",
        "2025-04-01 11:59",
    ):
        assert text in page
    sentence = "Three checks did not pass: adds_up of events, is_recent of events and is_new of events."
    assert about_checks(evaluations) == [sentence]
    assert page.index(sentence) < page.index("<section")
    assert about_checks(evaluations[3:]) == []


def test_rows_in_quarantine_are_told(postgres: PostgresResource) -> None:
    fill(postgres)
    assert lead(collected(postgres))[0] == "Of 7 rows for events, 4 are in quarantine."


def test_the_report_shows_the_last_evaluation_of_each_check(postgres: PostgresResource, home: Path) -> None:
    outcome = {"passed": False}

    @dg.asset(check_specs=[dg.AssetCheckSpec("holds", asset="thing"), dg.AssetCheckSpec("is_there", asset="thing")])
    def thing() -> dg.MaterializeResult:
        checks = [
            dg.AssetCheckResult(check_name="holds", passed=outcome["passed"], severity=dg.AssetCheckSeverity.WARN),
            dg.AssetCheckResult(check_name="is_there", passed=True),
        ]
        return dg.MaterializeResult(check_results=checks)

    with dg.DagsterInstance.ephemeral() as instance:

        def told() -> list[tuple[str, bool | None, bool]]:
            return [(each.check, each.passed, each.error) for each in latest_evaluations(instance, thing.check_keys)]

        assert told() == []
        dg.materialize([thing], instance=instance)
        assert told() == [("holds", False, False), ("is_there", True, True)]
        dg.materialize(
            [define_shop_report([thing])],
            instance=instance,
            resources={"postgres": postgres, "shop": ShopResource()},
        )
        page = (home / "shops" / "shop" / "report.html").read_text(encoding="utf-8")
        assert "One check did not pass: holds of thing." in page
        outcome["passed"] = True
        dg.materialize([thing], instance=instance)
        assert told() == [("holds", True, False), ("is_there", True, True)]
