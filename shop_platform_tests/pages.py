"""Finds the code blocks and code words of README.md, CONTRIBUTING.md and docs/, with what the pages say about them.

A comment right before a fence says how its block is run:

- `<!-- not run: reason -->`: a test can't run it;
- `<!-- in: folder -->`: in this folder of the project;
- `<!-- file: path -->`: the block is this file of the project.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))

_DIRECTIVE = re.compile(r"<!-- (not run|in|file): (.*?) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language and text, and the comment before it."""

    page: str
    line: int
    language: str
    text: str
    directive: str = ""
    value: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def not_run(self) -> bool:
        """Whether the page says that a test can't run it."""
        return self.directive == "not run"


def blocks() -> list[Block]:
    """All blocks, page by page."""
    return [block for page in PAGES for block in _blocks(page, tokens(page))]


def code_words(page: str) -> list[str]:
    """What stands in a page as code within a sentence or a table."""
    return [child.content for token in tokens(page) for child in token.children or () if child.type == "code_inline"]


def tokens(page: str) -> list[Token]:
    """A page, parsed."""
    return MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text(encoding="utf-8"))


def _blocks(page: str, found: list[Token]) -> Iterator[Block]:
    before = ""
    for token in found:
        if token.type in ("fence", "code_block"):
            line = (token.map or [0])[0] + 1
            yield Block(page, line, token.info.strip(), token.content, *_directive(before))
        before = token.content if token.type == "html_block" else ""


def _directive(comment: str) -> tuple[str, str]:
    match = _DIRECTIVE.search(comment)
    return (match[1], match[2]) if match else ("", "")
