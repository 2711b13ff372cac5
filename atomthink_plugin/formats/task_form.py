"""A chain's final answer, in the form that a task asks for."""

from __future__ import annotations

import re


def in_task_form(text: str, answer: str | None, prompt: str) -> str:
    r"""Returns `text` with its final answer in the form that the question's prompt asks for.

    The answer is boxed where it is stated, or in a sentence of its own if it is not found there. A prompt
    that asks for `<answer>` gets the tag in a last line. Not for direct replies, which stay as they are.

    Example:
        A prompt that mentions `\boxed{}` turns `... the final answer is: 5.` into
        `... the final answer is: \boxed{5}.`.
    """
    if answer is None:
        return text
    if "\\boxed" in prompt:
        text = _boxed(text, answer)
    if "<answer>" in prompt and "<answer>" not in text:
        text = f"{text}\n<answer>{answer}</answer>"
    return text


def _boxed(text: str, answer: str) -> str:
    phrases = list(re.finditer("answer is", text, re.IGNORECASE))
    end = phrases[-1].end() if phrases else text.rfind("\n") + 1
    if "\\boxed" in text[end:]:
        return text
    found = re.compile(rf"(?<!\w){re.escape(answer)}(?!\w)").search(text, end) if phrases else None
    if found is None:
        return f"{text} The final answer is: \\boxed{{{answer}}}."
    return f"{text[: found.start()]}\\boxed{{{answer}}}{text[found.end() :]}"
