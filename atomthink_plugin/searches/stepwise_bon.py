"""Best-of-N at each step, by a judge that names one of the candidates.

Source: the study of o1's reasoning patterns (Wu et al., arXiv 2410.13639), step-wise best-of-N with 1 and 4 candidates.

Different from the published code: steps are in the run's format instead of JSON, the judge names a number instead of
writing the step out again, and the first candidate is the greedy one. The published code asks for a final reply after
25 steps; here a chain ends at `max_steps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from atomthink_plugin.api import Choice, Count, Path, Prompt, Search, SearchTree
from atomthink_plugin.searches.parts.judging import ballot, select
from atomthink_plugin.searches.parts.subquestions import text_of

_TASK: Final = "Decide which of the candidate next steps is correct and leads best to the answer to the question."


def stepwise_bon(candidates: Count = 4) -> Search:
    """Samples `candidates` next steps, shows all of them to a judge at once, and continues from the one that it names.

    The model in the role `judge` is asked once for each step that has several distinct candidates; without one, the
    policy itself is. The likeliest candidate wins if the verdict names none, if the budget does not pay for a verdict,
    or if the candidates do not fit in the judge's context. The search ends when a step states the answer or no next
    step can be sampled. With a format of whole replies, the judge compares these, once.

    Args:
        candidates: Samples of each step.
    """

    async def search(tree: SearchTree) -> Choice:
        path = tree.root
        while not path.final:
            (children,) = await tree.expand([path], candidates)
            if not children:
                break
            path = await select(tree, path, step_ballot(path, [child.steps[-1].text for child in children]), children)
        return Choice(path, 0.0, tree.why(path))

    return search


def step_ballot(path: Path, steps: Sequence[str]) -> Prompt:
    """Returns the prompt that shows a judge the candidate next steps of a path."""
    before = f"\n\nSteps so far:\n{text_of(path)}" if path.step is not None else ""
    return ballot(path.question.messages, _TASK, steps, before)
