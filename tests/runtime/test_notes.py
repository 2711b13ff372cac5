"""Notes of a search about nodes of its tree."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path as FilePath

import pytest

from atomthink_plugin.api import AtomThinkError, Choice, Node, Outcome, SearchTree
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.testing import ScriptedPolicy, ScriptedScorer
from tests.trees import question, question_tree, settings

STEPS = {"Step 1: Look.": 0.5, "Step 1: See.": 0.5}
POLICY = ScriptedPolicy({"": STEPS} | {step: {"Step 2: Add.": 1.0} for step in STEPS}, exhaustive=True)


async def counting(tree: SearchTree) -> Choice:
    (children,) = await tree.expand([tree.root], 2)
    for visits, child in enumerate(children):
        tree.note(child, "visits 0")
        tree.note(child, f"visits {visits}")
    return Choice(children[0], 0.0, "final")


def notes(nodes: Sequence[Node]) -> dict[str, str]:
    return {node.text: node.note for node in nodes}


def test_the_last_note_of_a_node_is_in_its_outcome_and_in_the_journal(tmp_path: FilePath) -> None:
    shown: list[Node] = []
    journal = Journal(tmp_path, "run", {})
    runner = Runner(POLICY, None, Continue(), counting, settings(), journal)
    outcome = asyncio.run(runner.think(question(), on_node=shown.append))
    assert isinstance(outcome, Outcome)
    journal.close()
    with closing(Journal(tmp_path, "run", {})) as again:
        kept = again.get(question())
    assert kept == outcome
    assert set(notes(outcome.nodes).values()) == {"visits 0", "visits 1"}
    assert notes(shown) == notes(outcome.nodes)


def test_a_note_changes_no_seed_and_no_key() -> None:
    noted, plain = question_tree(POLICY), question_tree(POLICY)
    (first,), (second,) = (asyncio.run(tree.expand([tree.root], 2)) for tree in (noted, plain))
    noted.note(first[0], "visits 3")
    after = [asyncio.run(tree.expand([first[0]], 2)) for tree in (noted, plain)]
    assert after[0] == after[1]
    nodes = [tree.outcome(Choice(tree.root, 0.0, "final")).nodes for tree in (noted, plain)]
    assert tuple(replace(node, note="") for node in nodes[0]) == nodes[1]
    assert first == second


def test_only_nodes_of_the_tree_have_notes() -> None:
    tree, other = question_tree(POLICY), question_tree(POLICY)
    (children,) = asyncio.run(other.expand([other.root], 1))
    for path in (tree.root, children[0]):
        with pytest.raises(AtomThinkError):
            tree.note(path, "visits 1")


def test_a_search_knows_whether_the_run_has_a_scorer() -> None:
    assert question_tree(POLICY, ScriptedScorer({})).scored
    assert not question_tree(POLICY).scored
