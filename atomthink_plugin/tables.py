"""The tables of all commands: as wide as the terminal on a terminal, plain and of any width in a pipe."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from atomthink_plugin.redaction import printable

_GAP: Final = "  "
_SHORTEST: Final = 16
"""Columns of a text that may be shortened."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Cells under headings.

    Attributes:
        title: What the table shows.
        headings: One per column; the first column names the rows.
        cells: Rows of as many texts.
        left: Columns that are aligned to the left, in addition to the first.
        elastic: Columns of text that may be shortened to fit into a terminal.
        sections: Rows that begin a new section.
        caption: The text below the table.
    """

    title: str
    headings: tuple[str, ...]
    cells: Sequence[tuple[str, ...]]
    left: frozenset[int] = frozenset()
    elastic: frozenset[int] = frozenset()
    sections: frozenset[int] = frozenset()
    caption: str = ""

    def markdown(self) -> str:
        """Returns the table in Markdown, its title as a paragraph."""
        rule = "|".join(["---", *("---:" for _ in self.headings[1:])])
        lines = [f"| {' | '.join(map(_escaped, row))} |" for row in (self.headings, *self.cells)]
        return "\n".join([self.title, "", lines[0], f"|{rule}|", *lines[1:], ""])

    def lines(self, width: int | None = None) -> list[str]:
        """Returns the lines below the title.

        A table that is too wide gets headings of several lines and shorter texts; if that is not enough, its rows
        become columns, or its columns are divided into several blocks. Numbers and headings are never cut.

        Args:
            width: That of the terminal; None for no bound.
        """
        whole = self._whole()
        if width is None or _total(whole) <= width:
            return list(self._block(range(len(whole)), whole, ruled=width is not None))
        narrow = self._narrow(width)
        if _total(narrow) <= width:
            return list(self._block(range(len(narrow)), narrow, ruled=True))
        transposed = self._transposed()
        if self.cells and _total(transposed._whole()) <= width:
            return list(transposed._block(range(len(transposed.headings)), transposed._whole(), ruled=True))
        return list(self._blocks(narrow, width))

    def _column(self, index: int) -> list[str]:
        return [_flat(row[index]) for row in self.cells]

    def _transposed(self) -> Grid:
        """The same table with a column for each row."""
        columns = zip(*self.cells, strict=True)
        names = next(columns, ())
        rows = [(heading, *column) for heading, column in zip(self.headings[1:], columns, strict=False)]
        return Grid(self.title, (self.headings[0], *names), rows)

    def _whole(self) -> list[int]:
        """The widths of all columns with headings of one line."""
        return [max(map(cell_len, (heading, *self._column(i)))) for i, heading in enumerate(self.headings)]

    def _narrow(self, width: int) -> list[int]:
        """The least widths of all columns, where texts are shortened only as far as they have to be."""
        found = [
            max(map(cell_len, ("", *heading.split(), *self._column(i)))) for i, heading in enumerate(self.headings)
        ]
        while _total(found) > width:
            widest = max(self.elastic, key=lambda i: found[i], default=None)
            if widest is None or found[widest] <= _SHORTEST:
                break
            found[widest] -= 1
        return found

    def _blocks(self, widths: Sequence[int], width: int) -> Iterator[str]:
        """As many columns at a time as fit, each time after the names of the rows."""
        waiting = list(range(1, len(widths)))
        while waiting:
            taken = [0]
            while waiting and (len(taken) == 1 or _total([widths[i] for i in (*taken, waiting[0])]) <= width):
                taken.append(waiting.pop(0))
            yield from self._block(taken, widths, ruled=True)
            if waiting:
                yield ""

    def _block(self, columns: Sequence[int], widths: Sequence[int], ruled: bool) -> Iterator[str]:
        """The lines of some columns.

        Args:
            columns: Their numbers.
            widths: The widths of all columns.
            ruled: Whether a line is drawn below the headings.
        """
        headings = [_heading(_flat(self.headings[i]), widths[i]) for i in columns]
        for line in range(-max(map(len, headings)), 0):
            yield self._line(columns, widths, [parts[line] if len(parts) >= -line else "" for parts in headings])
        if ruled:
            yield "─" * (sum(widths[i] for i in columns) + len(_GAP) * (len(columns) - 1))
        for number, row in enumerate(self.cells):
            if number and number in self.sections:
                yield ""
            yield self._line(columns, widths, [_flat(row[i]) for i in columns])

    def _line(self, columns: Sequence[int], widths: Sequence[int], texts: Sequence[str]) -> str:
        parts = []
        for i, text in zip(columns, texts, strict=True):
            shown = text if cell_len(text) <= widths[i] else f"{set_cell_size(text, widths[i] - 1)}…"
            space = " " * (widths[i] - cell_len(shown))
            parts.append(shown + space if i == 0 or i in self.left else space + shown)
        return _GAP.join(parts).rstrip()


def print_grid(grid: Grid, console: Console | None = None) -> None:
    """Prints a table, with its title and caption, to standard output."""
    console = console or Console()
    width = console.width if console.is_terminal else None
    for text in _wrapped(grid.title, width):
        _print(console, text, "bold")
    for text in grid.lines(width):
        _print(console, text)
    for text in _wrapped(grid.caption, width):
        _print(console, text, "dim")
    _print(console, "")


def print_facts(title: str, facts: Sequence[tuple[str, str]], console: Console | None = None) -> None:
    """Prints named texts below a title. A terminal shows them wrapped, in a column beside the names.

    Args:
        title: What the facts are about.
        facts: Pairs of a name and a text.
        console: Where to print, by default standard output.
    """
    console = console or Console()
    _print(console, title, "bold")
    column = max((cell_len(name) for name, _ in facts), default=0) + len(_GAP)
    width = max(console.width - column, _SHORTEST) if console.is_terminal else None
    for name, text in facts:
        lines = _wrapped(_flat(printable(text)), width)
        for number, line in enumerate(lines or [""]):
            _print(console, f"{set_cell_size('' if number else name, column)}{line}".rstrip())
    _print(console, "")


def print_note(note: str, console: Console | None = None) -> None:
    """Prints a sentence about the tables, which a terminal wraps itself."""
    _print(console or Console(), note, "yellow")


def _print(console: Console, text: str, style: str = "") -> None:
    # As `Text`: names may hold what rich takes for markup.
    console.print(Text(printable(text), style), soft_wrap=True, highlight=False)


def _wrapped(text: str, width: int | None) -> list[str]:
    return [text] * bool(text) if width is None else textwrap.wrap(text, width, break_on_hyphens=False)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _heading(text: str, width: int) -> list[str]:
    """Divides a heading into lines between its words."""
    lines: list[str] = []
    for word in text.split():
        if lines and cell_len(f"{lines[-1]} {word}") <= width:
            lines[-1] = f"{lines[-1]} {word}"
        else:
            lines.append(word)
    return lines


def _flat(cell: str) -> str:
    return cell.replace("\n", " ")


def _escaped(cell: str) -> str:
    return _flat(cell).replace("|", "\\|")
