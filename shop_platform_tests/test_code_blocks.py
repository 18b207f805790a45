"""Every code block of the pages is run, word by word, in a copy of the project on a small shop; pages.py finds them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import click
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from elasticsearch import Elasticsearch

from shop_platform.cli import app
from shop_platform.performance.queries import answer, measured_queries
from shop_platform.segmentation.segments import load_segments
from shop_platform.services import postgres as postgres_service
from shop_platform.services.postgres_commands import binaries
from shop_platform.settings import Settings
from shop_platform.sources.mapping import read_mapping
from shop_platform.sources.synthetic import synthetic_shop

from .pages import PAGES, ROOT, Block, blocks, code_words
from .small import SMALL

BLOCKS = blocks()
#: The block that loads the shop, once for all pages.
DEMO = "make demo\n"

#: The folder that pages speak of as the reader's own.
THEIRS = "folder_with_the_files"


def run_in(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language and not block.not_run]


# ------------------------------------------------------------------------------------------- a project to run them in


@dataclass(frozen=True)
class Project:
    """A copy of the project whose `.venv` is the environment that runs, and what its first demo printed."""

    folder: Path
    environment: dict[str, str]
    database: str
    printed: str


def bash(text: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run lines as a reader's shell would, but end at the first that fails."""
    return subprocess.run(
        ["bash", "-e", "-c", text],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def copy_project(target: Path) -> None:
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(".git", ".venv", ".shop", ".*_cache", "__pycache__"))
    # A folder of links, with a mark of its own: `make` finds all installed, and installs nothing.
    (target / ".venv").mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name != "ready":
            (target / ".venv" / entry.name).symlink_to(entry)
    (target / ".venv" / "ready").touch()


def write_their_files(folder: Path) -> None:
    """A shop's files, as somebody may have them."""
    folder.mkdir()
    source = synthetic_shop(Settings(users=120, events=4000, searches=900)).source
    for name in ("users", "products", "events", "searches"):
        extract = getattr(source, name)()
        pq.write_table(pa.Table.from_batches(extract.batches), folder / f"{name}.parquet")


@pytest.fixture(scope="module")
def project(
    server_settings: Settings, elasticsearch_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """The project after its first demo, on this run's servers; the shops that the blocks make go at the end."""
    folder = tmp_path_factory.mktemp("pages") / "project"
    copy_project(folder)
    write_their_files(folder / THEIRS)
    # Coverage counts lines by their path, and those of a copy are nobody's.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    environment = kept | SMALL | {
        "SHOP_HOME": str(server_settings.home),
        # The reader's psql, else the one that the embedded server comes with.
        "PATH": f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}:{binaries()}",
        "PYTHONPATH": str(folder),
    }  # fmt: skip
    with everything_new_removed(server_settings, elasticsearch_url):
        ran = bash(DEMO, folder, environment)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        yield Project(folder, environment, postgres_service.url(server_settings, "shop"), ran.stdout)


class everything_new_removed:  # noqa: N801  reads as a sentence after `with`
    """Removes the databases and indices that came meanwhile."""

    def __init__(self, settings: Settings, elasticsearch_url: str) -> None:
        self._admin = postgres_service.url(settings, "postgres")
        self._elasticsearch = elasticsearch_url

    def _found(self) -> tuple[set[str], set[str]]:
        with psycopg.connect(self._admin) as connection, Elasticsearch(self._elasticsearch) as client:
            databases = connection.execute("SELECT datname FROM pg_database").fetchall()
            return {row[0] for row in databases}, set(client.indices.get(index="*"))

    def __enter__(self) -> None:
        self._before = self._found()

    def __exit__(self, *_: object) -> None:
        databases, indices = (now - before for now, before in zip(self._found(), self._before, strict=True))
        with psycopg.connect(self._admin, autocommit=True) as connection:
            for database in databases:
                connection.execute(f'DROP DATABASE "{database}" WITH (FORCE)')
        with Elasticsearch(self._elasticsearch) as client:
            for index in indices:
                client.indices.delete(index=index)


# ---------------------------------------------------------------------------------------------------------- the blocks


def test_the_block_that_the_fixture_runs_is_on_the_pages() -> None:
    assert DEMO in {block.text for block in run_in("sh")}


def test_every_block_says_its_language() -> None:
    assert {block.language for block in BLOCKS} == {"sh", "sql", "toml", "python", "text", "json"}


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    left = [block for block in BLOCKS if block.not_run]
    assert all(len(block.value) > 10 for block in left)
    # What needs something that no test has, such as a cluster, can't be run; of all else few are left.
    others = [block for block in left if not block.value.startswith("needs ")]
    assert len(others) <= 5, [str(block) for block in others]
    assert all(block.language == "sh" for block in others)


