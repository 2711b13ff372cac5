"""From a chain to what is learned: the prompt as inference renders it, and the tokens of the reply after it.

A step has the tokens that inference reads. Where the next prompt begins the reply with this step (`continue`), they are
the tokens that this beginning adds, with what the format writes between the steps. Where the reply ends (a step that
concludes, a step of `atomic`, a whole reply), the end of sequence follows. A whole reply is one piece, blank lines
included: no prompt begins with a part of it, so its tokens are those of its text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image as Pictures

from atomthink_plugin.api import WHOLE, AtomThinkError, Format, Message, Prompt, Question, QuestionError, Step, Unit
from atomthink_plugin.api import Path as Steps
from atomthink_plugin.formats.cot import Cot
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.formats.parts import begun_opening
from atomthink_plugin.inference.checkpoints import Checkpoint, end_ids
from atomthink_plugin.inference.encoding import Encoder, Encoding, fitted
from atomthink_plugin.inference.image_input import fitting, read_image, upright_size
from atomthink_plugin.plugins.hookspecs import FormatFactory
from atomthink_plugin.plugins.registry import registry
from atomthink_plugin.training.records import QuestionRecord, engine_question

if TYPE_CHECKING:
    from PIL.Image import Image

WHOLE_REPLIES: Final[Mapping[str, FormatFactory]] = {"direct": Direct, "cot": Cot}


@dataclass(frozen=True, slots=True)
class Row:
    """One training sequence.

    Attributes:
        encoding: Prompt and reply.
        written: Tokens of each step that is learned; together they are the sequence's last ones.
    """

    encoding: Encoding
    written: tuple[int, ...]

    @property
    def learned(self) -> int:
        """How many of the last tokens have a loss."""
        return sum(self.written)


def format_of(name: str, argument: str = "format") -> Format:
    """Returns the format of that name: a registered one, or one of whole replies.

    Raises:
        AtomThinkError: There is none.
    """
    known = {**registry().formats, **WHOLE_REPLIES}
    if name not in known:
        raise AtomThinkError(f"`{argument}: {name}` is unknown: use {', '.join(sorted(known))}")
    return known[name]()


def packable(form: Format) -> bool:
    """Returns whether a format's question stays the same over all steps, so that one sequence holds a whole chain."""
    asked = Steps(Question("", (Message("user", ("Why?",)),)))
    unit = form.unit(asked)
    if unit is None:
        return False
    step = f"{unit.opening}So.{unit.closing}"
    before, after = form.render(asked), form.render(asked.extend(Step(step)))
    return before.messages == after.messages and after.prefix.startswith(before.prefix + written(before, unit, step))


def written(prompt: Prompt, unit: Unit, step: str) -> str:
    """Returns what a policy has to write of a step: the prompt may already hold its start tag.

    Raises:
        QuestionError: The step lacks the start tag.
    """
    opening = begun_opening(prompt.prefix, unit)
    if not step.startswith(opening):
        raise QuestionError(f"a {unit.name} begins with {opening!r}, and this one does not: {step[:40]!r}")
    return step.removeprefix(opening)


def early_stop(prompt: Prompt, unit: Unit, step: str) -> str | None:
    """Returns the stop string at which a policy would have ended the step before its end, None if there is none."""
    inside = step.removesuffix(unit.closing.strip())
    return next((stop for stop in prompt.stops if stop in inside), None)


def closing_id(checkpoint: Checkpoint) -> int:
    """Returns the id that ends a reply: the tokenizer's own where generation ends at it, else the first that ends it.

    Raises:
        AtomThinkError: Nothing does.
    """
    ends = end_ids(checkpoint)
    if not ends:
        raise AtomThinkError(f"{checkpoint.identity} has no end-of-sequence token: set one in its tokenizer")
    own = checkpoint.tokenizer.eos_token_id
    return own if isinstance(own, int) and own in ends else ends[0]


