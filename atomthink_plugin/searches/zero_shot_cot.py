"""Zero-shot chain of thought in two calls: a rationale, then the answer.

Source: Kojima et al., arXiv 2205.11916. The reply begins with "Let's think step by step."; the second call continues it
with "Therefore, the answer is", or "Therefore, among A through E, the answer is" for a question with five options.

Different from the published code: the rationale has the run's limit of a chain instead of 128 tokens, and the answer is
read by this project's parser instead of by the first number or letter.
"""

from __future__ import annotations

from typing import Final

from atomthink_plugin.answers import final_answer
from atomthink_plugin.api import Choice, Path, Prompt, Search, SearchTree, Step, Unit
from atomthink_plugin.formats.parts import append
from atomthink_plugin.searches.parts.subquestions import furthest

REASONING_TRIGGER: Final = "Let's think step by step."

_RATIONALE: Final = Unit("rationale", partial=True, opening=f"{REASONING_TRIGGER} ")
_ANSWER_TOKENS: Final = 128
_PARAGRAPH: Final = "\n\n"


def answer_trigger(options: int) -> str:
    """Returns the text that asks for the answer to a question with so many options, 0 for a free-form one.

    Example:
        >>> answer_trigger(0), answer_trigger(5)
        ('Therefore, the answer is', 'Therefore, among A through E, the answer is')
    """
    among = f"among A through {chr(ord('A') + options - 1)}, " if 2 <= options <= 26 else ""
    return f"Therefore, {among}the answer is"


def zero_shot_cot() -> Search:
    """Asks for a rationale and then, after it, for the answer.

    Both calls continue the assistant's turn if the run's format does, as `continue` does. With `format=atomic`, for
    servers that cannot continue it, the texts follow the question in the user's turn. The form of the format's steps is
    not used. If the second reply has no answer, one that the rationale states counts.
    """

    async def search(tree: SearchTree) -> Choice:
        paths = [tree.root]
        if not tree.root.final:
            paths += await _continued(tree, tree.root, _RATIONALE)
        if len(paths) > 1:
            trigger = answer_trigger(len(tree.question.choices))
            unit = Unit("answer", tokens=_ANSWER_TOKENS, partial=True, opening=f"{trigger} ")
            paths += await _continued(tree, paths[1], unit, (_PARAGRAPH,))
        path = furthest(paths)
        return Choice(path, 0.0, tree.why(path))

    return search


async def _continued(tree: SearchTree, path: Path, unit: Unit, stops: tuple[str, ...] = ()) -> list[Path]:
    """Returns `path` with the reply to its texts and the trigger with which `unit` opens; empty if there is none."""
    reply: list[str] = []
    for step in path.steps:  # the trigger is a piece of its own, so that a prompt is a prefix of the next one
        begun = REASONING_TRIGGER if step.text.startswith(REASONING_TRIGGER) else ""
        reply += [*filter(None, [begun]), step.text.removeprefix(begun) + _PARAGRAPH]
    reply.append(unit.opening.rstrip())
    messages = path.question.messages
    if _continues(tree):
        prompt = Prompt(messages, tuple(reply), stops)
    else:
        prompt = Prompt(append(messages, _PARAGRAPH + "".join(reply)), stops=stops)
    return await tree.ask(path, prompt, use=unit.name, unit=unit, read=final_answer)


def _continues(tree: SearchTree) -> bool:
    """Returns whether the run's format has its policy continue the assistant's turn."""
    return bool(tree.format.render(tree.root.extend(Step("Step 1: Read the question."))).begun)
