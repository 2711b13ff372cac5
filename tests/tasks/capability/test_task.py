"""The task `atomic_capability`: its documents, its scores, and one run of the real command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from atomthink_plugin.tasks.capability import task
from atomthink_plugin.tasks.demo.questions import held_out
from tests.test_lmms_eval_cli import results, run, samples

pytestmark = pytest.mark.slow


CHAINS = [json.loads(json.dumps(question.to_json())) for question in held_out(3)]
DOCS = [doc for index, chain in enumerate(CHAINS) for doc in task._docs(index, chain)]


def reply(doc: dict[str, Any], skilled: str) -> str:
    """Whole chains that go wrong at the first step that is not of the one kind that is done rightly."""
    rest = doc["abilities"][doc["given"] :]
    right = all(ability == skilled for ability in rest[:-1])
    return f"Step 9: To sum up, the final answer is: {doc['answer'] if right else 99999}."


def test_documents_are_all_prefixes_but_the_whole_chain() -> None:
    steps = [len(chain["steps"]) for chain in CHAINS]
    assert len(DOCS) == sum(steps) * task.ROLLOUTS
    first = DOCS[2 * task.ROLLOUTS]
    user, assistant = task.doc_to_messages(first)
    assert (user["role"], user["content"][1]["text"]) == ("user", CHAINS[0]["text"])
    assert assistant == {
        "role": "assistant",
        "content": [{"type": "text", "text": "\n\n".join(CHAINS[0]["steps"][:2])}],
    }
    assert task.doc_to_text(first).endswith("\n\n".join(CHAINS[0]["steps"][:2]))
    assert len(task.doc_to_messages(DOCS[0])) == 1
    assert task.doc_to_text(DOCS[0]) == CHAINS[0]["text"]


def test_metrics_give_the_outcomes_back_to_the_abilities() -> None:
    scored = [task.process_results(doc, [reply(doc, "Calculation")]) for doc in DOCS]
    values = {name: [score[name] for score in scored] for name in task.METRICS}
    assert task.calculation(values["calculation"]) == 1.0
    assert task.decision_making(values["decision_making"]) == 1.0
    assert task.data_extraction(values["data_extraction"]) == 0.0
    assert 0.0 < task.overall(values["quality"]) < 1.0


def test_too_few_rollouts_give_no_number_and_one_reason() -> None:
    nothing = [task.process_results(DOCS[0], ["no idea"])["calculation"]]
    said: list[str] = []
    sink = logger.add(said.append)
    try:
        found = [metric(nothing) for metric in (task.overall, task.calculation, task.data_extraction)]
    finally:
        logger.remove(sink)
    assert found == [None, None, None]
    (reason,) = said
    assert "--limit" in reason


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    limited = ("--tasks", "atomic_capability", "--limit", "48", "--gen_kwargs", "temperature=1")
    run(folder, *limited, model_args="journal=off")
    return folder


def test_the_command_line_knows_the_task_and_continues_the_steps(home: Path) -> None:
    scores = results(home)["results"]["atomic_capability"]
    assert 0.0 <= scores["data_extraction,none"] <= 1.5
    written = samples(home)
    assert len(written) == 48
    for sample in written:
        given = sample["calculation"]["steps"][: sample["calculation"]["given"]]
        assert sample["filtered_resps"].startswith("\n\n".join(given))
    rollouts = {sample["filtered_resps"] for sample in written if sample["calculation"]["given"] == 0}
    assert len(rollouts) > 1  # each is drawn with a seed of its own
