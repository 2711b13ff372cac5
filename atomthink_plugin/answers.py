"""The one final-answer parser, for the engine, the tasks and training, and equivalence of answers."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Final

from atomthink_plugin.algebra_worker import AlgebraWorker, WorkerLostError

log = logging.getLogger(__name__)

MAX_ANSWER: Final = 2000
"""The most characters of an answer; longer texts are not answers. Bounds the work per statement."""

MAX_MATH: Final = 100
"""Characters of an expression that is compared symbolically."""

TOLERANCE: Final = 1e-9
"""Relative difference up to which expressions have the same value: rounding errors, not rounded answers."""

_LETTER: Final = re.compile(r"\(?([A-J])\)?\.?")
_SPACE: Final = r"\s{1,9}"
_GAP: Final = r"[\s*_]{0,9}"
_START: Final = r"(?<![^\W_])"  # a word begins here, also after Markdown's underscores
_HEDGE: Final = (
    rf"{_START}(?:what|whether|if|suppose|assume|assuming|unless|until|once|when){_SPACE}"
    rf"(?:that{_SPACE})?(?:the{_SPACE})?(?:correct{_SPACE})?(?:final{_SPACE})?"
    r"|(?:如果|假设|假如|是否)(?:最终|最后)?"
)
_ANSWER: Final = rf"answer(?:{_SPACE}(?:to|for){_SPACE}(?:the|this|your){_SPACE}(?:question|problem))?"
_LEAD: Final = re.compile(
    rf"(?P<hedge>{_HEDGE})?"
    rf"(?:{_START}{_ANSWER}{_GAP}is\b(?:{_SPACE}(?:therefore|thus|hence|then|simply|still|indeed)\b)?,?{_GAP}[:：=]?"
    rf"|{_START}(?:final|the){_SPACE}{_ANSWER}{_GAP}[:：=]"
    rf"|(?:^|:[ \t])[ \t#>*_-]*answer{_GAP}[:：=]"
    rf"|^[ \t]*(?P<header>[#*])[ \t#*]*(?:the{_SPACE})?final{_SPACE}answer[ \t*]*$"
    rf"|答案{_GAP}(?:(?:应该|應該)?[是为為]|[:：]){_GAP}[:：]?)",
    re.IGNORECASE | re.MULTILINE,
)
_PROSE: Final = re.compile(
    r"(?:obtained|found|given|calculated|computed|determined|derived|based|known|unknown|unclear|what|"
    r"incorrect|correct|wrong|consistent|reasonable|in the form|to be|"
    r"not (?:yet|the|known|clear|correct|\d))\b|什么|多少|正确",
    re.IGNORECASE,
)
_DISPLAY: Final = re.compile(r"\$\$.+?\$\$|\\\[.+?\\\]", re.DOTALL)
# An option or an initial ("A. Paris") is no sentence, hence three letters, a digit, its unit, or a closing sign.
_BEHIND_UNIT: Final = r"(?<=\d[a-z])|(?<=\d[a-z]{2})|(?<=\d [a-z])|(?<=\d [a-z]{2})"
_SENTENCE_END: Final = re.compile(
    rf"(?:(?<=[^\W\d_]{{3}})|(?<=[\d)}}$%])|{_BEHIND_UNIT}|(?<=\b[nN]o))\.[*_]{{0,2}}[ \t]+(?=[A-Z][a-z])|。(?=.)"
)
_BOLD: Final = re.compile(r"(?<![\w)])\*\*|\*\*(?![\w(])")
_BRACES: Final = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)
_WRAPPERS: Final = (
    ("$$", "$$"), ("\\(", "\\)"), ("\\[", "\\]"), ("$", "$"), ("*", "*"), ("`", "`"), ('"', '"'), ("“", "”"),
)  # fmt: skip


def final_answer(text: str) -> str | None:
    r"""Returns the final answer that a step or a whole reply states, None if it states none.

    A statement is `the final answer is: X`, `The answer is X`, `Final Answer: X`, a line `Answer: X`, a
    heading `Final Answer` above X, `答案是 X`, or `\boxed{X}`, in any case and with Markdown around it. The
    last statement wins, even if further lines follow. X is one line up to the end of its sentence,
    so decimals, options and abbreviations stay whole; one display formula may span lines. Prose about an
    answer (`what the final answer is`, `the answer is obtained by ...`) states none.

    Args:
        text: A step or a reply of any length; the time taken is linear in it.

    Examples:
        >>> final_answer("Step 4: To sum up, the final answer is: 24.5 square units.")
        '24.5 square units'
        >>> final_answer("So it is \\boxed{\\frac{1}{2}} in total.")
        '\\frac{1}{2}'
    """
    boxed_end, boxed = _last_boxed(text)
    if not _names_an_answer(text):
        return boxed
    limit = len(text)
    for lead in reversed(list(_LEAD.finditer(text))):
        if lead.start() < boxed_end:
            break
        rest = text[lead.end() : min(limit, lead.end() + MAX_ANSWER)]
        answer = _stated(lead, rest) if rest and not lead["hedge"] else None
        if answer:
            return answer
        limit = lead.start()
    return boxed


def _names_an_answer(text: str) -> bool:
    """Whether there is a word that every statement has; most steps have none and need no closer look."""
    return "answer" in text.casefold() or "答案" in text


def _stated(lead: re.Match[str], rest: str) -> str | None:
    """Returns the X of one statement: `rest` begins right after its lead."""
    opened = bool(lead["header"]) or lead[0].rstrip("*_ \t\n").endswith((":", "：", "="))
    beyond = _BOLD.sub("", rest).lstrip()
    display = _DISPLAY.match(beyond)
    if display:
        return _clean(display[0])
    line = (beyond if opened else _BOLD.sub("", rest)).split("\n", 1)[0].strip()
    if not opened and _PROSE.match(line):
        return None
    answer = _clean(_SENTENCE_END.split(line, maxsplit=1)[0])
    return answer if answer.strip("?？…$*_ ") else None


def _last_boxed(text: str) -> tuple[int, str | None]:
    r"""Returns where the last complete `\boxed{...}` ends and what it holds; (-1, None) without one."""
    first = text.find("\\boxed")
    if first < 0:
        return -1, None
    opened: list[int] = []  # where a box's content begins, -1 for other braces
    begin, end = -1, -1
    for token in _BRACES.finditer(text, first):
        if token[0].startswith("\\boxed"):
            opened.append(token.end())
        elif token[0] == "{":
            opened.append(-1)
        elif token[0] == "}" and opened:
            start = opened.pop()
            if start > begin and start < token.start() <= start + MAX_ANSWER:
                begin, end = start, token.start()
    content = _clean(text[begin:end]) if begin >= 0 else ""
    return (end, content) if content else (-1, None)


def _clean(answer: str) -> str:
    """Takes trailing periods and signs that wrap the whole answer away."""
    previous = None
    while previous != answer:
        previous = answer
        answer = answer.strip().rstrip(".。．").rstrip()
        if answer.endswith("*") and answer.count("*") % 2:  # closes emphasis that began before the answer
            answer = answer[:-1]
        for left, right in _WRAPPERS:
            inner = answer[len(left) : -len(right)]
            if answer == left + inner + right and inner.strip() and left not in inner and right not in inner:
                answer = inner
    return answer


def equivalent(first: str, second: str) -> bool:
    r"""Returns whether two answers are mathematically the same. Symmetric.

    Case, spaces, `$`, a trailing period, thousands separators and full-width characters do not count.
    Options are equal when their letters are (`A. 30`, `(A)`, `a`); one without a letter is compared with
    the option's text. Numbers are compared exactly: `0.5`, `1/2`, `\frac{1}{2}` and `50%` are equal, `0.33`
    and `1/3` are not. A unit may be missing on one side; two different units are never equal. Expressions
    are read by math-verify; scalars are compared by value, all else (sets, equations, ...) by its rules.
    That happens in a worker process, which the first such comparison starts; call this from a thread
    where an event loop must not be blocked.

    It does not convert units (`1 m`, `100 cm`), read number words (`two`), ignore surrounding words or
    know synonyms. Expressions that sympy could hang on (longer than `MAX_MATH`, factorials, sums,
    integrals, towers of powers) are equal only as text, as are those that take too long to compare.

    Examples:
        >>> equivalent("\\frac{1}{2}", "50%"), equivalent("A. 30", "B. 30"), equivalent("12 cm", "12")
        (True, False, True)

    Raises:
        AtomThinkError: The worker process cannot be started.
    """
    return _same(_form(_normal(first)), _form(_normal(second)))


def count_equivalent(answers: Iterable[str | None], reference: str) -> int:
    """Returns how many answers are equivalent to a reference; None, which states no answer, is not."""
    return sum(answer is not None and equivalent(answer, reference) for answer in answers)


def is_right(answer: str, right: str, options: Sequence[str] = ()) -> bool:
    """Returns whether an answer is equivalent to the right one, or to the text of the right option.

    Args:
        answer: The answer.
        right: The right answer, which may be the letter of an option.
        options: The texts of the options in order.
    """
    if equivalent(answer, right):
        return True
    letter = _LETTER.fullmatch(right.strip())
    index = ord(letter[1]) - ord("A") if letter else len(options)
    if index >= len(options) or _LETTER.fullmatch(answer.strip()):
        return False
    return [at for at, option in enumerate(options) if equivalent(answer, option)] == [index]


def group(answers: Sequence[str]) -> list[list[int]]:
    """Groups answers by equivalence.

    Equivalence is not transitive (`12 cm`, `12`, `12 m`): all members of a group are equivalent to each
    other, and an answer that fits several groups joins the one with the most frequent member. So the
    groups do not depend on the order of the answers. Equal answers cost one dictionary look-up each.

    Args:
        answers: Final answers, in any order.

    Returns:
        Indices into `answers`, ascending within a group; groups in order of first appearance.

    Examples:
        >>> group(["1/2", "3", "0.5"])
        [[0, 2], [1]]
    """
    normal = {answer: _normal(answer) for answer in set(answers)}
    members: dict[str, list[int]] = {}
    for index, answer in enumerate(answers):
        members.setdefault(normal[answer], []).append(index)
    groups: list[list[str]] = []
    for key in sorted(members, key=lambda key: (-len(members[key]), key)):
        fitting = (known for known in groups if all(_same(_form(key), _form(other)) for other in known))
        home = next(fitting, None)
        if home is None:
            groups.append([key])
        else:
            home.append(key)
    return sorted(sorted(index for key in known for index in members[key]) for known in groups)


@dataclass(frozen=True, slots=True)
class _Form:
    """The parts of a normalised answer.

    Attributes:
        option: Its option letter, or empty.
        text: The rest without spaces.
        value: The number it is, if it is a plain one.
        unit: The unit after the number or expression, or empty.
        math: LaTeX for math-verify, empty for text and for what sympy could hang on.
    """

    option: str
    text: str
    value: Fraction | None
    unit: str
    math: str


_PLAIN: Final = str.maketrans(
    {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
    | {"\u3000": " ", "\xa0": " ", "−": "-", "–": "-", "。": ".", "²": "^2", "³": "^3"}
    | {"×": r"\times ", "·": r"\cdot ", "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "~": " "}
)
_FONTS: Final = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_LAYOUT: Final = re.compile(r"\\(?:left|right|displaystyle)(?![a-zA-Z])|\\!|\$|\\(?=[%$])")
_SPACING: Final = re.compile(r"\\[,;: ]|\s")
_DEGREE: Final = re.compile(r"\^\{?\s*\\circ\s*\}?|°|\bdegrees\b")
_OPTION: Final = re.compile(r"(?:option |choice )?(?:\(([a-j])\)|([a-j])(?:[.):]|$))\s*(.*)", re.DOTALL)
_DIGITS: Final = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_UNIT: Final = r"(?:(?<=\s)[mgslhjwvknf]|(?:[^\W\d_]{2}|°|[^\W\d_][/^])(?:[^\W\d_]|[\s/.'-]|\^\{?-?\d\}?)*)"
_NUMBER: Final = re.compile(rf"([-+]?)\s*(?:(?:(\d+)\s+)?(\d+)\s*/\s*(\d+)|({_DIGITS}))\s*(%|percent\b)?\s*({_UNIT})?")
_WITH_UNIT: Final = re.compile(rf"(.*(?:[\d}})]|\\pi))\s*({_UNIT})")
_FRACTION: Final = re.compile(r"\\frac\{(\d+)\}\{(\d+)\}")


def _normal(answer: str) -> str:
    """Returns the text that decides equality: answers with the same normal text are the same answer."""
    if len(answer) > MAX_ANSWER:
        return " ".join(answer.casefold().split())
    text = _FONTS.sub(r" \1", _clean(answer).translate(_PLAIN))
    text = _DEGREE.sub(" degree", _SPACING.sub(" ", _LAYOUT.sub("", text)))
    text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("{,}", ",")
    text = _clean(" ".join(text.split()))
    return text if "\\" in text else text.casefold()  # LaTeX commands differ by case


@lru_cache(maxsize=4096)
def _form(normal: str) -> _Form:
    """Splits a normalised text into its parts."""
    option = _OPTION.fullmatch(normal) if len(normal) <= MAX_ANSWER else None
    letter = (option[1] or option[2]) if option else ""
    rest = (option[3] if option else "") or letter or normal
    text = rest.replace(" ", "")
    if len(rest) > MAX_MATH:
        return _Form(letter, text, None, "", "")
    value, unit = _number(rest)
    if value is not None:
        return _Form(letter, text, value, unit, f"\\frac{{{value.numerator}}}{{{value.denominator}}}")
    split = _WITH_UNIT.fullmatch(rest)
    math = _latex(split[1]) if split else ""
    if split and math:
        return _Form(letter, text, None, _singular(split[2]), math)
    return _Form(letter, text, None, "", _latex(rest))


def _number(text: str) -> tuple[Fraction | None, str]:
    """Returns the exact value and the unit of a plain number, (None, "") for anything else."""
    match = _NUMBER.fullmatch(_FRACTION.sub(r" \1/\2", text).strip())
    if match is None:
        return None, ""
    sign, whole, top, bottom, decimal, percent, unit = match.groups(default="")
    if decimal:
        value = Fraction(decimal.replace(",", ""))
    elif int(bottom) == 0:
        return None, ""
    else:
        value = int(whole or 0) + Fraction(int(top), int(bottom))
    if percent:
        value /= 100
    return (-value if sign == "-" else value), _singular(unit)


def _singular(unit: str) -> str:
    unit = unit.strip()
    return unit[:-1] if len(unit) > 3 and unit.endswith("s") else unit


def _same(first: _Form, second: _Form) -> bool:
    if first.option and second.option:
        return first.option == second.option
    if first.text == second.text:
        return True
    if first.unit and second.unit and first.unit != second.unit:
        return False
    if first.value is not None and second.value is not None:
        return first.value == second.value
    return bool(first.math and second.math) and _verified(*sorted((first.math, second.math)))


_NAMED: Final = re.compile(r"(?<![a-zA-Z\\])(sin|cos|tan|log|ln|exp|pi)(?![a-zA-Z])")
_ROOT: Final = re.compile(r"(?:\\?sqrt\s*|√\s*)\(([^()]*)\)|√\s*(\d+)")
_SCIENTIFIC: Final = re.compile(r"(?<=\d)e([-+]?\d{1,3})(?!\d)")
_WORD: Final = re.compile(r"\\(?:begin|end)\{\w+\}|\\[a-zA-Z]+|([^\W\d_]{2,})")
_SIGNS: Final = re.compile(r"[\d+*/^=<>({-]")
_ENDLESS: Final = re.compile(r"!|\\(?:sum|prod|int|lim|d?binom|pow)|\*\*")
# A power sympy is sure to finish: a small exponent or a letter, and no power of a power without brackets.
_POWER: Final = re.compile(
    r"([)}\]])?\^\s*(?:([a-zA-Z\d])|\{\s*[-+]?(\d{0,3})[a-zA-Z]?\s*\}|\{\s*-?\\frac\{?\d\}?\{?\d\}?\s*\})(?!\s*\^)"
)


def _latex(text: str) -> str:
    """Returns `text` as LaTeX if it is an expression throughout and sympy is sure to finish on it."""
    text = _SCIENTIFIC.sub(r"\\times 10^{\1}", text)
    text = _NAMED.sub(r"\\\1 ", _ROOT.sub(lambda root: f"\\sqrt{{{root[1] or root[2] or ''}}}", text))
    words = any(word[1] for word in _WORD.finditer(text))
    return text if _SIGNS.search(text) and not words and _finite(text) else ""


def _finite(text: str) -> bool:
    powers = list(_POWER.finditer(text))
    if _ENDLESS.search(text) or len(powers) != text.count("^"):
        return False
    growth = expansion = 1
    for power in powers:
        exponent = int(power[2] if (power[2] or "").isdecimal() else power[3] or 1) or 1
        growth *= exponent
        expansion *= exponent if power[1] else 1
    return growth <= 1000 and expansion <= 10


def _verified(first: str, second: str) -> bool:
    try:
        return _compared(first, second)
    except WorkerLostError as error:  # not cached: the next time it may be compared
        log.warning("%s and %s count as different: %s", first, second, error)
        return False


@lru_cache(maxsize=4096)
def _compared(first: str, second: str) -> bool:
    return _ALGEBRA.same(first, second)


_ALGEBRA: Final = AlgebraWorker()
