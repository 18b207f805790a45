"""Commands about a shop's own data: `init`, `doctor`, `pseudonym` and `erase`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from shop_platform.cli.app import ConfigOption, DataOption, JsonOption, app, configure, err, out, talk
from shop_platform.settings import load_settings


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

    configure(config, data)
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
def pseudonym(
    user: Annotated[str, typer.Argument(help="The user's id, as the source has it.")], config: ConfigOption = None
) -> None:
    """Print what a user is called in tables, search logs and artefacts, where SHOP_PSEUDONYM_KEY is set."""
    configure(config, None)
    from shop_platform.resources.shop import ShopResource
    from shop_platform.sources.pseudonyms import known_as

    sys.stdout.write(f"{known_as(ShopResource().shop(), user)}\n")


@app.command()
def erase(
    user: Annotated[str, typer.Argument(help="The user's id, as the source has it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Remove a person for good, keep later loads from bringing them back, and search for what is left."""
    configure(config, data)
    from shop_platform.demo import run_erase

    if not yes and not typer.confirm(f"Erase all of user {user}? It can't be undone.", err=True):
        raise typer.Exit(1)
    silent = Console(quiet=True)
    told, code = run_erase(silent if as_json else out, silent if as_json else talk, err, user)
    if as_json:
        sys.stdout.write(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    else:
        searched = ", ".join(f"{count:,} {kind}" for kind, count in told["searched"].items())
        by = " and ".join(told["files_by"])
        files = f"files by {by}" if by else "no files, as an id that is a number may count anything there"
        left = "Something is left." if told["found"] else "Nothing is left."
        out.print(f"Searched {searched}; {files}. {left}", markup=False)
    raise typer.Exit(code)
