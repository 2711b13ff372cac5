"""Verdicts on candidates whose file does not say whether they are right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from atomthink_plugin.answers import is_right
from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.formats.task_form import in_task_form
from atomthink_plugin.json_rows import Reject
from atomthink_plugin.plugins.arguments import pick
from atomthink_plugin.plugins.registry import registry
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet

FROM_FILE = "the file"
BY_RULES = "equivalence with the right answer"


@dataclass(frozen=True, slots=True)
class JudgedSets:
    """Questions whose candidates all have a verdict.

    Attributes:
        sets: The questions. No candidate has the verdict None.
        by: Number of candidates by what judged them: the file, the rules of a benchmark, or equivalence.
        rejects: Questions that cannot be judged, with their reasons.
    """

    sets: tuple[RolloutSet, ...]
    by: Mapping[str, int]
    rejects: tuple[Reject, ...]


def judge_candidates(sets: Sequence[RolloutSet], task: str | None = None) -> JudgedSets:
    """Judges the candidates that have no verdict.

    Args:
        sets: The questions.
        task: The benchmark whose rules judge, from the record of the question; None for the one that the file names.
            Without any, the final answer is compared with the right answer, or with the text of the right option.

    Raises:
        AtomThinkError: There are no rules for the task.
    """
    judged: list[RolloutSet] = []
    by: Counter[str] = Counter()
    rejects = []
    for one in sets:
        benchmark = task or one.benchmark
        judge = _rules_of(benchmark) if benchmark else _by_equivalence
        name = f"the rules for {benchmark}" if benchmark else BY_RULES
        missing = sum(candidate.correct is None for candidate in one.candidates)
        try:
            judged.append(replace(one, candidates=tuple(_judged(one, each, judge) for each in one.candidates)))
        except AtomThinkError as error:
            rejects.append(Reject(f"question {one.id!r}", str(error), one.record))
        else:
            by.update({FROM_FILE: len(one.candidates) - missing, name: missing})
    return JudgedSets(tuple(judged), {key: count for key, count in by.items() if count}, tuple(rejects))


_RolloutJudge = Callable[[RolloutSet, RolloutCandidate], bool]


def _judged(one: RolloutSet, candidate: RolloutCandidate, judge: _RolloutJudge) -> RolloutCandidate:
    return candidate if candidate.correct is not None else replace(candidate, correct=judge(one, candidate))


def _rules_of(task: str) -> _RolloutJudge:
    judge = pick("task", task, registry().judges)

    def judged(one: RolloutSet, candidate: RolloutCandidate) -> bool:
        reply = in_task_form(candidate.text, candidate.answer, one.question)
        try:
            return bool(reply.strip()) and judge(one.record, reply)
        except (KeyError, TypeError, ValueError) as error:  # a judge of another package may not check its record
            raise AtomThinkError(f"the rules for {task} cannot use its record ({error!r})") from error

    return judged


def _by_equivalence(one: RolloutSet, candidate: RolloutCandidate) -> bool:
    if one.gold is None:
        raise AtomThinkError("the file has no right answer, and does not say which candidates are right")
    answer = candidate.stated_answer()
    if answer is None:
        return False
    return is_right(answer, one.gold, one.choices) or is_right(one.gold, answer, one.choices)
