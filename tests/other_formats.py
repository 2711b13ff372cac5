"""Formats whose units are no atomic steps: other joints, tags, text between steps, steps inside the question."""

from __future__ import annotations

from dataclasses import dataclass

from atomthink_plugin.api import Path, Prompt, Unit

LINES = ("a is 1.", "b is 2.\n\nAs it was.", "so 3.")
STAGES = ("<A> a is 1. </A>", "<B> b is 2.\n\nAs it was. </B>", "<C> so 3. </C>")
NAMES = ("A", "B", "C")

LLAVA_COT = (
    "<SUMMARY> I count. </SUMMARY>",
    "<CAPTION> a is 1.\n\nb is 2. </CAPTION>",
    "<REASONING> 1 + 2 = 3. </REASONING>",
    "<CONCLUSION> 3 </CONCLUSION>",
)
"""A reply in the format `stages`."""


@dataclass
class Lines:
    """One line per step, all steps in one piece of the reply."""

    def render(self, path: Path) -> Prompt:
        begun = "".join(f"{step.text}\n" for step in path.steps)
        return Prompt(path.question.messages, (begun,) if begun else (), ("\n",))

    def unit(self, path: Path) -> Unit | None:
        return Unit("line", joint="\n")

    def answer(self, text: str) -> str | None:
        return None


@dataclass
class Tagged(Lines):
    """Tagged stages of several paragraphs; the prompt ends with the start tag of the next stage."""

    def render(self, path: Path) -> Prompt:
        begun = [piece for step in path.steps for piece in (step.text[:3], f"{step.text[3:]}\n")]
        name = NAMES[path.depth]
        return Prompt(path.question.messages, (*begun, f"<{name}>"), (f"</{name}>",))

    def unit(self, path: Path) -> Unit | None:
        """Returns the next stage; there is none after the last."""
        name = NAMES[path.depth]
        return Unit(name, opening=f"<{name}> ", closing=f" </{name}>", joint="\n")

    def answer(self, text: str) -> str | None:
        return text if text.startswith("<C>") else None


@dataclass
class Numbered(Lines):
    """The prompt writes a number before each step, which is no part of it, and hands over the sampled steps."""

    def render(self, path: Path) -> Prompt:
        pieces = [("(", str(at), ") ", step, "\n") for at, step in enumerate(path.steps, start=1)]
        begun = [piece for group in pieces for piece in group]
        return Prompt(path.question.messages, (*begun, "(", str(path.depth + 1), ") "), ("\n",))


@dataclass
class InQuestion(Lines):
    """Earlier steps are part of the question; a step goes on from nothing."""

    def render(self, path: Path) -> Prompt:
        return Prompt(path.question.messages, stops=("\n",))
