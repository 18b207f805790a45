"""The wheel: whole, the same to the byte whenever and wherever it is built, and enough to run the demo.

The environment is a real one: `uv pip install --offline` puts the wheel and what it depends on, at the locked versions,
into a new virtual environment by hard links from uv's cache, which takes about a second. Without hard links it would
copy 7 GB, so the environment is made on the disk of the cache. The tools of development are not in it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .small import SMALL

ROOT = Path(__file__).parents[1]

#: What the wheel is built from.
PARTS = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "dagster.yaml",
    "workspace.yaml",
    "sql",
    "shop_platform",
    ".gitignore",
)


def build(source: Path, target: Path, umask: int = 0o022) -> Path:
    """The wheel that the project's build backend makes of a folder."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)],
        cwd=source,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        umask=umask,
        capture_output=True,
        check=True,
    )
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_a_later_build_in_another_folder_gives_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    other = tmp_path / "another folder"
    other.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, other / part, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(ROOT / part, other / part)
    later = time.time() + 100_000
    for path in other.rglob("*"):
        os.utime(path, (later, later))
    assert build(other, tmp_path / "built", umask=0o077).read_bytes() == wheel.read_bytes()


def test_it_holds_every_file_of_the_package_and_nothing_else(names: set[str]) -> None:
    ignored = {"__pycache__"}
    expected = {"shop_platform/dagster.yaml", "shop_platform/workspace.yaml"}
    for folder, base in (("shop_platform", ROOT), ("sql", ROOT / "shop_platform")):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and not ignored & set(path.parts):
                place = path.relative_to(ROOT)
                expected.add(str(place if base == ROOT else Path("shop_platform") / place))
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def cache_folder() -> Path:
    found = subprocess.run([sys.executable, "-m", "uv", "cache", "dir"], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip())


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Iterator[Path]:
    """A new virtual environment into which the wheel is installed, with what it asks for and no more."""
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    # As in conftest.py: not below pytest's own folder, through which PostgreSQL's account may not pass.
    places = (Path(tempfile.gettempdir()), ROOT, cache)
    place = next(place for place in places if place.stat().st_dev == cache.stat().st_dev)
    with tempfile.TemporaryDirectory(prefix="shop_platform_tests_", dir=place) as folder:
        environment = Path(folder) / "environment"
        uv = [sys.executable, "-m", "uv", "--quiet", "--offline"]
        subprocess.run([*uv, "venv", "--python", sys.executable, str(environment)], check=True)
        install = [*uv, "pip", "install", "--python", str(environment / "bin" / "python")]
        result = subprocess.run(
            [*install, "--constraint", str(ROOT / "requirements.lock"), str(wheel)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if "network was disabled" in result.stderr:
            pytest.skip("uv's cache does not hold all locked packages; remove .venv, then `make setup` fills it")
        assert result.returncode == 0, result.stderr
        yield environment


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, as somebody who knows nothing of the checkout."""
    kept = ("HOME", "PATH", "LANG", "XDG_CACHE_HOME", "SHOP_ELASTICSEARCH_JAVA_OPTIONS")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    return subprocess.run(
        command, cwd=folder, env=environment | SMALL, capture_output=True, text=True, timeout=240, check=False
    )


def test_the_demo_of_the_installed_wheel_runs_in_an_empty_folder(installed: Path, server_folder: Path) -> None:
    command = str(installed / "bin" / "shop-platform")
    asked = "import json, shop_platform as s, sys; print(json.dumps([s.__file__, sys.path]))"
    where, path = json.loads(run([str(installed / "bin" / "python"), "-c", asked], server_folder).stdout)
    assert Path(where).is_relative_to(installed)
    assert not [
        each for each in path if each and Path(each).is_relative_to(ROOT) and not Path(each).is_relative_to(installed)
    ]
    try:
        demo = run([command, "demo"], server_folder)
        assert demo.returncode == 0, demo.stdout + demo.stderr
        report = server_folder / ".shop" / "shops" / "shop" / "report.html"
        assert f"Report: {report}" in demo.stdout
        assert "<html" in report.read_text(encoding="utf-8")
        assert sorted(each.name for each in server_folder.iterdir()) == [".shop"]
    finally:
        down = run([command, "down"], server_folder)
    assert down.stdout == f"Stopped elasticsearch and postgres of {server_folder / '.shop'}.\n"
