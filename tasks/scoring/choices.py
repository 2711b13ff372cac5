"""Which of the given options a response chooses."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Final

from atomthink_plugin.answers import final_answer
from atomthink_plugin.tasks.scoring.affirmation import affirms
from atomthink_plugin.tasks.scoring.equality import same
from atomthink_plugin.tasks.scoring.latex import plain, tokens
from atomthink_plugin.tasks.scoring.question_text import QuestionText, plans
from atomthink_plugin.tasks.scoring.stated_numbers import numbers
from atomthink_plugin.tasks.scoring.statements import concludes, declares, emphasised, quoted, stated, unfinished

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


class Options:
    """The options of one question and how to recognise them."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)
        self._tokens = [tokens(text) for text in texts]
        self._values: list[Fraction | None] = [_value(text) for text in texts]
        self._listing = _listing(texts)
        labels = [plain(text).strip("() ") for text in texts]
        self._labels = {label: i for i, label in enumerate(labels)} if all(len(label) == 1 for label in labels) else {}
        self.lettered = labels == list(LETTERS[: len(texts)])

    def choose(self, asked: QuestionText, response: str) -> tuple[int, str, str] | None:
        """Returns the index of the option chosen, the words that choose it, and the rule that found it."""
        index = self._whole(response)
        if index is not None:
            return index, response, "whole"
        response = self._listing.sub("\n", response) if self._listing else response
        spans = stated(response)
        formal = spans[0] if spans and spans[0] == final_answer(response) else ""
        boxed = bool(formal) and "\\boxed" in response
        if boxed and (index := self._equal(formal)) is not None:
            return index, formal, "stated"
        if any(_SEVERAL.match(span) and self._equal(span) is None for span in spans[:1]):
            return None
        strict: tuple[tuple[str, Callable[[str], int | None]], ...] = (
            ("letter", self._lettered),
            ("stated", self.named),
        )
        for rule, find in strict:
            for span in spans:
                index = find(span)
                if index is not None:
                    return index, span, rule
        if formal and (boxed or numbers(formal)):
            return self._equivalent(formal)
        if unfinished(response):
            return None
        said = [sentence for sentence in declares(asked.said(response)) if not plans(sentence)]
        rules: tuple[tuple[str, Sequence[str], Callable[[str], int | None]], ...] = (
            ("lead", said[:1], self._lead),
            ("conclusion", [s for s in reversed(said) if concludes(s)], self._concluded),
            ("emphasis", emphasised(response), self.named),
            ("marked", [response], self._marked),
            ("quoted", quoted(response), lambda span: None if numbers(span) else self._equal(span)),
            ("amount", [*asked.restated(said), *said[::-1]], lambda span: self._amount(asked, span, new=True)),
            ("mentioned", [*asked.restated(said), *said[::-1]], self._mentioned),
            ("repeated", [*asked.restated(said), *said[::-1]], lambda span: self._amount(asked, span, new=False)),
            ("latest", said[::-1], self._latest),
        )
        for rule, candidates, find in rules:
            for span in candidates:
                index = find(span)
                if index is not None:
                    return index, span, rule
            if rule == "quoted" and (index := self._affirmed(asked, said)) is not None:
                return index, self.texts[index], "affirmed"
        return None

    def _affirmed(self, asked: QuestionText, said: Sequence[str]) -> int | None:
        """Yes or no, where these are the options and the response repeats or denies what is asked."""
        if sorted(self._tokens) != [["no"], ["yes"]]:
            return None
        agreed = affirms(asked, said)
        return None if agreed is None else self._tokens.index(["yes" if agreed else "no"])

    def named(self, span: str) -> int | None:
        """Returns the option that a statement names: by a letter in front, else by its text, else by any letter."""
        for find in (self._lettered, self._equal, self._mentioned, self._marked, self._of_value):
            index = find(span)
            if index is not None:
                return index
        return None

    def _lettered(self, span: str) -> int | None:
        """The option whose letter a statement begins with."""
        letter = _LEADING.match(span)
        return self._index(letter[1] or letter[2]) if letter else None

    def _text(self, index: int) -> str:
        return self.texts[index]  # options are now and then the same

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
        """The option whose text the span is."""
        spoken = tokens(span)
        found = [i for i, option in enumerate(self._tokens) if option == spoken and option]
        return found[0] if len(set(map(self._text, found))) == 1 else None

    def _lead(self, span: str) -> int | None:
        """The option that a sentence begins with, as in `Yes, ...`."""
        spoken = tokens(span)
        for index, option in enumerate(self._tokens):
            if (
                not self.lettered
                and option
                and spoken[: len(option)] == option
                and not any(token.isalnum() for token in spoken[len(option) :][:1])
            ):
                return index
        return None

    def _concluded(self, span: str) -> int | None:
        for find in (self._marked, self._mentioned, self._of_value):
            index = find(span)
            if index is not None:
                return index
        return None

    def _amount(self, asked: QuestionText, span: str, new: bool) -> int | None:
        """The option that has the value a sentence arrives at, where all options are numbers."""
        number = asked.number(plain(span)) if all(value is not None for value in self._values) else None
        if number is None or (new and asked.repeats(number)):
            return None
        return next((i for i, value in enumerate(self._values) if value == number.value), None)

    def _latest(self, span: str) -> int | None:
        """Of several options in a sentence the first behind its verb, else the last."""
        if self.lettered:
            return None
        span = _CONDITION.sub("", span)
        for part, place in ((_BEING.split(span, maxsplit=1)[-1], min), (span, max)):
            spoken = f"\x1f{chr(0x1F).join(tokens(part))}\x1f"
            found = [(spoken.find(_joined(o)), i) for i, o in enumerate(self._tokens) if o and _within(o, spoken)]
            if found:
                return place(found)[1]
        return None

    def _marked(self, span: str) -> int | None:
        """The only option whose letter is marked."""
        letters = [next(filter(None, mark.groups())) for mark in _MARK.finditer(span)]
        found = {index for letter in letters if (index := self._index(letter)) is not None}
        return found.pop() if len(found) == 1 else None

    def _mentioned(self, span: str) -> int | None:
        """The only option whose text occurs; one within another does not count, nor what others are compared with."""
        span = _CONDITION.sub("", span)
        before, _, behind = span.partition(" than ")
        if behind and (index := self._mentioned(before)) is not None:
            return index
        spoken = f"\x1f{chr(0x1F).join(tokens(span))}\x1f"
        found = [i for i, option in enumerate(self._tokens) if option and _within(option, spoken) and not self.lettered]
        found = [i for i in found if not any(self._part(i, other) for other in found)]
        return found[0] if len(set(map(self._text, found))) == 1 else None

    def _part(self, index: int, other: int) -> bool:
        longer, shorter = self._tokens[other], self._tokens[index]
        return len(longer) > len(shorter) and _within(shorter, f"\x1f{chr(0x1F).join(longer)}\x1f")

    def _of_value(self, span: str) -> int | None:
        """The only option that has the value of the one number in the span."""
        written = plain(span)
        values = {number.value for number in numbers(written)}
        found = [i for i, value in enumerate(self._values) if value is not None and value in values]
        return found[0] if len(values) == 1 and len(found) == 1 and not _FORMULA.search(written) else None

    def _equivalent(self, span: str) -> tuple[int, str, str] | None:
        """The option that a stated expression equals; one that equals none chooses none."""
        found = [i for i, text in enumerate(self.texts) if same(span, text)]
        return (found[0], span, "equivalent") if len(found) == 1 else None


def _within(option: list[str], spoken: str) -> bool:
    return _joined(option) in spoken


def _joined(option: list[str]) -> str:
    return f"\x1f{chr(0x1F).join(option)}\x1f"


def _listing(texts: Sequence[str]) -> re.Pattern[str] | None:
    """A list of all options under their letters, as a question has it: nobody chooses by repeating that."""
    if len(texts) < 2:
        return None
    entries = [
        rf"\(?{letter}[).:]\s{{0,9}}{re.escape(text.strip())}" for letter, text in zip(LETTERS, texts, strict=False)
    ]
    return re.compile(r"[\s,;]{0,9}".join(entries))


def _value(text: str) -> Fraction | None:
    """The value of an option that is a number, a ratio, or a number with a unit."""
    written = plain(text)
    ratio = re.fullmatch(r"(\d{1,9})\s?:\s?(\d{1,9})", written)
    if ratio and int(ratio[2]):
        return Fraction(int(ratio[1]), int(ratio[2]))
    found = numbers(written)
    return found[0].value if len(found) == 1 and len(tokens(text)) <= 3 and not _FORMULA.search(written) else None
