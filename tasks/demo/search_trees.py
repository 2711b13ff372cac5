"""What `atomthink demo` shows after its table: one chain with its scores, a page of all search trees, and a command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from atomthink_plugin.api import AtomThinkError, Outcome, Result
from atomthink_plugin.redaction import printable
from atomthink_plugin.report.page_html import write_page
from atomthink_plugin.report.run_reader import read
from atomthink_plugin.tasks.demo.questions import DemoQuestion

NEXT: Final = (
    "lmms-eval --model atomthink_hf --tasks mathvision_testmini --log_samples --output_path out "
    "--model_args pretrained=ORG/MODEL,thinking=slow,search=beam,prm=ORG/PRM"
)
"""The README's first command for a model of the user's own."""


def show_example(mode: str, demo: Sequence[DemoQuestion], results: Sequence[Result], right: Sequence[bool]) -> None:
    """Prints one answered question with the steps of its chain and their scores, a right one if there is any.

    Args:
        mode: How the questions were thought about.
        demo: The questions.
        results: What became of them.
        right: Whether they were answered rightly.
    """
    answered = [i for i, result in enumerate(results) if isinstance(result, Outcome) and result.steps]
    if not answered:
        print(f"\nNo chain of `{mode}` has a step; the page below has the candidates, and why each was rejected.")
        return
    chosen = max(answered, key=lambda i: right[i])
    outcome = results[chosen]
    assert isinstance(outcome, Outcome)
    scored = any(score is not None for score in outcome.scores)
    verdict = "right" if right[chosen] else f"wrong: it is {demo[chosen].answer}"
    scores = ", with the PRM's score of each step" if scored else ""
    print(f"\nQuestion {chosen} by `{mode}`{scores}: {demo[chosen].text}")
    for score, step in zip(outcome.scores, outcome.steps, strict=True):
        print(f"{'' if score is None else f' {score:.2f}  '}{printable(step)}")
    print(f"Answer: {printable(str(outcome.answer))}, {verdict}")


def write_trees(page: Path, journal: Path, mode: str, demo: Sequence[DemoQuestion], right: Sequence[bool]) -> None:
    """Writes a page as `atomthink view` does, with the verdicts of the demo.

    Args:
        page: The file to write.
        journal: Folder of the journal that has the trees.
        mode: How the questions were thought about.
        demo: The questions.
        right: Whether they were answered rightly.

    Raises:
        AtomThinkError: The file cannot be written.
    """
    run = read(journal)
    judged = [
        replace(one, target=str(demo[one.doc_id].answer), correct=right[one.doc_id], scorer="the demo")
        for one in run.questions
    ]
    shown = replace(run, name=f"demo, {mode}", questions=judged, scorer="the demo", missing=())
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        with page.open("w", encoding="utf-8") as file:
            write_page(file, [shown])
    except OSError as error:
        raise AtomThinkError(f"the page {page} cannot be written: {error.strerror}") from None
