"""How a published process reward model (PRM) is read: what one YAML file in `profiles/` says."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from annotated_types import MinLen
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

from atomthink_plugin.api import Aggregate

FIELDS: Final = ("image", "question", "steps", "step", "k", "tag", "bos")
"""What a template may have in braces. All other braces are ordinary text, such as LaTeX."""


def _with_fields(*allowed: str, needed: tuple[str, ...] = ()) -> AfterValidator:
    """Refuses a template with fields that have no value there, or without those that it needs."""

    def check(template: str) -> str:
        faults = [
            f"{{{name}}} has no value here" for name in FIELDS if name not in allowed and f"{{{name}}}" in template
        ]
        faults += [f"{{{name}}} is missing" for name in needed if f"{{{name}}}" not in template]
        if faults:
            raise ValueError(", ".join(faults))
        return template

    return AfterValidator(check)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ChatMarkup(_Section):
    """The text of each turn of a chat. `{text}` is the turn's content.

    Attributes:
        system: A system turn.
        user: A user turn.
        assistant: A complete assistant turn.
        header: What stands before the content of an assistant turn.
    """

    system: str = ""
    user: str
    assistant: str
    header: str


Chat = Literal["template"] | ChatMarkup
"""How turns become text: by the checkpoint's own chat template, or by markup in the profile."""


class TurnsLayout(_Section):
    """A user turn per step, and the verdict as the assistant's reply. It is read at the end of the reply's header.

    Attributes:
        chat: How turns become text.
        system: Text of the system turn; None sends none (a chat template may still write its default).
        question: Text of a user turn with the question alone; None if the first step's turn holds the question.
        first: Text of the user turn of the first step, with `{image}`, `{question}` and `{step}`.
        later: Text of the user turn of a later step.
        history: What stands in place of earlier verdicts, whatever they were.
    """

    kind: Literal["turns"]
    chat: Chat = "template"
    system: str | None = None
    question: Annotated[str, _with_fields("image", "question", "bos", needed=("question",))] | None = None
    first: Annotated[str, _with_fields("image", "question", "step", "k", "bos", needed=("step",))]
    later: Annotated[str, _with_fields("step", "k", needed=("step",))] = "{step}"
    history: str

    @model_validator(mode="after")
    def _asks_the_question(self) -> Self:
        if ("{question}" in self.first) == (self.question is not None):
            raise ValueError("the question has to stand either in `first` or in `question`")
        return self


class TaggedLayout(_Section):
    """One text with a tag after each step. It is read at the last tag.

    Attributes:
        role: Who says the steps: nobody (a bare text without chat markup), the user or the assistant.
        chat: How turns become text.
        system: Text of the system turn; None sends none.
        user: Text of the user turn before the steps, for `role: assistant`; "" for an empty turn, None for none.
        before: Text before the first step, in the same turn, with `{image}`, `{question}` and `{bos}` (the text of
            the tokenizer's beginning of a sequence).
        step: Text of a step with its tag, with `{step}`, `{k}` (from 1) and `{tag}`. Where it has `{k}`, a step's own
            label (`Step 3:`) is left out.
        between: Text between a tag and the next step.
        after: Text after the last tag, before the end of the turn. It is not part of what the PRM reads.
        tag: The token after each step; empty if the PRM is read at the last token of the step itself.
        inside: What a tag inside a step's text means: `refuse` fails the question. `steps`, for tags that are
            ordinary line breaks: the PRM reads the step as several, and its score is that of the last one. `text`, with
            `pieces`: it is a part of the text, for PRMs whose authors find tags by position and not by id.
        pieces: Whether question and steps are tokenised alone, one by one, and not as one text.
    """

    kind: Literal["tagged"]
    role: Literal["none", "user", "assistant"] = "none"
    chat: Chat = "template"
    system: str | None = None
    user: Annotated[str, _with_fields("image", "question", "bos")] | None = None
    before: Annotated[str, _with_fields("image", "question", "bos")] = "{question}"
    step: Annotated[str, _with_fields("step", "k", "tag", needed=("step",))] = "{step}{tag}"
    between: str = ""
    after: str = ""
    tag: str
    inside: Literal["refuse", "steps", "text"] = "refuse"
    pieces: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        faults = []
        if self.step.count("{tag}") != bool(self.tag):
            faults.append("`step` needs {tag} once if `tag` is not empty, and not at all if it is empty")
        if "{question}" not in self.before + (self.user or ""):
            faults.append("{question} is neither in `before` nor in `user`")
        if "{question}" in self.before and "{question}" in (self.user or ""):
            faults.append("{question} is in `before` (its default) and in `user`: set one of them without it")
        if self.role != "assistant" and self.user is not None:
            faults.append("`user` goes with role: assistant")
        if self.role == "none" and self.system is not None:
            faults.append("a bare text (role: none) has no `system`")
        if self.pieces and self.role != "none":
            faults.append("`pieces` goes with role: none")
        if self.inside != "refuse" and not self.tag:
            faults.append(f"`inside: {self.inside}` needs a `tag`")
        if self.inside == "text" and not self.pieces:
            faults.append("`inside: text` goes with `pieces`")
        if faults:
            raise ValueError("; ".join(faults))
        return self


class AskedLayout(_Section):
    """A request per step (or per chain) with the steps so far. It is read at the end of the reply's header.

    Attributes:
        chat: How turns become text.
        system: Text of the system turn; None sends none.
        user: Text of the user turn, with `{image}`, `{question}`, `{steps}`, `{step}` (the last one) and `{k}`.
        step: Text of each of `{steps}`, with `{step}` and `{k}`.
        between: Text between two of `{steps}`.
        begin: Beginning of the reply, after the header.
    """

    kind: Literal["asked"]
    chat: Chat = "template"
    system: str | None = None
    user: Annotated[str, _with_fields("image", "question", "steps", "step", "k", "bos", needed=("question",))]
    step: Annotated[str, _with_fields("step", "k", needed=("step",))] = "{step}"
    between: str = "\n\n"
    begin: str = ""


