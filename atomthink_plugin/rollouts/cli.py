"""The command that scores candidates of other runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from atomthink_plugin.options import Count


def score(
    rollouts: list[str],
    /,
    *,
    prm: tuple[str, ...] = (),
    n: str = "",
    aggregate: str = "",
    format: Annotated[str | None, Parameter(name="--from")] = None,
    task: str | None = None,
    split: Literal["blank_line", "line", "step_number", "none"] | None = None,
    images: Path | None = None,
    limit: Count | None = None,
    scores: Path | None = None,
    json: Path | None = None,
    curve: Path | None = None,
    run: Path | None = None,
) -> None:
    r"""Score candidates that any model generated, and compare best-of-N, votes and pass@N.

    Reads candidates of other runs, scores every step with one or more process reward models (PRMs), and prints the
    accuracy of choosing among N candidates by each of them. Scores are kept in a file: a stopped run continues, and a
    PRM can be added later.

        atomthink score rollouts.jsonl --prm ORG/PRM --n 1,2,4,8 --json out.json
        atomthink score rollouts.jsonl --prm ORG/PRM:prm_dtype=float32 \
          --prm file:THEIR_PRM --run runs

    Args:
        rollouts: Files or folders with candidates, or a run of this package.
        prm: A PRM, repeated for several: a checkpoint, as `prm=` of a run, with its own arguments after a colon
            (NAME:prm_dtype=float32,scorer=prm_head); a model that has a PRM, such as atomthink_tiny; or file:NAME for
            the step scores of that PRM in the file of the candidates.
        n: Numbers of candidates to choose from, such as 1,2,4,8; by default 1, 2, 4, ... and all of them.
        aggregate: How step scores become the value of a candidate: mean, min, last, prod, log_odds; by default
            mean,min,last. The run shows the first one, by default that of the PRM's authors.
        format: Format of the files, if the fields of their records do not show it.
        task: Benchmark whose rules judge candidates without a verdict; by default equivalence with the right answer.
        split: Where steps of a text end, if the file has no steps; by default as the authors of a published PRM split,
            else at blank lines.
        images: Folder that names of images are relative to; by default that of each file.
        limit: Use only the first questions.
        scores: File that keeps the scores; by default ROLLOUTS.scores.jsonl.
        json: Also write all numbers to this file.
        curve: Also draw the accuracy by N to this file: .svg, .html or .png.
        run: Also write a run for each PRM into this folder, which `atomthink view` shows.
    """
    from atomthink_plugin.rollouts.score_command import score_rollouts

    score_rollouts(
        rollouts,
        prm,
        n=n,
        aggregate=aggregate,
        format=format,
        task=task,
        split=split,
        images=images,
        limit=limit,
        scores=scores,
        json=json,
        curve=curve,
        run=run,
    )