@pytest.mark.parametrize("block", run_in("python"), ids=str)
def test_python_is_a_module_of_the_project_whose_assets_can_be_made(project: Project, block: Block) -> None:
    for each in BLOCKS:  # what it reads may stand on the same page
        if each.page == block.page and each.directive == "file":
            (project.folder / each.value).write_text(each.text, encoding="utf-8")
    made = bash(
        f"""
        ruff format --check {block.value}
        ruff check {block.value}
        python -c "
import dagster as dg, shop_platform.{Path(block.value).parent.name}.{Path(block.value).stem} as module
from shop_platform.definitions import default_resources
assets = [each for each in vars(module).values() if isinstance(each, dg.AssetsDefinition)]
result = dg.materialize(assets, resources=default_resources())
checks = result.get_asset_check_evaluations()
assert assets and checks and all(check.passed for check in checks), checks"
        """,
        project.folder,
        project.environment,
    )
    for each in BLOCKS:
        if each.page == block.page and each.directive == "file":
            (project.folder / each.value).unlink()
    assert made.returncode == 0, made.stdout + made.stderr


@pytest.mark.parametrize("block", run_in("text"), ids=str)
def test_what_pages_show_as_printed_is_printed(project: Project, block: Block) -> None:
    printed = set(map(without_figures, project.printed.splitlines()))
    for line in block.text.splitlines():
        assert without_figures(line) in printed


def without_figures(line: str) -> str:
    """A line of output without what differs between shops, machines and homes."""
    return " ".join(re.sub(r"\d[\d.,]*", "#", re.sub(r"\S*/shops/", "shops/", line)).split())


@pytest.mark.parametrize("block", run_in("sql"), ids=str)
def test_sql_runs_on_a_loaded_shop(project: Project, block: Block, tmp_path: Path) -> None:
    with psycopg.connect(project.database) as connection:
        if "-- Parameter" in block.text:  # a query to be measured
            (tmp_path / "block.sql").write_text(block.text, encoding="utf-8")
            query = measured_queries(tmp_path)[-1]
            assert query.name == "block"
            assert answer(connection, query.text, query.parameters)
        else:
            connection.execute("CREATE SCHEMA sales")  # the reader's own
            connection.execute(block.text)
        connection.rollback()


@pytest.mark.parametrize("block", run_in("toml"), ids=str)
def test_toml_is_a_file_of_segments_or_a_mapping(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "block.toml"
    if "[[segments]]" not in block.text:
        path.write_text(block.text, encoding="utf-8")
        read_mapping(path)
        return
    shipped = (ROOT / "shop_platform" / "segmentation" / "segments.toml").read_text(encoding="utf-8")
    path.write_text(shipped + block.text, encoding="utf-8")
    assert len(load_segments(path)) == shipped.count("[[segments]]") + block.text.count("[[segments]]")


@pytest.mark.parametrize("block", run_in("sh"), ids=str)
def test_a_shell_runs_it(project: Project, block: Block) -> None:
    if block.text == DEMO:
        return  # the fixture has run it
    folder = project.folder / (block.value if block.directive == "in" else "")
    done = bash(block.text, folder, project.environment)
    assert done.returncode == 0, done.stdout + done.stderr


# ------------------------------------------------------------------------- names, in blocks that are not run as well


def named(page: str, pattern: str) -> Iterator[re.Match[str]]:
    """Where a pattern is found in the shell blocks and code words of a page, without the shell's comments."""
    shell = [block.text for block in BLOCKS if block.page == page and block.language == "sh"]
    for text in (*shell, *code_words(page)):
        yield from re.finditer(pattern, re.sub(r"(^|\s)#.*", "", text))


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_exists(page: str) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group)
    everywhere = options_of(group)
    for match in named(page, r"shop-platform((?: --[\w-]+)*) +([a-z]+)\b([^|;&\n]*)"):
        assert match[2] in group.commands, f"{page}: there is no `shop-platform {match[2]}`"
        assert set(match[1].split()) <= everywhere, f"{page}: {match[0]}"
        asked = set(re.findall(r"(?<!\S)\[?(--[\w-]+)", match[3]))
        assert asked <= everywhere | options_of(group.commands[match[2]]), f"{page}: {match[0]}"


def options_of(command: click.Command) -> set[str]:
    return set(chain.from_iterable(each.opts + each.secondary_opts for each in command.params)) | {"--help"}


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_is_a_setting(page: str) -> None:
    settings = {field.validation_alias or f"SHOP_{name.upper()}" for name, field in Settings.model_fields.items()}
    text = (ROOT / page).read_text(encoding="utf-8")
    found = set(re.findall(r"\b(?:SHOP|DATABASE|ELASTICSEARCH)_[A-Z_]*[A-Z]\b", text))
    assert found <= settings


@pytest.mark.parametrize("page", PAGES)
def test_every_target_and_variable_of_make_exists(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z]+) \??:?=", makefile, re.MULTILINE))
    for match in named(page, r"(?<![\w-])make ([a-z-]+)((?: [A-Z]+=\S+)*)"):
        assert match[1] in targets, f"{page}: {match[0]}"
        assert {each.split("=")[0] for each in match[2].split()} <= variables, f"{page}: {match[0]}"
