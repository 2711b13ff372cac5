"""From the logits at the reading position of a process reward model to a score in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from atomthink_plugin.scorers.prm_profile import ClassesReadOut, PairReadOut, Profile, ScalarReadOut, ShareReadOut

ReadOut = Callable[[torch.Tensor], torch.Tensor]
"""Returns the score, a scalar, from float32 logits `[outputs]`."""


def read_out(profile: Profile, ids: Mapping[str, int]) -> ReadOut:
    """Returns the read-out of a profile.

    Args:
        profile: The profile.
        ids: Token ids by text, those of its good and bad token included.
    """
    match profile.read:
        case PairReadOut(good=good, bad=bad):
            pair = [ids[good], ids[bad]]
            return lambda logits: torch.softmax(logits[pair], dim=-1)[0]
        case ShareReadOut(good=good):
            token = ids[good]
            return lambda logits: torch.softmax(logits, dim=-1)[token]
        case ClassesReadOut(good=classes, minus=minus):
            return lambda logits: _classes(logits, list(classes), list(minus))
        case ScalarReadOut():
            return lambda logits: torch.sigmoid(logits[0])


def read_tokens(profile: Profile) -> tuple[str, ...]:
    """Returns the texts of the tokens whose logits are read; none for a classifier."""
    match profile.read:
        case PairReadOut(good=good, bad=bad):
            return (good, bad)
        case ShareReadOut(good=good):
            return (good,)
        case _:
            return ()


def outputs(profile: Profile) -> int | None:
    """Returns the number of outputs of the PRM, None for a language model."""
    match profile.read:
        case ClassesReadOut(count=count):
            return count
        case ScalarReadOut():
            return 1
        case _:
            return None


def _classes(logits: torch.Tensor, good: list[int], minus: list[int]) -> torch.Tensor:
    probabilities = torch.softmax(logits, dim=-1)
    share = probabilities[good].sum()
    return (share - probabilities[minus].sum() + 1) / 2 if minus else share
