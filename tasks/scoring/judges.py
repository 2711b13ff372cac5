"""The judge of each benchmark, and the version of their rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.tasks.scoring import mathverse, mathvision, mathvista
from atomthink_plugin.tasks.scoring.verdict import AnswerVerdict

SCORER_VERSION: Final = "1"
"""Changes whenever a verdict may change. Results name it."""

JUDGES: Final[dict[str, Callable[[Mapping[str, Any], str], AnswerVerdict]]] = {
    "mathvista": mathvista.judge,
    "mathverse": mathverse.judge,
    "mathvision": mathvision.judge,
}


def judge(
    benchmark: Literal["mathvista", "mathverse", "mathvision"], question: Mapping[str, Any], response: str
) -> AnswerVerdict:
    """Extracts the answer of a response and compares it with the reference answer, as the benchmark does.

    The answer is extracted without looking at the reference. The verdict is deterministic, and the time it takes is
    bounded for any response. An empty response and a refusal are wrong. The function is thread-safe.

    Args:
        benchmark: The benchmark of the question.
        question: The benchmark's own record. Fields may be None or NaN.
        response: The model's response.

    Raises:
        AtomThinkError: There is no such benchmark, or the record lacks a column.
    """
    if benchmark not in JUDGES:
        raise AtomThinkError(f"benchmark={benchmark!r} has no scorer. Use one of {', '.join(JUDGES)}")
    return JUDGES[benchmark](question, response)
