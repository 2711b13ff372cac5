"""A scoring of candidates that is killed: 12 questions with 5 candidates, and a PRM that prints what it scores.

python -m tests.rollouts.killed_candidates FOLDER NAME [CANDIDATES]
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path as FilePath

from atomthink_plugin.api import Path, QuestionError, Score, Usage
from atomthink_plugin.rollouts.candidate_scores import score_candidates
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet
from atomthink_plugin.rollouts.score_file import CandidateScoreFile, ScoredSteps, ScoreKey

UNREADABLE = "q3 c2 s1"
STEPS = 4
SETS = [
    RolloutSet(
        f"q{q}",
        f"Question {q}?",
        tuple(RolloutCandidate("", tuple(f"q{q} c{c} s{s}" for s in range(STEPS))) for c in range(5)),
        gold="never shown",
    )
    for q in range(12)
]


class ScriptedPrm:
    """Scores that follow from the path and the name alone."""

    def __init__(self, name: str) -> None:
        self.identity = name

    async def score(self, path: Path) -> Score:
        assert path.step is not None
        print(path.step.text, flush=True)
        if path.step.text == UNREADABLE:
            raise QuestionError("too long")
        await asyncio.sleep(0.0)
        return Score((int(path.key, 16) ^ len(self.identity)) / 2**64, Usage(score_calls=1, prefilled=10))


class Doomed(CandidateScoreFile):
    """The process is killed as soon as so many candidates are written."""

    left = -1

    def put(self, key: ScoreKey, found: ScoredSteps | str) -> None:
        super().put(key, found)
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    folder, name, *candidates = sys.argv[1:]
    file = Doomed(FilePath(folder, "scores.jsonl"))
    file.left = int(candidates[0]) if candidates else -1
    found = score_candidates(SETS, ScriptedPrm(name), name, {"weights": name}, file)
    FilePath(folder, f"{name}.json").write_text(json.dumps([found.scores, found.usage.score_calls, found.resumed]))


if __name__ == "__main__":
    main()
