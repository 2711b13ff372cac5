"""Rationale first, then the answer: two inferences, by one model or by two.

Source: Multimodal-CoT (Zhang et al., arXiv 2302.00923, version 5): a first model writes a rationale, a second one reads
the question, the image and the rationale, and answers. Its controls are the other order, both parts in one reply, and
models without the image.

Here the rationale is a chain in the run's format, without the step that states the answer. The answer is the rest of
that chain, in the same format: checkpoints that were tuned to steps answer badly from any other prompt. With
`order=answer_first`, both parts are asked for in plain words, because a chain cannot begin with its end. The published
controls are models that were fine-tuned for each form of the reply; here one model is asked in different ways.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Final, Literal

from annotated_types import Ge, Le

from atomthink_plugin.answers import final_answer
from atomthink_plugin.api import Choice, Path, Prompt, Question, QuestionError, Search, SearchTree, Unit
from atomthink_plugin.formats.parts import append, check_not_empty

_ANSWER_ALONE: Final = 'Answer at once, without any reasoning. Write only "The final answer is: X."'
_ANSWER_THEN_EXPLAIN: Final = 'Answer first: begin with "The final answer is: X." Then explain the answer step by step.'
_EXPLAIN: Final = "Explain step by step how this answer follows from the question and the image."


def two_stage(
    order: Literal["rationale_first", "answer_first"] = "rationale_first",
    stages: Annotated[int, Ge(1), Le(2)] = 2,
    blind: bool = False,
) -> Search:
    """Samples a rationale, then asks for the answer that follows from it.

    The model in the role `answer` gives the answer; without one, the policy itself does. A chain that ended without an
    answer is also a rationale. The chain's own answer is kept if no step comes before it, or if the second reply has
    none. The other arguments are controls, which show what the order, the second inference and the image contribute.

    Args:
        order: `rationale_first` as described above. `answer_first` asks for the answer alone and then for its
            rationale, which does not change the answer.
        stages: 2 asks for the rationale and the answer separately. 1 asks the policy for both at once:
            `rationale_first` is then the chain of `thinking=quick` at the same temperature, and `answer_first` is one
            reply that begins with the answer.
        blind: Removes the question's images from all prompts. The texts stay as they are, with placeholders such as
            `<image 1>` that a task writes itself. A question without an image is asked as usual.
    """

    async def search(tree: SearchTree) -> Choice:
        root = tree.begin(_without_images(tree.question)) if blind else tree.root
        if root.final:
            return Choice(root, 0.0, tree.why(root))
        if order == "answer_first":
            return await _answer_first(tree, root, stages)
        (chain,) = await tree.rollouts(1, start=root)
        rationale = chain.parent if chain.final and chain.parent is not None else chain
        answers = await _answers(tree, rationale) if stages == 2 and rationale.step is not None else []
        path = next((answer for answer in answers if answer.final), chain)
        return Choice(path, 0.0, tree.why(path))

    return search


async def _answers(tree: SearchTree, rationale: Path) -> list[Path]:
    """Returns the reply that continues the rationale to the end; empty if there is none."""
    following = tree.format.unit(rationale)
    unit = Unit("answer", opening=following.opening if following is not None else "")
    prompt = replace(tree.format.render(rationale), stops=())
    return await tree.ask(rationale, prompt, use="answer", role="answer", unit=unit, read=tree.format.answer)


async def _answer_first(tree: SearchTree, root: Path, stages: int) -> Choice:
    wanted, role = (_ANSWER_ALONE, "answer") if stages == 2 else (_ANSWER_THEN_EXPLAIN, "policy")
    unit = Unit("answer", partial=True, check=check_not_empty)
    replies = await tree.ask(root, _then(root, wanted), use="answer", role=role, unit=unit, read=_first_answer)
    if not replies:
        return Choice(root, 0.0, tree.why(root))
    (answer,) = replies
    unit = Unit("rationale", partial=True, check=check_not_empty)
    rationales = await tree.ask(answer, _then(answer, _EXPLAIN), use="rationale", unit=unit) if stages == 2 else []
    return Choice(rationales[0] if rationales else answer, 0.0, "final", answer.answer)


def _then(path: Path, instruction: str) -> Prompt:
    """Returns the question, the steps so far and an instruction as one turn."""
    text = "\n\n".join([*(step.text for step in path.steps), instruction])
    return Prompt(append(path.question.messages, f"\n\n{text}"))


def _first_answer(text: str) -> str | None:
    """Returns the answer that is stated first, else the whole reply."""
    stated = filter(None, map(final_answer, text.split("\n\n")))
    return next(stated, None) or text.strip().rstrip(".") or None


def _without_images(question: Question) -> Question:
    turns = (replace(turn, parts=tuple(p for p in turn.parts if isinstance(p, str))) for turn in question.messages)
    if not (messages := tuple(turn for turn in turns if turn.parts)):
        raise QuestionError("`blind=True` leaves nothing of this question: it is an image without any text")
    return replace(question, messages=messages)
