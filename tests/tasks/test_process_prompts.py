"""Requests in the published wording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from atomthink_plugin.tasks.process.prompts import critic_prompts, doc_to_messages, doc_to_text
from tests.step_metrics.published_records import processbench_prompt

STEPS = ["1. Let $x = \\frac{1}{2}$.", "Step 1: So {k} is 2."]
DOC: dict[str, Any] = {"question": "What is {x}?", "steps": STEPS, "images": []}


def asked(name: str, doc: dict[str, Any] = DOC) -> list[dict[str, Any]]:
    return doc_to_messages(doc, {"prompt": name})


def test_the_first_error_is_asked_for_as_processbench_does() -> None:
    (turn,) = asked("first_error")
    assert turn == {"role": "user", "content": [{"type": "text", "text": processbench_prompt(DOC["question"], STEPS)}]}
    assert doc_to_text(DOC, {"prompt": "first_error"}) == processbench_prompt(DOC["question"], STEPS)


def test_prmbench_asks_with_its_system_turn_and_two_examples() -> None:
    turns = asked("validity_json")
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "user", "assistant", "user"]
    # As getitem_function of the benchmark's openai_models.py writes it: the steps' own numbers `1.` are removed.
    steps = "Step 1: Let $x = \\frac{1}{2}$. \n\nStep 2: Step 1: So {k} is 2. \n\n"
    assert turns[-1]["content"][0]["text"] == f"Question: What is {{x}}?\n\n Solutions: {steps}"


def test_visualprocessbench_asks_with_all_images_first(tmp_path: Path) -> None:
    names = [str(tmp_path / f"{name}.png") for name in "ab"]
    for at, name in enumerate(names):
        Image.new("RGB", (8, 8), (at, 0, 0)).save(name)
    system, user = asked("visual_json", {**DOC, "images": names})
    assert system["content"][0]["text"].startswith("You are a visual process reward model.")
    first, second, text = user["content"]
    assert [one["url"].getpixel((0, 0))[0] for one in (first, second)] == [0, 1]
    # A step that begins with its number keeps it; the number is counted from 0.
    assert "Step 0: 1. Let $x = \\frac{1}{2}$.\nStep 1: So {k} is 2.\n[Number of Steps]\n2\n" in text["text"]
    assert text["text"].startswith("[Question]\nWhat is {x}?\n[Candidate Solution]\n")


def test_every_prompt_names_the_reply_that_is_read() -> None:
    wanted = {
        "first_error": r"\boxed{}",
        "validity_json": '"validity"',
        "visual_json": '"Score"',
        "text_json": '"Score"',
    }
    assert critic_prompts().keys() == wanted.keys()
    assert all(wanted[name] in doc_to_text(DOC, {"prompt": name}) for name in wanted)
