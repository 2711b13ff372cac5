"""The arguments of the commands that show runs, and what they start."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

_RUN: Final = "folder of lmms-eval's --output_path, a ..._results.json in it, or a journal's folder"


def add_to(commands: Any) -> None:
    """Adds the subcommands to the parser of `atomthink`."""
    _add_view(commands)


def _add_view(commands: Any) -> None:
    parser = commands.add_parser(
        "view",
        help="one HTML file that shows how each question was thought through",
        description="Writes one HTML file that needs nothing else: every question of a run with its image, its search "
        "tree, what it cost and its verdict. With two runs, their trees stand side by side.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=f"one run or two: {_RUN}")
    parser.add_argument(
        "--output", type=Path, default=Path("view.html"), metavar="FILE", help="the file to write (default: view.html)"
    )
    parser.add_argument(
        "--journal",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="the journal's folder, or the one it lives in, if the run does not lead to it; once for each run",
    )
    parser.set_defaults(command=_view)


def _view(options: argparse.Namespace) -> None:
    from atomthink_plugin.tasks.report.view import view

    view(options.runs, options.output, options.journal)
