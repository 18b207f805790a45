"""Commands about servers and Dagster: `up`, `down`, `status`, `url`, `ui`, `env`."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from shop_platform.cli.app import ConfigOption, DataOption, JsonOption, app, configure, out
from shop_platform.settings import load_settings


class Server(StrEnum):
    """A server whose URL can be asked for."""

    postgres = "postgres"
    elasticsearch = "elasticsearch"


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
    home = settings.home
    done = f"Stopped {' and '.join(stopped)} of {home}." if stopped else f"No embedded server of {home} was running."
    out.print(done, markup=False, soft_wrap=True)


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
    configure(config, None)
    sys.stdout.write(_url(server) + "\n")


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = 3000,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Open Dagster's UI on loopback, with its daemon, until Ctrl-C. The sensors run while it does."""
    configure(config, data)
    from shop_platform.ui import serve

    raise typer.Exit(serve(out, port))


@app.command()
def env(config: ConfigOption = None, data: DataOption = None) -> None:
    """Print shell lines that let `dagster` and `dg` use this shop: eval "$(shop-platform env)"."""
    import shlex

    from shop_platform.runs import dagster_home

    configure(config, data)
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
