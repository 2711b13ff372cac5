"""Logs of Inspect: `.eval` files and JSON."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from atomthink_plugin.rollouts.rollout_file import read_rollouts
from tests.rollouts.readers.record_files import base64_png, texts


def sample(name: str | int, epoch: int, reply: Any, value: Any, **fields: Any) -> dict[str, Any]:
    return {
        "id": name,
        "epoch": epoch,
        "input": f"Question {name}?",
        "choices": ["red", "blue"],
        "target": "B",
        "messages": [],
        "output": {
            "model": "openai/gpt-4o",
            "choices": [
                {"message": {"role": "assistant", "content": reply, "source": "generate"}, "stop_reason": "stop"}
            ],
            "usage": {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8},
        },
        "scores": {"choice": {"value": value, "answer": "B", "explanation": "..."}},
        "metadata": {"level": 3},
        **fields,
    }


def asked(image: str) -> list[dict[str, Any]]:
    parts = [{"type": "image", "image": image, "detail": "auto"}, {"type": "text", "text": "Which?"}]
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]


PICTURE = f"data:image/png;base64,{base64_png()}"
SAMPLES = [
    sample("q1", 2, "second", "I", scores={"match": {"value": "I", "answer": "second", "explanation": "second"}}),
    sample("q1", 1, [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "first"}], "C"),
    sample(
        2,
        1,
        "other",
        "P",
        input=asked("attachment://abc"),
        attachments={"abc": f"data:image/png;base64,{base64_png()}"},
    ),
    sample(3, 1, "x", "C", input=asked("attachment://none")),
    {**sample(4, 1, "x", "C"), "output": {"model": "m", "choices": []}, "error": {"message": "RateLimitError"}},
    sample(5, 1, "cut o", "I", error={"message": "ReadTimeout"}),
]
HEADER = {"version": 2, "status": "success", "eval": {"task": "colours", "model": "openai/gpt-4o"}}


def write_eval(file: Path) -> str:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as log:
        log.writestr("header.json", json.dumps(HEADER))
        log.writestr("_journal/start.json", "{}")
        log.writestr("summaries.json", "[]")
        for one in SAMPLES:
            log.writestr(f"samples/{one['id']}_epoch_{one['epoch']}.json", json.dumps(one))
        log.writestr("samples/broken_epoch_1.json", "{")
    return str(file)


def write_json(file: Path) -> str:
    file.write_text(json.dumps({**HEADER, "samples": [*SAMPLES, "broken"]}))
    return str(file)


@pytest.mark.parametrize("kind", ["eval", "json"])
def test_the_epochs_are_the_candidates(tmp_path: Path, kind: str) -> None:
    source = (write_eval if kind == "eval" else write_json)(tmp_path / f"log.{kind}")
    found = read_rollouts([source])
    by_id = {one.id: one for one in found.sets}
    first, other = by_id["q1"], by_id["2"]
    assert found.format == "inspect"
    assert texts(first.candidates) == ["first", "second"]
    assert [(one.correct, one.answer, one.tokens, one.thought) for one in first.candidates] == [
        (True, "B", 3, "hm"),
        (False, None, 3, ""),  # this scorer logs the whole reply as the answer
    ]
    assert (first.choices, first.gold, first.policy, first.record) == (
        ("red", "blue"),
        "B",
        "openai/gpt-4o",
        {"level": 3},
    )
    assert (other.question, other.candidates[0].correct, len(other.pictures)) == ("Which?", None, 1)
    assert len(found.rejects) == 4
    assert any("RateLimitError" in reject.reason for reject in found.rejects)
