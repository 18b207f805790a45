"""The command `shop-platform`: thin, it calls what the assets call and says what happened."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from shop_platform.errors import ShopPlatformError
from shop_platform.settings import load_settings

app = typer.Typer(
    name="shop-platform",
    help="Answers three questions about a shop: what makes its queries fast, who comes back, who searches for what.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="SHOP_CONFIG",
        help="Run on files of yours, mapped by this TOML file, instead of on the synthetic shop.",
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", envvar="SHOP_DATA", help="Folder that holds the files which the TOML file names."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a text for people.")]


class Server(StrEnum):
    """A server whose URL can be asked for."""

    postgres = "postgres"
    elasticsearch = "elasticsearch"


class Part(StrEnum):
    """A part of the platform that a sensor refreshes."""

    source = "source"
    performance = "performance"
    retention = "retention"
    segmentation = "segmentation"


def main() -> None:
    """Run the command. Exits with 1 when an asset or check failed, 2 on wrong usage, 3 on any other named error."""
    try:
        app()
    except ShopPlatformError as error:
        err.print(f"shop-platform: {error}", style="red", markup=False)
        sys.exit(3)


def _configure(config: Path | None, data: Path | None) -> None:
    """Hand options on to the settings, which every process of ours reads from the environment."""
    for name, value in (("SHOP_CONFIG", config), ("SHOP_DATA", data)):
        if value is not None:
            os.environ[name] = str(value.expanduser().resolve())


@app.command()
def up() -> None:
    """Start the embedded servers that are needed and print their URLs; servers that run already are found."""
    for server in Server:
        out.print(f"{server.value:14}{_url(server)}", markup=False)


@app.command()
def down() -> None:
    """Stop the embedded servers. Their data stays; servers of your own are never touched."""
    from shop_platform.services import elasticsearch, postgres

    settings = load_settings()
    stopped = [
        name for name, stop in (("elasticsearch", elasticsearch.stop), ("postgres", postgres.stop)) if stop(settings)
    ]
    out.print(f"Stopped {' and '.join(stopped)}." if stopped else "No embedded server was running.")


@app.command()
def status(as_json: JsonOption = False) -> None:
    """Show which servers are used, whether they run, and where their data lies. Starts nothing."""
    from dataclasses import asdict

    from shop_platform.services import elasticsearch, postgres

    settings = load_settings()
    states = [postgres.status(settings), elasticsearch.status(settings)]
    if as_json:
        sys.stdout.write(json.dumps({state.name: asdict(state) for state in states}, indent=2, default=str) + "\n")
        return
    for state in states:
        where = "embedded" if state.embedded else "your own"
        running = "running" if state.running else "not running"
        out.print(f"{state.name:14}{where}, {running}", markup=False)
        for label, value in (("version", state.version), ("url", state.url), ("pid", state.pid), ("data", state.data)):
            if value is not None:
                out.print(f"{'':14}{label}: {value}", markup=False)


@app.command()
def url(server: Annotated[Server, typer.Argument(help="Which server.")], config: ConfigOption = None) -> None:
    """Print a URL that psql, curl or any other client can use; starts the embedded server when it does not run."""
    _configure(config, None)
    sys.stdout.write(_url(server) + "\n")


@app.command()
def demo(
    config: ConfigOption = None,
    data: DataOption = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the queries again although nothing has changed since.")
    ] = False,
) -> None:
    """Start what is needed, materialise every asset, print what was found and where the report is."""
    _configure(config, data)
    from shop_platform.demo import run_demo

    raise typer.Exit(run_demo(out, err, measure=measure))


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder with the shop's files.")] = Path(),
    postgres: Annotated[
        bool, typer.Option("--postgres", help="Look at the PostgreSQL of SHOP_SOURCE_DATABASE_URL instead.")
    ] = False,
    elasticsearch: Annotated[
        bool,
        typer.Option("--elasticsearch", help="Look at the Elasticsearch of SHOP_SOURCE_ELASTICSEARCH_URL instead."),
    ] = False,
    output: Annotated[Path, typer.Option("--output", help="Where to write the mapping.")] = Path("shop.toml"),
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Look at your data and write a mapping to begin with; ends with 1 where something was not found."""
    from shop_platform.errors import SourceError
    from shop_platform.sources.starting import propose_for_files, propose_for_servers

    if output.exists() and not force:
        raise SourceError(f"There is a file {output} already: give another --output, or --force to write over it.")
    if postgres or elasticsearch:
        proposal = propose_for_servers(load_settings(), postgres=postgres, elasticsearch=elasticsearch)
    else:
        proposal = propose_for_files(folder)
        base = os.path.relpath(folder.resolve(), output.resolve().parent)
        proposal.lines.insert(proposal.lines.index("[files.tables]"), f"[files]\nbase = {json.dumps(base)}")
    output.write_text(proposal.text, encoding="utf-8")
    checks = proposal.text.count("# Please check")
    out.print(f"Wrote {output}; {checks} of its lines say what to check.", markup=False)
    for sentence in proposal.missing:
        out.print(f"\N{BULLET} {sentence}", markup=False)
    out.print(f"Next: shop-platform doctor --config {output}", markup=False)
    raise typer.Exit(1 if "# from =" in proposal.text else 0)


