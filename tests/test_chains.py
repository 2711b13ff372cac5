"""The chains of a finished tree hold steps: neither replies to other questions, nor what another root was asked."""

from __future__ import annotations

from dataclasses import replace

from atomthink_plugin.api import Node, Outcome, Usage
from atomthink_plugin.training.pairs import PairLimits, paths_of, sibling_pairs


def node(name: str, parent: str, answer: str | None = None) -> Node:
    return Node(name, parent, f"text {name}", 0.5, None, 1, 1, answer)


NODES = (
    node("b", "written", "4"),
    node("a", "root"),
    replace(node("judged", "a", "1"), use="judge", role="judge", score=0.9),
    replace(node("written", "judged"), role=""),
    replace(node("last words", "b"), role=""),
    node("bad", "a"),
    node("after bad", "bad", "5"),
    node("other", "root-1f", "B"),
)
TREE = Outcome("", "4", ("text a",), (0.5,), 0.5, "final", Usage(), NODES)


def test_a_chain_ends_at_a_step_and_holds_what_the_search_extended() -> None:
    nodes = tuple(replace(one, rejected="empty") if one.id == "bad" else one for one in NODES)
    assert replace(TREE, nodes=nodes).chains() == {
        "a": ("text a",),
        "b": ("text a", "text judged", "text written", "text b"),
    }
    assert replace(TREE, nodes=nodes[::-1]).chains().keys() == {"a", "b"}


def test_a_judgement_is_no_better_step_than_its_siblings() -> None:
    nodes = tuple(replace(one, score=0.1) if one.id == "bad" else one for one in NODES)
    steps, tried = paths_of(TREE, "4")
    assert list(sibling_pairs(nodes, steps, PairLimits(margin=0.0))) == []
    assert [path.steps[-1] for path in tried] == ["text after bad"]  # a pair must not hold what was asked or written
