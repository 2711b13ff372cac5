"""Judges answers to MathVista, MathVerse and MathVision without a judge model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from atomthink_plugin.tasks.scoring import mathvista
from atomthink_plugin.tasks.scoring.verdict import Verdict

SCORER_VERSION: Final = "1"


def judge(
    benchmark: Literal["mathvista", "mathverse", "mathvision"], question: Mapping[str, Any], response: str
) -> Verdict:
    return mathvista.judge(question, response)
