"""Commands that answer: `demo`, `refresh`, `results`, `search`, `segment`, `benchmark`, `report`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from shop_platform.cli.app import ConfigOption, DataOption, JsonOption, app, configure, err, out, talk
from shop_platform.settings import load_settings


class Part(StrEnum):
    """A part of the platform that a sensor refreshes."""

    source = "source"
    performance = "performance"
    retention = "retention"
    segmentation = "segmentation"


@app.command()
def demo(
    config: ConfigOption = None,
    data: DataOption = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the queries again although nothing has changed since.")
    ] = False,
) -> None:
    """Start what is needed, materialise every asset, print what was found and where the report is."""
    configure(config, data)
    from shop_platform.demo import run_demo

    raise typer.Exit(run_demo(out, talk, err, measure=measure))


@app.command()
def refresh(
    part: Annotated[Part | None, typer.Argument(help="Only this part; without it, every part.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Look once for changes of the source, new events and search logs, as the sensors do; refresh what they affect."""
    configure(config, data)
    from shop_platform.demo import run_refresh

    raise typer.Exit(run_refresh(out, talk, err, None if part is None else part.value))


@app.command()
def results(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Print the stored results; as JSON they follow docs/results.schema.json."""
    configure(config, None)
    from shop_platform.demo import stored_results
    from shop_platform.report.terminal import print_results

    found = stored_results()
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    else:
        print_results(out, found)


@app.command()
def search(
    text: Annotated[str, typer.Argument(help="What somebody might search for.")],
    count: Annotated[int, typer.Option("--count", min=1, max=50, help="How many searches to show at most.")] = 10,
    least_users: Annotated[
        int, typer.Option("--least-users", min=1, help="Leave out searches that fewer users share.")
    ] = 5,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show searches that mean the same, and the segments of those who make them."""
    configure(config, None)
    from shop_platform.definitions import default_resources
    from shop_platform.resources.postgres import READER
    from shop_platform.segmentation.searching import similar_searches

    using = default_resources()
    with using["elasticsearch"].client() as client, using["postgres"].connect(role=READER) as connection:
        prefix = using["elasticsearch"].index_prefix
        found = similar_searches(client, connection, prefix, using["encoder"], text, count, least_users)
    if as_json:
        sys.stdout.write(json.dumps([asdict(each) for each in found], indent=2, ensure_ascii=False) + "\n")
        return
    table = Table("search", "cosine", "users", "segments of its users", "looks like", box=None)
    for each in found:
        segments = ", ".join(f"{name} {users}" for name, users in each.segments.items())
        table.add_row(each.query, f"{each.cosine:.2f}", f"{each.users:,}", segments, each.looks_like)
    out.print(table if found else f"No search like this is shared by {least_users} users.")


@app.command()
def segment(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show a user's segment, how sure it is, and what tells it: the user's own searches and purchases."""
    configure(config, None)
    from shop_platform.definitions import default_resources
    from shop_platform.resources.postgres import READER
    from shop_platform.segmentation.people import segment_of
    from shop_platform.sources.pseudonyms import known_as

    using = default_resources()
    user = known_as(using["shop"].shop(), user)
    with using["elasticsearch"].client() as client, using["postgres"].connect(role=READER) as connection:
        found = segment_of(client, connection, using["elasticsearch"].index_prefix, using["encoder"].model_name, user)
    if as_json:
        sys.stdout.write(json.dumps(asdict(found), indent=2, ensure_ascii=False) + "\n")
        return
    sure = ", provisional: fewer than three distinct queries" if found.provisional else ""
    out.print(f"{found.user}: {found.segment}, confidence {found.confidence:.2f}{sure}", markup=False)
    out.print(f"By {found.model}, from {found.documents:,} search logs.", markup=False)
    if found.bought:
        bought = ", ".join(f"{category} {number:,}" for category, number in found.bought.items())
        out.print(f"Bought: {bought}", markup=False)
    table = Table("search", "looks like", "confidence", box=None)
    for each in found.queries:
        table.add_row(each.query, each.looks_like, f"{each.confidence:.2f}")
    out.print(table)


@app.command()
def benchmark(
    file: Annotated[Path, typer.Argument(help="An .sql file with one SELECT on users, products and events.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Measure a query of yours as written, with the three indexes and with better ones; advise what to build."""
    configure(config, None)
    from shop_platform import progress
    from shop_platform.definitions import default_resources
    from shop_platform.performance.one_query import measure_file
    from shop_platform.performance.rounds import interleaved
    from shop_platform.report.terminal import print_ladder

    settings, postgres = load_settings(), default_resources()["postgres"]
    postgres.migrate()
    with progress.track(f"{file.name} on a copy", None, "steps", even=False):
        effects, advice = measure_file(
            postgres,
            file,
            time_limit=settings.query_time_limit,
            budget_share=settings.index_budget,
            rule=interleaved(settings.measure_seconds),
        )
    if as_json:
        sys.stdout.write(json.dumps({"effects": effects, "advice": advice}, indent=2, ensure_ascii=False) + "\n")
    else:
        print_ladder(out, effects, advice)


@app.command()
def report(
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    config: ConfigOption = None,
) -> None:
    """Write the report from the stored results, and print where it is."""
    configure(config, None)
    from shop_platform.demo import write_report

    path, code = write_report(talk, err)
    sys.stdout.write(f"{path}\n")
    if show and code == 0:
        typer.launch(str(path))
    raise typer.Exit(code)
