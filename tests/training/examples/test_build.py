"""Examples that a model writes itself, on a scripted model."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from atomthink_plugin.api import AtomThinkError, Prompt, Step
from atomthink_plugin.config import Plan
from atomthink_plugin.examples.example_file import read_examples
from atomthink_plugin.formats.stages import STAGES
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.training.examples.build import Picking, build_examples
from tests.searches.scripted_replies import ScriptedReplies

QUESTIONS = [
    {"id": "sum", "question": "What is 3 + 4?", "answer": "7", "images": ["a.png"]},
    {"id": "choice", "question": "Which is larger?", "answer": "B", "options": ["4", "7"]},
    {"id": "wrong", "question": "What is 30 + 40?", "answer": "71"},
    {"id": "silent", "question": "Say nothing.", "answer": "1"},
    {"id": "long", "question": "What is 1 + 2 + 4?", "answer": "7"},
    {"id": "empty", "question": "What is missing?", "answer": ""},
]


def steps_of(text: str, index: int) -> list[str]:
    """The chain for a question; later samples take one step more."""
    if "nothing" in text:
        return []
    answer = "B. 7" if "larger" in text else "70" if "30" in text else "7"
    count = (3 if "1 + 2" in text else 1) + index
    return [
        *(f"Step {k}: Look at part {k}." for k in range(1, count + 1)),
        f"Step {count + 1}: The answer is {answer}.",
    ]


def stepper(prompt: Prompt, index: int, seed: int) -> str:
    text = "".join(part for part in prompt.messages[-1].parts if isinstance(part, str))
    left = steps_of(text, index)[len(prompt.begun) :]
    return left[0] if left else "---"


@dataclass
class Made:
    """What was built: the plans, and the model, which all runs share."""

    policy: ScriptedReplies
    plans: list[Plan] = field(default_factory=list)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    made = Made(ScriptedReplies(stepper))

    def build(plan: Plan) -> Runner:
        made.plans.append(plan)
        return Runner(made.policy, None, plan.format, quick(), plan.settings)

    monkeypatch.setattr("atomthink_plugin.training.examples.build.build", build)
    return made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in QUESTIONS))
    return file


def built(source: Path, out: Path, **options: Any) -> list[dict[str, Any]]:
    arguments = {"retries": "0", **options.pop("model_args", {})}
    build_examples(str(source), out, model="atomthink_tiny", model_args=arguments, **options)
    return [json.loads(line) for line in out.read_text().splitlines()]


def summary(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.with_name(f"{out.stem}.summary.json").read_text())
    return found


def test_chains_with_the_right_answer_are_kept_and_all_questions_are_counted(
    made: Made, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "examples.jsonl"
    found = built(source, out)
    assert [(one["id"], len(one["steps"]), one["answer"]) for one in found] == [
        ("sum", 2, "7"),
        ("choice", 2, "B"),
        ("long", 4, "7"),
    ]
    assert found[1]["options"] == ["4", "7"]
    assert found[1]["question"] == "Which is larger?\nChoices: A. 4\nB. 7"
    counts = summary(out)
    assert (counts["asked"], counts["right"], counts["rejected"], counts["examples"]) == (6, 3, 3, 3)
    assert {stage: sum(reasons.values()) for stage, reasons in counts["rejects"].items()} == {
        "input": 1,
        "steps": 1,
        "answer": 1,
    }
    rejects = [json.loads(line) for line in (tmp_path / "out" / "examples.rejects.jsonl").read_text().splitlines()]
    assert {one["where"] for one in rejects} == {"questions.jsonl:6", "silent", "wrong"}
    (first, *_) = read_examples(out, "").examples
    assert (first.answer, first.images[0].size) == ("7", (2, 2))
    assert f"format=few_shot,format_examples={out}" in capsys.readouterr().out


def test_a_single_chain_is_greedy_and_several_are_sampled(made: Made, source: Path, tmp_path: Path) -> None:
    built(source, tmp_path / "a" / "examples.jsonl")
    built(source, tmp_path / "b" / "examples.jsonl", samples=3)
    built(source, tmp_path / "c" / "examples.jsonl", model_args={"temperature": "0.7"})
    assert [plan.settings.sampling.temperature for plan in made.plans] == [0.0, 1.0, 0.7]


def test_of_several_right_chains_the_shortest_or_the_longest_is_kept(made: Made, source: Path, tmp_path: Path) -> None:
    shortest = built(source, tmp_path / "a" / "examples.jsonl", samples=3)
    assert [len(one["steps"]) for one in shortest] == [2, 2, 4]
    longest = built(source, tmp_path / "b" / "examples.jsonl", samples=3, picking=Picking("complex", 2))
    assert [(one["id"], len(one["steps"])) for one in longest] == [("sum", 4), ("long", 6)]
    assert summary(tmp_path / "b" / "examples.jsonl")["right"] == 3


def test_a_second_run_asks_nothing_again(made: Made, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "examples.jsonl"
    first = built(source, out)
    asked = len(made.policy.asked)
    assert built(source, out, picking=Picking("cluster", 2)) != first
    assert built(source, out) == first
    # A question without a valid step is finished too.
    assert len(made.policy.asked) == asked


def test_examples_of_another_format_are_in_its_units(made: Made, source: Path, tmp_path: Path) -> None:
    made.policy = ScriptedReplies(lambda prompt, index, seed: f"7 {str(prompt.begun[-1]).replace('<', '</')}")
    out = tmp_path / "out" / "examples.jsonl"
    found = built(source, out, model_args={"format": "stages"})
    assert found[0]["steps"] == [f"<{name}> 7 </{name}>" for name in STAGES]
    assert {one["answer"] for one in found} == {"7", "B"}


def test_pieces_without_a_joint_are_one_reply(made: Made, source: Path, tmp_path: Path) -> None:
    pieces = ["<Thought> 3 and ", "4 make 7 </Thou", "ght> <Output>7</Output>"]

    def piece(prompt: Prompt, index: int, seed: int) -> Step:
        return Step(pieces[len(prompt.begun)], tuple(range(4)), -1.0, "length")

    made.policy = ScriptedReplies(piece)
    found = built(source, tmp_path / "out" / "examples.jsonl", model_args={"format": "mini"})
    assert found[0]["steps"] == ["<Thought> 3 and 4 make 7 </Thought> <Output>7</Output>"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"picking": Picking("all", 3)}, "--k 3"),
        ({"picking": Picking("cluster", 3, "policy")}, "--embedding tfidf"),
        ({"model_args": {"thinking": "slow"}}, "thinking=slow"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(
    options: dict[str, Any], named: str, made: Made, source: Path, tmp_path: Path
) -> None:
    with pytest.raises(AtomThinkError, match=named):
        built(source, tmp_path / "out" / "examples.jsonl", **options)
    assert made.policy.asked == []


def test_without_a_right_chain_the_rejects_are_written_and_the_command_fails(
    made: Made, source: Path, tmp_path: Path
) -> None:
    made.policy = ScriptedReplies(lambda prompt, index, seed: "Step 1: The answer is 0.")
    out = tmp_path / "out" / "examples.jsonl"
    with pytest.raises(AtomThinkError, match="--samples"):
        built(source, out)
    assert summary(out)["rejected"] == 6
