"""Runs lmms-eval with the installed plugin; `test_builtin_scorers.py` runs it in a process.

One process does everything, because importing lmms-eval's tasks is slow. It writes one JSON object to the file in its
first argument.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmms_eval import evaluator
from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.api.model import lmms
from lmms_eval.tasks import TaskManager

from atomthink_plugin.model_adapters import lmms_requests
from atomthink_plugin.tasks import harness_patches
from tests.tasks.builtin_forms import logged

GIVEN = {"max_new_tokens": 99, "temperature": 0.5}


class Oracle(lmms):  # type: ignore[misc]
    """A chat model that knows the answer to the even documents."""

    is_simple = False

    def __init__(self) -> None:
        super().__init__()
        self.questions: list[Any] = []

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        results = []
        for request, repeat in zip(requests, lmms_requests.repeats(requests), strict=True):
            arguments = lmms_requests.generation_arguments(request, GIVEN, stepwise=False)
            question = lmms_requests.to_question(lmms_requests.asked(request, repeat, GIVEN), self.task_dict)
            self.questions.append([question.id, question.text, arguments, question.images[0].size])
            answer = self.task_dict["atomthink_demo"]["test"][request.doc_id]["answer"]
            stated = answer if request.doc_id % 2 == 0 else "none"
            text = f"Step 1: Look.\n\nStep 2: To sum up, the final answer is: {stated}."
            results.append(GenerationResult(text, lmms_requests.ThoughtCounts(policy_calls=2)))
        return results

    def loglikelihood(self, requests: Any) -> Any:
        raise NotImplementedError

    def generate_until_multi_round(self, requests: Any) -> Any:
        raise NotImplementedError


class Simple(Oracle):
    """A model of lmms-eval's older interface, which gets text and images separately."""

    is_simple = True

    def generate_until(self, requests: list[Instance]) -> list[str]:
        replies = []
        for text, _, doc_to_visual, doc_id, task, split in (request.args for request in requests):
            doc = self.task_dict[task][split][doc_id]
            (image,) = doc_to_visual(doc)
            self.questions.append([text, image.mode, image.size])
            replies.append(f"{doc['answer']}." if doc_id % 2 == 0 else "none")
        return replies


def demo(model: Oracle, **given: Any) -> dict[str, Any]:
    """Returns the questions that `model` got from the demo task, the scores and the samples."""
    results = evaluator.simple_evaluate(
        model=model, tasks=["atomthink_demo"], limit=3, log_samples=True, bootstrap_iters=0, **given
    )
    samples = results["samples"]["atomthink_demo"]
    for sample in samples:
        sample.pop("doc")
    scores = {name: value for name, value in results["results"]["atomthink_demo"].items() if "," in name}
    return {"questions": model.questions, "scores": scores, "samples": samples}


def builtin_scores() -> dict[str, Any]:
    """Returns the verdicts of the built-in rule-based scorers on a right and a wrong reply."""
    from lmms_eval.tasks.mathverse.reasoning.utils import mathverse_process_results
    from lmms_eval.tasks.mathvision.reasoning.utils import mathvision_process_results as mathvision_reasoning
    from lmms_eval.tasks.mathvision.utils import mathvision_process_results
    from lmms_eval.tasks.mathvista.reasoning.utils import mathvista_process_results

    vista = {"question_type": "free_form", "answer_type": "float", "choices": None, "precision": 1}
    verse = {"query_wo": "?", "query_cot": "?", "question_type": "free-form", "problem_version": "Text Only"}
    scorers: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, Any], str]] = {
        "mathvision": (mathvision_process_results, {"options": []}, "mathvision_standard_eval"),
        "mathvision_reasoning": (mathvision_reasoning, {"options": []}, "acc_score"),
        "mathvista_reasoning": (mathvista_process_results, vista, "acc_score"),
        "mathverse_reasoning": (mathverse_process_results, verse, "acc_score"),
    }
    scores = {}
    for name, (scorer, fields, metric) in scorers.items():
        doc = {"question": "How much?", "answer": "0.5", **fields}
        replies = (rf"Step 1: To sum up, the final answer is: \boxed{{{x}}}." for x in (r"\frac{1}{2}", 7))
        given = (scorer(doc, [reply])[metric] for reply in replies)
        scores[name] = [score["scores"][0] if isinstance(score, dict) else score for score in given]
    return scores


def names() -> dict[str, Any]:
    """Returns whether a new task manager has each of two tasks."""
    known = TaskManager().all_tasks
    return {name: name in known for name in ("atomthink_demo", "mathvision_testmini")}


def without_the_hook() -> dict[str, Any]:
    """Returns the known tasks with the patch switched off."""
    hooked = TaskManager.initialize_tasks
    TaskManager.initialize_tasks = hooked.__wrapped__
    os.environ[harness_patches.NO_TASKS] = "1"
    harness_patches.find_tasks()
    known = names()
    TaskManager.initialize_tasks = hooked
    return known


def with_a_broken_task() -> dict[str, Any]:
    """Returns the known tasks if our folder has a file that cannot be read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "broken.yaml").write_text("task: [unclosed")
        harness_patches.TASKS = Path(folder)  # type: ignore[misc]
        return names()


if __name__ == "__main__":
    cli = Namespace(gen_kwargs="max_new_tokens=64", process_with_media=False)
    found = {
        "names": names(),
        "scorers": builtin_scores(),
        "logged": logged(),
        "chat": demo(Oracle(), gen_kwargs=cli.gen_kwargs, cli_args=cli, repeats=2),
        "simple": demo(Simple()),
        "opt_out": without_the_hook(),
        "broken": with_a_broken_task(),
    }
    Path(sys.argv[1]).write_text(json.dumps(found))
