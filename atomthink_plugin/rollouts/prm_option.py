"""The option `--prm` of `atomthink score`: one process reward model (PRM) with its own arguments."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.config import scorer_plan
from atomthink_plugin.plugins.arguments import read_pairs
from atomthink_plugin.plugins.registry import registry
from atomthink_plugin.scorer_plans import ScorerPlan

_FILE: Final = "file:"

_ARGUMENT: Final = re.compile(r"\w+=")


@dataclass(frozen=True, slots=True)
class NamedPrm:
    """One `--prm`.

    Attributes:
        name: Its name in reports, unique in a run.
        plan: How it is loaded; None for step scores that the file of candidates has.
        in_file: The name of these scores in the file.
    """

    name: str
    plan: ScorerPlan | None
    in_file: str = ""


def read_prms(typed: Sequence[str]) -> list[NamedPrm]:
    """Reads all `--prm` options: `NAME`, `NAME:ARGUMENT=VALUE,...`, `scorer=KIND,...` or `file:NAME`.

    Raises:
        AtomThinkError: An option is given twice, or its arguments are not those of a scorer.
    """
    if repeated := [text for text, count in Counter(typed).items() if count > 1]:
        raise AtomThinkError(f"`--prm {repeated[0]}` is given twice. Leave one out")
    names = [_short(text) for text in typed]
    return [
        NamedPrm(short if names.count(short) == 1 else text, _plan(text), _in_file(text))
        for short, text in zip(names, typed, strict=True)
    ]


def _plan(text: str) -> ScorerPlan | None:
    if text.startswith(_FILE):
        return None
    prm, arguments = _split(text)
    given = read_pairs("--prm", arguments)
    if "prm" in given and prm:
        raise AtomThinkError(f"`--prm {text}` names two checkpoints. Leave out `prm={given['prm']}`")
    if given.get("scorer") == "confidence":
        raise AtomThinkError(
            f"`--prm {text}` is the policy's confidence. It needs probabilities of tokens, which files of candidates "
            "do not have. Name a process reward model"
        )
    return scorer_plan({**_of_model(prm), **given})


def _of_model(prm: str) -> dict[str, Any]:
    """Returns the arguments that name a checkpoint; those of a registered model, if it has a PRM of its own."""
    models = registry().models
    if prm in models and "prm" in models[prm].defaults:
        defaults = models[prm].defaults
        return {name: defaults[name] for name in defaults if name == "prm" or name.startswith("prm_")}
    return {"prm": prm} if prm else {}


def _split(text: str) -> tuple[str, str]:
    """Returns the checkpoint and the arguments of an option; one of them may be empty."""
    if _ARGUMENT.match(text):
        return "", text
    first = re.search(r":(?=\w+=)", text)  # a name may have colons of its own, as in C:/prm
    return (text, "") if first is None else (text[: first.start()], text[first.end() :])


def _short(text: str) -> str:
    """Returns the last part of a checkpoint's name."""
    prm, arguments = (_in_file(text), "") if text.startswith(_FILE) else _split(text)
    return PurePath(prm).name or arguments


def _in_file(text: str) -> str:
    return text.removeprefix(_FILE) if text.startswith(_FILE) else ""
