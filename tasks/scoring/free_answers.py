"""Finds the answer to a question without options: a number, or any expression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from atomthink_plugin.tasks.scoring.latex import tokens
from atomthink_plugin.tasks.scoring.question_text import QuestionText, is_plan
from atomthink_plugin.tasks.scoring.stated_numbers import Number, number_words, numbers
from atomthink_plugin.tasks.scoring.statements import (
    answer_sentences,
    answer_statements,
    bold_phrases,
    closing_line,
    concludes,
)

MAX_WHOLE: Final = 80
"""Characters up to which a response of one line can be an answer as a whole."""


def find_number(question: QuestionText, response: str) -> tuple[Number, str] | None:
    """Returns the number that answers the question and the rule that found it, None if the response has none."""
    whole = _only_number(response)
    if whole:
        return whole, "whole"
    for span in answer_statements(response):
        number = _number_of_statement(span)
        if number:
            return number, "stated"
    sentences = answer_sentences(question.new_sentences(response))
    conclusions = [sentence for sentence in reversed(sentences) if concludes(sentence)]
    bold = [phrase for sentence in conclusions for phrase in bold_phrases(sentence)]
    no_plans = [sentence for sentence in reversed(sentences) if not is_plan(sentence)]
    closing = [line for line in answer_sentences(closing_line(response)) if len(numbers(line)) == 1]
    rules: tuple[tuple[str, Sequence[str], Callable[[str], Number | None]], ...] = (
        ("blank", sentences[::-1], lambda sentence: question.number_in_blank(sentence, 2)),
        ("emphasis", [*bold, *bold_phrases(response)], question.answering_number),
        ("conclusion", conclusions, question.answering_number),
        ("closing", closing, question.answering_number),
        ("blank", no_plans, lambda sentence: question.number_in_blank(sentence, 1)),
        ("restated", question.restatements(sentences), question.answering_number),
        ("last", sentences[::-1], question.answering_number),
    )
    for rule, candidates, find in rules:
        number = next(filter(None, map(find, candidates)), None)
        if number:
            return number, rule
    return None


def find_expression(question: QuestionText, response: str) -> tuple[str, str] | None:
    """Returns the expression that answers the question and the rule that found it, None if the response has none."""
    statements = answer_statements(response)
    if statements:
        return statements[0], "stated"
    sentences = answer_sentences(question.new_sentences(response))
    if not sentences:
        return None
    if len(response) <= MAX_WHOLE and "\n" not in response and " is " not in response:
        return response.strip("$. "), "whole"
    for sentence in reversed(sentences):
        if concludes(sentence) and "=" in sentence:
            return sentence.rsplit("=", 1)[1].strip("$. "), "conclusion"
    number = find_number(question, response)
    if number:
        return number[0].text, number[1]
    for sentence in reversed(sentences):
        _, verb, after = sentence.partition(" is ")
        if verb and (concludes(sentence) or sentence in question.restatements(sentences)):
            return after.strip("$. "), "restated"
    return None


def _only_number(text: str) -> Number | None:
    """Returns the number of a short text that has nothing else but a unit."""
    if len(text) > 60 or "\n" in text:
        return None
    found = numbers(text) or number_words(text)
    return found[0] if len(found) == 1 and len(tokens(text)) <= 3 else None


def _number_of_statement(span: str) -> Number | None:
    """Returns the number that a statement names: the first one after its last equals sign."""
    found = numbers(span) or number_words(span)
    equals = span.rfind("=")
    return next((number for number in found if number.start > equals), None) if found else None
