"""LLaVA-CoT's four tagged stages.

A reply is `<SUMMARY> ... </SUMMARY>`, `<CAPTION> ... </CAPTION>`, `<REASONING> ... </REASONING>` and
`<CONCLUSION> ... </CONCLUSION>`, a blank line between them. Each stage is one unit, however many paragraphs it has.

Sources: LLaVA-CoT (arXiv 2411.10440), the layout of LLaVA-CoT-100k, and the inference code's limit of 2048 tokens a
stage.

Different from the published code: the prompt ends with the stage's start tag, so that a model that was not trained on
the tags writes the right stage. A model that was trained on them would write the same tag.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from atomthink_plugin.answers import final_answer
from atomthink_plugin.api import Count, Path, Prompt, Unit
from atomthink_plugin.formats.parts import append
from atomthink_plugin.formats.steps import SEPARATOR

STAGES: Final = ("SUMMARY", "CAPTION", "REASONING", "CONCLUSION")

STAGES_INSTRUCTION: Final = (
    "Reply in four sections, each between its tags: <SUMMARY> how you will solve the problem </SUMMARY> "
    "<CAPTION> what the image shows that matters to the question </CAPTION> "
    "<REASONING> the reasoning, step by step </REASONING> "
    "<CONCLUSION> the final answer alone, in the form that the question asks for </CONCLUSION>"
)

TAG: Final = re.compile(rf"</?(?:{'|'.join(STAGES)})>")
_CONCLUSION: Final = re.compile(r"<CONCLUSION>(.*?)</CONCLUSION>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages accumulate in the assistant's turn, so that a server has to continue it.

    Attributes:
        instruction: Appended to the task's last turn. Pass `format_instruction=` (empty) for checkpoints that were
            trained on the tags: LLaVA-CoT's is asked with the bare question.
        stage_tokens: Limit of one stage, in tokens.
    """

    instruction: str = STAGES_INSTRUCTION
    stage_tokens: Count = 2048

    def render(self, path: Path) -> Prompt:
        """Returns the task's turns, the instruction, the stages so far, and the start tag of the next stage."""
        messages = path.question.messages
        if self.instruction:
            messages = append(messages, "\n" + self.instruction)
        begun: list[str] = []
        for step in path.steps:  # a tag is a piece of its own, so that a prompt is a prefix of those that extend it
            tag, closed, rest = step.text.partition(">")
            begun += [tag + closed, rest + SEPARATOR]
        stage = _stage(path)
        return Prompt(messages, (*begun, f"<{stage}>"), (f"</{stage}>",))

    def unit(self, path: Path) -> Unit | None:
        """Returns the stage that follows `path`."""
        stage = _stage(path)
        return Unit(
            stage,
            tokens=self.stage_tokens,
            opening=f"<{stage}> ",
            closing=f" </{stage}>",
            cut=partial(_through, f"</{stage}>"),
            check=partial(_check, stage),
        )

    def answer(self, text: str) -> str | None:
        """Returns the answer that the conclusion states, else all of the conclusion."""
        return answer_of_conclusion(text)


def answer_of_conclusion(text: str) -> str | None:
    """Returns the answer that the last conclusion in `text` states, else all of it; None if there is none."""
    conclusions = _CONCLUSION.findall(text)
    if not conclusions:
        return None
    inner: str = conclusions[-1].strip()
    return final_answer(inner) or inner or None


def _stage(path: Path) -> str:
    """Returns the name of the stage that follows `path`."""
    return STAGES[min(path.depth, len(STAGES) - 1)]


def _through(end: str, text: str) -> str:
    """Returns the text up to the end tag: policies without stop strings continue after it."""
    inner, found, _ = text.partition(end)
    return f"{inner.rstrip()} {end}" if found else text


def _check(stage: str, text: str, history: Sequence[str]) -> str | None:
    """Says why a text is no whole stage, None if it is."""
    tags = TAG.findall(text)
    if tags[-1:] != [f"</{stage}>"]:
        return f"has no </{stage}>"
    if tags != [f"<{stage}>", f"</{stage}>"]:
        return "holds further tags"
    return None if TAG.sub("", text).strip() else "empty"
