"""Fine-tune-CoT's layout: a rationale, an arrow and the answer, in one reply.

The prompt is `{question} ###`. The reply is `{rationale} --> {answer} END`.

    thinking=quick,format=arrow
    thinking=slow,search=majority,format=arrow

Only checkpoints that were fine-tuned on the layout write it: the prompt has no instruction. A training record has one
step, the whole reply with ` END`.

Source: Fine-tune-CoT (Large Language Models Are Reasoning Teachers, arXiv 2212.10071) and its code for the students
(itsnamgyu/reasoning-teacher), which stops at ` END`.

Different from the published code: the prompt is a user turn, not the beginning of one text, so the reply does not begin
with a blank. A reply without an arrow is rejected and sampled again. The published code takes its last number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from atomthink_plugin.answers import final_answer
from atomthink_plugin.api import Count, Path, Prompt, Unit
from atomthink_plugin.formats.parts import append

PROMPT_END: Final = " ###"
ARROW: Final = "-->"
REPLY_END: Final = " END"


@dataclass(frozen=True, slots=True)
class Arrow:
    """One reply with a rationale and the answer after an arrow.

    Attributes:
        reply_tokens: Limit of the reply, in tokens.
    """

    reply_tokens: Count = 1024

    def render(self, path: Path) -> Prompt:
        """Returns the task's turns with ` ###` at their end. A given beginning of the rationale is continued."""
        begun = tuple(f"{step.text} " for step in path.steps)
        return Prompt(append(path.question.messages, PROMPT_END), begun, (REPLY_END,))

    def unit(self, path: Path) -> Unit | None:
        """Returns the reply."""
        return Unit("reply", tokens=self.reply_tokens, closing=REPLY_END, joint=" ", cut=_through_end, check=_check)

    def answer(self, text: str) -> str | None:
        """Returns the answer after the last arrow."""
        stated = _stated(text)
        return final_answer(stated) or stated or None


def _through_end(text: str) -> str:
    """Returns the text up to ` END`: policies without stop strings continue after it."""
    reply, found, _ = text.partition(REPLY_END)
    return f"{reply.rstrip()}{found}"


def _check(text: str, history: Sequence[str]) -> str | None:
    """Says why a text is no whole reply, None if it is."""
    if ARROW not in text:
        return f"has no {ARROW}"
    return None if _stated(text) else "empty"


def _stated(text: str) -> str:
    """Returns what follows the last arrow, without ` END`; empty if there is no arrow."""
    _, arrow, rest = text.rpartition(ARROW)
    return f" {rest.strip()}".removesuffix(REPLY_END).strip() if arrow else ""
