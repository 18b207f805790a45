"""The documents say what the code does: settings, commands, results."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import typer

from shop_platform.cli import app
from shop_platform.definitions import build_defs
from shop_platform.settings import Settings

ROOT = Path(__file__).parents[1]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app)


def test_every_setting_stands_in_the_table_with_its_default_and_meaning() -> None:
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        variable = field.validation_alias or f"SHOP_{name.upper()}"
        assert f"| `{variable}` | {default} | {field.description} |" in OPERATIONS


def test_every_command_stands_in_the_table_and_has_help_in_a_full_sentence() -> None:
    assert isinstance(COMMANDS, click.Group)
    for name, command in COMMANDS.commands.items():
        assert f"`shop-platform {name}" in OPERATIONS
        assert command.help
        assert command.help.rstrip().endswith((".", ")", '".'))
        for parameter in command.params:
            if isinstance(parameter, click.Option) and "--help" not in parameter.opts:
                assert parameter.help, f"{name} {parameter.name} has no help"


def test_the_table_of_the_asset_graph_says_what_each_asset_is_made_from() -> None:
    graph = build_defs().resolve_asset_graph()
    made_from = {
        key.to_user_string(): sorted(parent.to_user_string() for parent in graph.get(key).parent_keys)
        for key in graph.materializable_asset_keys
    }
    rows = re.findall(r"^\| `(\w+)` \| ([`\w, ]*) \|", (ROOT / "docs" / "how_it_is_built.md").read_text("utf-8"), re.M)
    assert {asset: re.findall(r"\w+", parents) for asset, parents in rows} == made_from


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_every_link_and_picture_leads_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:")):
            assert (path.parent / target).exists(), f"{page} links to {target}, which is not there"


def test_nothing_names_a_registry_or_a_path_of_a_machine() -> None:
    forbidden = re.compile(
        r"(?<![\w.])/(?:root|home|work)/|https?://[^\s\"')]*(?:pypi|npmjs|maven|pythonhosted)", re.IGNORECASE
    )
    for path in [
        ROOT / "requirements.lock",
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("shop_platform/**/*.py"),
    ]:
        assert not forbidden.search(path.read_text(encoding="utf-8")), path.name
