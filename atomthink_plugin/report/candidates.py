"""The candidates of a path-wise search, read from its journal, each with a verdict."""

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
from atomthink_plugin.report.node_status import Tree
from atomthink_plugin.report.run_reader import Answered, Recorded
from atomthink_plugin.searches.aggregates import AGGREGATES

ALIKE: Final = 0.95
"""Share of the run's replies on which the judge of the candidates has to say what the task said."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One path that a search had to choose from.

    Attributes:
        nodes: Ids of its nodes, from the first step on.
        text: Its chain.
        answer: Its final answer, None if it did not conclude.
        logprob: Mean log-probability per token, -inf where the policy gives none.
        values: Its value by aggregate, for the aggregates whose step scores are known.
        correct: Whether the judge of all candidates calls it right.
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
        tokens: Tokens that were sampled for all of them, or before the question failed.
        policy_seconds: From the question's first call until the last of them ended, or it failed.
        choosing_seconds: From then to the outcome: for scoring them, where a scorer ran, and for choosing.
        scored: How many candidates pass each node that a model has scored.
    """

    question: Answered
    candidates: Sequence[Candidate]
    tokens: float
    policy_seconds: float
    choosing_seconds: float
    scored: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Judged:
    """How candidates were judged, and how far that agrees with the task's verdicts on the replies of the run.

    Attributes:
        by: What judged them.
        agreed: On how many of the run's replies it agrees with the task.
        of: How many there are.
        right: How many of these the task called right.
    """

    by: str
    agreed: int
    of: int
    right: int

    @property
    def words(self) -> str:
        """For a person to read."""
        return (
            f"candidates are judged by {self.by}, which says of {self.agreed} of {self.of} replies what the task said "
            f"({self.right} right)"
        )


def sampled(run: Recorded) -> tuple[list[Sampled], Judged]:
    """Returns the questions of a run with their candidates, and how those were judged.

    Questions without a verdict, a record or a reference answer are left out. All candidates have the same judge, the
    chosen ones too: the task may be milder than this judge, and a curve that mixes the two would rise for that alone.

    Raises:
        AtomThinkError: The run has no candidates, no verdicts, or none that can be judged.
    """
    known = [one for one in run.questions if one.correct is not None]
    if not known:
        raise AtomThinkError(f"`{run.name}` has no verdicts to draw a curve from: {'; '.join(run.missing) or 'none'}")
    judgeable = [one for one in known if one.benchmark is not None or one.target is not None]
    if not judgeable:
        raise AtomThinkError(f"`{run.name}` has samples without reference answers: its candidates cannot be judged")
    found = [_sampled(one) for one in judgeable if one.entry is not None]
    if not any(one.candidates for one in found):
        search = dict(run.settings.get("search", {})).get("name")
        why = "; ".join([f"its search is {search}" if search else "it names no search", *run.missing])
        raise AtomThinkError(
            f"`{run.name}` has no journaled candidates ({why}): run majority, weighted or best_of_n, n=16 say, "
            "with this version and with a journal"
        )
    replies = [one.question for one in found if one.candidates]
    agreed = sum(verdict(one, one.reply) == one.correct for one in replies)
    rules = sorted({f"the rules for {one.benchmark}" for one in replies if one.benchmark})
    by = [*rules, *(["equivalence with the target"] if any(one.benchmark is None for one in replies) else [])]
    return found, Judged(" and ".join(by), agreed, len(replies), sum(bool(one.correct) for one in replies))


def verdict(question: Answered, reply: str) -> bool:
    """Returns whether a reply is right: by our benchmark's rules, elsewhere by equivalence with the target."""
    if not reply.strip():
        return False
    if question.benchmark is not None:
        judge: Judge = pick("benchmark", question.benchmark, registry().judges)
        return judge(question.record, reply)
    return question.target is not None and equivalent(final_answer(reply) or reply, question.target)


def _sampled(question: Answered) -> Sampled:
    assert question.entry is not None
    usage, outcome = question.entry.usage, question.outcome
    if outcome is None or not outcome.rollouts:
        return Sampled(question, (), usage.generated, usage.seconds, 0.0, {})
    tree = Tree(outcome)
    chains = [tree.lineage(tree.nodes[one.end]) if one.end in tree.nodes else [] for one in outcome.rollouts]
    verdicts: dict[str, bool] = {}
    candidates = []
    for rollout, chain in zip(outcome.rollouts, chains, strict=True):
        logprob = -math.inf if rollout.logprob is None else rollout.logprob
        candidates.append(_candidate(question, chain, tree.text(chain), logprob, verdicts))
    ended = max(rollout.seconds for rollout in outcome.rollouts)
    passes = Counter(node.id for chain in chains for node in chain if node.score is not None)
    scored = passes if usage.score_calls else {}  # the policy's own confidence costs no call
    taken = sum(rollout.tokens for rollout in outcome.rollouts)  # without what the search asked beside them
    return Sampled(question, candidates, taken, ended, usage.seconds - ended, scored)


def _candidate(
    question: Answered, chain: Sequence[Node], text: str, logprob: float, verdicts: dict[str, bool]
) -> Candidate:
    answer = chain[-1].answer if chain else None
    if text not in verdicts:
        prompt = question.entry.text if question.entry is not None else ""
        verdicts[text] = verdict(question, in_task_form(text, answer, prompt))
    whole = not chain or chain[0].parent == ROOT  # the scores of given steps are not in the tree
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
