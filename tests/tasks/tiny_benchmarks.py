"""A few questions of each benchmark with drawn images, laid out as the data sets on the hub are.

From the folder they are written to, `load_dataset("AI4Math/MathVista")` and the others read them without a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, Value
from datasets import Sequence as Many
from PIL import Image as Pictures

TEXT = Value("string")
VERSIONS = ("Text Dominant", "Text Lite", "Vision Intensive", "Vision Dominant", "Vision Only")

GENERAL, MATH = "general-vqa", "math-targeted-vqa"
MATHVISTA = [
    # pid, question, choices, unit, precision, answer, answer type, category, task, skills
    ("1", "How far?", None, "cm", 1.0, "1.2", "float", MATH, "textbook", ["scientific reasoning"]),
    ("2", "How many cups?", None, None, None, "4", "integer", GENERAL, "visual", ["commonsense", "arithmetic"]),
    ("3", "Which angle?", ["135°", "140°", "145°"], None, None, "145°", "text", MATH, "geometry", ["geometry"]),
    ("4", "Is it a cat?", ["Yes", "No"], None, None, "No", "text", GENERAL, "visual", ["commonsense"]),
    ("5", "Which years?", None, None, None, "[2007, 2008]", "list", GENERAL, "figure", ["statistical reasoning"]),
    ("6", "What share?", None, None, 2.0, "0.25", "float", MATH, "figure", ["statistical reasoning"]),
]  # fmt: skip


def picture(number: int) -> Pictures.Image:
    return Pictures.new("RGB", (56, 56), (number * 37 % 256, 90, 200))


def mathvista_rows(split: str) -> list[dict[str, Any]]:
    rows = []
    for pid, question, choices, unit, precision, answer, kind, category, task, skills in MATHVISTA:
        metadata = {
            "category": category, "context": "scientific figure", "grade": "college", "img_height": 56, "img_width": 56,
            "language": "english", "skills": skills, "source": "drawn", "split": split, "task": task,
        }  # fmt: skip
        rows.append({
            "pid": pid, "question": question, "image": f"images/{pid}.jpg", "decoded_image": picture(int(pid)),
            "choices": choices, "unit": unit, "precision": precision, "answer": answer if split == "testmini" else "",
            "question_type": "multi_choice" if choices else "free_form", "answer_type": kind, "metadata": metadata,
            "query": f"Hint: Please answer.\nQuestion: {question}",
        })  # fmt: skip
    return rows


METADATA = dict.fromkeys(("category", "context", "grade", "language", "source", "split", "task"), TEXT)
MATHVISTA_FEATURES = Features({
    **dict.fromkeys(("pid", "question", "image", "unit", "answer", "question_type", "answer_type", "query"), TEXT),
    "decoded_image": Image(), "choices": Many(TEXT), "precision": Value("float64"),
    "metadata": {**METADATA, "img_height": Value("int64"), "img_width": Value("int64"), "skills": Many(TEXT)},
})  # fmt: skip


def mathverse_rows(versions: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for problem, (question, kind, answer) in enumerate(
        [("Find angle B.\nChoices:\nA:40°\nB:60°", "multi-choice", "B"), ("Find the length.", "free-form", "14")], 1
    ):
        for version in versions:
            text_only = version == "Text Only"
            index = problem if text_only else (problem - 1) * 5 + VERSIONS.index(version) + 1
            rows.append({
                "sample_index": str(index), "problem_index": str(problem), "problem_version": version,
                "question": question, "image": "" if text_only else picture(index), "answer": answer,
                "question_type": kind, "query_wo": f"Please directly answer.\nQuestion: {question}",
                "metadata": {"split": "testmini", "source": "drawn", "subject": "Plane Geometry", "subfield": "Angle"},
                "query_cot": f"Please first conduct reasoning.\nQuestion: {question}", "question_for_eval": question,
            })  # fmt: skip
    return rows


MATHVERSE_FEATURES = Features({
    **dict.fromkeys(("sample_index", "problem_index", "problem_version", "question", "answer"), TEXT),
    **dict.fromkeys(("question_type", "query_wo", "query_cot", "question_for_eval"), TEXT),
    "image": Image(), "metadata": dict.fromkeys(("split", "source", "subject", "subfield"), TEXT),
})  # fmt: skip


def mathvision_rows() -> list[dict[str, Any]]:
    asked = [
        ("4", "How many?\n<image1>", [], "6", 1, "counting"),
        ("9", "Which?\n<image1>", list("ABCDE"), "C", 2, "logic"),
    ]
    return [
        {
            "id": name, "question": question, "options": options, "image": f"images/{name}.jpg",
            "decoded_image": picture(int(name)), "answer": answer, "solution": None, "level": level, "subject": subject,
        }
        for name, question, options, answer, level, subject in asked
    ]  # fmt: skip


MATHVISION_FEATURES = Features({
    **dict.fromkeys(("id", "question", "image", "answer", "solution", "subject"), TEXT),
    "options": Many(TEXT), "decoded_image": Image(), "level": Value("int64"),
})  # fmt: skip


def write(root: Path) -> Path:
    """Writes all three below `root` and returns it."""
    vista, verse = root / "AI4Math/MathVista", root / "CaraJ/MathVerse-lmmseval"
    vision = root / "MathLLMs/MathVision"
    for split in ("testmini", "test"):
        _parquet(mathvista_rows(split), MATHVISTA_FEATURES, vista / f"data/{split}-00000-of-00001.parquet")
        _parquet(mathvision_rows(), MATHVISION_FEATURES, vision / f"data/{split}-00000-of-00001.parquet")
    configs: dict[str, dict[str, Sequence[str]]] = {
        "testmini": {"testmini": VERSIONS},
        "testmini_text_only": {"text_only": ["Text Only"]},
        "testmini_version_split": {version.lower().replace(" ", "_"): [version] for version in VERSIONS},
    }
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        for split, versions in splits.items():
            file = f"{config}/{split}-00000-of-00001.parquet"
            text_only = Features({**MATHVERSE_FEATURES, "image": TEXT})  # "" in each row
            features = text_only if config == "testmini_text_only" else MATHVERSE_FEATURES
            _parquet(mathverse_rows(versions), features, verse / file)
            lines += [f"  - split: {split}", f"    path: {file}"]
    (verse / "README.md").write_text("\n".join([*lines, "---", ""]))
    return root


def _parquet(rows: list[dict[str, Any]], features: Features, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows, features=features).to_parquet(file)
