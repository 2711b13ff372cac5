"""Why a search chose its path, for the searches whose reason is in the nodes that they ask for and note.

Each function returns a sentence, or None if the tree does not confirm it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from atomthink_plugin.api import FURTHER_ROOT, Node, Outcome
from atomthink_plugin.report.node_notes import pairs_of
from atomthink_plugin.report.node_status import FinishedTree


def noted_reason(name: str, outcome: Outcome, tree: FinishedTree) -> str | None:
    """Returns the sentence for the chosen path of an outcome with an answer.

    Args:
        name: The search.
        outcome: The outcome.
        tree: Its tree.
    """
    line = [tree.nodes[key] for key in tree.chosen]
    reason = _REASONS.get(name)
    return reason(line, outcome, tree) if reason is not None and line else None


def _named_by_a_judge(line: Sequence[Node], outcome: Outcome, tree: FinishedTree) -> str | None:
    found = pairs_of(line[-1].note)
    if "chosen by" not in found:
        return None
    number, count = found["candidate"].split(" of ")
    if found["chosen by"] == "verdict":
        return f"The judge named candidate {number} of {count} chains."
    return f"The judge named none of {count} chains, so the likeliest one was taken."


def _named_at_each_step(line: Sequence[Node], outcome: Outcome, tree: FinishedTree) -> str | None:
    by = [pairs_of(node.note).get("chosen by") for node in line if node.is_step]
    ways = (
        (by.count("verdict"), "the judge named the step"),
        (by.count("likelihood"), "the likeliest step was taken, as the judge named none"),
        (by.count(None), "there was one candidate"),
    )
    said = [f"at {number} of {len(by)} steps {what}" for number, what in ways if number]
    return f"{_sentence('; '.join(said))}." if said else None


def _won_duels(line: Sequence[Node], outcome: Outcome, tree: FinishedTree) -> str | None:
    verdicts = sum(node.use == "judge" for node in tree.nodes.values())
    if not verdicts:
        return None
    times = "once" if verdicts == 1 else f"{verdicts} times"
    return f"A judge compared the candidates of each step in pairs, {times} in all, and the winner was continued."


def _refined(line: Sequence[Node], outcome: Outcome, tree: FinishedTree) -> str | None:
    texts = [node.text for node in line]
    noted = ((pairs_of(node.note), node) for node in tree.nodes.values() if node.is_step)
    drafts = {found["draft"]: node for found, node in noted if "draft" in found}
    alike = [key for key, node in drafts.items() if [step.text for step in tree.lineage(node)] == texts]
    if not alike:
        return None
    draft = max(alike, key=int)  # the last one of drafts with the same text
    reviews = [node for node in tree.children.get(drafts[draft].id, ()) if node.use == "critic"]
    verdicts = {"correct": "calls it correct", "wrong": "calls it wrong", "none": "does not call it wrong"}
    verdict = pairs_of(reviews[-1].note).get("verdict", "") if reviews else ""
    review = f"Its review {verdicts[verdict]}." if verdict in verdicts else "It was not reviewed."
    return f"The answer is that of draft {draft} of {len(drafts)}. {review}"


def _composed(line: Sequence[Node], outcome: Outcome, tree: FinishedTree) -> str | None:
    return _from_parts(line, tree, "part", "The parts were composed to one chain, which gives the answer.")


def _built_up(line: Sequence[Node], outcome: Outcome, tree: FinishedTree) -> str | None:
    return _from_parts(
        line, tree, "subquestion", "The question was answered after its subquestions, with their answers."
    )


def _from_parts(line: Sequence[Node], tree: FinishedTree, key: str, whole: str) -> str | None:
    if not line[0].parent.startswith(FURTHER_ROOT):
        return f"The question was not divided into {key}s, or they did not fit. One chain answered it."
    own = pairs_of(line[-1].note).get(key)
    return whole if own is None else f"The last chain with an answer is that of {key} {own}."


def _asked_after(line: Sequence[Node], outcome: Outcome, tree: FinishedTree) -> str | None:
    uses = [node.use for node in line]
    if uses[-1] == "rationale" and "answer" in uses:
        return "The answer was asked for first, and then its rationale."
    if uses[-1] == "answer" and len(line) > 1:
        return "The answer was asked for after the rationale."
    return None


def _summarised(line: Sequence[Node], outcome: Outcome, tree: FinishedTree) -> str | None:
    if line[-1].use != "summary":
        return None
    place = next((found["rank"] for node in reversed(line) if "rank" in (found := pairs_of(node.note))), None)
    chain = "the chain of thought" if place is None else f"the chain that the judge ranked {place}"
    return f"The summary agent answered from {chain}."


def _most_visited(line: Sequence[Node], outcome: Outcome, tree: FinishedTree) -> str | None:
    visits: list[int] = []
    tied = False
    for node in line:
        own = _visits(node)
        equals = [_mean(one) for one in tree.children[node.parent] if one is not node and _visits(one) == own]
        if not own or own < max(map(_visits, tree.children[node.parent])) or _mean(node) < max(equals, default=0.0):
            break
        visits.append(own)
        tied = tied or bool(equals)
    reward = f"reward of {outcome.value:.2f}"
    if not visits:
        return None
    times = "once" if len(visits) == 1 else f"{len(visits)} times"
    unit = "visit" if visits == [1] else "visits"
    path = f"The search followed the most visited step {times} ({', '.join(map(str, visits))} {unit})"
    decided = " The mean reward decides between equal visits." if tied else ""
    then = ". The chain has a" if len(visits) == len(line) else ", then a chain with a"
    return f"{path}{then} {reward}.{decided}"


def _visits(node: Node) -> int:
    number = pairs_of(node.note).get("visits", "0")
    return int(number) if number.isdecimal() else 0


def _mean(node: Node) -> float:
    return float(pairs_of(node.note).get("value", "0"))


def _shuffled(line: Sequence[Node], outcome: Outcome, tree: FinishedTree) -> str | None:
    votes: dict[str, int] = {}
    for node in tree.finished:
        if (vote := pairs_of(node.note).get("vote")) is not None:
            votes[vote] = votes.get(vote, 0) + node.multiplicity
    own = pairs_of(line[-1].note).get("vote")
    if own is None or votes[own] < max(votes.values()):
        return None
    counts = ", ".join(f"{vote} {number}" for vote, number in sorted(votes.items(), key=lambda it: (-it[1], it[0])))
    tie = list(votes.values()).count(votes[own]) > 1
    decided = " The likelier chains decide between equal votes." if tie else ""
    return f"{own} has {votes[own]} of {sum(votes.values())} votes by original letters: {counts}.{decided}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


_REASONS: Final[Mapping[str, Callable[[Sequence[Node], Outcome, FinishedTree], str | None]]] = {
    "judge_best_of_n": _named_by_a_judge,
    "stepwise_bon": _named_at_each_step,
    "stage_beam": _won_duels,
    "self_refine": _refined,
    "workflow": _composed,
    "least_to_most": _built_up,
    "two_stage": _asked_after,
    "zero_shot_cot": _asked_after,
    "reason_summarise": _summarised,
    "mcts": _most_visited,
    "shuffle_vote": _shuffled,
}
