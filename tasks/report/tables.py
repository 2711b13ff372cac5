"""One table for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from atomthink_plugin.redaction import printable
from atomthink_plugin.statistics import Estimate


@dataclass(frozen=True, slots=True)
class Grid:
    """Cells under headings, the first column to the left and the others to the right.

    Attributes:
        title: What the table shows.
        headings: One per column.
        cells: Rows of as many texts.
    """

    title: str
    headings: tuple[str, ...]
    cells: Sequence[tuple[str, ...]]

    def rich(self) -> Table:
        """Returns the table for a terminal."""
        table = Table(title=foreign(self.title), title_justify="left")
        for i, heading in enumerate(self.headings):
            table.add_column(foreign(heading), justify="right" if i else "left")
        for row in self.cells:
            table.add_row(*map(foreign, row))
        return table

    def markdown(self) -> str:
        """Returns the table in Markdown, its title as a paragraph."""
        rule = "|".join(["---", *("---:" for _ in self.headings[1:])])
        lines = [f"| {' | '.join(map(_escaped, row))} |" for row in (self.headings, *self.cells)]
        return "\n".join([self.title, "", lines[0], f"|{rule}|", *lines[1:], ""])


def foreign(text: str) -> Text:
    """Returns a text of others for a terminal: names may hold terminal commands, and what rich takes for markup."""
    return Text(printable(text))


def percent(estimate: Estimate) -> str:
    """Returns a share with its interval in percent.

    Example:
        >>> percent((0.5, 0.412, 0.6))
        '50.0 [41, 60]'
    """
    value, low, high = (100 * number for number in estimate)
    return f"{value:.1f} [{low:.0f}, {high:.0f}]"


def points(estimate: Estimate) -> str:
    """Returns a difference with its interval in percentage points, signed.

    Example:
        >>> points((0.05, -0.012, 0.1))
        '+5.0 [-1, +10]'
    """
    value, low, high = (100 * number for number in estimate)
    return f"{value:+.1f} [{low:+.0f}, {high:+.0f}]"


def number(value: float | None, form: str) -> str:
    """Returns a number, or nothing for what is not known."""
    return "" if value is None else format(value, form)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
