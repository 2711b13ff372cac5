"""The candidates of a path-wise search, as its journal has them, each with a verdict."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from atomthink_plugin.aggregates import AGGREGATES
from atomthink_plugin.answers import equivalent, final_answer
from atomthink_plugin.api import Aggregate, AtomThinkError, Node
from atomthink_plugin.formats import SEPARATOR
from atomthink_plugin.task_form import in_task_form
from atomthink_plugin.tasks.report.reading import Answered, Recorded
from atomthink_plugin.tasks.scoring import judge

_ROOT: Final = "root"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One path that a search had to choose from.

    Attributes:
        nodes: Ids of its nodes, from the first step on.
        text: Its chain.
        answer: Its final answer, None if it did not conclude.
        logprob: Mean log-probability per token, -inf where the policy gives none.
        values: Its value by aggregate, for those that its step scores are there for.
        correct: Whether the task would call it right.
    """

    nodes: tuple[str, ...]
    text: str
    answer: str | None
    logprob: float
    values: Mapping[Aggregate, float]
    correct: bool


@dataclass(frozen=True, slots=True)
class Sampled:
    """A question with all its candidates.

    Attributes:
        question: The question; its own verdict is that of the run.
        candidates: In the order of their samples; none where the question failed, which is wrong for any number.
        tokens: What all of them took of the policy.
        policy_seconds: From the question's first call until the last of them ended.
        choosing_seconds: From then to the outcome: for scoring them, where a scorer ran, and for choosing.
        scored: How many candidates pass each node that was scored.
    """

    question: Answered
    candidates: Sequence[Candidate]
    tokens: int
    policy_seconds: float
    choosing_seconds: float
    scored: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Judged:
    """How candidates were judged, beside the verdicts that the task gave.

    Attributes:
        by: What judged them.
        agreed: On how many of the run's own replies it says what the task said.
        of: How many there are.
    """

    by: str
    agreed: int
    of: int


def sampled(run: Recorded) -> tuple[list[Sampled], Judged]:
    """Returns the questions of a run with their candidates, and how those were judged.

    Questions without a verdict or a record are left out. The reply that the run gave keeps the task's own verdict.

    Raises:
        AtomThinkError: The run has no candidates, or no verdicts.
    """
    known = [one for one in run.questions if one.correct is not None]
    if not known:
        raise AtomThinkError(f"`{run.name}` has no verdicts to draw a curve from: {'; '.join(run.missing) or 'none'}")
    found = [_sampled(one) for one in known if one.entry is not None]
    if not any(one.candidates for one in found):
        search = dict(run.settings.get("search", {})).get("name")
        why = "; ".join([f"its search is {search}" if search else "it names no search", *run.missing])
        raise AtomThinkError(
            f"`{run.name}` has no journaled candidates ({why}): run majority, weighted or best_of_n, n=16 say, "
            "with this version and with a journal"
        )
    replies = [one.question for one in found if one.candidates]
    agreed = sum(verdict(one, one.reply) == one.correct for one in replies)
    by = next((f"the rules for {one.benchmark}" for one in replies if one.benchmark), "equivalence with the target")
    return found, Judged(by, agreed, len(replies))


def verdict(question: Answered, reply: str) -> bool:
    """Returns whether a reply is right: by our benchmark's rules, elsewhere by equivalence with the target."""
    if not reply.strip():
        return False
    if question.benchmark is not None:
        return judge(question.benchmark, question.record, reply).correct
    return question.target is not None and equivalent(final_answer(reply) or reply, question.target)


def _sampled(question: Answered) -> Sampled:
    outcome = question.outcome
    if outcome is None:
        return Sampled(question, (), 0, 0.0, 0.0, {})
    nodes = {node.id: node for node in outcome.nodes}
    chains = [_chain(rollout.end, nodes) for rollout in outcome.rollouts]
    verdicts = {SEPARATOR.join(outcome.steps): bool(question.correct)}
    candidates = []
    for rollout, chain in zip(outcome.rollouts, chains, strict=True):
        logprob = -math.inf if rollout.logprob is None else rollout.logprob
        candidates.append(_candidate(question, chain, logprob, verdicts))
    ended = max((rollout.seconds for rollout in outcome.rollouts), default=0.0)
    passes = Counter(node.id for chain in chains for node in chain if node.score is not None)
    return Sampled(question, candidates, outcome.usage.generated, ended, outcome.usage.seconds - ended, passes)


def _chain(end: str, nodes: Mapping[str, Node]) -> list[Node]:
    """The nodes up to `end`; given steps, which a question may begin with, are no nodes."""
    chain = []
    while end in nodes:
        chain.append(nodes[end])
        end = nodes[end].parent
    return chain[::-1]


def _candidate(question: Answered, chain: Sequence[Node], logprob: float, verdicts: dict[str, bool]) -> Candidate:
    text = SEPARATOR.join(node.text for node in chain)
    answer = chain[-1].answer if chain else None
    if text not in verdicts:
        prompt = question.entry.text if question.entry is not None else ""
        verdicts[text] = verdict(question, in_task_form(text, answer, prompt))
    whole = not chain or chain[0].parent == _ROOT  # the scores of given steps are not in the tree
    values = _values(chain) if whole else {}
    return Candidate(tuple(node.id for node in chain), text, answer, logprob, values, verdicts[text])


def _values(chain: Sequence[Node]) -> dict[Aggregate, float]:
    if not chain:
        return dict.fromkeys(AGGREGATES, 0.0)  # as for the search: no step is worth nothing
    scores = [node.score for node in chain]
    if scores[-1] is None:
        return {}
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        return {"last": scores[-1]}
    return {name: fold(known) for name, fold in AGGREGATES.items()}
