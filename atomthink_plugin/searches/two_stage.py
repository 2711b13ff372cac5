"""Rationale first, then the answer: two inferences, by one model or by two.

Source: Multimodal-CoT (Zhang et al., arXiv 2302.00923): a first model writes a rationale, a second one reads the
question, the image and the rationale, and answers.

Here the rationale is a chain in the run's format, without the step that states the answer. The answer is the rest of
that chain, in the same format: checkpoints that were tuned to steps answer badly from any other prompt.
"""

from __future__ import annotations

from dataclasses import replace

from atomthink_plugin.api import Choice, Path, Search, SearchTree, Unit


def two_stage() -> Search:
    """Samples a rationale, then asks for the answer that follows from it.

    The model in the role `answer` gives the answer; without one, the policy itself does. A chain that ended without an
    answer is also a rationale. The chain's own answer is kept if no step comes before it, or if the second reply has
    none.
    """

    async def search(tree: SearchTree) -> Choice:
        (chain,) = await tree.rollouts(1)
        concluded = chain.final and chain.depth > tree.root.depth  # a given answer stays
        rationale = chain.parent if concluded and chain.parent is not None else chain
        answers = await _answers(tree, rationale) if rationale.step is not None and not rationale.final else []
        path = next((answer for answer in answers if answer.final), chain)
        return Choice(path, 0.0, tree.why(path))

    return search


async def _answers(tree: SearchTree, rationale: Path) -> list[Path]:
    """Returns the reply that continues the rationale to the end; empty if there is none."""
    following = tree.format.unit(rationale)
    unit = Unit("answer", opening=following.opening if following is not None else "")
    prompt = replace(tree.format.render(rationale), stops=())
    return await tree.ask(rationale, prompt, use="answer", role="answer", unit=unit, read=tree.format.answer)