@app.command()
def doctor(config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Say what is missing or odd in your data, and how to mend it. Loads nothing; ends with 1 on errors."""
    from shop_platform.errors import SourceError
    from shop_platform.sources.diagnosing import diagnose

    _configure(config, data)
    settings = load_settings()
    path = settings.config or (Path("shop.toml") if Path("shop.toml").exists() else None)
    if path is None:
        raise SourceError("Which mapping? Give --config FILE; `shop-platform init` writes one.")
    found = diagnose(path, settings)
    if as_json:
        sys.stdout.write(json.dumps([finding.as_record() for finding in found], indent=2, ensure_ascii=False) + "\n")
    else:
        styles = {"error": "red", "warning": "yellow", "fine": "green"}
        for finding in found:
            out.print(f"{finding.level}: {finding.text}", style=styles[finding.level], markup=False)
            if finding.fix:
                out.print("\n".join(f"    {line}" for line in finding.fix.splitlines()), markup=False)
    raise typer.Exit(1 if any(finding.level == "error" for finding in found) else 0)


@app.command()
def refresh(
    part: Annotated[Part | None, typer.Argument(help="Only this part; without it, every part.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Look once for changes of the source, new events and search logs, as the sensors do; refresh what they affect."""
    _configure(config, data)
    from shop_platform.demo import run_refresh

    raise typer.Exit(run_refresh(out, err, None if part is None else part.value))


@app.command()
def results(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Print the stored results; as JSON they follow docs/results.schema.json."""
    _configure(config, None)
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
    _configure(config, None)
    from dataclasses import asdict

    from shop_platform.definitions import default_resources
    from shop_platform.segmentation.searching import similar_searches

    using = default_resources()
    with using["elasticsearch"].client() as client, using["postgres"].connect() as connection:
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
def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = 3000,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Open Dagster's UI on loopback, with its daemon, until Ctrl-C. The sensors run while it does."""
    _configure(config, data)
    from shop_platform.ui import serve

    raise typer.Exit(serve(out, port))


@app.command()
def env(config: ConfigOption = None, data: DataOption = None) -> None:
    """Print shell lines that let `dagster` and `dg` use this shop: eval "$(shop-platform env)"."""
    import shlex

    from shop_platform.runs import dagster_home

    _configure(config, data)
    settings = load_settings()
    variables: dict[str, Any] = {
        "DAGSTER_HOME": dagster_home(settings),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "SHOP_HOME": settings.home,
        "SHOP_CONFIG": settings.config,
        "SHOP_DATA": settings.data,
        "SHOP_SCALE": settings.scale,
    }
    for name, value in variables.items():
        if value is not None:
            sys.stdout.write(f"export {name}={shlex.quote(str(value))}\n")


def _url(server: Server) -> str:
    from shop_platform.services import elasticsearch, postgres
    from shop_platform.sources.load import load_shop

    settings = load_settings()
    if server is Server.postgres:
        return postgres.url(settings, load_shop(settings).name)
    return elasticsearch.url(settings)


if __name__ == "__main__":
    main()
