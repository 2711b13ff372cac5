"""Reads tables and code blocks of the pages in docs/reference."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.fences import fences

FOLDER = Path(__file__).parents[2] / "docs" / "reference"


def page(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """The text below a heading, up to the next heading of the same level or a higher one."""
    level = len(heading) - len(heading.lstrip("#"))
    _, found, rest = text.partition(f"{heading}\n")
    assert found, heading
    return re.split(rf"^#{{1,{level}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def table(text: str) -> list[list[str]]:
    """The rows of the first table of a text, without its headings."""
    rows = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def code(cell: str) -> list[str]:
    """The words in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def examples(text: str) -> dict[str, list[str]]:
    """The blocks of code of a page, by the heading that they are below."""
    found: dict[str, list[str]] = {}
    lines = text.splitlines()
    for fence in fences(text):
        heading = next(line for line in reversed(lines[: fence.line]) if re.match(r"#+ ", line))
        found.setdefault(heading.lstrip("# ").replace("`", ""), []).append(fence.code)
    return found
