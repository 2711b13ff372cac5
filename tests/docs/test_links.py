"""Relative links of all pages lead somewhere, on GitHub as well; `mkdocs build --strict` checks the site alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs.fences import PAGES, ROOT

LINK = re.compile(
    r"\]\(<?([^()\s>]+(?:\([^()\s]*\))?)>?(?:\s+\"[^\"]*\")?\)|<(?:a|img|source)[^>]*?(?:href|src|srcset)=\"([^\"]+)\""
)
HEADING = re.compile(r"#{1,6}\s+(.*?)(?:\s+#*)?")
ANCHOR = re.compile(r"<\w+[^>]*\b(?:id|name)=\"([^\"]+)\"")


def prose(page: Path) -> Iterator[str]:
    """Yields the lines of a page outside of code fences."""
    marks = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        fence = re.match(r"\s*(`{3,}|~{3,})", line)
        if not marks and fence is None:
            yield line
        elif not marks:
            marks = fence[1] if fence else ""
        elif fence is not None and line.strip() == marks:
            marks = ""


@cache
def anchors(page: Path) -> frozenset[str]:
    """Returns the anchors that GitHub gives the headings of a page, and those that the page sets itself."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for line in prose(page):
        found.update(ANCHOR.findall(line))
        heading = HEADING.fullmatch(line)
        if heading is not None:
            text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)|<[^>]+>", r"\1", heading[1])  # links are their text
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return frozenset(found)


def links(page: Path) -> Iterator[str]:
    for line in prose(page):
        for match in LINK.finditer(re.sub(r"`[^`]*`", "", line)):
            yield match[1] or match[2]


def problem(page: Path, link: str) -> str | None:
    """Says what is wrong with a link of a page."""
    if re.match(r"[a-z][a-z0-9+.-]*:", link):
        return None
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.exists():
        return f"{link}: there is no {target}"
    if not target.is_relative_to(ROOT):
        return f"{link}: outside of the repository"
    if anchor and target.suffix == ".md" and anchor not in anchors(target):
        return f"{link}: no such heading, there are {sorted(anchors(target))}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    file = ROOT / page
    assert [wrong for link in links(file) if (wrong := problem(file, link))] == []


def test_wrong_links_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.docs.test_links.ROOT", tmp_path)
    (tmp_path / "other.md").write_text(
        '# A `b` & c\n\n## Twice\n\n```bash\n# no heading\n```\n\n## Twice\n<a id="own"></a>'
    )
    page = tmp_path / "page.md"
    right = [
        "other.md",
        "other.md#a-b--c",
        "other.md#twice",
        "other.md#twice-1",
        "other.md#own",
        "#here",
        "https://x.y",
    ]
    wrong = ["othr.md", "other.md#no-heading", "other.md#twice-2", "#there", "../outside.md"]
    page.write_text("# Here\n\n" + " ".join(f"[text]({link})" for link in [*right, *wrong]) + "\n`[code](none.md)`\n")
    (tmp_path.parent / "outside.md").write_text("")
    assert list(links(page)) == [*right, *wrong]
    assert [link for link in links(page) if problem(page, link)] == wrong
