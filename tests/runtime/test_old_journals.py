"""Journals of older versions. `before_units` has nodes without units, roles and uses."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path as FilePath

from atomthink_plugin.api import Outcome
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.testing import ScriptedPolicy, ScriptedScorer
from tests.runtime.test_runner import runner
from tests.trees import Grove, question

OLD = FilePath(__file__).parent / "before_units"
FIRST, FOUR, FIVE = "Step 1: Look.", "Step 2: The final answer is: 4.", "Step 2: The final answer is: 5."
TREE = {"": {FIRST: 1.0}, FIRST: {FOUR: 0.5, FIVE: 0.5}}


def test_finished_questions_are_read_and_answers_of_old_requests_are_asked_again(tmp_path: FilePath) -> None:
    with contextlib.closing(Journal(tmp_path, "run", {"seed": 0})) as journal:
        folder = journal.folder
    for file in OLD.iterdir():
        shutil.copy(file, folder)
    policy = ScriptedPolicy(TREE)
    scorer = ScriptedScorer(lambda history: 0.25 if history == FIRST else 0.75)
    with contextlib.closing(Journal(tmp_path, "run", {"seed": 0})) as journal:
        results = runner(Grove({}, {}, {}), beam(1, 2), policy, scorer=scorer, journal=journal).run(
            [question("a"), question("b")]
        )
        old = journal.get(question("a"))
    assert old == results[0]
    assert isinstance(old, Outcome)
    assert {(node.text, node.score, node.unit, node.role, node.use) for node in old.nodes} == {
        (FIRST, 0.25, "step", "policy", ""),
        (FOUR, 0.75, "step", "policy", ""),
        (FIVE, 0.75, "step", "policy", ""),
    }
    # The interrupted question: the names of policy requests have changed since, those of scorer requests have not.
    assert [(name, history) for name, history, _ in policy.calls] == [("b", ""), ("b", FIRST)]
    assert FIRST not in scorer.calls
    fresh = runner(Grove({}, {}, {}), beam(1, 2), ScriptedPolicy(TREE), scorer=scorer).run([question("b")])
    assert isinstance(results[1], Outcome)
    assert isinstance(fresh[0], Outcome)
    assert (results[1].nodes, results[1].answer) == (fresh[0].nodes, fresh[0].answer)
    assert not list(folder.glob("partial_*"))