class PairReadOut(_Section):
    """Softmax over two tokens; the score is the probability of `good`."""

    kind: Literal["pair"]
    good: str
    bad: str


class ShareReadOut(_Section):
    """Softmax over the whole vocabulary; the score is the probability of `good`."""

    kind: Literal["share"]
    good: str


class ClassesReadOut(_Section):
    """Softmax over the classes of a classifier.

    Attributes:
        count: Number of classes.
        good: Classes whose probabilities add up to the score.
        minus: Classes whose probabilities are subtracted. The difference in [-1, 1] is mapped to [0, 1].
    """

    kind: Literal["classes"]
    count: PositiveInt
    good: Annotated[tuple[NonNegativeInt, ...], MinLen(1)]
    minus: tuple[NonNegativeInt, ...] = ()

    @model_validator(mode="after")
    def _has_the_classes(self) -> Self:
        if beyond := [number for number in (*self.good, *self.minus) if number >= self.count]:
            raise ValueError(f"the {self.count} classes are numbered from 0, so there is no class {beyond}")
        return self


class ScalarReadOut(_Section):
    """One number; the score is its sigmoid."""

    kind: Literal["scalar"]


class ImageRule(_Section):
    """Which images of a question a PRM gets, and how large.

    Attributes:
        use: `none` (text alone), `first`, `all`, or `tiled` (several are joined into one picture).
        most: Most images of a question; None for no limit. Questions with more are refused.
        token: Text that stands for an image, for checkpoints whose processor does not name it.
        tiles: Most tiles that an image is cut into, for models that cut it.
        min_pixels: Fewest pixels of an image; smaller ones are scaled up.
        max_pixels: Most pixels of an image; larger ones are scaled down.
    """

    use: Literal["none", "first", "all", "tiled"]
    most: PositiveInt | None = None
    token: str | None = None
    tiles: PositiveInt | None = None
    min_pixels: PositiveInt | None = None
    max_pixels: PositiveInt | None = None


class PublishedNumber(_Section):
    """A published result that reproduces the PRM, and how to measure it.

    Attributes:
        benchmark: Name of the benchmark.
        metric: What is measured.
        value: The published number, in percent.
        source: Where it was published.
        command: What to run to reproduce it.
    """

    benchmark: str
    metric: str
    value: float
    source: str
    command: str


Loader = Literal["causal", "image_text", "token_class", "internvl", "value_head", "remote"]
"""How a checkpoint is loaded: a language model, a model that reads images, a token classifier, an InternVL checkpoint
in its remote-code form as transformers' own class, a language model with a value head, or the checkpoint's own code."""

Split = Literal["blank_line", "line", "step_number", "none"]
"""How the authors cut a reply into steps."""


class PublishedModel(_Section):
    """What every published PRM says about itself.

    Attributes:
        names: Hub ids.
        revision: The revision that the profile was transcribed from, if known.
        marks: Classes, special tokens and beginnings of weight names by which a checkpoint without a known name may be
            recognised. They only suggest the profile.
        ids: Published token ids by token text. They are checked when the checkpoint is loaded.
        images: Image rule.
        loader: How the checkpoint is loaded.
        served_as: Architecture that vLLM runs the checkpoint as, if it is not the one in its config.json.
        threshold: Default threshold between wrong and right steps, in [0, 1].
        head: Beginning of the names of the classifier's weights, if it is not `score`.
        strict: Whether a score at the threshold counts as wrong.
        aggregate: How the authors turn step scores into the score of a chain.
        split: How the authors cut a reply into steps.
        licence: Licence of the weights.
        source: Where the facts were read.
        verified: `transcription` until a published number was reproduced with the real weights, then `reproduced`.
        published: Numbers to reproduce.
        notes: What a user should know.
    """

    names: Annotated[tuple[str, ...], MinLen(1)]
    revision: str | None = None
    marks: tuple[str, ...] = ()
    ids: dict[str, int] = Field(default_factory=dict)
    images: ImageRule = ImageRule(use="none")
    loader: Loader
    served_as: str | None = None
    head: str | None = None
    threshold: float = Field(0.5, ge=0, le=1)
    strict: bool = False
    aggregate: Aggregate = "min"
    split: Split = "blank_line"
    licence: str
    source: str
    verified: Literal["transcription", "reproduced"] = "transcription"
    published: tuple[PublishedNumber, ...] = ()
    notes: str = ""


class Profile(PublishedModel):
    """A PRM that is read in one forward pass.

    Attributes:
        layout: Where question, steps and verdicts stand.
        read: What is computed there.
    """

    layout: Annotated[TurnsLayout | TaggedLayout | AskedLayout, Field(discriminator="kind")]
    read: Annotated[PairReadOut | ShareReadOut | ClassesReadOut | ScalarReadOut, Field(discriminator="kind")]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        faults = []
        if isinstance(self.read, PairReadOut | ShareReadOut) and self.loader in ("token_class", "value_head"):
            faults.append(f"read: {self.read.kind} needs a language model, and loader: {self.loader} has none")
        if isinstance(self.read, ClassesReadOut) and self.loader == "value_head":
            faults.append("loader: value_head has one output: use read: scalar")
        if isinstance(self.layout, TaggedLayout) and self.layout.pieces and self.images.use != "none":
            faults.append("layout.pieces goes with images.use: none")
        if faults:
            raise ValueError("; ".join(faults))
        return self
