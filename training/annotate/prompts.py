"""What a teacher is told. The words are ours; the records that come of them have the published form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from PIL import Image

from atomthink_plugin.api import Message
from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.training.annotate.questions import Item

Pictures = Sequence[Image.Image]

NEXT: Final = """You solve questions about images one atomic step at a time. An atomic step is the smallest \
useful piece of reasoning: one thing read off the image, one fact recalled, one equation set up, one \
calculation, or one deduction. Use what the image shows, name numbers and units, and rely on nothing but the \
question, the image and the steps so far.

You are shown the steps so far and write the one that follows. Decide yourself what it is:
- "continue": the next step forward. It adds something that is not there yet.
- "verify": a look back where a mistake is likely. Say what was checked. If a step is wrong, give the number of \
the first wrong one as "wrong_step"; it and all behind it will be taken back.
- "conclude": the steps already settle the answer. Give it as "answer", short, and in the form the question \
wants.

Reply with a JSON object: {"action": "continue" | "verify" | "conclude", "step": the step as one short paragraph \
without a number, "answer": the final answer or "", "wrong_step": a number or 0}."""

LAST: Final = 'There is no room for another step: conclude now, with "action": "conclude" and the answer.'

EXPAND: Final = """You turn a short reference solution into a full chain of atomic steps. An atomic step is the \
smallest useful piece of reasoning: one thing read off the image, one fact recalled, one equation set up, one \
calculation, or one deduction. Take the solution apart, and write out what it leaves unsaid: what is seen in the \
image, which rule is used, each intermediate result. Every step follows from those before it; none repeats \
another, and none mentions that a solution was given. Number them "Step 1: ...", "Step 2: ..." and so on without \
a gap. The last one is exactly "Step n: To sum up, the final answer is: X." with the answer as X, and no step \
before it states the final answer.

Reply with a JSON object: {"steps": [the steps, in order]}."""

CHECKS: Final = (
    """You mark a student's solution. Compare it with the right answer and follow it line by line: does every \
step hold, given the question, the image and the steps before it, is every calculation right, and is the final \
answer the right one? One wrong step makes the solution wrong, even if the answer is right.

Reply with a JSON object: {"right": true or false, "reason": one sentence}.""",
    """You look for a mistake in a chain of reasoning about an image. Work the question out yourself first, then \
read the chain from its end to its beginning: is the final answer yours and the reference's, and is each step \
needed, true and free of slips in reading, logic or arithmetic? If you find any mistake, the chain is not right.

Reply with a JSON object: {"right": true or false, "reason": one sentence}.""",
)

SPOIL: Final = """You write wrong steps, from which a marker learns to tell right from wrong. For each numbered \
step of a right solution, write one wrong version that could stand in its place behind the right steps before \
it. It keeps the style and about the length, and its mistake is real: after it a reader would go wrong. Vary the \
kinds:
- "factual": something that the image or the question does not say, or a false rule.
- "calculation": a number or result that is not what comes out.
- "logic": a conclusion that does not follow.
- "empty": words that bring the solution no further, or a repetition of a step before it.
A wrong version never says the same as the right step in other words, and never says that it is wrong.

Reply with a JSON object: {"steps": [{"number": the step's number, "kind": one of the four, "text": the wrong \
version without its number}, ...]}, one for each step that is asked for."""

SPOILT: Final = (
    """You are shown the right solution of a question, and for each step a version that may be wrong. Say of \
every version whether it is a wrong step behind the right steps before it: it states or concludes something \
false, or brings the solution no further. A version that says the same as the right step in other words is not \
wrong.

Reply with a JSON object: {"wrong": [the numbers of the versions that are wrong]}.""",
    """For each numbered proposal, imagine it stood in the solution instead of the right step of that number. \
Would a careful teacher mark it as a mistake, or as empty? Leave out every proposal that is merely another \
wording, or that is true and useful as well.

Reply with a JSON object: {"wrong": [the numbers of the proposals that are mistaken or empty]}.""",
)


def next_step(item: Item, pictures: Pictures, steps: Sequence[str], last: bool, hint: str = "") -> list[Message]:
    """Asks for the step behind `steps`, for the conclusion if it has to be the last."""
    told = f"STEPS SO FAR:\n{_listed(steps)}\n\nWrite step {len(steps) + 1}."
    return _talk(NEXT, pictures, _question(item), "\n".join(filter(None, (told, hint, LAST if last else ""))))


def expansion(item: Item, pictures: Pictures, kept: Sequence[str]) -> list[Message]:
    """Asks for a reference solution as a chain, or for its rest behind the steps that are kept."""
    told = f"REFERENCE SOLUTION:\n{item.solution}\n\nRIGHT ANSWER: {item.answer}"
    if kept:
        told += (
            f"\n\nTHESE STEPS STAND:\n{_listed(kept)}\n\nWrite only those behind them, from step {len(kept) + 1} on, "
            "each with something new."
        )
    return _talk(EXPAND, pictures, _question(item), told)


def check(item: Item, pictures: Pictures, steps: Sequence[str], which: int) -> list[Message]:
    """Asks whether a chain is right, in one of two ways."""
    told = f"RIGHT ANSWER: {item.answer}\n\nSOLUTION:\n{_listed(steps)}"
    return _talk(CHECKS[which], pictures, _question(item), told)


def wrong_steps(question: str, pictures: Pictures, steps: Sequence[str], numbers: Sequence[int]) -> list[Message]:
    """Asks for wrong versions of the steps with these numbers, counted from 1."""
    told = f"RIGHT SOLUTION:\n{_listed(steps)}\n\nWRITE WRONG VERSIONS OF STEPS: {', '.join(map(str, numbers))}"
    return _talk(SPOIL, pictures, f"QUESTION:\n{question}", told)


def spoilt(
    question: str, pictures: Pictures, steps: Sequence[str], versions: Sequence[tuple[int, str]], which: int
) -> list[Message]:
    """Asks which versions are wrong, in one of two ways."""
    proposed = SEPARATOR.join(f"Version of step {number}: {text}" for number, text in versions)
    told = f"RIGHT SOLUTION:\n{_listed(steps)}\n\nVERSIONS:\n{proposed}"
    return _talk(SPOILT[which], pictures, f"QUESTION:\n{question}", told)


def _question(item: Item) -> str:
    return f"QUESTION:\n{item.question}"


def _listed(steps: Sequence[str]) -> str:
    return SEPARATOR.join(steps) or "none"


def _talk(system: str, pictures: Pictures, question: str, told: str) -> list[Message]:
    """What stays the same comes first: servers keep it in their caches."""
    return [Message("system", (system,)), Message("user", (*pictures, f"{question}\n\n{told}"))]
