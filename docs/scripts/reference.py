"""Writes the pages of docs/reference that are generated from the types, signatures and docstrings of the package.

Usage: python docs/scripts/reference.py [--check]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import command_page
import format_page
import profile_page
import recipe_page
import run_pages
from described import Argument, summary, undescribed

from atomthink_plugin.plugins import defaults

FOLDER: Final = Path(__file__).parents[1] / "reference"

PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "arguments.md": run_pages.arguments_page,
    "searches.md": run_pages.searches_page,
    "formats.md": format_page.formats_page,
    "prm-profiles.md": profile_page.profiles_page,
    "commands.md": command_page.commands_page,
    "recipes.md": recipe_page.recipes_page,
}

_NOTE: Final = (
    "*Generated from the source by `python docs/scripts/reference.py`: change the docstrings, not this page.*"
)


def all_arguments() -> list[Argument]:
    """Returns everything that a user can type and that has to have a description."""
    kinds = (
        run_pages.policy_arguments(),
        run_pages.scorer_arguments(),
        run_pages.search_arguments(),
        format_page.format_arguments(),
        command_page.command_arguments(),
        recipe_page.recipe_keys(),
    )
    return [*run_pages.run_arguments(), *(one for kind in kinds for group in kind.values() for one in group)]


def all_named() -> dict[str, Any]:
    """Returns all policies, scorers, searches, formats and commands, which have to have a docstring."""
    return {
        **{f"the policy {name}": made for name, made in defaults.atomthink_policies().items()},
        **{f"the scorer {name}": made for name, made in defaults.atomthink_scorers().items()},
        **{f"the search {name}": kind.factory for name, kind in defaults.atomthink_searches().items()},
        **{f"the format {name}": made for name, made in format_page.formats().items()},
        **{f"`{words}`": command.default_command for words, command in command_page.commands().items()},
    }


def faults(folder: Path = FOLDER) -> list[str]:
    """Returns what is wrong with the pages: arguments without a description, and pages that are out of date."""
    missing = [name for name, named in all_named().items() if not summary(named)]
    found = [f"{name} has no description: add it to the docstring" for name in missing + undescribed(all_arguments())]
    for name, page in PAGES.items():
        file = folder / name
        if not file.is_file() or file.read_text(encoding="utf-8") != text(page):
            found.append(f"docs/reference/{name} is out of date: run `python docs/scripts/reference.py`")
    return found


def text(page: Callable[[], str]) -> str:
    """Returns the text of a page as it is committed."""
    return f"{page()}\n\n---\n\n{_NOTE}\n"


def write(folder: Path = FOLDER) -> None:
    """Writes all pages."""
    for name, page in PAGES.items():
        (folder / name).write_text(text(page), encoding="utf-8")


def main() -> int:
    """Writes the pages or, with `--check`, prints what is wrong with them; returns the exit status."""
    if "--check" not in sys.argv[1:]:
        write()
        return 0
    found = faults()
    print("\n".join(found), file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
