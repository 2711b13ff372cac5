"""The parts of a response that may give its answer: explicit statements, conclusions, and highlighted phrases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from atomthink_plugin.answers import final_answer

_GAP: Final = r"[\s*_]{0,6}"
_NOUN: Final = r"(?:answer|option|choice|letter|statement|value|result|number)"
_IS: Final = r"(?:is|are|would be|should be|must be|will be|appears to be|[是为])"
_ABOUT: Final = r"(?:\s(?:for|to|of|in|from|that|which|here)\b[^.\n:]{1,100}?)?"
_LEAD: Final = re.compile(
    rf"\b(?:correct|right|best|closest|nearest|final|appropriate|accurate){_GAP}(?:{_NOUN}{_GAP}){{1,3}}"
    rf"(?:{_ABOUT}\s{_IS}\b{_GAP}[:：]?|[:：]){_GAP}"
    rf"|\b(?:answer|option|choice|letter)s?{_GAP}(?:letter{_GAP})?{_IS}\b{_GAP}[:：]?{_GAP}"
    rf"|\bthe answer{_ABOUT}\s{_IS}\b{_GAP}[:：]?{_GAP}"
    rf"|\banswer{_GAP}[:：]?{_GAP}(?=\([A-J]\))|\b(?:choose|select|pick)\s{{1,3}}(?=\(?[A-J]\)|(?:option|choice) )"
    rf"|^(?:the )?(?:answer|option|choice|solution){_GAP}[:：]{_GAP}"
    rf"|(?:答案|选项|故选|应选|选择|因此选|所以选|正确选项){_GAP}(?:应该|应)?[是为]?{_GAP}[:：]?{_GAP}",
    re.IGNORECASE | re.MULTILINE,
)
_CONCLUDES: Final = re.compile(
    r"[\s*#_>-]{0,9}(?:and |but )?(?:therefore|thus|hence|so|consequently|in conclusion|in total|in summary|overall|"
    r"to summarize|to sum up|finally|accordingly|altogether|based on (?:this|these|the above)|"
    r"因此|所以|故|综上)",
    re.IGNORECASE,
)
_DECLINES: Final = re.compile(
    r"\b(?:sorry|apologi[sz]e|unable to|impossible to|insufficient|"
    r"(?:can ?not|can't|could not|couldn't) (?:be )?"
    r"(?:answer|determin|see|provide|access|say|tell|calculat|identif|view|know|give|find)\w*|"
    r"(?:do not|don't|does not|doesn't) (?:provide|contain|show|have|include|specify|mention|give|see)|"
    r"not (?:possible|provided|given|available|specified|mentioned|visible|enough|clear|sure)|"
    r"(?:is|are)n't (?:possible|enough|clear|provided|given)|please provide|"
    r"need (?:more|additional|to (?:know|see)|the)|"
    r"without (?:the (?:image|figure|diagram|graph|table|specific|actual|necessary)|"
    r"any|more|an image|additional|further|knowing|being)|no (?:information|image|way)|unclear|"
    r"as an ai|language model|unfortunately)\b|无法|不能确定|没有提供|抱歉",
    re.IGNORECASE,
)
_POLITE: Final = re.compile(
    r"\b(?:hope this|let me know|anything else|help you with|feel free|other (?:questions?|puzzles?))\b", re.IGNORECASE
)
MIN_CUT_OFF: Final = 800
"""Characters from which a response without an end is taken as cut off. Shorter ones often lack a period."""
_FINISHED: Final = re.compile(r"[.!?。)\]}$*`\"'|%°:]\s*$")
_BOLD: Final = re.compile(r"\*\*([^*\n]{1,200})\*\*")
_QUOTED: Final = re.compile(r"\"([^\"\n]{1,80})\"")
_EXPLAINS: Final = re.compile(
    r"\b(?:how|why) (?:I|we|to) [^.\n]{0,40}\b(?:answer|solution|result)[^.\n]{0,10}:", re.IGNORECASE
)


def answer_statements(text: str) -> list[str]:
    """Returns the text after each `the answer is`; a formal final answer comes first, then the latest statement."""
    text = _EXPLAINS.sub("", text)
    formal = final_answer(text)
    leads = [text[lead.end() : lead.end() + 200] for lead in _LEAD.finditer(text)]
    spans = [formal or "", *(_first_line(rest) for rest in reversed(leads[-6:]))]
    return [span for span in spans if span]


def _first_line(text: str) -> str:
    return text.lstrip(" *_:\n").split("\n", 1)[0].strip()


def concludes(sentence: str) -> bool:
    """Returns whether a sentence draws a conclusion."""
    return _CONCLUDES.match(sentence) is not None


def answer_sentences(sentences: Sequence[str]) -> list[str]:
    """Returns the sentences that may contain an answer: neither refusals nor polite phrases."""
    return [sentence for sentence in sentences if not _DECLINES.search(sentence) and not _POLITE.search(sentence)]


def bold_phrases(text: str) -> list[str]:
    """Returns the phrases in bold."""
    return _BOLD.findall(text)


def quoted_phrases(text: str) -> list[str]:
    """Returns the phrases in quotation marks."""
    return _QUOTED.findall(text)


def closing_line(text: str) -> list[str]:
    """Returns the last of several paragraphs if it is a single line."""
    paragraphs = text.split("\n\n")
    return paragraphs[-1:] if len(paragraphs) > 1 and "\n" not in paragraphs[-1] else []


def is_cut_off(text: str) -> bool:
    """Returns whether a long response ends in the middle of a sentence, before it gives an answer."""
    return len(text) > MIN_CUT_OFF and _FINISHED.search(text[-20:]) is None
