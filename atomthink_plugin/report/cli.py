"""The commands that look at runs: `view`, `compare` and `scale`."""

from __future__ import annotations

from pathlib import Path


def view(runs: list[Path], /, *, out: Path = Path("view.html"), journal: tuple[Path, ...] = ()) -> None:
    """Write one HTML file with the search tree of each question.

    The file needs no server and no network. It shows every question of a run with its image, its search tree, its
    cost and its verdict. Two runs are shown side by side.

        atomthink view out/quick out/slow --out view.html

    Args:
        runs: One run or two: a folder of lmms-eval's --output_path, a ..._results.json in it, or a journal's folder.
        out: The file to write.
        journal: The journal's folder, or its parent, if it was moved. Repeat it for each run.
    """
    from atomthink_plugin.report.view import view

    view(runs, out, journal)


def compare(
    runs: list[Path],
    /,
    *,
    journal: tuple[Path, ...] = (),
    common: bool = False,
    any_scorer: bool = False,
    json: Path | None = None,
    markdown: Path | None = None,
) -> None:
    """Compare runs on the same questions.

    All runs are compared with the first: accuracy, a paired test, cost, accuracy at equal tokens, and the categories
    in which one is better.

        atomthink compare out/quick out/slow --markdown table.md

    Args:
        runs: Folders of lmms-eval's --output_path (with --log_samples), or ..._results.json files in them.
        journal: The journal's folder, or its parent, if it was moved. Repeat it for each run.
        common: Compare only the questions that all runs have.
        any_scorer: Also compare verdicts of different scorers.
        json: Also write all numbers to this file.
        markdown: Also write the tables to this file.
    """
    from atomthink_plugin.report.compare import show

    show(runs, journal, common, any_scorer, json, markdown)


def scale(
    run: Path,
    /,
    *,
    journal: Path | None = None,
    json: Path | None = None,
    png: Path | None = None,
    svg: Path | None = None,
) -> None:
    """Draw the test-time scaling curve of one run.

    From one run of majority, weighted or best_of_n, compute the accuracy and the cost of fewer candidates under each
    of these searches, and the best choice for a token budget.

        atomthink scale out/best_of_16 --png curve.png

    Args:
        run: Folder of lmms-eval's --output_path (with --log_samples), or a ..._results.json in it.
        journal: The journal's folder, or its parent, if it was moved.
        json: Also write all numbers to this file.
        png: Also draw the curve to this file.
        svg: Also draw the curve to this file.
    """
    from atomthink_plugin.report.scale import show

    files = {"json": json, "png": png, "svg": svg}
    show(run, journal, {kind: file for kind, file in files.items() if file is not None})
