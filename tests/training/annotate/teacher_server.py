"""A teacher over HTTP that knows the answers, and the many ways in which it is a bad one."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from tests.openai_server import Body, ChatServer, Fault, pieces_of, text_of

QUESTION = re.compile(
    r"QUESTION:\n(.*?)\n\n(?=STEPS SO FAR:|REFERENCE SOLUTION:|RIGHT ANSWER:|RIGHT SOLUTION:)", re.DOTALL
)
SO_FAR = re.compile(r"^Step (\d+):", re.MULTILINE)

# What a question comes to with a teacher of this habit: a chain, or the stage and reason of its reject.
DYNAMIC: Mapping[str, tuple[str, str] | None] = {
    "good": None,
    "stammers": None,  # its first reply to anything is no JSON
    "stuck when cold": None,  # repeats a step until it is asked at another temperature
    "takes back": None,  # finds its second step wrong and writes another
    "hasty": None,  # concludes before its first step until it is refused
    "direct": ("steps", "no progress"),  # does so with any prompt
    "nonsense": ("teacher", "no usable reply"),
    "breaks off": ("teacher", "no usable reply"),
    "repeats": ("steps", "no progress"),
    "endless": ("steps", "not concluded within 6 steps"),
    "mistaken": ("answer", "wrong final answer"),
    "doubtful": ("check", "the teacher's check says it is wrong"),
    "disconnects": ("server", "no reply"),
}
AUGMENT: Mapping[str, tuple[str, str] | None] = {
    "good": None,
    "stammers": None,
    "stuck when cold": None,
    "breaks off": None,  # the rest is asked for, and comes
    "direct": ("format", "concludes in the first step"),
    "nonsense": ("teacher", "no usable reply"),
    "misnumbers": ("format", "steps are not numbered 1 to n"),
    "goes on": ("format", "a step before the last states a final answer"),
    "repeats": ("steps", "no progress"),
    "mistaken": ("answer", "wrong final answer"),
    "doubtful": ("check", "the teacher's check says it is wrong"),
    "disconnects": ("server", "no reply"),
}
HABITS = [habit for habit in DYNAMIC if habit != "disconnects"]
OUTPUTS = ("chains.jsonl", "rejects.jsonl")


@dataclass
class TeacherServer(ChatServer):
    """Answers what the engine asks, for each question with a habit of its own.

    `habits` and `answers` are by the question's text; `takes` are the kinds of `response_format` it knows.
    """

    models: tuple[str, ...] | None = ("teacher",)
    context: int = 10**9
    habits: dict[str, str] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    takes: tuple[str, ...] = ("json_schema", "json_object")
    pause: float = 0.0
    billed: Counter[str] = field(default_factory=Counter)
    questions: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)

    def fault(self, body: Body) -> Fault | None:
        question = self.question(body)
        self.questions.append(question)
        self.digests.append(hashlib.blake2b(json.dumps(body, sort_keys=True).encode()).hexdigest())
        self.asked.clear()  # pictures of hundreds of questions
        by_habit: dict[str, Fault] = {"disconnects": "drop", "garbles": "empty"}
        return by_habit.get(self.habits.get(question, "")) or super().fault(body)

    def question(self, body: Body) -> str:
        found = QUESTION.search(text_of(body["messages"][1]["content"]))
        return found[1] if found else ""

    def refusal(self, body: Body) -> tuple[int, Body] | None:
        form = body.get("response_format", {}).get("type")
        if form is not None and form not in self.takes:
            return 400, {"error": {"message": f"response_format type {form} is not supported", "param": None}}
        return super().refusal(body)

    def reply(self, body: Body) -> Body:
        time.sleep(self.pause)
        reply = super().reply(body)
        with self.lock:
            self.billed["calls"] += 1
            for name in ("prompt", "completion"):
                self.billed[name] += reply.get("usage", {}).get(f"{name}_tokens", 0)
        return reply

    def choice(self, body: Body, index: int) -> tuple[Body, int]:
        text = self.says(body)
        pieces = pieces_of(text)[: body["max_tokens"]]
        return {"index": index, "message": {"content": "".join(pieces)}, "finish_reason": "stop"}, len(pieces)

    def says(self, body: Body) -> str:
        question = self.question(body)
        habit, answer = self.habits.get(question, "good"), self.answers[question]
        prompt = text_of(body["messages"][1]["content"])
        if habit == "nonsense":
            return "As a teacher I would rather talk about {the weather}."
        if habit == "stammers" and len(body["messages"]) == 2:
            return 'Sure! {"here": '
        if "SOLUTION:\n" in prompt and "REFERENCE SOLUTION:" not in prompt:
            return self.checks(body, habit)
        if "REFERENCE SOLUTION:" in prompt:
            return self.expands(prompt, habit, answer, body["temperature"])
        return self.extends(prompt, habit, answer, body)

    def checks(self, body: Body, habit: str) -> str:
        second = "look for a mistake" in body["messages"][0]["content"]
        return json.dumps({"right": not (habit == "doubtful" and second), "reason": "looked at it"})

    def extends(self, prompt: str, habit: str, answer: str, body: Body) -> str:
        depth = len(SO_FAR.findall(prompt))
        if habit == "breaks off":
            return '{"action": "continue", "step": "Read the fir'
        if habit == "repeats" or (habit == "stuck when cold" and depth == 2 and body["temperature"] < 0.4):
            return _json("continue", thought(1))
        if habit == "direct" or (habit == "hasty" and not depth and "was refused" not in prompt):
            return _json("conclude", "It is plain to see.", answer=answer)
        if habit == "endless":
            return _json("continue", thought(depth + 1, body.get("seed", 0)))
        if habit == "takes back" and depth == 2 and "part 2 as 9914" in prompt:
            return _json("verify", "Look at step 2 again.", wrong_step=2)
        if habit == "takes back" and depth == 1 and body["temperature"] < 0.4:
            return _json("continue", thought(2, 99))
        if depth == 3:
            return _json("verify", "Check part 3 against the picture once more: it holds.")
        if depth == 4:
            return _json("conclude", "Now it is settled.", answer=_wrong(answer) if habit == "mistaken" else answer)
        return _json("continue", thought(depth + 1))

    def expands(self, prompt: str, habit: str, answer: str, temperature: float) -> str:
        begun = len(SO_FAR.findall(prompt.partition("THESE STEPS STAND:")[2]))
        steps = [f"Step {k}: {thought(k)}" for k in range(begun + 1, 4)]
        end = f"Step {max(begun, 3) + 1}: To sum up, the final answer is: {answer}."
        match habit:
            case "misnumbers":
                steps[-1] = steps[-1].replace("Step 3", "Step 5")
            case "goes on":
                steps.insert(0, f"Step {begun + 1}: The final answer is: {answer}.")
                steps[1:] = [f"Step {k}: {thought(k)}" for k in range(begun + 2, 5)]
                end = f"Step {begun + 5}: To sum up, the final answer is: {answer}."
            case "repeats":
                steps = [f"Step {begun + 1}: {thought(1)}", f"Step {begun + 2}: {thought(1)}"]
                end = f"Step {begun + 3}: To sum up, the final answer is: {answer}."
            case "stuck when cold" if temperature < 0.4:
                steps[2] = f"Step 3: {thought(1)}"
            case "breaks off" if not begun:
                return json.dumps({"steps": steps[:2]})
            case "direct":
                steps, end = [], f"Step 1: To sum up, the final answer is: {answer}."
            case "mistaken":
                end = f"Step 4: To sum up, the final answer is: {_wrong(answer)}."
        return json.dumps({"steps": [*steps, end]})


def thought(number: int, seed: int = 0) -> str:
    return f"Read part {number} as {seed}{number * 7} in the picture."


def _wrong(answer: str) -> str:
    return {"A": "B"}.get(answer, "A") if answer in "ABCDE" else f"{answer}1"


def _json(action: str, step: str, answer: str = "", wrong_step: int = 0) -> str:
    return json.dumps({"action": action, "step": step, "answer": answer, "wrong_step": wrong_step})


def questions(folder: Path, count: int) -> Path:
    """A file of questions, each with a small picture; number k is answered by 10 k."""
    folder.mkdir(exist_ok=True)
    records = []
    for k in range(count):
        Image.new("RGB", (8, 8), (k, 0, 0)).save(folder / f"{k}.png")
        asked = {"id": k, "question": f"What is number {k}?", "image": f"{k}.png"}
        records.append(asked | {"answer": 10 * k, "solution": f"It is ten times {k}."})
    file = folder / "questions.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def teacher(count: int, **given: object) -> TeacherServer:
    texts = [f"What is number {k}?" for k in range(count)]
    return TeacherServer(
        habits={text: HABITS[k % len(HABITS)] for k, text in enumerate(texts)},
        answers={text: str(10 * k) for k, text in enumerate(texts)},
        **given,  # type: ignore[arg-type]
    )


def command(file: Path, out: Path, url: str, *more: str) -> list[str]:
    """The words of a command; `more` replaces defaults of the tests."""
    options = {"--teacher-model": "teacher", "--base-url": url, "--wait": "0", "--concurrency": "4", "--max-steps": "6"}
    if "corrupt" in more:
        del options["--max-steps"]
    fixed = [word for name, value in options.items() if name not in more for word in (name, value)]
    return ["annotate", str(file), "--out", str(out), *fixed, *more]


def contents(out: Path) -> list[str]:
    return [(out / name).read_text() for name in OUTPUTS]


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found
