"""A few questions of lmms-eval's own tasks, each with what the scripted model says and whether that is right.

Laid out as the data sets on the hub are; the columns `reply` and `right` are added.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from datasets import Dataset, Features, Image, Value
from datasets import Sequence as Many

from tests.tasks.tiny_benchmarks import picture

Row = dict[str, Any]

WAYS: Final = "['one', 'two', 'three', 'four']"
NUMBERS: Final = ["one", "two", "three", "four"]
LETTERED: Final = "How many?\nA. one\nB. two\nC. three\nD. four"


def _mathvision() -> list[Row]:
    asked = [
        ("4", [], "6", r"Step 1: Six. \boxed{6}", True),
        ("9", list("ABCDE"), "C", r"\boxed{C}", True),
        ("11", [], "6", r"\boxed{7}", False),
        ("12", list("ABCDE"), "C", r"\boxed{B}", False),
    ]
    return [
        {
            "id": name, "question": "How many?\n<image1>", "options": options, "image": f"images/{name}.jpg",
            "decoded_image": picture(1), "answer": answer, "solution": "", "level": 1, "subject": "counting",
            "reply": reply, "right": right,
        }
        for name, options, answer, reply, right in asked
    ]  # fmt: skip


def _mmmu() -> list[Row]:
    asked = [
        ("multiple-choice", WAYS, "B", "B", True),
        ("multiple-choice", WAYS, "B", "The answer is C.", False),
        ("open", "[]", "1,250.5", "So it is 1250.5.", True),
        ("open", "[]", "tundra", "It is the Tundra.", True),
        ("open", "[]", "12", "So it is 13.", False),
        ("open", "[]", "x", "So the axis", False),
    ]
    return [
        {
            "id": f"validation_Math_{i}", "question": "How many? <image 1>", "options": options, "answer": answer,
            "question_type": kind, "image_1": picture(i), "reply": reply, "right": right,
        }
        for i, (kind, options, answer, reply, right) in enumerate(asked, 1)
    ]  # fmt: skip


def _optional(**fields: Any) -> list[Row]:
    """Four times "how many?", with the fields of a data set; two of the replies are right."""
    asked = [("B", "B", True), ("A", "A", True), ("C", "D", False), ("D", "A", False)]
    rows = []
    for i, (answer, reply, right) in enumerate(asked):
        given = {name: value(i, answer) if callable(value) else value for name, value in fields.items()}
        rows.append({"question": LETTERED, "answer": answer, **given, "reply": reply, "right": right})
    return rows


def _yes_or_no(**fields: Any) -> list[Row]:
    asked = [("Yes", "Yes", True), ("No", "Yes", False), ("Yes", "No", False), ("No", "No", True)]
    return [
        {
            "question_id": f"{i // 2}.png", "question": "Is it a cat?", "answer": answer, "image": picture(i),
            **{name: value(i, answer) for name, value in fields.items()}, "reply": reply, "right": right,
        }
        for i, (answer, reply, right) in enumerate(asked)
    ]  # fmt: skip


def _number(i: int, answer: str) -> int:
    return "ABCD".index(answer)


BENCHMARKS: Final[dict[str, tuple[str, str, str, list[Row]]]] = {
    "mathvision_testmini": ("MathLLMs/MathVision", "default", "testmini", _mathvision()),
    "mathvision_test": ("MathLLMs/MathVision", "default", "test", _mathvision()),
    "mmmu_val": ("lmms-lab-encoder/MMMU", "default", "validation", _mmmu()),
    "mmmu_pro_standard": (
        *("MMMU/MMMU_Pro", "standard (10 options)", "test"),
        _optional(id=lambda i, _: f"test_Math_{i}", options=WAYS, subject="Math", image_1=lambda i, _: picture(i)),
    ),
    "ai2d": (
        *("lmms-lab-encoder/ai2d", "default", "test"),
        _optional(answer=lambda i, answer: str(_number(i, answer)), options=NUMBERS, image=lambda i, _: picture(i)),
    ),
    "scienceqa_img": (
        *("lmms-lab-encoder/ScienceQA", "ScienceQA-IMG", "test"),
        _optional(answer=_number, choices=NUMBERS, hint="", image=lambda i, _: picture(i)),
    ),
    "mmstar": (
        *("Lin-Chen/MMStar", "default", "val"),
        _optional(
            index=lambda i, _: i,
            image=lambda i, _: picture(i),
            category=lambda i, _: ("math", "logical reasoning")[i % 2],
            l2_category="geometry",
        ),
    ),
    "seedbench": (
        *("lmms-lab-encoder/SEED-Bench", "default", "test"),
        _optional(
            question_id=lambda i, _: str(i),
            data_type=lambda i, _: ("image", "video")[i % 2],
            image=lambda i, _: [picture(i)],
            **{f"choice_{letter}": number for letter, number in zip("abcd", NUMBERS, strict=True)},
        ),
    ),
    "realworldqa": ("lmms-lab-encoder/RealWorldQA", "default", "test", _optional(image=lambda i, _: picture(i))),
    "mathkangaroo": (
        *("dfkiuser/kangaroo_math_mc_questions", "default", "train"),
        _optional(ground_truth=lambda _, answer: answer, image=lambda i, _: picture(i)),
    ),
    "muirbench": (
        *("MUIRBENCH/MUIRBENCH", "default", "test"),
        _optional(
            idx=lambda i, _: str(i),
            options=NUMBERS,
            image_list=lambda i, _: [picture(i), picture(i + 1)],
            task="counting",
            image_relation="",
            image_type="",
        ),
    ),
    "cv_bench_2d": (
        *("nyu-visionx/CV-Bench", "2D", "test"),
        _optional(
            idx=lambda i, _: i,
            answer=lambda _, answer: f"({answer})",
            choices=NUMBERS,
            prompt=LETTERED,
            image=lambda i, _: picture(i),
            **dict.fromkeys(("type", "task", "source"), "2D"),
        ),
    ),
    "mme": (
        *("lmms-lab-encoder/MME", "default", "test"),
        _yes_or_no(category=lambda i, _: ("existence", "numerical_calculation")[i // 2]),
    ),
    "pope": ("lmms-lab-encoder/POPE", "default", "test", _yes_or_no(category=lambda i, _: "random")),
    "gsm8k_cot_zeroshot": (
        *("gsm8k", "main", "test"),
        [
            {"question": "2 + 2?", "answer": "2 + 2 = 4.\n#### 4", "reply": "The answer is 4.", "right": True},
            {"question": "3 + 2?", "answer": "3 + 2 = 5.\n#### 5", "reply": "The answer is 6.", "right": False},
            # Right for the second of the task's two filters only.
            {"question": "3 + 3?", "answer": "3 + 3 = 6.\n#### 6", "reply": "It makes 6", "right": False},
        ],
    ),
    "aime24_nofigures": (
        *("simplescaling/aime24_nofigures", "default", "train"),
        [
            {"problem": "?", "solution": "", "answer": "033", "reply": r"So \boxed{33}.", "right": True},
            {"problem": "?", "solution": "", "answer": "204", "reply": r"So \boxed{1}.", "right": False},
        ],
    ),
}
"""By task: the data set's path, its configuration and split, and the rows."""


def write(root: Path) -> Path:
    """Writes all data sets below `root` and returns it."""
    cards: dict[str, list[str]] = {}
    for path, config, split, rows in BENCHMARKS.values():
        folder = root / path
        file = f"data/{config.replace(' ', '_')}/{split}-00000-of-00001.parquet"
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        features = Features({name: _kind(value) for name, value in rows[0].items()})
        Dataset.from_list(rows, features=features).to_parquet(folder / file)
        lines = cards.setdefault(path, ["---", "configs:", f"- config_name: {config}", "  data_files:"])
        lines += [f"  - split: {split}", f"    path: {file}"]
    for path, lines in cards.items():
        (root / path / "README.md").write_text("\n".join([*lines, "---", ""]))
    return root


def _kind(value: Any) -> Any:
    if isinstance(value, list):
        return Many(_kind(value[0]) if value else Value("string"))
    names = {bool: "bool", int: "int64", str: "string"}
    return Value(names[type(value)]) if type(value) in names else Image()
