"""The table of promises names tests that exist, and that `make test-faults` runs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "operations.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("### What is promised, and what shows it")[2].partition("\n## ")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TABLE.splitlines()
    if line.startswith("| ") and not line.startswith("| promise") and line.count("|") == 5
]
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def test_every_row_says_a_promise_a_fault_a_test_and_a_result() -> None:
    assert len(ROWS) > 10
    for row in ROWS:
        assert len(row) == 4, row
        assert all(row), row
        assert NAMED.search(row[2]), row


def test_every_test_that_is_named_is_there_and_marked() -> None:
    for path, name in NAMED.findall(TABLE):
        tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
        found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name]
        assert len(found) == 1, f"{path} has no {name}"
        marks = {ast.unparse(each) for each in found[0].decorator_list}
        assert path.startswith("faults/") or "pytest.mark.fault" in marks, f"{path}::{name} is not marked"
