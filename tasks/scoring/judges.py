"""The judge of each benchmark, and the version of its rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.tasks.scoring import mathverse, mathvision, mathvista
from atomthink_plugin.tasks.scoring.verdict import AnswerVerdict

SCORER_VERSION: Final = "1"
"""Changes whenever a verdict may; results name it."""

JUDGES: Final[dict[str, Callable[[Mapping[str, Any], str], AnswerVerdict]]] = {
    "mathvista": mathvista.judge,
    "mathverse": mathverse.judge,
    "mathvision": mathvision.judge,
}


def judge(
    benchmark: Literal["mathvista", "mathverse", "mathvision"], question: Mapping[str, Any], response: str
) -> AnswerVerdict:
    """Judges one response: finds its answer without looking at the reference, then compares as the benchmark does.

    Deterministic, thread-safe, and bounded for any response. An empty response and a refusal are wrong.

    Args:
        benchmark: Whose question it is.
        question: The benchmark's own record; fields may be None or NaN.
        response: What the model said.

    Raises:
        AtomThinkError: No such benchmark, or a column is missing from the record.
    """
    if benchmark not in JUDGES:
        raise AtomThinkError(f"benchmark={benchmark!r} has no scorer: it is one of {', '.join(JUDGES)}")
    return JUDGES[benchmark](question, response)
