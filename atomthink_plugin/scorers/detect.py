"""Finds out from its config.json what kind of process reward model a checkpoint is."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from atomthink_plugin.api import AtomThinkError

SECTION: Final = "atomthink_prm"
"""Key of config.json under which PRMs trained here say how they are read."""

_HEADS: Final = ("TokenClassification", "ProcessRewardModel")


class PrmSettings(BaseModel):
    """The `atomthink_prm` section of a PRM's config.json.

    Attributes:
        kind: `token` (read at a tag), `head` (a classifier, read at a separator) or `likelihood` (of the step's own
            tokens).
        images: Whether it reads images; a text-only one is read in the published layout of its kind.
        format: Name of the prompt format it was trained with, if it reads images.
        tag: `token` and `head`: the token after every step.
        good: `token`: the token for a right step.
        bad: `token`: the token for a wrong step.
        scale: `likelihood`: factor of the log-likelihood.
        bias: `likelihood`: added to it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["token", "head", "likelihood"]
    images: bool = True
    format: str = "continue"
    tag: str | None = None
    good: str | None = None
    bad: str | None = None
    scale: float = 1.0
    bias: float = 0.0


PUBLISHED: Final = PrmSettings(kind="token", tag=" \n\n\n\n\n", good=" +", bad=" -")
"""AtomThinkPRM and Math-psa: one tag after every step, `+` and `-` with the space before them."""

SEPARATOR_TOKEN: Final = "<extra_0>"
"""The token after every step for Qwen2.5-Math-PRM."""


def prm_settings(config: dict[str, Any], name: str) -> PrmSettings | None:
    """Returns the settings in `config` for reading the PRM `name`, None if it has none.

    Raises:
        AtomThinkError: The settings are not valid.
    """
    if SECTION not in config:
        return None
    try:
        return PrmSettings.model_validate(config[SECTION])
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise AtomThinkError(f"prm={name!r}: {SECTION} in its config.json is wrong ({faults})") from error


def detect_kind(prm: str, revision: str | None = None) -> str:
    """Returns the name of the scorer that reads the checkpoint `prm`.

    Raises:
        AtomThinkError: Its config.json does not tell.
    """
    from atomthink_plugin.inference.checkpoint_files import (
        load_config,  # imports torch, which naming a scorer needs not
    )

    config = load_config(prm, revision=revision, argument="prm")
    settings = prm_settings(config, prm)
    if settings is not None:
        return f"prm_{settings.kind}"
    architectures = config.get("architectures") or []
    if any(name.endswith(_HEADS) for name in architectures):
        return "prm_head"
    raise AtomThinkError(
        f"prm={prm!r} ({', '.join(architectures) or 'no architecture named'}) does not say how it is read: pass "
        "scorer=prm_token (a language model read at a tag, such as AtomThinkPRM), scorer=prm_head (a token "
        "classifier, such as Qwen2.5-Math-PRM) or scorer=prm_likelihood"
    )
