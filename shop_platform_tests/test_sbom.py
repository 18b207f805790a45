"""The bill of materials that `make sbom` writes names every locked package, with its version and hashes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def test_it_is_cyclonedx_and_names_every_locked_package(tmp_path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    line = re.search(r"cyclonedx-py (.*)", makefile)
    assert line is not None
    path = tmp_path / "sbom.cdx.json"
    arguments = line[1].replace("dist/sbom.cdx.json", str(path)).split()
    command = str(Path(sys.executable).with_name("cyclonedx-py"))
    subprocess.run([command, *arguments], cwd=ROOT, check=True, capture_output=True)
    bill = json.loads(path.read_text(encoding="utf-8"))
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "shop-platform"
    named = {(each["name"].lower(), each["version"]) for each in bill["components"]}
    assert named == set(re.findall(r"^([a-z0-9][\w.-]*)==([^ ;\\]+)", LOCK, re.MULTILINE))
    assert all(each["externalReferences"][0]["hashes"] for each in bill["components"])


def test_every_locked_package_has_a_hash() -> None:
    blocks = re.split(r"\n(?=\S)", LOCK)
    packages = [block for block in blocks if re.match(r"[a-z0-9][\w.-]*==", block)]
    assert len(packages) > 100
    assert all("--hash=sha256:" in block for block in packages)
