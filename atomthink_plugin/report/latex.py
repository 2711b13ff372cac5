"""LaTeX in a page: the parts of KaTeX and its fonts that the texts of the page need."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Final, TypeVar

T = TypeVar("T")

_KATEX: Final = files(__package__) / "page" / "katex"

_LATEX: Final = re.compile(r"\\[a-zA-Z(\[%]|\^|\$(?!\s)[^$\n]{0,4000}(?<!\s)\$(?!\d)")
"""Texts that `page/maths.js` may draw. A false match only makes the page larger."""

_RARE: Final = ("Caligraphic", "Fraktur", "Script", "SansSerif", "Typewriter", "BoldItalic")
"""Fonts that few formulas need, by a part of their file names."""

_COMMANDS: Final[Mapping[str, str]] = {
    "cal": "Caligraphic",
    "frak": "Fraktur",
    "scr": "Script",
    "sf": "SansSerif",
    "tt": "Typewriter",
    "verb": "Typewriter",
    "bm": "BoldItalic",
    "boldsymbol": "BoldItalic",
}
_COMMAND: Final = re.compile(rf"\\(?:math|text)?({'|'.join(_COMMANDS)})(?![a-zA-Z])")

_FACE: Final = re.compile(r"@font-face\{[^}]*\}")
_SOURCE: Final = re.compile(r"src:url\(fonts/([\w-]+\.woff2)\)[^}]*")


class Latex:
    """Collects which parts of KaTeX the texts of a page need."""

    def __init__(self) -> None:
        self.found = False
        self._fonts: set[str] = set()

    def scan(self, value: T) -> T:
        """Scans all texts of plain data, and returns the data unchanged."""
        if isinstance(value, str):
            self.found = self.found or _LATEX.search(value) is not None
            self._fonts.update(_COMMANDS[name] for name in _COMMAND.findall(value))
        elif isinstance(value, Mapping):
            for part in value.values():
                self.scan(part)
        elif isinstance(value, Sequence):
            for part in value:
                self.scan(part)
        return value

    def script(self) -> str:
        """Returns KaTeX with its licence, empty if no text has LaTeX."""
        if not self.found:
            return ""
        return f"/*\n{_text('LICENSE')}*/\n{_text('katex.min.js')}"

    def style(self) -> str:
        """Returns KaTeX's style sheet with its fonts, empty if no text has LaTeX."""
        return _FACE.sub(self._face, _text("katex.min.css")) if self.found else ""

    def _face(self, rule: re.Match[str]) -> str:
        source = _SOURCE.search(rule.group())
        assert source is not None
        name = source.group(1)
        if any(rare in name and rare not in self._fonts for rare in _RARE):
            return ""
        font = base64.b64encode((_KATEX / "fonts" / name).read_bytes()).decode("ascii")
        return _SOURCE.sub(f'src:url(data:font/woff2;base64,{font}) format("woff2")', rule.group())


def _text(name: str) -> str:
    return (_KATEX / name).read_text(encoding="utf-8")
