"""The report as people open it: from a file, without a network, by eye, keyboard or screen reader, on any screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

Open = Callable[..., Any]


@pytest.fixture
def opened(browser: Browser, report: Path) -> Open:
    """Opens the report without a network; complains at the end about what it asked for and said."""

    @contextmanager
    def open_report(**options: Any) -> Iterator[Page]:
        context = browser.new_context(**({"viewport": WIDE} | options))
        context.set_offline(True)
        page = context.new_page()
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report.as_uri())
        yield page
        context.close()
        assert said == []
        assert [url for url in asked if url != report.as_uri() and not url.startswith("data:")] == []

    return open_report


def wait_until(page: Page, expression: str, argument: object) -> None:
    """Ask the page again and again, from here: its policy keeps it from evaluating the text of a predicate itself."""
    for _ in range(50):
        if page.evaluate(expression, argument):
            return
        time.sleep(0.1)
    pytest.fail(f"not so within 5 s: {expression}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_nobody_is_shut_out(opened: Open, scheme: str, viewport: dict[str, int], tmp_path: Path) -> None:
    """axe-core finds no violation of WCAG 2.1 A and AA, with every table unfolded; nothing is wider than the screen."""
    with opened(color_scheme=scheme, viewport=viewport) as page:
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
        page.screenshot(path=tmp_path / "report.png", full_page=True)
        only = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
        found = Axe().run(page, options={"runOnly": only}).response
        assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
        assert found["passes"]
        assert page.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth")


def test_charts_can_be_read_off(opened: Open) -> None:
    with opened() as page:
        for chart in ("weekly-chart", "query-map"):
            page.locator(f"#{chart}").scroll_into_view_if_needed()
            x, y = page.evaluate(
                "(id) => { const { x, y } = Chart.getChart(id).getDatasetMeta(0).data[0]; return [x, y]; }", chart
            )
            page.locator(f"#{chart}").hover(position={"x": x, "y": y})
            wait_until(page, "(id) => Chart.getChart(id).tooltip.opacity > 0", chart)
        told = page.evaluate("Chart.getChart('query-map').tooltip.body[0].lines[0]")
        query, users = told.split(": ")
        assert page.locator("#segments td, #segments th").get_by_text(query, exact=True).count() == 1
        assert int(users.split()[0]) >= 5


def test_charts_change_with_the_colours_of_the_system(opened: Open) -> None:
    border = "() => Chart.getChart('weekly-chart').data.datasets[0].borderColor"
    with opened(color_scheme="light") as page:
        light = page.evaluate(border)
        page.emulate_media(color_scheme="dark")
        wait_until(page, f"(light) => ({border})() !== light", light)


def test_tables_are_reached_and_unfolded_by_keyboard(opened: Open) -> None:
    with opened() as page:
        stops = page.locator("summary, [tabindex='0']").count()
        reached = set()
        for _ in range(stops + 5):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.tagName"))
        assert {"SUMMARY", "DIV"} <= reached
        summary = page.locator("#activity summary")
        summary.focus()
        page.keyboard.press("Enter")
        assert page.locator("#activity details[open] table").is_visible()


def test_it_is_whole_without_scripts(opened: Open) -> None:
    with opened(java_script_enabled=False) as page:
        assert page.locator("#activity svg").is_visible()
        assert page.locator("#segments article").count() == 4
        assert not page.locator("#query-map").is_visible()


def test_it_is_whole_on_paper(opened: Open, tmp_path: Path) -> None:
    with opened(color_scheme="dark") as page:
        printed = page.pdf(path=tmp_path / "report.pdf", format="A4")
        assert printed.startswith(b"%PDF")
        page.emulate_media(media="print")
        # Paper is white, whatever the screen is, and what is folded on it can't be opened.
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("#activity table").is_visible()
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert not page.locator("#activity table").is_visible()
