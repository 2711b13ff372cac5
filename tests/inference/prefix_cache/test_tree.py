"""The prefix tree gives back the states it was given, for whatever begins alike, within its limit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from atomthink_plugin.inference.prefix_cache.tree import PrefixTree, TensorStates

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=12)
TOKEN = torch.zeros(2, 1, 1, 1).nbytes


def states(ids: list[int], root: str = "") -> TensorStates:
    """States that name everything before them: what causal attention makes of a prefix."""
    codes = [hash((root, *ids[: at + 1])) % 2**20 for at in range(len(ids))]
    return TensorStates(torch.tensor(codes, dtype=torch.float32).expand(2, 1, -1)[..., None])


def grown(sequences: list[list[int]], limit: int = 2**30) -> PrefixTree[TensorStates]:
    tree: PrefixTree[TensorStates] = PrefixTree(limit)
    for ids in sequences:
        tree.describe("", 0, {})
        tree.insert("", ids, states(ids))
        tree.shrink()
    return tree


@given(SEQUENCES, st.lists(st.integers(0, 2), max_size=9))
def test_the_longest_known_beginning_is_found_with_its_states(sequences: list[list[int]], asked: list[int]) -> None:
    tree = grown(sequences)
    known = max(sum(1 for _ in range(n)) for s in sequences for n in range(len(asked) + 1) if s[:n] == asked[:n])
    found = tree.find("", asked)
    assert sum(count for _, count in found) == tree.known("", asked) == known
    if found:
        pieces = [piece.tensor[:, :, :count] for piece, count in found]
        assert torch.equal(torch.cat(pieces, dim=2), states(asked).tensor[:, :, :known])


@given(SEQUENCES)
def test_what_begins_alike_is_kept_once(sequences: list[list[int]]) -> None:
    distinct = {tuple(ids[: n + 1]) for ids in sequences for n in range(len(ids))}
    assert grown(sequences).size == len(distinct) * TOKEN


@given(SEQUENCES, st.integers(1, 20))
@example([[0, 0], [0, 0, 0], [1, 0]], 3)
@example([[0, 0], [0, 0, 0], [0, 1, 0, 0]], 4)
def test_the_limit_is_kept_and_the_last_used_stays(sequences: list[list[int]], tokens: int) -> None:
    tree = grown(sequences, tokens * TOKEN)
    assert tree.size <= tokens * TOKEN
    if len(sequences[-1]) <= tokens:
        assert tree.known("", sequences[-1]) == len(sequences[-1])


def test_images_have_trees_of_their_own_and_leave_with_them() -> None:
    tree: PrefixTree[TensorStates] = PrefixTree(limit=8 * TOKEN)
    picture = torch.zeros(1, 2, 1)
    for root, shift in (("a", 3), ("b", 5)):
        tree.describe(root, shift, {1: (picture, picture)})
        tree.insert(root, [1, 2], states([1, 2], root))
    assert tree.size == 2 * (2 * TOKEN + 2 * picture.nbytes)
    assert (tree.shift("a"), tree.shift("b")) == (3, 5)
    ((found, count),) = tree.find("b", [1, 2])
    assert count == 2
    assert torch.equal(found.tensor, states([1, 2], "b").tensor)
    tree.find("a", [1, 2])
    tree.insert("a", [1, 2, 3], states([1, 2, 3], "a"))
    tree.shrink()
    assert (tree.known("a", [1, 2, 3]), tree.known("b", [1, 2])) == (3, 0)


def test_states_without_what_comes_before_are_refused() -> None:
    tree = grown([[0, 1]])
    with pytest.raises(ValueError, match="2 to 3"):
        tree.insert("", [0, 1, 2, 0], states([0, 1, 2, 0]).part(3, 4))


@given(SEQUENCES, st.integers(0, 30))
def test_no_node_keeps_more_memory_alive_than_is_counted(sequences: list[list[int]], limit: int) -> None:
    tree = grown(sequences, limit * TOKEN)
    nodes = list(tree._roots.values())
    for node in nodes:
        nodes += node.children.values()
    assert sum(node.states.tensor.untyped_storage().nbytes() for node in nodes if node.states) == tree.size


def test_what_is_cleared_is_unknown_and_free() -> None:
    tree = grown([[1, 2], [1, 0]])
    tree.clear()
    assert (tree.size, tree.known("", [1, 2])) == (0, 0)
    tree.describe("", 0, {})
    tree.insert("", [1], states([1]))
    assert (tree.size, tree.known("", [1, 2])) == (TOKEN, 1)
