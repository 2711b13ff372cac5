"""Files with labels or scores of solutions: MM-PRM, InternVL's pipeline, URSA, DreamPRM-1.5, RLHFlow, SaL."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from atomthink_plugin.rollouts.rollout_file import read_rollouts
from tests.rollouts.readers.record_files import all_texts, image_file, json_list, jsonl, texts


def test_mm_prm(tmp_path: Path) -> None:
    image_file(tmp_path / "k12" / "1.png")
    good = {
        "question": "<image>\nHow long is AB?",
        "image_path": "k12/1.png",
        "solutions_splits": [["AB = 3.", "So 3."], ["No idea."]],
        "labels": [1, 0],
        "prm_scores": [[0.9, 0.8], [0.1]],
    }
    bis = {"query_cot": "And BC?", "image": "k12/1.png", "solutions_splits": [["x"]]}
    bad = {**good, "question": "q", "labels": [1]}
    short = {**good, "question": "r", "prm_scores": [[0.9], [0.1]]}
    found = read_rollouts([json_list(tmp_path / "k12_prm.json", good, bis, bad, short)])
    first, second = found.sets
    assert (found.format, first.question, second.question) == ("mm_prm", "How long is AB?", "And BC?")
    assert [one.steps for one in first.candidates] == [("AB = 3.", "So 3."), ("No idea.",)]
    assert [one.correct for one in first.candidates] == [True, False]
    assert [dict(one.scores) for one in first.candidates] == [{"mm_prm": (0.9, 0.8)}, {"mm_prm": (0.1,)}]
    assert (second.candidates[0].correct, dict(second.candidates[0].scores)) == (None, {})
    assert [reject.where for reject in found.rejects] == ["k12_prm.json:3", "k12_prm.json:4"]


def test_the_lines_of_one_question_and_image_are_candidates_of_internvl(tmp_path: Path) -> None:
    image_file(tmp_path / "VisualPRM400K" / "1.png")

    def line(image: str, response: str, *scores: float | None) -> dict[str, Any]:
        steps = [{"step": f"{response} {at}", "score": score, "num_mc_total": 16} for at, score in enumerate(scores)]
        return {
            "image": image,
            "question": "<image>\nAnswer in steps: how many?",
            "question_orig": "<image>\nHow many?",
            "answer": "52",
            "response": response,
            "steps_with_score": steps,
        }

    image_file(tmp_path / "VisualPRM400K" / "2.png")
    source = jsonl(
        tmp_path / "geometry3k.jsonl",
        line("VisualPRM400K/1.png", "one", 0.5, 0.25),
        line("VisualPRM400K/2.png", "other", 1.0),
        line("VisualPRM400K/1.png", "two", 1.0, None),
        line("VisualPRM400K/1.png", "none"),
        {**line("VisualPRM400K/1.png", "three", 1.0), "answer": "53"},
    )
    found = read_rollouts([source])
    first, second = found.sets
    assert (found.format, first.question, first.gold) == ("internvl", "How many?", "52")
    assert [texts(first.candidates), texts(second.candidates)] == [["one", "two"], ["other"]]
    assert first.candidates[0].steps == ("one 0", "one 1")
    assert [one.scores for one in first.candidates] == [{"monte_carlo": (0.5, 0.25)}, {}]
    assert [reject.where.rpartition(":")[2] for reject in found.rejects] == ["4", "5"]


def test_ursa(tmp_path: Path) -> None:
    image_file(tmp_path / "images" / "1.jpg")
    solutions = ["StepStep 1: See 4.\n\nStep 2: Add 1 to Step 1.\n\n†Answer: 5", "It is 6."]
    columns = ["question", "image", "model_answer", "extraction", "label0", "label1"]
    with (tmp_path / "infer_mathvista.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, columns)
        out.writeheader()
        row = dict(
            zip(columns, ["How many?", "images/1.jpg", repr(solutions), "['Answer: 5', '']", "1", "0"], strict=True)
        )
        out.writerow(row)
        out.writerow({**row, "question": ""})  # the question is in the image
        out.writerow({**row, "label1": "maybe"})
        out.writerow({**row, "model_answer": "[exec('1')]"})
        out.writerow({**row, "extraction": "['5']"})
    found = read_rollouts([str(tmp_path / "infer_mathvista.csv")])
    first, second = found.sets
    right, wrong = first.candidates
    assert (found.format, first.question, second.question) == ("ursa", "How many?", "")
    assert right.steps == ("StepStep 1: See 4.", "Step 2: Add 1 to Step 1.")
    assert (right.answer, right.correct, wrong.answer, wrong.correct, wrong.steps) == ("5", True, None, False, None)
    assert right.text.endswith("Answer: 5")
    assert "†" not in right.text
    assert [reject.where.rpartition(":")[2] for reject in found.rejects] == ["3", "4", "5"]


@pytest.mark.parametrize("name", ["candidates", "candidate"])
def test_dreamprm(tmp_path: Path, name: str) -> None:
    image_file(tmp_path / "1.png")
    good = {"question": "Why?", "image_path": "1.png", name: ["a", "b"], "true_false": [True, False]}
    found = read_rollouts([json_list(tmp_path / "test_8cots.json", good, {**good, "true_false": [True]})])
    (one,) = found.sets
    assert found.format == "dreamprm"
    assert [(one.text, one.correct) for one in one.candidates] == [("a", True), ("b", False)]
    assert len(found.rejects) == 1


def test_rlhflow_marks_the_steps_of_mistral(tmp_path: Path) -> None:
    tagged = "Step 1: One and one. ки\nStep 2: Two. The answer is: 2 ки"
    good = {"prompt": "1+1?", "answers": [tagged, "Plain.\n\nReply."], "label": [1, 0]}
    scored = {"prompt": "2+2?", "answers": ["four"], "step_scores": [[0.25]]}
    found = read_rollouts([jsonl(tmp_path / "test.jsonl", good, scored, {**good, "prompt": "x", "label": []})])
    first, second = found.sets
    assert found.format == "rlhflow"
    assert first.candidates[0].steps == ("Step 1: One and one.", "Step 2: Two. The answer is: 2")
    assert "ки" not in first.candidates[0].text
    assert (first.candidates[1].steps, first.candidates[1].text) == (None, "Plain.\n\nReply.")
    assert [one.correct for one in first.candidates] == [True, False]
    assert second.candidates[0].scores == {"rlhflow": (0.25,)}
    assert len(found.rejects) == 1


def test_sal(tmp_path: Path) -> None:
    good = {
        "problem": "1+1?",
        "solution": "...",
        "answer": "2",
        "subject": "Algebra",
        "unique_id": "test/algebra/1.json",
        "completions": ["## Step 1: Add.\n\n\\boxed{2}", "\\boxed{3}"],
        "scores": [[0.9, 0.8], [0.2]],
        "completion_tokens": [12, 4],
        "pred": "...",
    }
    found = read_rollouts([jsonl(tmp_path / "best_of_n_completions.jsonl", good, {**good, "completions": "text"})])
    (one,) = found.sets
    assert (found.format, one.id, one.gold, one.subset) == ("sal", "test/algebra/1.json", "2", "Algebra")
    assert [dict(one.scores) for one in one.candidates] == [{"sal": (0.9, 0.8)}, {"sal": (0.2,)}]
    assert [one.tokens for one in one.candidates] == [12, 4]
    assert [one.stated_answer() for one in one.candidates] == ["2", "3"]
    assert all_texts(found.sets) == {"1+1?": good["completions"]}
    assert len(found.rejects) == 1
