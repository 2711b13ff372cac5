"""Answers of a policy, kept in a file: several searches ask for the same ones, and an interrupted row continues.

A sample depends on its prompt, its sampling and its seed alone, so that a kept answer is the one that the policy would
give again.
"""

from __future__ import annotations

import pickle
import sqlite3
from pathlib import Path
from typing import Any

from atomthink_plugin.api import Policy, Prompt, Proposal, Sampling
from atomthink_plugin.runtime.partial_log import request_of


class Answers:
    """The file of kept answers, with the CPU seconds that each took.

    Attributes:
        reused: CPU seconds of the kept answers that the present row was given.

    Args:
        file: A database of SQLite; made if it does not exist.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._file.execute("PRAGMA synchronous = OFF")
        self._file.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer BLOB, tokens, seconds)")
        self.reused = 0.0
        self._asked: list[tuple[int, str]] = []
        self._rate = self._mean_rate()

    def get(self, key: str) -> Proposal | None:
        """Returns a kept answer."""
        found = self._file.execute("SELECT answer, tokens, seconds FROM answers WHERE key = ?", (key,)).fetchone()
        if found is None:
            return None
        answer, tokens, seconds = found
        self.reused += self._rate * tokens if seconds is None else seconds
        kept: Proposal = pickle.loads(answer)
        return kept

    def put(self, key: str, answer: Proposal) -> None:
        """Keeps an answer."""
        tokens = answer.usage.generated
        row = key, pickle.dumps(answer), tokens, None
        self._file.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", row)
        self._asked.append((tokens, key))

    def end_row(self, seconds: float) -> float:
        """Divides the CPU seconds of a row among the answers that it asked for, by their tokens.

        Returns:
            What the row would have taken without kept answers.
        """
        whole = seconds + self.reused
        if total := sum(tokens for tokens, _ in self._asked):
            shares = [(seconds * tokens / total, key) for tokens, key in self._asked]
            self._file.executemany("UPDATE answers SET seconds = ? WHERE key = ?", shares)
        self._asked, self.reused, self._rate = [], 0.0, self._mean_rate()
        return whole

    def _mean_rate(self) -> float:
        """Returns the CPU seconds of a token, for answers of interrupted rows."""
        query = "SELECT SUM(seconds) / MAX(SUM(tokens), 1) FROM answers WHERE seconds IS NOT NULL"
        return self._file.execute(query).fetchone()[0] or 0.0


class KeptPolicy:
    """A policy whose answers are kept. What a format needs besides `propose` is the policy's own."""

    def __init__(self, policy: Policy, answers: Answers) -> None:
        self.identity = policy.identity
        self._policy, self._answers = policy, answers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        """Returns a kept answer, or asks the policy."""
        key = request_of(self.identity, prompt, n, sampling, ())
        if (kept := self._answers.get(key)) is not None:
            return kept
        answer = await self._policy.propose(prompt, n, sampling)
        self._answers.put(key, answer)
        return answer
