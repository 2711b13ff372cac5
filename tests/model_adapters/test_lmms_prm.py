"""`atomthink_prm`: scores of a task's documents as replies; the command line is in tests/tasks/test_process_cli.py."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lmms_eval.api.instance import Instance, unwrap_generation_output

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.model_adapters.lmms_prm import AtomThinkPrm
from atomthink_plugin.model_adapters.tiny import WEIGHTS

PRM = str(WEIGHTS / "prm")
STEPS = ["Step 1: Read teal = 2.", "Step 2: To sum up, the final answer is: 2."]
DOCS = [
    {"question": "What is teal?", "steps": STEPS, "images": []},
    {"question": "What is teal? " * 3000, "steps": STEPS, "images": []},
    {"question": "What is teal?", "steps": STEPS, "images": ["nowhere.png"]},
    {"question": "What is teal?", "steps": STEPS[:1], "images": []},
]


class Task:
    """What the model looks at: a task's metadata, and its requests."""

    def __init__(self, critic: bool = True) -> None:
        metadata = {"critic_of": "prmbench"} if critic else {}
        self.config = SimpleNamespace(task="steps", metadata=metadata)
        self.instances: list[Instance] = []

    def doc_to_messages(self, doc: Any) -> Any:
        raise AssertionError("a PRM is not prompted")

    def request(self, doc_id: int, padding: bool = False) -> Instance:
        arguments = ("", self.doc_to_messages, {}, doc_id, "steps", "test")
        metadata = {"task": "steps", "doc_id": doc_id, "repeats": 1, "__padding_only__": padding}
        made = Instance(request_type="generate_until", arguments=arguments, idx=0, metadata=metadata)
        self.instances.append(made)
        return made


def model(**given: Any) -> AtomThinkPrm:
    made = AtomThinkPrm(prm=PRM, **{"journal": "off", **given})
    made.task_dict = {"steps": {"test": DOCS}}
    return made


def test_replies_are_in_order_and_failures_have_their_reasons(tmp_path: Path) -> None:
    task = Task()
    asked = [task.request(at) for at in (3, 0, 1, 2, 0)]
    given = model(journal=str(tmp_path), threshold="0.25")
    replies = given.generate_until([*asked, task.request(0, padding=True)])
    texts, counts = zip(*(unwrap_generation_output(reply) for reply in replies), strict=True)
    short, whole, again = (json.loads(texts[at]) for at in (0, 1, 4))
    assert (len(short["scores"]), len(whole["scores"])) == (1, 2)
    assert whole == again
    assert (whole["threshold"], whole["strict"]) == (0.25, False)
    assert texts[2:4] == ("", "")
    assert texts[5] == ""
    assert [count.status for count in counts[:5]] == ["answered", "answered", "failed", "failed", "answered"]
    assert "nowhere.png" in counts[3].error
    (kept,) = tmp_path.glob("prm-*/scores_rank0.jsonl")
    assert len(kept.read_text().splitlines()) == 1 + 4  # the PRM, and each different document once

    model(journal=str(tmp_path)).generate_until(asked[:2])
    assert len(kept.read_text().splitlines()) == 1 + 4


def test_a_run_without_any_scores_has_no_result() -> None:
    task = Task()
    asked = task.request(1)
    given = model()
    (reply,) = given.generate_until([asked])
    text, count = unwrap_generation_output(reply)
    asked.resps.append(text)
    asked.token_counts.append(count)
    with pytest.raises(AtomThinkError, match="all 1 questions failed"):
        given.clean()


def test_other_tasks_are_refused_before_anything_is_scored() -> None:
    with pytest.raises(AtomThinkError, match="`steps`"):
        model().generate_until([Task(critic=False).request(0)])


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("", "`prm=`"),
        (f"prm={PRM},threshold=2", "`threshold=2"),
        (f"prm={PRM},concurrency=0", "`concurrency=0"),
        (f"prm={PRM},prm_dtpye=float32", "did you mean `prm_dtype`"),
        (f"prm={PRM},thinking=slow", "`thinking`"),
        ("prm=nowhere/at/all", "nowhere/at/all"),
    ],
)
def test_bad_arguments_are_named_before_the_model_is_loaded(typed: str, named: str) -> None:
    with pytest.raises(AtomThinkError) as raised:
        AtomThinkPrm.check(typed, {"batch_size": 1, "device": None})
    assert named in str(raised.value)


def test_options_of_the_command_line_are_the_scorers() -> None:
    AtomThinkPrm.check(f"prm={PRM}", {"batch_size": "4", "device": "cpu"})
    with pytest.raises(AtomThinkError, match="prm_batch_size=none"):
        AtomThinkPrm.check(f"prm={PRM}", {"batch_size": "none", "device": None})
