"""The candidates of a search over whole paths, read from its journal, each with a verdict."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from atomthink_plugin.answers import equivalent, final_answer
from atomthink_plugin.api import ROOT, Aggregate, AtomThinkError, Node
from atomthink_plugin.formats.task_form import in_task_form
from atomthink_plugin.plugins.arguments import pick
from atomthink_plugin.plugins.hookspecs import Judge
from atomthink_plugin.plugins.registry import registry
from atomthink_plugin.report.node_status import FinishedTree
from atomthink_plugin.report.run_reader import RecordedRun, RunQuestion
from atomthink_plugin.searches.parts.aggregates import AGGREGATES

MIN_AGREEMENT: Final = 0.95
"""The least share of the run's replies on which the judge of the candidates must agree with the task."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One path that a search could choose.

    Attributes:
        nodes: Ids of its nodes, starting with the first step.
        text: Its chain.
        answer: Its final answer, None if it has none.
        logprob: Mean log-probability per token, -inf if the policy gives none.
        values: Its value by aggregate, for aggregates whose step scores are known.
        correct: The judge's verdict.
    """

    nodes: tuple[str, ...]
    text: str
    answer: str | None
    logprob: float
    values: Mapping[Aggregate, float]
    correct: bool


@dataclass(frozen=True, slots=True)
class SampledQuestion:
    """A question with all its candidates.

    Attributes:
        question: The question, with the verdict of the run.
        candidates: The candidates in the order of their samples. A failed question has none and counts as wrong.
        tokens: Tokens sampled for all candidates, or before the question failed.
        policy_seconds: Seconds from the question's first call until the last candidate ended or the question failed.
        choosing_seconds: Seconds from then to the outcome, for scoring and choosing.
        scored: For each node scored by a model, the number of candidates that contain it.
        judged: Tokens that a generative scorer sampled for these scores.
    """

    question: RunQuestion
    candidates: Sequence[Candidate]
    tokens: float
    policy_seconds: float
    choosing_seconds: float
    scored: Mapping[str, int]
    judged: float = 0.0


@dataclass(frozen=True, slots=True)
class JudgeAgreement:
    """The judge of the candidates, and its agreement with the task's verdicts on the replies of the run.

    Attributes:
        by: The judge.
        agreed: Number of replies on which it agrees with the task.
        of: Number of replies.
        right: Number of replies that are right according to the task.
    """

    by: str
    agreed: int
    of: int
    right: int

    @property
    def summary(self) -> str:
        """One sentence about the agreement."""
        return (
            f"candidates are judged by {self.by}, which agrees with the task on {self.agreed} of {self.of} replies "
            f"({self.right} right)"
        )


def sampled_questions(run: RecordedRun) -> tuple[list[SampledQuestion], JudgeAgreement]:
    """Returns the questions of a run with their candidates, and the agreement of their judge with the task.

    Questions without a verdict, a record or a reference answer are skipped. One judge judges all candidates, including
    the chosen ones. If the task is more lenient, a curve that mixes the two would rise for this reason alone.

    Raises:
        AtomThinkError: The run has no candidates, no verdicts, or no candidates that can be judged.
    """
    known = [one for one in run.questions if one.correct is not None]
    if not known:
        raise AtomThinkError(
            f"`{run.name}` has no verdicts to draw a curve from ({'; '.join(run.missing) or 'no reason is known'})"
        )
    judgeable = [one for one in known if one.benchmark is not None or one.target is not None]
    if not judgeable:
        raise AtomThinkError(f"`{run.name}` has samples without reference answers, so its candidates cannot be judged")
    found = [_sampled(one) for one in judgeable if one.entry is not None]
    if not any(one.candidates for one in found):
        search = dict(run.settings.get("search", {})).get("name")
        why = "; ".join([f"its search is {search}" if search else "its search is unknown", *run.missing])
        raise AtomThinkError(
            f"`{run.name}` has no candidates in a journal ({why}). Run majority, weighted or best_of_n, for example "
            "with n=16, with this version and with a journal"
        )
    replies = [one.question for one in found if one.candidates]
    agreed = sum(verdict(one, one.reply) == one.correct for one in replies)
    rules = sorted({f"the rules for {one.benchmark}" for one in replies if one.benchmark})
    by = [*rules, *(["equivalence with the target"] if any(one.benchmark is None for one in replies) else [])]
    return found, JudgeAgreement(" and ".join(by), agreed, len(replies), sum(bool(one.correct) for one in replies))


def verdict(question: RunQuestion, reply: str) -> bool:
    """Returns whether a reply is right, by the rules of our benchmark or by equivalence with the target."""
    if not reply.strip():
        return False
    if question.benchmark is not None:
        judge: Judge = pick("benchmark", question.benchmark, registry().judges)
        return judge(question.record, reply)
    return question.target is not None and equivalent(final_answer(reply) or reply, question.target)


def _sampled(question: RunQuestion) -> SampledQuestion:
    assert question.entry is not None
    usage, outcome = question.entry.usage, question.outcome
    if outcome is None or not outcome.rollouts:
        return SampledQuestion(question, (), usage.tokens, usage.seconds, 0.0, {})
    tree = FinishedTree(outcome)
    chains = [tree.lineage(tree.nodes[one.end]) if one.end in tree.nodes else [] for one in outcome.rollouts]
    verdicts: dict[str, bool] = {}
    candidates = []
    for rollout, chain in zip(outcome.rollouts, chains, strict=True):
        logprob = -math.inf if rollout.logprob is None else rollout.logprob
        candidates.append(_candidate(question, chain, tree.text(chain), logprob, verdicts))
    ended = max(rollout.seconds for rollout in outcome.rollouts)
    passes = Counter(node.id for chain in chains for node in chain if node.score is not None)
    scored = passes if usage.score_calls else {}  # a search by the policy's confidence makes no scorer calls
    taken = sum(rollout.tokens for rollout in outcome.rollouts)  # without calls outside the candidates
    return SampledQuestion(question, candidates, taken, ended, usage.seconds - ended, scored, usage.judged)


def _candidate(
    question: RunQuestion, chain: Sequence[Node], text: str, logprob: float, verdicts: dict[str, bool]
) -> Candidate:
    answer = chain[-1].answer if chain else None
    if text not in verdicts:
        prompt = question.entry.text if question.entry is not None else ""
        verdicts[text] = verdict(question, in_task_form(text, answer, prompt))
    whole = not chain or chain[0].parent == ROOT  # the tree has no scores of the question's history
    values = _values(chain) if whole else {}
    return Candidate(tuple(node.id for node in chain), text, answer, logprob, values, verdicts[text])


def _values(chain: Sequence[Node]) -> dict[Aggregate, float]:
    if not chain:
        return dict.fromkeys(AGGREGATES, 0.0)  # as in the search: a path without steps has the value 0
    scores = [node.score for node in chain]
    if scores[-1] is None:
        return {}
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        return {"last": scores[-1]}
    return {name: fold(known) for name, fold in AGGREGATES.items()}
