"""What pages of the documentation ask a reader to type: code fences, files to write, and command lines."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]

PAGES: Final = sorted(
    file.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "training/**/*.md", "examples/**/*.md")
    for file in ROOT.glob(pattern)
)
"""All pages, relative to the repository."""

_OPENING: Final = re.compile(r"(?P<indent> *)(?P<marks>```+)(?P<language>[\w+-]*)(?P<info>.*)")
_TITLE: Final = re.compile(r'title="([^"]+)"')
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_]+=")

LAUNCHERS: Final = {"accelerate", "nohup", "python", "time", "timeout", "torchrun"}


class Fence(NamedTuple):
    """A code fence. `line` is that of its first line of code, from 1."""

    language: str
    title: str | None
    code: str
    line: int


def fences(page: str) -> list[Fence]:
    """Returns the fences of a page in order."""
    found, lines = [], iter(enumerate(page.splitlines(), 1))
    for number, line in lines:
        opening = _OPENING.fullmatch(line)
        if opening is None:
            continue
        inside = []
        for _, code in lines:
            if code.strip() == opening["marks"]:
                break
            inside.append(code)
        title = _TITLE.search(opening["info"])
        code = textwrap.dedent("\n".join([*inside, ""]))
        found.append(Fence(opening["language"], title and title[1], code, number + 1))
    return found


def command_lines(code: str) -> Iterator[list[str]]:
    """Yields the words of every simple command of a shell script, up to its redirections.

    What a redirection names comes as a command of its own. Quotations over several lines are left out.
    """
    for line in code.replace("\\\n", "").splitlines():
        lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars="&|;<>")
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:
            continue
        command: list[str] = []
        for word in [*words, ";"]:
            if not set(word) <= set("&|;<>"):
                command.append(word)
            elif command:
                yield command
                command = []


def arguments(command: list[str], *names: str) -> list[str] | None:
    """Returns the arguments of a command if it runs one of the programs, directly or by a launcher; else None."""
    while command and _ASSIGNMENT.match(command[0]):
        command = command[1:]
    found = [place for place, word in enumerate(command) if word in names]
    if not found or (found[0] > 0 and command[0] not in LAUNCHERS):
        return None
    return command[found[0] + 1 :]
