"""The prompts for the teacher. The texts are ours; the chains have the form of the published records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from PIL import Image

from atomthink_plugin.api import Message
from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.training.records import AnsweredQuestion, Chain

Images = Sequence[Image.Image]

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

CORRUPT: Final = """You write wrong steps, from which a marker learns to tell right from wrong. For each numbered \
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

CORRUPT_CHECKS: Final = (
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


FINGERPRINT: Final = {
    **{"NEXT": NEXT, "LAST": LAST, "EXPAND": EXPAND, "CHECKS": CHECKS, "SEPARATOR": SEPARATOR},
    **{"SPOIL": CORRUPT, "SPOILT": CORRUPT_CHECKS},
}
"""All texts, under the names that the keys of existing ledgers were made with."""


def next_step(
    record: AnsweredQuestion, images: Images, steps: Sequence[str], last: bool, hint: str = ""
) -> list[Message]:
    """Asks for the step after `steps`, or for the conclusion if it must be the last one."""
    request = f"STEPS SO FAR:\n{_joined(steps)}\n\nWrite step {len(steps) + 1}."
    request = "\n".join(filter(None, (request, hint, LAST if last else "")))
    return _messages(NEXT, images, record.question, request)


def expansion(record: AnsweredQuestion, images: Images, kept: Sequence[str]) -> list[Message]:
    """Asks for a reference solution as a chain, or for the rest of it after the steps that are kept."""
    request = f"REFERENCE SOLUTION:\n{record.solution}\n\nRIGHT ANSWER: {record.answer}"
    if kept:
        request += (
            f"\n\nTHESE STEPS STAND:\n{_joined(kept)}\n\nWrite only those behind them, from step {len(kept) + 1} on, "
            "each with something new."
        )
    return _messages(EXPAND, images, record.question, request)


def chain_check(record: AnsweredQuestion, images: Images, steps: Sequence[str], which: int) -> list[Message]:
    """Asks whether a chain is right, with one of two prompts."""
    request = f"RIGHT ANSWER: {record.answer}\n\nSOLUTION:\n{_joined(steps)}"
    return _messages(CHECKS[which], images, record.question, request)


def corruption(chain: Chain, images: Images, numbers: Sequence[int]) -> list[Message]:
    """Asks for wrong versions of the steps with these numbers, counted from 1."""
    listed = ", ".join(map(str, numbers))
    request = f"RIGHT SOLUTION:\n{_joined(chain.steps)}\n\nWRITE WRONG VERSIONS OF STEPS: {listed}"
    return _messages(CORRUPT, images, chain.question, request)


def corruption_check(chain: Chain, images: Images, versions: Mapping[int, str], which: int) -> list[Message]:
    """Asks which versions of steps are wrong, with one of two prompts."""
    listed = SEPARATOR.join(f"Version of step {number}: {text}" for number, text in sorted(versions.items()))
    request = f"RIGHT SOLUTION:\n{_joined(chain.steps)}\n\nVERSIONS:\n{listed}"
    return _messages(CORRUPT_CHECKS[which], images, chain.question, request)


def _joined(steps: Sequence[str]) -> str:
    return SEPARATOR.join(steps) or "none"


def _messages(system: str, images: Images, question: str, request: str) -> list[Message]:
    """What stays the same comes first, for the prefix cache of the server."""
    return [Message("system", (system,)), Message("user", (*images, f"QUESTION:\n{question}\n\n{request}"))]
