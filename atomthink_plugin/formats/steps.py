"""Atomic steps as text: where one ends, how a reply splits into steps, and the check of every candidate."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from atomthink_plugin.api import Format, Path, Question, Unit

SEPARATOR: Final = "\n\n"
"""Between steps, as in the published training records."""

MAX_WORDS: Final = 500
"""Words of a step, the published limit; a CJK character is a word and so are 16 signs without a space."""

MAX_CHARACTERS: Final = 20 * MAX_WORDS
"""The most characters of a step. It bounds the work on one step."""

MAX_REPEATED: Final = 0.5
"""Share of a step's sentences that may repeat earlier ones: saying one thing twice is fine, thrice is not.

The published limit is 0.45 on another ratio, which falls the more often a sentence is repeated."""

LOOP_WORDS: Final = 64
"""Tokens from which a loop without sentence ends is looked for: short sums repeat tokens legitimately."""

MAX_LOOPED: Final = 0.8
"""Share of a long step's 4-grams that may repeat earlier ones; generation stuck in a loop exceeds 0.9."""

SIMILAR: Final = 0.9
"""Jaccard similarity of 3-grams from which two steps that agree in all numbers and signs are the same.

The published limit is 0.98 on sets of characters, which do not keep the order."""

_CJK: Final = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_NUMERAL: Final = r"[0-9一二三四五六七八九十]{1,9}"
_NAME: Final = (
    rf"(?:step[ \t]{{0,9}}[0-9]{{1,9}}|步[骤驟][ \t]{{0,9}}{_NUMERAL}|第[ \t]{{0,9}}{_NUMERAL}[ \t]{{0,9}}步)"
)
_CLOSE: Final = r"(?:[*_ \t]{0,9}[:：][*_]{0,2}|[*_]{0,2}(?:[.)、](?=[ \t*_]|$)|[ \t]{1,9}[-–—](?=[ \t])))"
_LABEL: Final = re.compile(
    rf"[ \t#>*_-]*{_NAME}(?:{_CLOSE}|[ \t*_]*$)[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
# A label opens a line or follows a sentence; inside a sentence ("go back to Step 2: ...") it is prose.
_BREAK: Final = re.compile(
    rf"\n[ \t\r]*\n\s*|\n(?={_LABEL.pattern})|(?<=[.!?] )(?=[*_]{{0,2}}{_NAME}[*_]{{0,2}}[:：])"
    rf"|(?<=[。！？])(?=[ \t*_]{{0,9}}{_NAME}[*_]{{0,2}}[:：])",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE: Final = re.compile(r"[.!?]+(?=\s|$)|[。！？\n]+")
_MARKS: Final = re.compile(r"\*\*|`+|\\[()\[\],;! ]|[$#]")
_WORD: Final = re.compile(rf"[{_CJK}]|[^\s{_CJK}]{{1,16}}")
_TOKEN: Final = re.compile(rf"\d+(?:[.,]\d+)*|[{_CJK}]|[^\W\d_{_CJK}]{{1,16}}|[^\w\s.,;?\"。，；？、]")


def split_steps(text: str) -> list[str]:
    r"""Splits a whole reply into its steps.

    A step ends at a blank line, which is also where step-wise generation stops, or before a label:
    `Step 2:`, `**Step 2:**`, `### Step 2`, `步骤2：`, `第2步：`. A label counts where a line begins or,
    with its colon, after a finished sentence; inside a sentence it is prose. Pieces without a letter or
    digit of their own (a bare label, a rule) belong to the step after them, at the end of the reply to the
    one before. No visible text is lost.

    Examples:
        >>> split_steps("Step 1: Read red = 4.\nStep 2: As in Step 1: read blue = 7.")
        ['Step 1: Read red = 4.', 'Step 2: As in Step 1: read blue = 7.']
    """
    steps: list[str] = []
    waiting: list[str] = []
    for piece in _BREAK.split(text.strip()):
        waiting.append(piece.strip())
        if _has_content(body(piece)):
            steps.append("\n\n".join(filter(None, waiting)))
            waiting = []
    rest = "\n\n".join(filter(None, waiting))
    if rest and steps:
        steps[-1] += "\n\n" + rest
    elif rest:
        steps.append(rest)
    return steps


def first_step(text: str) -> str:
    r"""Returns what to keep of a reply that may hold several steps: the first, empty for an empty reply.

    Examples:
        >>> first_step("Step 3: 4 + 7 = 11.\n\nStep 4: The answer is 11.")
        'Step 3: 4 + 7 = 11.'
    """
    return next(iter(split_steps(text)), "")


def body(step: str) -> str:
    """Returns a step without its label.

    Examples:
        >>> body("**Step 2: Add.** 4 + 7 = 11"), body("The step function is 0.")
        ('Add. 4 + 7 = 11', 'The step function is 0.')
    """
    step = step.strip()
    label = _LABEL.match(step)
    if label is None:
        return step
    rest = step[label.end() :]
    return (rest.replace("**", "", 1) if label[0].count("**") % 2 else rest).strip()


def check(step: str, history: Sequence[str]) -> str | None:
    """Says why a candidate is no valid next step.

    Labels, case, punctuation and Markdown do not count. Steps that differ in any number, sign or single
    letter are different, and so are short ones that differ in a word.

    Args:
        step: The candidate.
        history: All earlier steps, in order.

    Returns:
        None if it is valid, else `empty`, `several steps`, `too long`, `repeats itself` or
        `repeats an earlier step`.

    Examples:
        >>> check("Step 3: Read red = 4.", ["Step 1: Read red = 4.", "Step 2: Read blue = 7."])
        'repeats an earlier step'
    """
    if not _has_content(body(step)):
        return "empty"
    if len(step) > MAX_CHARACTERS:
        return "too long"
    if len(split_steps(step)) > 1:
        return "several steps"
    if len(_WORD.findall(body(step))) > MAX_WORDS:
        return "too long"
    shape = _shape(step)
    if _repeats_itself(step, shape):
        return "repeats itself"
    if any(_same(shape, _shape(earlier)) for earlier in history):
        return "repeats an earlier step"
    return None


class _Shape(NamedTuple):
    """What of a step is compared.

    Attributes:
        tokens: Words, numbers and signs in their order.
        facts: The tokens that carry mathematics: numbers, signs, single letters.
        trigrams: All runs of three tokens.
    """

    tokens: tuple[str, ...]
    facts: tuple[str, ...]
    trigrams: frozenset[tuple[str, ...]]


@lru_cache(maxsize=4096)
def _shape(step: str) -> _Shape:
    tokens = tuple(_TOKEN.findall(_MARKS.sub(" ", body(step)).casefold()))
    facts = tuple(token for token in tokens if not (token.isalpha() and (len(token) > 1 or token > "\u3040")))
    return _Shape(tokens, facts, frozenset(_ngrams(tokens, 3)))


def _ngrams(tokens: tuple[str, ...], size: int) -> list[tuple[str, ...]]:
    return [tokens[at : at + size] for at in range(len(tokens) - size + 1)]


def _same(first: _Shape, second: _Shape) -> bool:
    if first.tokens == second.tokens:
        return True
    if first.facts != second.facts:
        return False
    union = len(first.trigrams | second.trigrams)
    return union > 0 and len(first.trigrams & second.trigrams) >= SIMILAR * union


def _repeats_itself(step: str, shape: _Shape) -> bool:
    sentences = [" ".join(part.casefold().split()) for part in _SENTENCE.split(body(step))]
    if _repeated([sentence for sentence in sentences if _has_content(sentence)]) > MAX_REPEATED:
        return True
    return len(shape.tokens) >= LOOP_WORDS and _repeated(_ngrams(shape.tokens, 4)) > MAX_LOOPED


def _repeated(parts: Sequence[object]) -> float:
    """Returns the share of parts that occurred before, 0.0 for none."""
    return 1 - len(set(parts)) / len(parts) if parts else 0.0


def _has_content(text: str) -> bool:
    return any(sign.isalnum() for sign in text)


ATOMIC_STEP: Final = Unit("step", joint=SEPARATOR, cut=first_step, check=check)
"""One atomic step: the first of several that an untuned model writes at once."""


def step_stops(path: Path) -> tuple[str, ...]:
    """Returns where a step ends: at a blank line, or where an untuned model begins the step after it."""
    return (SEPARATOR, f"\nStep {path.depth + 2}")


def stepwise(format: Format) -> bool:
    """Returns whether a format asks for a chain of units, not for one whole reply."""
    return format.unit(Path(Question("", ()))) is not None
