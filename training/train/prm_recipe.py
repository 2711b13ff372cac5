"""The recipe of a process reward model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import NonNegativeFloat, model_validator

from atomthink_plugin.scorers.prm_head import SEPARATOR_TOKEN
from atomthink_plugin.scorers.prm_token import PUBLISHED
from atomthink_plugin.training.train.recipe import Recipe


class PrmRecipe(Recipe):
    """Training on labelled chains.

    Attributes:
        kind: `token`: a language model, read at a tag behind each step by its good and its bad token. `head`: a
            classifier of tokens, read at a separator behind each step.
        images: Whether it reads images. Without, `model` is a language model (or, for `head`, a classifier made of
            one), and its input is laid out as AtomThinkPRM's or Qwen2.5-Math-PRM's.
        format: Prompt format of one that reads images.
        tag: Behind every step; AtomThinkPRM's for `token`, `<extra_0>` for `head`, if not given. Like `good` and
            `bad` it becomes a token of its own where it is none.
        good: `token`: says that the step is right.
        bad: `token`: says that it is wrong.
        balance: Whether wrong and right steps count the same, however many there are of each.
        along: Weight of the same judgement at each token of a step, from the one on that makes it wrong; for steps
            whose correction is known, and for right ones. 0 for the paper's loss.
        language: Weight of the language model's loss on right steps, and on the first token that a correction has
            in another way; it keeps a model that can do the task able to. 0 for the paper's loss.
    """

    kind: Literal["token", "head"] = "token"
    images: bool = True
    format: str = "continue"
    tag: str | None = None
    good: str = PUBLISHED.good or ""
    bad: str = PUBLISHED.bad or ""
    balance: bool = False
    along: NonNegativeFloat = 0.0
    language: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _what_can_be_read(self) -> Self:
        if self.lora is not None and not self.lora.merge:
            raise ValueError("`lora.merge: false`: scorers read complete checkpoints, so a PRM's adapters are merged")
        if self.kind == "head" and (self.along or self.language):
            raise ValueError("`along` and `language` need `kind: token`: a classifier has no words")
        return self

    @property
    def behind(self) -> str:
        """The token behind every step."""
        return self.tag or (SEPARATOR_TOKEN if self.kind == "head" else PUBLISHED.tag or "")
