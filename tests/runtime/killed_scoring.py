"""A scoring that is killed: 60 chains and a scripted PRM; every step that is scored is printed.

    python -m tests.runtime.killed_scoring FOLDER [CHAINS]

imports neither torch nor lmms-eval, so that it starts in a blink.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path as FilePath

from atomthink_plugin.api import Path, QuestionError, Score, Usage
from atomthink_plugin.runtime.solution_scores import GivenSolution, ScoreFile, score_solutions

UNREADABLE = "59"


def solution(name: str, steps: int) -> GivenSolution:
    return GivenSolution(name, "q", tuple(f"Step {number}: {name}." for number in range(1, steps + 1)))


CHAINS = [solution(str(index), 5) for index in range(60)]


class Scripted:
    """Scores that follow from the path alone."""

    identity = "scripted"

    async def score(self, path: Path) -> Score:
        print(f"{path.question.id}/{path.depth}", flush=True)
        if path.question.id == UNREADABLE and path.depth == 3:
            raise QuestionError("too long")
        await asyncio.sleep(0.0)
        return Score(int(path.key, 16) / 2**64, Usage(score_calls=1))


class Doomed(ScoreFile):
    """The process is killed as soon as so many chains are written."""

    left = 0

    def put(self, solution: GivenSolution, key: str, scores: Sequence[float] | str) -> None:
        super().put(solution, key, scores)
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    folder, *chains = sys.argv[1:]
    file = Doomed(FilePath(folder, "scores.jsonl"), {"prm": "scripted"})
    file.left = int(chains[0]) if chains else -1
    scores = score_solutions(CHAINS, Scripted(), file)
    given = {one.id: found for one, found in zip(CHAINS, scores, strict=True)}
    FilePath(folder, "scores.json").write_text(json.dumps(given))


if __name__ == "__main__":
    main()
