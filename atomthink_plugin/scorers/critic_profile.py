"""How a published generative process reward model is asked: what one YAML file in `profiles/` says about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from annotated_types import Ge, Gt, Le, MinLen
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import AfterValidator, BaseModel, ConfigDict, PositiveInt, model_validator

from atomthink_plugin.scorers.prm_profile import PublishedModel

Scope = Literal["step", "prefix", "chain"]
"""What one verdict is about: the last step, all steps so far, or each step of a finished chain."""

IMAGES: Final = "\x00images\x00"
"""What `{{ images }}` becomes in a rendered prompt, until the images take its place."""

_LABEL: Final = re.compile(r"\A\s*(?:#+\s*)?step\s*\d+\s*[:.]\s*", re.IGNORECASE)


def bare(step: str) -> str:
    """Returns a step without a label such as `Step 3:`."""
    return _LABEL.sub("", step).strip()


def _environment() -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=False, trim_blocks=True)
    made.filters["bare"] = bare
    return made


_JINJA: Final = _environment()


def render(template: str, values: Mapping[str, Any]) -> str:
    """Returns a template of a profile with its values."""
    return _JINJA.from_string(template).render(values)


def _renderable(template: str) -> str:
    """Returns a template that can be rendered.

    Raises:
        ValueError: It has a syntax error, or a name that prompts do not have.
    """
    try:
        render(template, EXAMPLE)
    except TemplateError as error:
        raise ValueError(f"{type(error).__name__}: {error}; names are {', '.join(EXAMPLE)}") from None
    return template


EXAMPLE: Final[Mapping[str, Any]] = {
    "question": "What is 1 + 1?",
    "images": IMAGES,
    "steps": ("Step 1: Add the numbers.", "Step 2: 1 + 1 = 2."),
    "step": "Step 2: 1 + 1 = 2.",
    "k": 2,
    "verdicts": (1,),
    "thought": "The sum is 2.",
    "facts": "{}",
}
"""The names of a template, with an example of each.

`question`: the question's text. `images`: its images. `steps`: the steps that the critic sees, the last one included.
`step` and `k`: the step to judge and its number from 1. `verdicts`: of the steps before it, 1 for right and 0 for
wrong. `thought` and `facts`: the replies to the requests of these names. There is no reference answer.
"""

Template = Annotated[str, AfterValidator(_renderable)]
"""A Jinja template over the names of `EXAMPLE`, with the filter `bare`, which removes a label such as `Step 3:`."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Preparation(_Section):
    """A request before the verdicts, whose reply the later prompts contain.

    Attributes:
        system: Text of the system turn; None sends none.
        prompt: Text of the user turn.
        max_tokens: Token limit of the reply.
        temperature: Sampling temperature; 0 is greedy.
        top_p: Share of the probability that is kept.
        stop: Strings that end the reply. They are no part of it.
        json_object: Whether only the JSON object in the reply is used. `fallback` takes its place if there is none.
        fallback: See `json_object`.
    """

    system: str | None = None
    prompt: Template
    max_tokens: PositiveInt
    temperature: Annotated[float, Ge(0)] = 0.0
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0
    stop: tuple[str, ...] = ()
    json_object: bool = False
    fallback: str = ""


class Critique(_Section):
    """How a critique is sampled and its verdict is read.

    Attributes:
        scope: What one verdict is about.
        facts: Request about the question, once per question: `facts` in the prompts.
        thought: Request about a finished chain, once per chain: `thought` in the prompts. Only for the scope `chain`.
        system: Text of the system turn; None sends none.
        prompt: Text of the user turn.
        turns: Whether earlier steps are earlier turns, with the critic's own replies; each turn is a `prompt`.
        begin: Beginning of the reply.
        stop: Strings that end the critique. They are no part of it.
        max_tokens: Token limit of a critique. With 0 there is no critique, and the verdict is read at once.
        ask: Text before the verdict.
        ask_unstopped: Text before the verdict where no `stop` string ended the critique; `ask` if None.
        ask_as: Whether `ask` continues the `reply`, or is a `user` turn after it.
        close: Text after the verdict, where later turns show the reply.
        verdict: The tokens for a right and for a wrong step.
        samples: Critiques of each step. The score is the mean of their verdicts.
        temperature: Sampling temperature of critiques; 0 is greedy.
        top_p: Share of the probability that is kept.
        top_k: Likeliest tokens that are kept, 0 for all.
        failure: Score of a sample whose verdict cannot be read.
    """

    scope: Scope
    facts: Preparation | None = None
    thought: Preparation | None = None
    system: str | None = None
    prompt: Template
    turns: bool = False
    begin: Template = ""
    stop: tuple[Template, ...] = ()
    max_tokens: Annotated[int, Ge(0)]
    ask: str = ""
    ask_unstopped: str | None = None
    ask_as: Literal["reply", "user"] = "reply"
    close: str = ""
    verdict: Annotated[tuple[str, ...], MinLen(2)]
    samples: PositiveInt = 1
    temperature: Annotated[float, Ge(0)] = 0.0
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0
    top_k: Annotated[int, Ge(0)] = 0
    failure: Annotated[float, Ge(0), Le(1)]

    @model_validator(mode="after")
    def _consistent(self) -> Critique:
        """Checks fields against each other."""
        faults = []
        if len(self.verdict) != 2 or self.verdict[0].strip() == self.verdict[1].strip():
            faults.append("`verdict` must be two different texts: right, wrong")
        if self.samples > 1 and not (self.max_tokens and self.temperature):
            faults.append("`samples` above 1 needs `max_tokens` and `temperature` above 0, or all samples are equal")
        if (self.thought is not None) != (self.scope == "chain"):
            faults.append("`thought` is needed by `scope: chain`, and only there")
        if self.turns and self.scope == "chain":
            faults.append("`turns` cannot be used with `scope: chain`")
        if self.ask_as == "user" and not self.ask:
            faults.append("`ask_as: user` needs `ask`")
        if faults:
            raise ValueError("; ".join(faults))
        return self


class CriticProfile(PublishedModel):
    """A PRM that writes a critique, after which its verdict is read.

    Attributes:
        critique: How it is asked and read.
    """

    critique: Critique

    @model_validator(mode="after")
    def _askable(self) -> CriticProfile:
        """Checks the fields of all profiles against what policies do."""
        if self.loader not in ("causal", "image_text"):
            raise ValueError(
                f"`loader: {self.loader}` loads no policy that writes a critique: `causal` or `image_text`"
            )
        if self.ids:
            raise ValueError("`ids` are not checked for a critic: its verdict is looked up by its text")
        if self.images.use == "tiled":
            raise ValueError("`images.use: tiled` is not possible with a critique; use `all` or `first`")
        if self.images.tiles or self.images.min_pixels or self.images.max_pixels:
            raise ValueError("a critic's policy sets the size of images, not `images.tiles` or a number of pixels")
        return self
