"""The file that keeps the step scores of candidates, so that a later run continues or adds another scorer."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, NamedTuple

from atomthink_plugin.api import AtomThinkError, Usage
from atomthink_plugin.append_log import AppendLog, LogEntry
from atomthink_plugin.rollouts.rollout_set import RolloutSet

log = logging.getLogger(__name__)

_HEAD: Final = {"format": "atomthink candidate scores", "version": 1}

_COUNTS: Final = tuple(field.name for field in fields(Usage))


class ScoreKey(NamedTuple):
    """What step scores depend on, as digests.

    Attributes:
        scorer: Everything that determines the scorer's scores.
        question: The question with its options and images.
        candidate: The steps.
    """

    scorer: str
    question: str
    candidate: str


@dataclass(frozen=True, slots=True)
class ScoredSteps:
    """The scores of all steps of a candidate.

    Attributes:
        scores: One per step.
        usage: What they cost.
        reasons: The critique of each step; empty if the scorer writes none.
    """

    scores: tuple[float, ...]
    usage: Usage
    reasons: tuple[str, ...] = ()


def scorer_digest(identity: Mapping[str, Any]) -> str:
    """Returns a digest of everything that determines a scorer's scores."""
    return _digest(json.dumps(identity, sort_keys=True, default=str))


def question_digest(asked: RolloutSet) -> str:
    """Returns a digest of a question with its options and the files of its images.

    Raises:
        OSError: An image file cannot be read.
    """
    pictures = (picture if isinstance(picture, bytes) else picture.read_bytes() for picture in asked.pictures)
    return _digest(asked.question, *asked.choices, *pictures)


def candidate_digest(steps: Sequence[str]) -> str:
    """Returns a digest of a candidate's steps."""
    return _digest(*steps)


class CandidateScoreFile:
    """A file of step scores of candidates, of any number of scorers.

    The reason of a failure is written as well; a later run tries that candidate again.

    Args:
        file: The file. It is created if it does not exist.

    Raises:
        AtomThinkError: The file is something else, or cannot be read or written.
    """

    def __init__(self, file: Path) -> None:
        self._log = AppendLog(file, "`--scores FILE`")
        try:
            if file.stat().st_size == 0:
                self._log.append(_HEAD)
            entries = list(self._log.entries())
            if not entries or (entries[0].number, entries[0].record) != (1, _HEAD):
                raise AtomThinkError(f"`--scores {file}` exists and has no scores of candidates. Choose another file")
            self._known = dict(_known(entries[1:]))
            self._scorers = {entry.record["scorer"] for entry in entries if "identity" in entry.record}
        except BaseException:
            self._log.close()
            raise

    def get(self, key: ScoreKey, steps: Sequence[str]) -> ScoredSteps | None:
        """Returns the scores of a candidate, None if they are not known or not of all steps."""
        found = self._known.get(key)
        return found if found is not None and len(found.scores) == len(steps) else None

    def describe(self, scorer: str, identity: Mapping[str, Any]) -> None:
        """Writes what a scorer's digest stands for, once."""
        if scorer not in self._scorers:
            self._scorers.add(scorer)
            self._log.append({"scorer": scorer, "identity": identity})

    def put(self, key: ScoreKey, found: ScoredSteps | str) -> None:
        """Appends the scores of a candidate, or the reason why it has none."""
        if isinstance(found, str):
            self._log.append({**key._asdict(), "failure": found})
            return
        usage = {name: count for name, count in asdict(found.usage).items() if count}
        reasons = {"reasons": found.reasons} if found.reasons else {}
        self._log.append({**key._asdict(), "scores": found.scores, "usage": usage, **reasons})
        self._known[key] = found

    def close(self) -> None:
        """Closes the file. Other processes can write it then."""
        self._log.close()


def _known(entries: Sequence[LogEntry]) -> Iterator[tuple[ScoreKey, ScoredSteps]]:
    for entry in entries:
        if "scores" not in entry.record:
            continue
        try:
            key = ScoreKey(*(str(entry.record[name]) for name in ScoreKey._fields))
            scores = tuple(map(float, entry.record["scores"]))
            usage = Usage(**{name: entry.record["usage"].get(name, 0) for name in _COUNTS})
            reasons = tuple(map(str, entry.record.get("reasons", ())))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("%s is ignored: not a record of scores (%r)", entry.place, error)
            continue
        if all(map(math.isfinite, scores)):
            yield key, ScoredSteps(scores, usage, reasons)


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        content = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()
