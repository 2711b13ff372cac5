"""Gold replies to what searches ask beside a chain: summaries of reasoning, and verdicts of a judge.

The prompts are made by the searches themselves, so that what is trained is what they ask.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, Final

from atomthink_plugin.api import Message, Path, Prompt, Question, Step
from atomthink_plugin.formats.stages import STAGES
from atomthink_plugin.formats.steps import SEPARATOR, body
from atomthink_plugin.searches.judge_best_of_n import chain_ballot
from atomthink_plugin.searches.reason_summarise import summary_prompt
from atomthink_plugin.searches.stage_beam import duel_prompt, reasoning_prompt
from atomthink_plugin.searches.stepwise_bon import step_ballot
from atomthink_plugin.searches.zero_shot_cot import REASONING_TRIGGER, answer_trigger
from atomthink_plugin.tasks.demo.questions import DemoQuestion, calculate, stated_value
from atomthink_plugin.training.records import engine_question
from atomthink_plugin.training.tiny.figures import Figures
from atomthink_plugin.training.tiny.forms import bodies, staged
from atomthink_plugin.training.tiny.labels import slipped_steps, with_number, wrong_number

JUDGED: Final = ("CAPTION", "REASONING", "CONCLUSION")
"""The stages that duels are about: summaries hardly ever differ."""

CHOICE: Final = ", I choose response "
NAMED: Final = "I choose candidate "


def summaries(figures: Figures, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Yields what a summary agent should reply to reasoning that is right or wrong: a right solution."""
    for question, image in figures.questions(rng):
        gold = bodies(question)
        written = gold if rng.random() < 0.5 else [body(step) for step in slipped_steps(question, rng)[:-1]]
        prompt = summary_prompt(engine_question("", question.text, ()), SEPARATOR.join(written))
        yield _record(prompt, [image], f"{' '.join(gold)} The final answer is: {question.answer}.")


