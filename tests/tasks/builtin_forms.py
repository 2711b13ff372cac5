"""What `process_results` of lmms-eval's own tasks returns for made-up documents; called by `harness_run.py`.

For tasks that `builtin_benchmarks.py` does not run: their data sets are large to imitate, or they ask a judge for
what they do not recognise themselves.
"""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any, Final

from lmms_eval.utils import handle_non_serializable

WAYS: Final = "['one', 'two', 'three', 'four']"
LETTERS: Final = {"A": "one", "B": "two", "C": "three", "D": "four"}
TAGGED: Final = "<analysis>Look.</analysis><answer>{}</answer>"

KALEIDOSCOPE: Final = {"options": ["1", "2", "3", "4"], "answer": 1, "language": "en", "category_en": "Math"}
VISTA: Final = {
    "question_type": "free_form", "answer_type": "integer", "query": "?", "choices": None, "answer": "14",
    "precision": 0, "pid": "1", "metadata": {"split": "testmini"},
}  # fmt: skip
WEMATH: Final = {
    "ID": "1", "split": "testmini", "knowledge concept": "", "question": "?", "option": "", "answer": "B",
    "key": "2steps", "question number": 1, "knowledge concept description": "",
}  # fmt: skip

FORMS: Final[dict[str, tuple[str, dict[str, Any], str, str]]] = {
    "mathvista.utils:mathvista_process_results": ("llm_as_judge_eval", VISTA, "14", "15"),
    "dynamath.reasoning.utils:dynamath_process_results": (
        *("dynamath_average", {"question": "?", "ground_truth": "12", "question_id": "1", "id": "1"}),
        *(TAGGED.format("12"), TAGGED.format("13")),
    ),
    "wemath.reasoning.utils:wemath_reasoning_process_results": (
        *("wemath_strict", WEMATH, TAGGED.format("B"), TAGGED.format("C")),
    ),
    "gpqa.openai.utils:process_results": ("exact_match", {"answer": "B"}, r"\boxed{B}", r"\boxed{C}"),
    "geometry3k.utils:geometry3k_process_results": ("exact_match", {"ground_truth": "B", "choices": []}, "B", "C"),
    "mmmu_pro.utils:mmmu_pro_process_results": (
        *("mmmu_acc", {"id": "1", "subject": "Math", "question": "?", "options": WAYS, "answer": "B"}),
        *("The answer is (B).", "The answer is (C)."),
    ),
    "jmmmu.utils:jmmmu_process_results": (
        *("jmmmu_acc", {"id": "test_Math_1", "question_type": "open", "options": "[]", "answer": "12"}),
        *("It is 12.", "It is 13."),
    ),
    "mmt.utils:mmt_process_results": ("accuracy", {**LETTERS, "answer": "B", "l2-category": "x"}, "B", "C"),
    "mme_realworld.utils:mme_realworld_process_results": (
        "mme_realworld_score",
        {"index": 1, "category": "Perception/OCR", "l2-category": "x", "answer": "B"},
        *("(B)", "(C)"),
    ),
    "videomathqa.utils:videomathqa_process_results": (
        "videomathqa_perception_score",
        {"question_id": 1, "category": "x", "length": "short", "answer": "B"},
        *("B", "C"),
    ),
    "mmsi_bench.utils:msr_process_results": ("average", {"id": 1, "question_type": "x", "answer": "B"}, "B", "C"),
    "mindcube.utils:mindcube_process_results": ("overall_accuracy", {"id": "among_1", "gt_answer": "B"}, "B", "C"),
    "kaleidoscope.utils:kaleidoscope_process_results": (
        *("kaleidoscope_acc", KALEIDOSCOPE, '{"choice": "B"}', '{"choice": "C"}'),
    ),
    "blink.utils:blink_process_results": (
        *("blink_acc", {"idx": 1, "answer": "(B)", "choices": ["1", "2"], "sub_task": "Counting"}, "B", "A"),
    ),
    "zerobench.utils:zerobench_process_results": ("zerobench_exact_match", {"question_answer": "12"}, "12", "13"),
    "vlmsareblind.utils:vlmsareblind_process_results": (
        *("accuracy", {"task": "Subway Connections", "groundtruth": "2"}, "{2}", "{3}"),
    ),
}
"""By module and function: the metric, a document, a right reply and a wrong one."""

SILENT: Final[dict[str, tuple[str, dict[str, Any], str]]] = {
    "mmbench.en_utils:mmbench_process_results": (
        "gpt_eval_score",
        {
            "answer": "B",
            **dict.fromkeys(("index", "question", "hint", "source", "split", "category", "L2-category"), ""),
        },
        "Step 1: Look. The answer is B.",
    ),
    "naturalbench.utils:naturalbench_process_results": (
        *("naturalbench_Acc", {"Index": 0, "Question_Type": "yes_no"}, "Yes"),
    ),
}
"""Those that do not say whether a reply is right: a metric, a document and a reply."""


def logged() -> dict[str, Any]:
    """Returns by function the metric's name, and what a samples file has of it for each reply."""
    found: dict[str, Any] = {}
    for name, (metric, doc, *replies) in (*FORMS.items(), *SILENT.items()):
        module, function = name.split(":")
        process = getattr(import_module(f"lmms_eval.tasks.{module}"), function)
        lines = []
        for reply in replies:
            line = json.dumps(process(dict(doc), [reply]), default=handle_non_serializable)
            lines.append(json.loads(line)[metric])
        found[name] = [metric, *lines]
    return found
