"""The command itself: its options, what it prints to, how it ends."""

from __future__ import annotations

import os
import sys
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import click
import typer
from rich.console import Console

from shop_platform.cli.bars import showing
from shop_platform.errors import ShopPlatformError

#: What the command ends with.
FAILED, NAMED_ERROR, UNEXPECTED, INTERRUPTED = 1, 3, 4, 130

app = typer.Typer(
    name="shop-platform",
    help="Answers three questions about a shop: what makes its queries fast, who comes back, who searches for what.",
    epilog="Ends with 0, or with 1 where an asset, a check or a finding is bad, 2 on wrong usage, 3 on an error that "
    "is named, 4 on one that is not, 130 after Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

#: Results; how it goes, which --quiet silences; errors.
out = Console(highlight=False, soft_wrap=True)
talk = Console(highlight=False, soft_wrap=True)
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


def _tell_version(asked: bool) -> None:
    if asked:
        out.print(f"shop-platform {version('shop-platform')}")
        raise typer.Exit


@app.callback()
def habits(
    context: typer.Context,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print results and errors alone, not how it goes.")] = False,
    version: Annotated[  # noqa: ARG001  its callback has ended the command
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and end.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the trace of an error as well.")] = False,  # noqa: ARG001  `run` looks for it
) -> None:
    """Take the options of all commands."""
    talk.quiet = quiet
    if not quiet:
        context.with_resource(showing(err))


def main() -> None:
    """Run the command and end with its exit code, and with a sentence where something went wrong."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    # Known before anything else is parsed: wrong usage has no trace to show.
    debug = "--debug" in arguments
    try:
        code = app(arguments, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        code = INTERRUPTED
    except ShopPlatformError as error:
        _trace(debug)
        err.print(f"shop-platform: {error}", style="red", markup=False)
        return NAMED_ERROR
    except Exception as error:  # noqa: BLE001  whatever it is: people get a sentence, and the trace on demand
        _trace(debug)
        # Without its message, which may hold what is in the data, or a secret.
        err.print(
            f"shop-platform: an unexpected {type(error).__name__}: this is a fault of the platform's. "
            "Run it again with `shop-platform --debug` to see where, and report it.",
            style="red",
            markup=False,
        )
        return UNEXPECTED
    # Typer ends with this itself after Ctrl-C, and says nothing.
    if code == INTERRUPTED:
        err.print("shop-platform: interrupted.", style="red")
    return code if isinstance(code, int) else 0


def _trace(debug: bool) -> None:
    if debug:
        traceback.print_exc()


def configure(config: Path | None, data: Path | None) -> None:
    """Hand options on to the settings, which every process of ours reads from the environment."""
    for name, value in (("SHOP_CONFIG", config), ("SHOP_DATA", data)):
        if value is not None:
            os.environ[name] = str(value.expanduser().resolve())
