"""The arguments of the commands `view`, `compare` and `scale`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

_RUN: Final = "folder of lmms-eval's --output_path, a ..._results.json in it, or a journal's folder"
_SAMPLES: Final = "folder of lmms-eval's --output_path (with --log_samples), or a ..._results.json in it"
_JOURNAL: Final = "the journal's folder, or its parent, if it was moved"
_JOURNALS: Final = f"{_JOURNAL}; once for each run"


def add_to(commands: Any) -> None:
    """Adds the subcommands to the parser of `atomthink`."""
    _add_view(commands)
    _add_compare(commands)
    _add_scale(commands)


def _add_compare(commands: Any) -> None:
    parser = commands.add_parser(
        "compare",
        help="runs of the same questions, side by side",
        description="Compares runs of the same questions by any models with the first of them: accuracy, paired "
        "test, cost, accuracy at equal tokens, and by category where one helps or hurts.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=_SAMPLES)
    parser.add_argument("--journal", type=Path, action="append", default=[], metavar="DIR", help=_JOURNALS)
    parser.add_argument("--common", action="store_true", help="only the questions that all runs have")
    parser.add_argument("--any-scorer", action="store_true", help="also with verdicts of different scorers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the tables to FILE")
    parser.set_defaults(command=_compare)


def _add_scale(commands: Any) -> None:
    parser = commands.add_parser(
        "scale",
        help="the test-time scaling curve of one run",
        description="Tells from one run of majority, weighted or best_of_n (n=16, say) what fewer candidates would "
        "have cost and found under each of these searches, and which of them is best for a token budget.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help=_SAMPLES)
    parser.add_argument("--journal", type=Path, metavar="DIR", help=_JOURNAL)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to FILE")
    parser.add_argument("--png", type=Path, metavar="FILE", help="also draw the curve")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also draw the curve")
    parser.set_defaults(command=_scale)


def _compare(options: argparse.Namespace) -> None:
    from atomthink_plugin.report.compare import show

    show(options.runs, options.journal, options.common, options.any_scorer, options.json, options.markdown)


def _scale(options: argparse.Namespace) -> None:
    from atomthink_plugin.report.scale import show

    files = {kind: getattr(options, kind) for kind in ("json", "png", "svg")}
    show(options.run, options.journal, {kind: file for kind, file in files.items() if file is not None})


def _add_view(commands: Any) -> None:
    parser = commands.add_parser(
        "view",
        help="one HTML file with the search tree of each question",
        description="Writes one HTML file that needs nothing else: every question of a run with its image, its search "
        "tree, what it cost and its verdict. With two runs, their trees stand side by side.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=f"one run or two: {_RUN}")
    parser.add_argument(
        "--output", type=Path, default=Path("view.html"), metavar="FILE", help="the file to write (default: view.html)"
    )
    parser.add_argument("--journal", type=Path, action="append", default=[], metavar="DIR", help=_JOURNALS)
    parser.set_defaults(command=_view)


def _view(options: argparse.Namespace) -> None:
    from atomthink_plugin.report.view import view

    view(options.runs, options.output, options.journal)
