"""An agent workflow: a plan, a chain for each of its parts, and a composition of their results.

Source: the agent workflow of the study of o1's reasoning patterns (Wu et al., arXiv 2410.13639). The study used closed
or task-specific agents, which cannot be reproduced; this is the plain form of one, with prompts of this project.

Parts and composition are chains in the run's format: checkpoints that were tuned to steps answer badly in any other
form, and other models follow the format. The parts do not see each other's results, so they are solved together.
`least_to_most` solves them in turn.
"""

from __future__ import annotations

from typing import Final

from atomthink_plugin.api import Choice, Count, Path, Prompt, Search, SearchTree
from atomthink_plugin.formats.parts import append
from atomthink_plugin.searches.parts.subquestions import PLAN, answers, furthest, grown, listed, text_of

_PLAN: Final = (
    "Do not answer the question yet. Divide it into at most {limit} parts that can be solved independently of each "
    'other from the question and the image. Write each part on a line of its own: "1. ...", "2. ..."'
)
_SOLVE: Final = "\n\nSolve only this part of the question: {part}"
_COMPOSE: Final = "\n\nThe question was divided into parts:{results}\n\nAnswer the whole question from these results."


def workflow(parts: Count = 4) -> Search:
    """Asks for a plan, solves each of its parts, and answers the question from the results.

    The model in the role `planner` divides the question, and the one in the role `composer` writes the final chain;
    without them, the policy itself does. If the plan has no numbered parts, the whole question is the only part, and
    its chain is the reply: the one of `thinking=quick` at the same temperature. It is also the reply if the context has
    no room for the parts. If the budget is spent before the composition concludes, the last part with an answer is the
    reply.

    Args:
        parts: Maximum number of parts. Further ones of a plan are left out.
    """

    async def search(tree: SearchTree) -> Choice:
        path = await _composed(tree, parts) or (await tree.rollouts(1))[0]
        return Choice(path, 0.0, tree.why(path))

    return search


async def _composed(tree: SearchTree, limit: int) -> Path | None:
    """Returns the chain that answers from the results of a plan; None without a plan or without room for it."""
    if tree.root.final:
        return None
    plan = await _plan(tree, limit)
    solved = await answers(tree, [_SOLVE.format(part=part) for part in plan])
    if not solved:
        return None
    for number, path in enumerate(solved, start=1):
        if grown(tree, path):
            tree.note(path, f"part {number} of {len(solved)}")
    results = "".join(f"\n\nPart: {part}\n{text_of(path)}" for part, path in zip(plan, solved, strict=True))
    composed = await answers(tree, [_COMPOSE.format(results=results)], role="composer")
    return furthest([*solved, *composed]) if composed else None


async def _plan(tree: SearchTree, limit: int) -> list[str]:
    """Returns the parts of the plan; empty if none can be read."""
    prompt = Prompt(append(tree.question.messages, "\n\n" + _PLAN.format(limit=limit)))
    parts: list[str] = []
    for plan in await tree.ask(tree.root, prompt, use="plan", role="planner", unit=PLAN):
        parts = listed(plan.step.text if plan.step is not None else "")
        tree.note(plan, f"parts {len(parts)}, kept {len(parts[:limit])}")
    return parts[:limit]
