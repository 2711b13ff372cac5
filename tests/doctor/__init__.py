"""The probes of `atomthink doctor`."""

from __future__ import annotations

from collections.abc import Sequence

from atomthink_plugin.doctor.findings import Problem


def naming(problems: Sequence[Problem], *words: str) -> list[Problem]:
    """The problems whose texts have all of some words."""
    return [one for one in problems if all(word in one.text for word in words)]
