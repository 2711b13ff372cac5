"""PROVISIONAL: stands in for the judge-free scorer, which replaces this folder; only the interface counts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from atomthink_plugin.answers import equivalent, final_answer

SCORER_VERSION: Final = "0-provisional"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a scorer says of one response.

    Attributes:
        extracted: The answer as it stands in the response, None if there is none.
        normalized: The answer in the benchmark's own form.
        correct: Whether it is right.
        rule: Which rule spoke.
    """

    extracted: str | None
    normalized: str | None
    correct: bool
    rule: str


def judge(
    benchmark: Literal["mathvista", "mathverse", "mathvision"], question: Mapping[str, Any], response: str
) -> Verdict:
    """Returns the verdict on a response to one of the benchmark's own records."""
    extracted = final_answer(response) or response.strip()
    if not extracted:
        return Verdict(None, None, False, "nothing")
    choices = list(question.get("choices") or question.get("options") or ())
    letter = re.fullmatch(r"\(?([A-Z])\)?\.?", extracted)
    normalized = extracted
    if letter and ord(letter[1]) - 65 < len(choices) and benchmark == "mathvista":
        normalized = choices[ord(letter[1]) - 65]
    answer = str(question.get("answer", ""))
    return Verdict(extracted, normalized, equivalent(normalized, answer), "provisional")
