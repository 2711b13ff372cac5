"""Loads the checkpoint of a profile by the way that the profile names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Unpack

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.checkpoints import (
    Checkpoint,
    LoadingArguments,
    load_head_prm,
    load_multimodal,
    load_remote_prm,
    load_text_prm,
)
from atomthink_plugin.scorers.prm_profile import Loader, Profile
from atomthink_plugin.scorers.readouts import outputs

VALUE_HEAD: Final = "v_head.summary"
"""What the value head is called in checkpoints of language models with one, as TRL saves them."""


def _causal(prm: str, profile: Profile, **loading: Unpack[LoadingArguments]) -> Checkpoint:
    return load_text_prm(prm, **loading)


def _image_text(prm: str, profile: Profile, **loading: Unpack[LoadingArguments]) -> Checkpoint:
    return load_multimodal(prm, **loading)


def _token_class(prm: str, profile: Profile, **loading: Unpack[LoadingArguments]) -> Checkpoint:
    return load_head_prm(prm, head=profile.head, classes=outputs(profile), **loading)


def _value_head(prm: str, profile: Profile, **loading: Unpack[LoadingArguments]) -> Checkpoint:
    return load_head_prm(prm, head=profile.head or VALUE_HEAD, classes=1, **loading)


def _remote(prm: str, profile: Profile, **loading: Unpack[LoadingArguments]) -> Checkpoint:
    return load_remote_prm(prm, **loading)


LOADERS: Final[Mapping[Loader, Callable[..., Checkpoint]]] = {
    "causal": _causal,
    "image_text": _image_text,
    "internvl": _image_text,
    "token_class": _token_class,
    "value_head": _value_head,
    "remote": _remote,
}


def load_checkpoint(prm: str, profile: Profile, **loading: Unpack[LoadingArguments]) -> Checkpoint:
    """Loads a PRM as its profile says.

    Args:
        prm: A folder or the id of a repository on the model hub.
        profile: Its profile.
        loading: Arguments that all loaders share.

    Raises:
        AtomThinkError: It cannot be loaded, or has another number of outputs than the profile says.
    """
    checkpoint = LOADERS[profile.loader](prm, profile, **loading)
    wanted = outputs(profile)
    found = getattr(checkpoint.model.config, "num_labels", None)
    if wanted is not None and profile.loader != "remote" and found != wanted:
        raise AtomThinkError(f"prm={prm!r} has {found} outputs, and its profile says {wanted}: name another profile")
    return checkpoint