class Renderer:
    """Renders steps for one checkpoint.

    Args:
        encoder: The checkpoint's, as inference uses it.
        end: Id that ends a reply.
    """

    def __init__(self, encoder: Encoder, end: int) -> None:
        self._encoder = encoder
        self._end = end

    def step(self, form: Format, question: Question, steps: Sequence[str], at: int) -> Row:
        """Returns the row that learns step `at`, after those before it.

        Raises:
            QuestionError: The processor refuses the images, or the step is none that a policy could write.
        """
        prompt, ids = next(islice(self.turns(form, question, steps), at, None))
        return Row(self._encoder.encode(prompt).extend(ids), (len(ids),))

    def chain(self, form: Format, question: Question, steps: Sequence[str], first: int = 0) -> Row:
        """Returns one row that learns all steps from `first` on, in a format that is `packable`.

        Raises:
            QuestionError: As in `step`.
        """
        turns = list(self.turns(form, question, steps))[first:]
        ids = [token for _, reply in turns for token in reply]
        return Row(self._encoder.encode(turns[0][0]).extend(ids), tuple(len(reply) for _, reply in turns))

    def turns(self, form: Format, question: Question, steps: Sequence[str]) -> Iterator[tuple[Prompt, list[int]]]:
        """Yields for each step the prompt that asks for it, and its tokens with those that end it.

        Only the last step can print_summary: what stands before it went on, whatever it says.

        Raises:
            QuestionError: The step is none that a policy could write.
        """
        path = Steps(question)
        prompt = form.render(path)
        for at, step in enumerate(steps, start=1):
            unit = form.unit(path)
            path = path.extend(Step(step), form.answer(step) if at == len(steps) else None)
            # Nothing follows a conclusion, and a format need not know what to ask after one.
            after = prompt if path.final else form.render(path)
            yield prompt, self._reply(prompt, unit or WHOLE, path, None if path.final or unit is None else after)
            prompt = after

    def _reply(self, prompt: Prompt, unit: Unit, path: Steps, after: Prompt | None) -> list[int]:
        """Returns the tokens of a path's last step, which `prompt` asks for, and of what ends it.

        Args:
            prompt: Asks for the step.
            unit: What the step is.
            path: Ends with the step.
            after: Asks for what follows; None where nothing does.
        """
        step = path.steps[-1].text
        if stop := early_stop(prompt, unit, step):
            raise QuestionError(f"step {path.depth} holds {stop!r}, where a policy's step ends: make it two steps")
        if not step.endswith(unit.closing.strip()):
            raise QuestionError(f"step {path.depth}: a {unit.name} ends with {unit.closing!r}, and this one does not")
        rest = written(prompt, unit, step)
        goes_on = after is not None and after.prefix.startswith(prompt.prefix + rest)
        whole = self._encoder.pieces(after.begun if after is not None and goes_on else (*prompt.begun, rest))
        before = self._encoder.pieces(prompt.begun)
        if whole[: len(before)] != before:
            raise QuestionError(f"step {path.depth} changes the tokens of those before it")
        return whole[len(before) :] if goes_on else [*whole[len(before) :], self._end]


def posed(record: QuestionRecord, folder: Path, max_pixels: int | None, empty: bool = False) -> Question:
    """Returns a record's question with its images, or with empty ones of the same sizes."""
    read = blank if empty else picture
    return engine_question(record.id, record.question, [read(folder / image, max_pixels) for image in record.images])


def picture(file: Path, max_pixels: int | None) -> Image:
    """Returns a picture in RGB, scaled down to `max_pixels` if it has more, as inference does."""
    return fitted(read_image(file), max_pixels)


def blank(file: Path, max_pixels: int | None) -> Image:
    """Returns an empty picture of the size that `picture` gives; the file's pixels are not read."""
    with Pictures.open(file) as image:
        return Pictures.new("RGB", fitting(upright_size(image), max_pixels))
