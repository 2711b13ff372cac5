"""Finds the option that a response chooses."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from atomthink_plugin.answers import final_answer
from atomthink_plugin.tasks.scoring.affirmation import affirms
from atomthink_plugin.tasks.scoring.equality import same
from atomthink_plugin.tasks.scoring.latex import plain, tokens
from atomthink_plugin.tasks.scoring.question_text import QuestionText, is_plan
from atomthink_plugin.tasks.scoring.stated_numbers import numbers
from atomthink_plugin.tasks.scoring.statements import (
    answer_sentences,
    answer_statements,
    bold_phrases,
    concludes,
    is_cut_off,
    quoted_phrases,
)

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MARK: Final = re.compile(
    r"\(\s?(?:\\text[a-z]{0,2}\{)?\s?(?P<round>[A-Z])\s?\}?\s?\)"
    r"|\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer|[Ll]etter)s?(?: is| would be|:)?[\s:*\"'(]{1,4}"
    r"(?P<named>[A-Z])\b(?!'| [a-z]|,? (?:or )?[A-Z]\b)"
    r"|(?:选项?|答案)[是为]?[\s:：(]{0,3}(?P<chosen>[A-Z])(?![A-Za-z])"
    r"|\b(?:is|are|be)[\s:*\"']{1,4}(?P<is>[A-Z])[\"'*]{0,3}(?=[.,;]?\s*$|[.,;] )"
    r"|^[\s*\"']{0,3}(?P<line>[A-Z])[).:](?=\s|\*|$)",
    re.MULTILINE,
)
_LEADING: Final = re.compile(
    r"[\s*$\"'`]{0,6}(?:\\(?:text|textbf|mathrm|mathbf|boxed)\s?\{)*\s?(?:(?:option|choice|letter)s?[\s:]{1,3})?[\"'*]{0,3}"
    r"(?:\(\s?(?:\\(?:text|textbf|mathrm|mathbf)\s?\{)*\s?([A-Za-z])\s?\}*\s?\)|([A-Z])(?:[)\]}.:,;*\"'$]|\s*$|\s+(?=[\\$\d(-]|because|since|as\b|which|and\b|is\b)))"
)
_FORMULA: Final = re.compile(r"[√π^*(]|\d[xyabnr]\b")
_SEVERAL: Final = re.compile(
    r"[\s$*]{0,5}\(?[A-Z]\)?\s?(?:,|;|and\b|or\b)\s?(?:and |or )?\(?[A-Z](?:\)|\s?[,;.$]|\s?$|\s(?:and|or)\b)"
)
_CONDITION: Final = re.compile(r"^(?:if|when|as|since|because)\b[^,]{1,200},", re.IGNORECASE)
_BEING: Final = re.compile(r"\b(?:is|are|was|were|be)\b")


@dataclass(frozen=True, slots=True)
class ChosenOption:
    """An option that a response chooses.

    Attributes:
        index: Its index.
        words: The words that choose it.
        rule: The rule that found them.
    """

    index: int
    words: str
    rule: str


class Options:
    """The options of one question.

    Attributes:
        texts: The options in order.
        are_letters: Whether the options are only the letters A, B, C and so on.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)
        self._tokens = [tokens(text) for text in texts]
        self._values: list[Fraction | None] = [_value(text) for text in texts]
        self._listing = _listing(texts)
        labels = [plain(text).strip("() ") for text in texts]
        self._labels = {label: i for i, label in enumerate(labels)} if all(len(label) == 1 for label in labels) else {}
        self.are_letters = labels == list(LETTERS[: len(texts)])

    def choose(self, question: QuestionText, response: str) -> ChosenOption | None:
        """Returns the option that a response chooses, None if it chooses none or several.

        The rules are tried in order, from the most explicit statement to the last mention of an option.
        """
        index = self._whole(response)
        if index is not None:
            return ChosenOption(index, response, "whole")
        response = self._listing.sub("\n", response) if self._listing else response
        spans = answer_statements(response)
        formal = spans[0] if spans and spans[0] == final_answer(response) else ""
        boxed = bool(formal) and "\\boxed" in response
        if boxed and (index := self._equal(formal)) is not None:
            return ChosenOption(index, formal, "stated")
        if any(_SEVERAL.match(span) and self._equal(span) is None for span in spans[:1]):
            return None
        strict: tuple[tuple[str, Callable[[str], int | None]], ...] = (
            ("letter", self._by_leading_letter),
            ("stated", self.named_in),
        )
        for rule, find in strict:
            for span in spans:
                index = find(span)
                if index is not None:
                    return ChosenOption(index, span, rule)
        if formal and (boxed or numbers(formal)):
            return self._equivalent(formal)
        return None if is_cut_off(response) else self._choose_by_sentence(question, response)

    def _choose_by_sentence(self, question: QuestionText, response: str) -> ChosenOption | None:
        """Returns the option that a sentence or a highlighted phrase of a response chooses."""
        sentences = [s for s in answer_sentences(question.new_sentences(response)) if not is_plan(s)]
        by_closeness = [*question.restatements(sentences), *sentences[::-1]]
        rules: tuple[tuple[str, Sequence[str], Callable[[str], int | None]], ...] = (
            ("lead", sentences[:1], self._by_first_words),
            ("conclusion", [s for s in reversed(sentences) if concludes(s)], self._of_conclusion),
            ("emphasis", bold_phrases(response), self.named_in),
            ("marked", [response], self._by_marked_letter),
            ("quoted", quoted_phrases(response), lambda span: None if numbers(span) else self._equal(span)),
            ("amount", by_closeness, lambda span: self._by_amount(question, span, new=True)),
            ("mentioned", by_closeness, self._by_mention),
            ("repeated", by_closeness, lambda span: self._by_amount(question, span, new=False)),
            ("latest", sentences[::-1], self._latest),
        )
        for rule, candidates, find in rules:
            for span in candidates:
                index = find(span)
                if index is not None:
                    return ChosenOption(index, span, rule)
            if rule == "quoted" and (index := self._affirmed(question, sentences)) is not None:
                return ChosenOption(index, self.texts[index], "affirmed")
        return None

    def _affirmed(self, question: QuestionText, sentences: Sequence[str]) -> int | None:
        """Returns yes or no, if these are the options and the response repeats or denies the question."""
        if sorted(self._tokens) != [["no"], ["yes"]]:
            return None
        affirmed = affirms(question, sentences)
        return None if affirmed is None else self._tokens.index(["yes" if affirmed else "no"])

    def named_in(self, span: str) -> int | None:
        """Returns the option that a statement names: by its first letter, by its text, or by any marked letter."""
        for find in (self._by_leading_letter, self._equal, self._by_mention, self._by_marked_letter, self._of_value):
            index = find(span)
            if index is not None:
                return index
        return None

    def _by_leading_letter(self, span: str) -> int | None:
        """Returns the option whose letter begins a statement."""
        letter = _LEADING.match(span)
        return self._index(letter[1] or letter[2]) if letter else None

    def _text(self, index: int) -> str:
        return self.texts[index]  # some questions list the same option twice

    def _index(self, letter: str) -> int | None:
        if letter in self._labels:
            return self._labels[letter]
        index = LETTERS.index(letter.upper())
        return index if index < len(self.texts) else None

    def _whole(self, response: str) -> int | None:
        if len(response) > 300:
            return None
        letter = re.fullmatch(r"\W{0,3}([A-Za-z])\W{0,3}", response)
        if letter and (index := self._index(letter[1])) is not None:
            return index
        return self._equal(response)

    def _equal(self, span: str) -> int | None:
        """Returns the option whose text is the whole span."""
        words = tokens(span)
        found = [i for i, option in enumerate(self._tokens) if option == words and option]
        return found[0] if len(set(map(self._text, found))) == 1 else None

    def _by_first_words(self, span: str) -> int | None:
        """Returns the option that begins a sentence, as in `Yes, ...`."""
        words = tokens(span)
        for index, option in enumerate(self._tokens):
            if (
                not self.are_letters
                and option
                and words[: len(option)] == option
                and not any(token.isalnum() for token in words[len(option) :][:1])
            ):
                return index
        return None

    def _of_conclusion(self, span: str) -> int | None:
        for find in (self._by_marked_letter, self._by_mention, self._of_value):
            index = find(span)
            if index is not None:
                return index
        return None

    def _by_amount(self, question: QuestionText, span: str, new: bool) -> int | None:
        """Returns the option with the value that a sentence arrives at, if all options are numbers."""
        number = question.answering_number(plain(span)) if all(value is not None for value in self._values) else None
        if number is None or (new and question.repeats(number)):
            return None
        return next((i for i, value in enumerate(self._values) if value == number.value), None)

    def _latest(self, span: str) -> int | None:
        """Returns the first option after the verb of a sentence, or else its last option."""
        if self.are_letters:
            return None
        span = _CONDITION.sub("", span)
        for part, place in ((_BEING.split(span, maxsplit=1)[-1], min), (span, max)):
            joined = _joined(tokens(part))
            found = [(joined.find(_joined(o)), i) for i, o in enumerate(self._tokens) if o and _joined(o) in joined]
            if found:
                return place(found)[1]
        return None

    def _by_marked_letter(self, span: str) -> int | None:
        """Returns the option whose letter is marked, if there is only one."""
        letters = [next(filter(None, mark.groups())) for mark in _MARK.finditer(span)]
        found = {index for letter in letters if (index := self._index(letter)) is not None}
        return found.pop() if len(found) == 1 else None

    def _by_mention(self, span: str) -> int | None:
        """Returns the option whose text occurs, if there is only one.

        An option inside a longer one does not count, nor does one after `than`.
        """
        span = _CONDITION.sub("", span)
        before, _, after = span.partition(" than ")
        if after and (index := self._by_mention(before)) is not None:
            return index
        if self.are_letters:
            return None
        joined = _joined(tokens(span))
        found = [i for i, option in enumerate(self._tokens) if option and _joined(option) in joined]
        found = [i for i in found if not any(self._is_part(i, other) for other in found)]
        return found[0] if len(set(map(self._text, found))) == 1 else None

    def _is_part(self, index: int, other: int) -> bool:
        longer, shorter = self._tokens[other], self._tokens[index]
        return len(longer) > len(shorter) and _joined(shorter) in _joined(longer)

    def _of_value(self, span: str) -> int | None:
        """Returns the option with the value of the only number in the span, if there is only one such option."""
        written = plain(span)
        values = {number.value for number in numbers(written)}
        found = [i for i, value in enumerate(self._values) if value is not None and value in values]
        return found[0] if len(values) == 1 and len(found) == 1 and not _FORMULA.search(written) else None

    def _equivalent(self, span: str) -> ChosenOption | None:
        """Returns the option that equals a stated expression, if there is only one."""
        found = [i for i, text in enumerate(self.texts) if same(span, text)]
        return ChosenOption(found[0], span, "equivalent") if len(found) == 1 else None


def _joined(words: list[str]) -> str:
    """Returns tokens as one text, with a separator that is in no token, so that `in` compares whole tokens."""
    return f"\x1f{chr(0x1F).join(words)}\x1f"


def _listing(texts: Sequence[str]) -> re.Pattern[str] | None:
    """Returns the pattern of the list of all options, because a response that repeats the list chooses nothing."""
    if len(texts) < 2:
        return None
    entries = [
        rf"\(?{letter}[).:]\s{{0,9}}{re.escape(text.strip())}" for letter, text in zip(LETTERS, texts, strict=False)
    ]
    return re.compile(r"[\s,;]{0,9}".join(entries))


def _value(text: str) -> Fraction | None:
    """Returns the value of an option that is a number, a ratio, or a number with a unit."""
    written = plain(text)
    ratio = re.fullmatch(r"(\d{1,9})\s?:\s?(\d{1,9})", written)
    if ratio and int(ratio[2]):
        return Fraction(int(ratio[1]), int(ratio[2]))
    found = numbers(written)
    return found[0].value if len(found) == 1 and len(tokens(text)) <= 3 and not _FORMULA.search(written) else None
