"""The recipe of a process reward model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, model_validator

from atomthink_plugin.scorers.prm_head import SEPARATOR_TOKEN
from atomthink_plugin.scorers.prm_token import PUBLISHED
from atomthink_plugin.training.train.recipe import Recipe


class PrmRecipe(Recipe):
    """Training on labelled chains.

    Attributes:
        kind: `token`: a language model, read at a tag after each step by its good and its bad token. `head`: a
            token classifier, read at a separator after each step.
        images: Whether the model reads images. Without, it is a language model (or, for `head`, a classifier made of
            one), with the input layout of AtomThinkPRM or Qwen2.5-Math-PRM.
        format: Prompt format, for a model that reads images.
        step_tag: Text after every step; by default AtomThinkPRM's for `token`, `<extra_0>` for `head`. Like
            `good_token` and `bad_token` it is added to the tokenizer if it is not a single token.
        good_token: `token`: the answer that a step is right.
        bad_token: `token`: the answer that a step is wrong.
        balance_labels: Whether wrong and right steps have the same weight in total.
        token_loss_weight: Weight of the same loss at each token of a step, from the first wrong token on; for right
            steps, and for wrong steps with a known correction. 0 for the paper's loss.
        lm_loss_weight: Weight of the language modelling loss on right steps, and on the first token in which a
            correction differs; it keeps the model's ability to do the task. 0 for the paper's loss.
    """

    kind: Literal["token", "head"] = "token"
    images: bool = True
    format: str = "continue"
    step_tag: str = Field(
        default_factory=lambda given: SEPARATOR_TOKEN if given.get("kind") == "head" else str(PUBLISHED.tag)
    )
    good_token: str = str(PUBLISHED.good)
    bad_token: str = str(PUBLISHED.bad)
    balance_labels: bool = False
    token_loss_weight: NonNegativeFloat = 0.0
    lm_loss_weight: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _fits_scorers(self) -> Self:
        if self.use_peft and not self.merge_lora:
            raise ValueError("`merge_lora: false`: scorers read complete checkpoints, not adapters")
        if self.kind == "head" and (self.token_loss_weight or self.lm_loss_weight):
            raise ValueError("`token_loss_weight` and `lm_loss_weight` need `kind: token`")
        return self
