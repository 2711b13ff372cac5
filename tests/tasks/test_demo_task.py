"""The demo task's scorer, on its own questions."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomthink_plugin.tasks.demo.task import doc_to_visual, process_results

DOCS: list[dict[str, Any]] = [
    json.loads(line)
    for line in files("atomthink_plugin.tasks.demo").joinpath("questions.jsonl").read_text().splitlines()
]
FIRST = DOCS[0]


@pytest.mark.parametrize("doc", DOCS[:20])
def test_the_gold_replies_are_right(doc: dict[str, Any]) -> None:
    for reply in ("\n\n".join(doc["steps"]), doc["cot"], f"{doc['answer']}.", f"  {doc['answer']}\n"):
        assert process_results(doc, [reply])["acc"] == 1.0


@pytest.mark.parametrize("doc", DOCS[:20])
def test_another_number_is_wrong(doc: dict[str, Any]) -> None:
    wrong = int(doc["answer"]) + 1
    for reply in (f"Step 1: To sum up, the final answer is: {wrong}.", str(wrong), "", f"-{doc['answer']}"):
        assert process_results(doc, [reply])["acc"] == 0.0


def test_the_right_number_on_the_way_to_another_is_wrong() -> None:
    reply = f"Step 1: Read red = {FIRST['answer']}.\n\nStep 2: To sum up, the final answer is: 1."
    assert process_results(FIRST, [reply])["acc"] == 0.0


def test_what_the_samples_file_gets() -> None:
    scored = process_results(FIRST, ["\n\n".join(FIRST["steps"])])
    assert scored == {
        "acc": 1.0,
        "extracted": FIRST["answer"],
        "steps": FIRST["steps"],
        "n_steps": len(FIRST["steps"]),
        "figure": FIRST["figure"]["kind"],
        "groups": {"figure": [FIRST["figure"]["kind"]], "calculations": [str(len(FIRST["operators"]))]},
    }
    assert json.loads(json.dumps(scored)) == scored


def test_a_boxed_answer_counts() -> None:
    reply = rf"Step 1: To sum up, the final answer is: \boxed{{{FIRST['answer']}}}."
    assert process_results(FIRST, [reply])["acc"] == 1.0


@settings(deadline=None)  # the first comparison imports sympy
@given(st.text())
def test_no_reply_breaks_it(reply: str) -> None:
    scored = process_results(FIRST, [reply])
    assert scored["acc"] in (0.0, 1.0)
    assert scored["n_steps"] == len(scored["steps"])


def test_replies_are_scored_in_the_harness_threads() -> None:
    double = 2 * int(FIRST["answer"])
    replies = [rf"The final answer is: \frac{{{double}}}{{2}}.", "The final answer is: x^2 + 1."] * 8
    with ThreadPoolExecutor(4) as threads:
        scored = list(threads.map(lambda reply: process_results(FIRST, [reply])["acc"], replies))
    assert scored == [1.0, 0.0] * 8


def test_the_picture_is_the_questions_own() -> None:
    ((image,), (again,), (other,)) = (doc_to_visual(doc) for doc in (FIRST, FIRST, DOCS[1]))
    assert (image.mode, image.size) == ("RGB", (224, 224))
    assert image.tobytes() == again.tobytes() != other.tobytes()
