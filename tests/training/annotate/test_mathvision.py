"""MATH-Vision's questions through the whole engine, with a teacher of every habit; each count is checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from atomthink_plugin.answers import equivalent, final_answer
from atomthink_plugin.cli import main
from atomthink_plugin.training.records import Chain, read_records
from tests.openai_server import serve
from tests.training.annotate.teacher_server import AUGMENT, DYNAMIC, TeacherServer, lines, summary

HUB = Path(__file__).parents[4] / "shared/data/hub/MathLLMs/MathVision"
SECRET = "sk-very-secret-4711"

needs_data = pytest.mark.skipif(not HUB.is_dir(), reason=f"MATH-Vision's testmini questions are not in {HUB}")


def rows(count: int) -> list[dict[str, object]]:
    import datasets

    data = datasets.load_dataset(str(HUB))["testmini"].remove_columns("decoded_image")
    return [dict(row) for row in data.select(range(count))]


def asked(row: Mapping[str, object]) -> str:
    """The question as the teacher should be asked it."""
    text = str(row["question"]).strip()
    if "<image2>" not in text:  # one picture may hold several, which the question then names
        text = text.replace(" <image1>", "").replace("<image1>", "").strip()
    options = row["options"]
    assert isinstance(options, list)
    if not options:
        return text
    return (
        text
        + "\nChoices: "
        + "\n".join(f"{letter}. {option}" for letter, option in zip("ABCDE", options, strict=False))
    )


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(("way", "habits", "count"), [("dynamic", DYNAMIC, 120), ("augment", AUGMENT, 304)])
def test_every_question_of_mathvision_is_a_chain_or_a_reject(
    way: str, habits: Mapping[str, tuple[str, str] | None], count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    questions = rows(count)
    usable = [row for row in questions if way == "dynamic" or row["solution"]]
    habit_of = {str(row["id"]): list(habits)[index % len(habits)] for index, row in enumerate(usable)}
    script = TeacherServer(
        key=SECRET,
        habits={asked(row): habit_of[str(row["id"])] for row in usable},
        answers={asked(row): str(row["answer"]) for row in usable},
    )
    with serve(script):
        command = ["annotate", str(HUB), "--out", str(tmp_path), "--teacher-model", "teacher", "--base-url", script.url]
        limits = ["--max-steps", "6", "--max-retries", "0", "--wait", "0", "--method", way, "--limit", str(count)]
        assert main([*command, *limits]) == 0

    found = read_records(tmp_path / "chains.jsonl", Chain)
    assert not found.rejects
    expected = {ident for ident, habit in habit_of.items() if habits[habit] is None}
    assert {chain.id for chain in found.records} == expected
    by_id = {str(row["id"]): row for row in questions}
    for chain in found.records:
        row = by_id[chain.id]
        answer = final_answer(chain.steps[-1])
        assert answer is not None
        assert equivalent(answer, str(row["answer"]))
        assert chain.question == asked(row)
        assert chain.steps[-1] == f"Step {len(chain.steps)}: To sum up, the final answer is: {row['answer']}."
        assert [step.split(":")[0] for step in chain.steps] == [f"Step {k + 1}" for k in range(len(chain.steps))]
        assert len(set(chain.steps)) == len(chain.steps) == (5 if way == "dynamic" else 4)
        with Image.open(tmp_path / chain.images[0]) as picture:
            assert picture.width > 1

    rejects = lines(tmp_path / "rejects.jsonl")
    assert len(rejects) + len(found.records) == len(questions) == count
    want = Counter(habits[habit] for habit in habit_of.values() if habits[habit] is not None)
    if way == "augment":
        want["input", "no reference solution"] = count - len(usable)
    assert Counter((one["stage"], one["reason"]) for one in rejects) == want
    totals = summary(tmp_path)
    assert (totals["asked"], totals["good"], totals["rejected"]) == (count, len(expected), len(rejects))
    assert {(stage, why): n for stage, own in totals["rejects"].items() for why, n in own.items()} == dict(want)
    assert totals["left"]["check"] == totals["good"]
    assert totals["steps"] == sum(len(chain.steps) for chain in found.records)

    lost = Counter(habit_of.values())["disconnects"]
    spent = totals["spent"]
    assert spent["calls"] == script.billed["calls"]  # the dropped ones made their reply before
    dropped = [question for question in script.questions if script.habits[question] == "disconnects"]
    assert len(dropped) == lost
    assert spent["unknown"] > 0
    assert spent["prompt"] + spent["completion"] < script.billed["prompt"] + script.billed["completion"]
    assert spent["tokens"] >= script.billed["prompt"] + script.billed["completion"]  # what was lost counts in full
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or SECRET.encode() not in file.read_bytes(), file
