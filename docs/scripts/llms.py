"""llms.txt and llms-full.txt (https://llmstxt.org): the documentation for language models, in the order of the nav."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Final

_FENCE: Final = re.compile(r"^```.*?^```[^\n]*\n?", re.MULTILINE | re.DOTALL)
_NOT_PROSE: Final = re.compile(r"\s*(?:#|>|[-*|] |\||!\[|<|:::|---|\d+\. )")
_LINK: Final = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\[*])")
_INCLUDES: Final = re.compile(r"^(?:::: |--8<-- )", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """A page of the documentation.

    Attributes:
        title: As in the nav.
        section: The part of the nav it is in.
        url: Its address, relative to that of the site.
        source: Its Markdown.
        html: Its rendered content.
    """

    title: str
    section: str
    url: str
    source: str = ""
    html: str = ""

    @property
    def text(self) -> str:
        """The page as Markdown. A page that includes docstrings or files is the text of its rendered content."""
        return _plain(self.html) if _INCLUDES.search(self.source) else self.source.strip()


def first_sentence(markdown: str) -> str:
    r"""Returns the first sentence of a page's prose, without links; empty for a page without prose.

    Example:
        >>> first_sentence("# Title\n\nRun [the demo](demo.md) first. It takes a minute.")
        'Run the demo first.'
    """
    for paragraph in _FENCE.sub("", markdown).split("\n\n"):
        if paragraph.strip() and not _NOT_PROSE.match(paragraph):
            return _SENTENCE.split(_LINK.sub(r"\1", " ".join(paragraph.split())))[0]
    return ""


def index(title: str, summary: str, pages: Sequence[Page], base: str = "") -> str:
    """Returns the text of llms.txt.

    Args:
        title: Name of the project.
        summary: What it is.
        pages: In the order of the nav.
        base: Address of the site, ending in a slash; empty for relative links.
    """
    sections: dict[str, list[str]] = {}
    for page in pages:
        about = first_sentence(page.text)
        line = f"- [{page.title}]({f'{base}{page.url}' or './'}){f': {about}' if about else ''}"
        sections.setdefault(page.section, []).append(line)
    parts = [f"# {title}", f"> {summary}"]
    for section, lines in sections.items():
        parts += [f"## {section}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def full(pages: Sequence[Page]) -> str:
    """Returns the text of llms-full.txt: all pages, each after a line with its address."""
    return "\n\n".join(f"<!-- {page.url or './'} -->\n\n{page.text}" for page in pages) + "\n"


def _plain(html: str) -> str:
    reader = _Text()
    reader.feed(html)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", "".join(reader.found))).strip()


class _Text(HTMLParser):
    """Collects the text of rendered docstrings, with headings, list items and code blocks as in Markdown."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._within: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Writes what begins a block."""
        self._within.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.found.append(f"\n\n{'#' * int(tag[1])} ")
        elif tag == "li":
            self.found.append("\n- ")
        elif tag == "pre":
            self.found.append("\n\n```\n")
        elif tag in ("p", "table", "tr", "div", "ul"):
            self.found.append("\n")

    def handle_endtag(self, tag: str) -> None:
        """Writes what ends a block."""
        if tag in self._within:
            while self._within.pop() != tag:  # tags without an end, such as br
                pass
        if tag == "pre":
            self.found.append("\n```\n")
        elif tag in ("p", "h1", "h2", "h3", "h4", "h5", "h6"):
            self.found.append("\n")

    def handle_data(self, data: str) -> None:
        """Writes text; line breaks count in code blocks alone."""
        text = data if "pre" in self._within else re.sub(r"\s+", " ", data)
        if text != "¶" and not (text == " " and self.found and self.found[-1].endswith(("\n", " "))):
            self.found.append(text)
