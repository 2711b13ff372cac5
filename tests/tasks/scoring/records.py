"""Records as the benchmarks have them, and their real files where these are at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).parents[4] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real benchmark data at {SHARED}")
QUESTIONS = {
    "mathvista": "mathvista/testmini_questions.jsonl",
    "mathvision": "mathvision/questions.jsonl",
    "mathverse": "mathverse/testmini_text_only.jsonl",
}


def questions(benchmark: str) -> list[dict[str, Any]]:
    lines = (SHARED / QUESTIONS[benchmark]).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def vista(text: str, answer: str, choices: list[str] | None = None, **fields: Any) -> dict[str, Any]:
    kind = "text" if choices else "integer"
    free = {"unit": None, "precision": None, "answer_type": kind, "question_type": "free_form"}
    return {"question": text, "choices": choices, "answer": answer} | free | fields


def vision(text: str, answer: str, options: list[str] | None = None) -> dict[str, Any]:
    return {"question": text, "options": options or [], "answer": answer, "level": 2}


def verse(text: str, answer: str, question_type: str = "free-form") -> dict[str, Any]:
    return {"question": text, "answer": answer, "question_type": question_type, "problem_version": "Text Only"}
