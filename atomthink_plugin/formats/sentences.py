"""LLaVA-CoT's four tagged stages, sentence by sentence.

The text of a chain is the same as with `format=stages`. A unit is one sentence, or the end tag of a stage, and the
conclusion is one unit. With `search=stage_beam` this is the sentence-level beam search that the paper compares its
stage-level search with.

Sources: LLaVA-CoT (arXiv 2411.10440) and its inference code, which samples up to a period, has a judge compare the
candidates by the question and the text so far, and ends at `</CONCLUSION>`.

Different from the published code: a sentence ends at a period before a blank or a line break, so that 3.5 is no end.
The number of a list item and an abbreviation still are. Question and exclamation marks are no ends, as in the code.
The format writes the start tags, as that of `stages` does, and the conclusion is not divided.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from atomthink_plugin.api import Path, Prompt, Unit
from atomthink_plugin.formats.parts import append
from atomthink_plugin.formats.stages import STAGES, STAGES_INSTRUCTION, TAG, answer_of_conclusion

_STOPS: Final = (". ", ".\n")
_PERIOD: Final = re.compile(r"\.(?=\s)")
_LEADING_TAG: Final = re.compile(r"\s*<[A-Z]+>")


@dataclass(frozen=True, slots=True)
class Sentences:
    """The sentences accumulate in the assistant's turn, so that a server has to continue it.

    A reply has more sentences than a chain has steps: pass a larger `max_steps=`.

    Attributes:
        instruction: Appended to the task's last turn. Pass `format_instruction=` (empty) for checkpoints that were
            trained on the tags: LLaVA-CoT's is asked with the bare question.
    """

    instruction: str = STAGES_INSTRUCTION

    def render(self, path: Path) -> Prompt:
        """Returns the task's turns, the instruction, the text so far, and a start tag where a stage begins."""
        messages = path.question.messages
        if self.instruction:
            messages = append(messages, "\n" + self.instruction)
        begun: list[str] = []
        for step in path.steps:  # a tag is a piece of its own, so that a prompt is a prefix of those that extend it
            tag = _LEADING_TAG.match(step.text)
            begun += [step.text] if tag is None else [tag[0], step.text[tag.end() :]]
        stage, opening = _following(path)
        begun += [opening] if opening else []
        return Prompt(messages, tuple(begun), _STOPS if stage != STAGES[-1] else (f"</{stage}>",))

    def unit(self, path: Path) -> Unit | None:
        """Returns a sentence of the current stage, or the whole conclusion."""
        stage, opening = _following(path)
        end = f"</{stage}>"
        if stage == STAGES[-1]:
            cut, closing = partial(_through, end), end
        else:
            cut, closing = partial(_sentence, end), "."
        check = partial(_check, stage)
        return Unit("sentence", opening=opening, closing=closing, joint="", cut=cut, check=check)

    def answer(self, text: str) -> str | None:
        """Returns the answer that the conclusion states, else all of the conclusion."""
        return answer_of_conclusion(text)


def _following(path: Path) -> tuple[str, str]:
    """Returns the stage of the sentence after `path`, and the start tag if the stage begins with it."""
    tags = [tag for step in path.steps for tag in TAG.findall(step.text)]
    if not tags:
        return STAGES[0], ("\n\n" if path.steps else "") + f"<{STAGES[0]}>"
    stage = tags[-1].strip("</>")
    if not tags[-1].startswith("</"):
        return stage, ""
    stage = STAGES[min(STAGES.index(stage) + 1, len(STAGES) - 1)]
    return stage, f"\n\n<{stage}>"


def _sentence(end: str, text: str) -> str:
    """Returns the text up to its first period or the end of the stage: policies without stop strings continue."""
    period = _PERIOD.search(text)
    sentence = text[: period.end()] if period else text
    return _through(end, sentence)


def _through(end: str, text: str) -> str:
    before, found, _ = text.partition(end)
    return before + found


def _check(stage: str, text: str, history: Sequence[str]) -> str | None:
    """Says why a text is no sentence of its stage, None if it is one."""
    start, end = f"<{stage}>", f"</{stage}>"
    inner = text.strip().removeprefix(start).removesuffix(end)
    if TAG.search(inner):
        return "holds further tags"
    if stage == STAGES[-1] and not text.endswith(end):
        return f"has no {end}"
    only_ends = text.strip() == end
    return None if only_ends or re.search(r"\w", inner) else "empty"
