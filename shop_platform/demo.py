"""What `shop-platform demo`, `refresh`, `erase` and `results` do: run assets, then tell people what was found."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dagster as dg
from rich.console import Console

from shop_platform import automation, progress
from shop_platform.alerts import current_troubles, tell
from shop_platform.definitions import build_defs, default_resources
from shop_platform.erasure.erasing import erase_person, purge
from shop_platform.erasure.proof import search_for
from shop_platform.errors import DataError
from shop_platform.housekeeping import forget_later_looks, forget_runs
from shop_platform.performance.freshness import measurements_outgrown
from shop_platform.performance.queries import measured_queries
from shop_platform.report.page import sections_with_results
from shop_platform.report.results import collect_results
from shop_platform.report.terminal import print_results
from shop_platform.resources.postgres import READER, PostgresResource
from shop_platform.resources.shop import ShopResource
from shop_platform.runs import Outcome, dagster_instance, run_assets
from shop_platform.services import elasticsearch
from shop_platform.settings import load_settings
from shop_platform.sources.pseudonyms import names_of

_SENSORS = {
    "source": automation.source_refresh,
    "performance": automation.performance_refresh,
    "retention": automation.retention_refresh,
    "segmentation": automation.segmentation_refresh,
}


def run_demo(out: Console, talk: Console, err: Console, *, measure: bool) -> int:
    """Materialise everything and print what was found; returns the exit code.

    Measurements that still hold are kept: they take most of the time of a second run and would say the same.
    """
    started = time.monotonic()
    resources = default_resources()
    postgres: PostgresResource = resources["postgres"]
    with talk.status("Starting PostgreSQL and Elasticsearch.") as shown:
        postgres.migrate()
        elasticsearch.url(
            load_settings(), lambda done, total: shown.update(f"Fetching Elasticsearch: {done} of {total} jars.")
        )
        with resources["elasticsearch"].client() as client:
            client.cluster.health(wait_for_status="yellow", timeout="30s")
    defs = build_defs(resources)
    assets = all_assets(defs)
    if not measure and _measurements_hold(postgres):
        talk.print("The measurements of the queries still hold and are kept; --measure repeats them.")
        assets = [asset for asset in assets if asset not in automation.LABORATORY]
    outcome = materialise(talk, defs, assets)
    if not outcome.failures:
        print_results(out, stored_results(postgres))
    out.print(f"\nReport: {ShopResource().folder() / 'report.html'}", markup=False)
    talk.print(f"Took {time.monotonic() - started:.0f} s.")
    return conclude(err, outcome)


def all_assets(defs: dg.Definitions) -> list[str]:
    """Keys of all assets that a run makes; what is made by months is left to backfills."""
    keys = defs.resolve_job_def("everything").asset_layer.executable_asset_keys
    return sorted(key.to_user_string() for key in keys)


def run_refresh(out: Console, talk: Console, err: Console, part: str | None) -> int:
    """Tick the sensors once and run what they ask for; returns the exit code."""
    resources = default_resources()
    defs = build_defs(resources)
    instance = dagster_instance(load_settings())
    code = 0
    for name in _SENSORS if part is None else (part,):
        sensor = _SENSORS[name]
        # Without a cursor: whoever calls this wants a refresh that failed to be tried again.
        with dg.build_sensor_context(
            instance=instance,
            sensor_name=sensor.name,
            resources=resources,
            repository_def=defs.get_repository_def(),
        ) as context:
            ticked = sensor.evaluate_tick(context)
        if not ticked.run_requests:
            out.print(f"{name}: {ticked.skip_message}", markup=False)
            continue
        assets = [key.to_user_string() for key in ticked.run_requests[0].asset_selection or []]
        by_segment = automation.BY_SEGMENT if {"cohort_retention", "user_segments"} & set(assets) else ()
        outcome = materialise(talk, defs, [*assets, *by_segment, "shop_report"])
        code = max(code, conclude(err, outcome))
    return code


def run_erase(out: Console, talk: Console, err: Console, user: str) -> tuple[dict[str, Any], int]:
    """Erase a person, make all that was derived from them again, and search for what is left.

    Measurements of queries stay: they hold counts and times alone. Returns what was done and found, JSON-able, and the
    exit code: 1 where anything was found, or could not be made again.
    """
    resources = default_resources()
    postgres, elasticsearch = resources["postgres"], resources["elasticsearch"]
    postgres.migrate()
    shop = ShopResource().shop()
    with elasticsearch.client() as client:
        erased = erase_person(client, postgres, elasticsearch.index_prefix, shop, user)
        for place, count in erased.removed.items():
            out.print(f"  {place:28}{count:10,} removed", markup=False)
        if erased.before:
            out.print("  Erased before; whatever had come since is gone, too.", markup=False)
        resources["engine"].forget_copy(postgres)
        defs = build_defs(resources)
        outcome = materialise(talk, defs, [each for each in all_assets(defs) if each not in automation.LABORATORY])
        code = conclude(err, outcome)
        purge(client, elasticsearch.index_prefix)
        with postgres.connect() as connection:
            folder, names = ShopResource().folder(), names_of(shop, user)
            search = search_for(connection, client, elasticsearch.index_prefix, folder, names, erased.mail)
    for place, count in search.found.items():
        err.print(f"Left: {count:,} in {place}", markup=False, style="red")
    told = {"user": user, "removed": dict(erased.removed), "erased_before": erased.before, **asdict(search)}
    return told, 1 if search.found else code


def write_report(talk: Console, err: Console) -> tuple[Path, int]:
    """Write the report from the stored results; returns where it is, and the exit code.

    Raises:
        DataError: nothing is stored yet.
    """
    resources = default_resources()
    found = stored_results(resources["postgres"])
    if not sections_with_results(found):
        raise DataError("There is nothing to report yet: run `shop-platform demo`, or materialise an asset.")
    outcome = materialise(talk, build_defs(resources), ["shop_report"])
    return ShopResource().folder() / "report.html", conclude(err, outcome)


def stored_results(postgres: PostgresResource | None = None) -> dict[str, Any]:
    """The stored results, as docs/results.schema.json describes them."""
    postgres = postgres or default_resources()["postgres"]
    postgres.migrate()
    with postgres.connect(role=READER) as connection:
        return collect_results(connection)


def _measurements_hold(postgres: PostgresResource) -> bool:
    with postgres.connect(role=READER) as connection:
        return not measurements_outgrown(
            connection, load_settings().remeasure_growth, measured_queries(load_settings().queries)
        )


def materialise(out: Console, defs: dg.Definitions, assets: Sequence[str]) -> Outcome:
    """Run assets, with a line for each step that ends."""
    steps = len(assets) - 2 * ("users" in assets)  # users, products and events are one step
    started: dict[str, float] = {}
    with (
        progress.undiverted(out) as undiverted,
        progress.track("starting", steps, "steps", even=False) as advance,
    ):
        screen = progress.screen(undiverted)

        def listen(step: str, state: str) -> None:
            if state == "started":
                started[step] = time.monotonic()
                advance(0, what=step)
            elif state in ("finished", "failed", "skipped"):
                seconds = time.monotonic() - started.get(step, time.monotonic())
                screen.print(f"  {step:22}{state:10}{seconds:6.1f} s", markup=False)
                advance()
            else:
                screen.print(f"  {step:22}{state}", markup=False, style="dim")

        instance = dagster_instance(load_settings())
        outcome = run_assets(defs, instance, assets, listen)
    forget_later_looks(instance)
    _alert(defs, instance)
    graph = defs.resolve_asset_graph()
    forget_runs(instance, graph.materializable_asset_keys, graph.asset_check_keys, load_settings().keep_runs)
    return outcome


def _alert(defs: dg.Definitions, instance: dg.DagsterInstance) -> None:
    """Post what is wrong since the last look; on the terminal it stands anyway."""
    graph, shop, settings = defs.resolve_asset_graph(), ShopResource(), load_settings()
    troubles = current_troubles(instance, graph.materializable_asset_keys, graph.asset_check_keys)
    tell(troubles, shop.shop().title, shop.folder() / "alerts.json", settings.alert_webhook)


def conclude(err: Console, outcome: Outcome) -> int:
    """Say, as the last lines, what went wrong; returns the exit code."""
    for warning in outcome.warnings:
        err.print(f"Warning: {warning.what}: {warning.why}", markup=False, style="yellow")
    for failure in outcome.failures:
        err.print(f"Failed: {failure.what}: {failure.why}", markup=False, style="red")
    return 1 if outcome.failures else 0