def duels(figures: Figures, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Yields verdicts about two candidates of a stage, one of them wrong. The reason is what a right one says."""
    for question, image in figures.questions(rng):
        stage = rng.choice(JUDGED)
        right = staged(question)
        candidates = [right[stage], _wrong(stage, question, rng)]
        rng.shuffle(candidates)
        first, second = (_path(question, {**right, stage: text}, stage) for text in candidates)
        said = {"CAPTION": right["CAPTION"], "REASONING": right["REASONING"], "CONCLUSION": bodies(question)[-1]}[stage]
        reason = said.replace(f".{SEPARATOR}Compute", ",").removeprefix("Compute ").removesuffix(".")
        verdict = f"Since {reason}{CHOICE}{candidates.index(right[stage]) + 1}."
        yield _record(duel_prompt(first, second), [image], verdict)


def checks(figures: Figures, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Yields verdicts about one reasoning, after the right result of each of its calculations."""
    for question, _ in figures.questions(rng):
        right = staged(question)
        text = right["REASONING"] if rng.random() < 0.5 else _wrong("REASONING", question, rng)
        verified = [_calculated(step) for step in text.split(SEPARATOR)]
        verdict = "correct" if verified == text.split(SEPARATOR) else "incorrect"
        path = _path(question, {**right, "REASONING": text}, "REASONING")
        yield _record(reasoning_prompt(path), [], f"{' '.join(verified)} {verdict}")


def ballots(figures: Figures, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Yields verdicts about several steps or chains, one of them right. Before the number of a step, it is repeated."""
    for question, image in figures.questions(rng):
        if rng.random() < 0.7:
            at = rng.randrange(len(question.steps))
            path = _atomic(question, question.steps[:at])
            right, wrong = question.steps[at], (_wrong_step(question.steps[at], rng) for _ in range(3))
            candidates, reason = _shuffled(right, wrong, rng), f"{body(right)} "
            prompt = step_ballot(path, candidates)
        else:
            right, wrong = SEPARATOR.join(question.steps), (_slipped(question, rng) for _ in range(rng.randint(1, 7)))
            candidates, reason = _shuffled(right, wrong, rng), ""
            prompt = chain_ballot(engine_question("", question.text, ()), candidates)
        if len(candidates) > 1:
            yield _record(prompt, [image], f"{reason}{NAMED}{candidates.index(right) + 1}.")


def _wrong_step(step: str, rng: random.Random) -> str:
    value = stated_value(step)
    assert value is not None
    return with_number(step, wrong_number(value, rng))


def _slipped(question: DemoQuestion, rng: random.Random) -> str:
    return SEPARATOR.join(slipped_steps(question, rng))


def _shuffled(right: str, wrong: Iterable[str], rng: random.Random) -> list[str]:
    """Returns distinct candidates in random order."""
    candidates = list(dict.fromkeys((right, *wrong)))
    rng.shuffle(candidates)
    return candidates


def _atomic(question: DemoQuestion, steps: Sequence[str]) -> Path:
    *_, path = accumulate(map(Step, steps), Path.extend, initial=Path(engine_question("", question.text, ())))
    return path


def _wrong(stage: str, question: DemoQuestion, rng: random.Random) -> str:
    """Returns a stage with a wrong number; of a reasoning, what follows uses it."""
    if stage == "CONCLUSION":
        return str(wrong_number(question.answer, rng))
    if stage == "CAPTION":
        readings = staged(question)["CAPTION"].removesuffix(".").split(", ")
        at = rng.randrange(len(readings))
        name, _, right = readings[at].rpartition(" ")
        readings[at] = f"{name} {rng.choice([other for other in range(2, 10) if other != int(right)])}"
        return f"{', '.join(readings)}."
    computed = [at for at, action in enumerate(question.plan()) if action.verb == "compute"]
    stated = [-1]
    while min(stated) < 0:
        stated, slip = [], rng.choice(computed)
        for at, action in enumerate(question.plan()):
            value = question.expected_value(action, stated)
            stated.append(wrong_number(value, rng) if at == slip else value)
    return SEPARATOR.join(with_number(body(question.expected_step(at, stated)), stated[at]) for at in computed)


def _calculated(step: str) -> str:
    """Returns a calculation with its right result."""
    formula, _, _ = step.rpartition(" = ")
    left, operator, right = formula.removeprefix("Compute ").split(" ")
    return f"{formula} = {calculate(operator, int(left), int(right))}."  # type: ignore[arg-type]


def _path(question: DemoQuestion, texts: dict[str, str], last: str) -> Path:
    """Returns the path of the stages up to `last`."""
    return _extended(engine_question("", question.text, ()), [texts[tag] for tag in STAGES[: STAGES.index(last) + 1]])


def _extended(question: Question, texts: Sequence[str]) -> Path:
    steps = (Step(f"<{tag}> {text} </{tag}>", unit=tag) for tag, text in zip(STAGES, texts, strict=False))
    *_, path = accumulate(steps, Path.extend, initial=Path(question))
    return path


def _text(prompt: Prompt) -> str:
    """Returns the text of a prompt of one turn."""
    (turn,) = prompt.messages
    return "".join(part for part in turn.parts if isinstance(part, str))


def _record(prompt: Prompt, images: list[str], reply: str) -> dict[str, Any]:
    return {"question": _text(prompt), "images": images, "steps": [reply], "format": "direct"}


def fixed_texts() -> tuple[str, ...]:
    """Returns the texts of all these prompts and replies that are the same for every question."""
    slot = "\0"
    asked = Question("", (Message("user", (slot,)),))
    path = partial(_extended, asked)
    prompts = [summary_prompt(asked, slot), reasoning_prompt(path([slot] * 3))]
    prompts += [step_ballot(Path(asked).extend(Step(slot)), [slot] * 8), chain_ballot(asked, [slot] * 8)]
    prompts += [duel_prompt(one, one) for one in (path([slot] * (STAGES.index(tag) + 1)) for tag in JUDGED)]
    written = (CHOICE, NAMED, REASONING_TRIGGER, answer_trigger(0))
    return (*written, *dict.fromkeys(text for prompt in prompts for text in _text(prompt).split(slot) if text.strip()))
