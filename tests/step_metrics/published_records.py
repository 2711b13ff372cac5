"""Records in the published formats, with images, and what their authors' code makes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

SUBSETS = ("gsm8k", "math", "olympiadbench", "omnimath")
SOURCES = ("MathVerse", "MathVision", "DynaMath", "WeMath", "MMMU")


def processbench_prompt(question: str, steps: Sequence[str]) -> str:
    """The prompt that code/run_eval.py of ProcessBench fills from code/templates/critique_template.txt."""
    tagged = "".join(f"<paragraph_{at}>\n{step}\n</paragraph_{at}>\n\n" for at, step in enumerate(steps)).strip()
    return (
        "The following is a math problem and a solution (split into paragraphs, enclosed with tags and indexed from "
        f"0):\n\n[Math Problem]\n\n{question}\n\n[Solution]\n\n{tagged}\n\nYour task is to review and critique the "
        "solution paragraph by paragraph. Once you identify an error in a paragraph, return the index of the paragraph "
        'where the earliest error occurs. Otherwise, return the index of -1 (which typically denotes "not found").\n\n'
        "Please put your final answer (i.e., the index) in \\boxed{}."
    )


def processbench(subset: str) -> list[dict[str, Any]]:
    """Four records of a subset: first errors in steps 0 and 1, and two right solutions."""
    return [
        {
            "id": f"{subset}-{at}",
            "generator": "Qwen2-7B-Instruct",
            "problem": f"What is {at} plus {at} in {subset}?",
            "steps": [f"Step 1: Read {at}.", f"Step 2: The sum is {2 * at}."],
            "final_answer_correct": label == -1,
            "label": label,
        }
        for at, label in enumerate((0, 1, -1, -1))
    ]


def visualprocessbench() -> list[dict[str, Any]]:
    """Three records of each source; one has two images, one a neutral step."""
    return [
        {
            "image": [f"images/{source}_{number}.png" for number in range(2 if at == 2 else 1)],
            "question": f"How many bars has figure {at} of {source}?",
            "answer": "3",
            "response": {
                "steps": ["Step 1: Count the bars.", f"Step 2: There are {at}.", "Step 3: So the answer is 3."],
                "process_correctness": [[1, -1, 1], [1, 1, -1], [1, 0, 1]][at],
            },
            "policy_model": "InternVL2.5-8B",
            "data_source": source,
        }
        for source in SOURCES
        for at in range(3)
    ]


def prmbench() -> list[dict[str, Any]]:
    """Three classes for each of two problems; `multi_solutions` has no wrong step and columns of its own."""
    return [
        {
            "original_question": f"How long is {problem}?",
            "modified_question": f"How long is {problem} now?",
            "original_process": ["1. Read it.", "2. So it is 4."],
            "modified_process": ["1. Read it.", "2. Guess.", "3. So it is 4."],
            "modified_steps": [2],
            "error_steps": wrong,
            "reason": "Step 2 is a guess.",
            "idx": f"prm_test_p1_{problem}",
            "question": f"How long is {problem}?",
            "classification": kind,
            **({"ground_truth": "4", "original_response": "4"} if not wrong else {}),
        }
        for problem in range(2)
        for kind, wrong in (("circular", [2]), ("deception", [2, 3]), ("multi_solutions", []))
    ]


def write_published(root: Path) -> Path:
    """Writes the three sets below `root` as they are on the hub, and returns it."""
    text, visual = root / "Qwen/ProcessBench", root / "OpenGVLab/VisualProcessBench"
    text.mkdir(parents=True)
    (visual / "images").mkdir(parents=True)
    preview = root / "hitsmy/PRMBench_Preview/prmbench_preview.jsonl"
    preview.parent.mkdir(parents=True)
    preview.write_text("".join(json.dumps(record) + "\n" for record in prmbench()))
    for subset in SUBSETS:
        (text / f"{subset}.json").write_text(json.dumps(processbench(subset)))
    records = visualprocessbench()
    (visual / "test.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    # The header on the hub declares columns as text that its records have as lists.
    declared = "".join(f"  - name: {name}\n    dtype: string\n" for name in records[0])
    files = "configs:\n- config_name: default\n  data_files:\n  - split: test\n    path: test.jsonl\n"
    (visual / "README.md").write_text(f"---\ndataset_info:\n  features:\n{declared}{files}---\n")
    for name in {image for record in records for image in record["image"]}:
        Image.new("RGB", (32, 32), (90, 20, 200)).save(visual / name)
    return root
