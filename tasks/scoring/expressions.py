"""Which expression of a response answers a question whose answer may be any: a number, a formula, a word."""

from __future__ import annotations

from atomthink_plugin.tasks.scoring.amounts import amount
from atomthink_plugin.tasks.scoring.question_text import QuestionText
from atomthink_plugin.tasks.scoring.statements import concludes, declares, stated

MAX_WHOLE = 80
"""Characters up to which a response of one line is an answer as a whole."""


def expression(asked: QuestionText, response: str) -> tuple[str, str] | None:
    """Returns the expression that answers the question and the rule that found it, None if there is none."""
    spans = stated(response)
    if spans:
        return spans[0], "stated"
    said = declares(asked.said(response))
    if not said:
        return None
    if len(response) <= MAX_WHOLE and "\n" not in response and " is " not in response:
        return response.strip("$. "), "whole"
    for sentence in reversed(said):
        if concludes(sentence) and "=" in sentence:
            return sentence.rsplit("=", 1)[1].strip("$. "), "conclusion"
    hit = amount(asked, response)
    if hit:
        return hit[0].text, hit[1]
    for sentence in reversed(said):
        _, verb, behind = sentence.partition(" is ")
        if verb and (concludes(sentence) or sentence in asked.restated(said)):
            return behind.strip("$. "), "restated"
    return None
