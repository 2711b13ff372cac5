"""Monte-Carlo tree search over steps or mini-steps, rewarded by token confidence or by a process reward model.

Source: Marco-o1 (arXiv 2411.14405): a node is a reasoning state, an action is a step or a mini-step of 64 or 32 tokens
(`format=mini`), a simulation runs to the end of the chain, and its reward is the average confidence of its tokens.

Open in the paper, and chosen here: selection by UCT (Kocsis and Szepesvari, 2006) with the constant 1.414; 3 children
and 16 simulations; the reward covers all tokens of the chain, so that a chain has one reward; a chain without an answer
has the reward 0; the most visited path answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Annotated

from annotated_types import Ge, Lt

from atomthink_plugin.api import Aggregate, AtomThinkError, Choice, Count, Path, Search, SearchTree
from atomthink_plugin.searches.parts.reflection import format_after, one_thought, two_thoughts, with_reflection
from atomthink_plugin.searches.parts.token_confidence import chain_confidence
from atomthink_plugin.searches.parts.uct import UctNode


def mcts(
    simulations: Count = 16,
    children: Count = 3,
    exploration: Annotated[float, Ge(0), Lt(inf)] = 1.414,
    aggregate: Aggregate = "mean",
    reflect: bool = False,
) -> Search:
    """Simulates chains, more of them where their rewards are high, and answers by the most visited path.

    Without a PRM, the reward of a chain is the average confidence of its tokens, see `token_confidence`. With one, it
    is the aggregate of its step scores.

    A simulation goes down from the root. At each node it takes the first child that was never visited, in the order of
    the samples, else the one with the highest upper bound: mean reward + exploration * sqrt(ln N / n), for n visits of
    the child and N of the node. A node gets its children, `children` samples of which equal ones are one child, when it
    is reached for the second time, the root at once. From there one chain is sampled to its end, from draws that no
    other simulation has. Its reward counts for all nodes on the way down. A simulation that ends at a concluded node
    costs nothing.

    The most visited path takes the child with the most visits at every node, of equal ones that with the higher mean
    reward, then the first. If it ends at an unfinished chain, its best simulated completion answers. The chain with the
    best reward answers if that completion has no answer, or if the search has found all chains, which ends it early. A
    spent budget ends it early as well. The simulations of a question run one after another, because each selection
    depends on the earlier rewards.

    Args:
        simulations: Chains that are simulated at most.
        children: Samples of a node that is expanded.
        exploration: Weight of nodes with few visits; 0 follows the rewards alone.
        aggregate: How step scores become the reward of a chain: the `last` score, the `min`, the `mean`, the product
            (`prod`) or the mean of the log odds (`log_odds`). It has no effect without a PRM.
        reflect: Whether a chain that states its answer goes on after the sentence "Wait! Maybe I made some mistakes! I
            need to rethink from scratch." until it states an answer again. If it does not, its first answer counts.
    """

    async def search(tree: SearchTree) -> Choice:
        if tree.format.unit(tree.root) is None:
            raise AtomThinkError("`search=mcts` extends chains of steps, and this format asks for whole replies")
        if tree.root.final:
            return Choice(tree.root, 0.0, "final")
        root, ends = UctNode(tree.root), list[tuple[Path, float]]()
        for index in range(simulations):
            leaf = root.selected(exploration)
            if leaf.children is None and not leaf.path.final and (leaf.visits or leaf is root):
                leaf = await _expanded(tree, leaf, children, reflect)
            end = leaf.path
            if leaf.children is None:
                end = await (two_thoughts if reflect else one_thought)(tree, end, children + index)
            chain = next((path for path in reversed(end.lineage) if path.final), end)
            reward = await _reward(tree, chain, aggregate)
            leaf.offer(reward, chain)
            if tree.why(end) == "budget":
                break
            ends.append((end, reward))
            leaf.back_up(reward)
            if root.exhausted:
                break
        _note(tree, root, ends)
        return _choice(tree, root)

    return search


async def _expanded(tree: SearchTree, node: UctNode, children: int, reflect: bool) -> UctNode:
    """Adds the children of a node and returns the first one, the node itself if it cannot be extended."""
    (paths,) = await tree.expand([node.path], children, format=format_after(tree, node.path))
    node.children = [UctNode(with_reflection(tree, path) if reflect else path, node) for path in paths]
    return node.children[0] if node.children else node


async def _reward(tree: SearchTree, chain: Path, aggregate: Aggregate) -> float:
    if not chain.final:
        return 0.0
    return await tree.value(chain, aggregate) if tree.scored else chain_confidence(chain)


def _choice(tree: SearchTree, root: UctNode) -> Choice:
    """Returns the answer of the most visited path, or of the best chain if all are known or that path has none."""
    end = root if root.exhausted else root.most_visited()
    if end.best is None or not end.best[1].final:
        end = root
    reward, path = end.best or (0.0, root.path)
    return Choice(path, reward, tree.why(path))


def _note(tree: SearchTree, root: UctNode, ends: Sequence[tuple[Path, float]]) -> None:
    """Notes visits and mean rewards, and the simulations where they ended."""
    numbers = {path.key: number for number, (path, _) in reversed([*enumerate(ends, 1)])}
    notes = {path.key: (path, f"value {reward:.2f}") for path, reward in ends if path.depth > tree.root.depth}
    for node in root.below():
        if node.visits:
            notes[node.path.key] = (node.path, f"visits {node.visits}, value {node.mean:.2f}")
    for key, (path, text) in notes.items():
        tree.note(path, f"{text}, simulation {numbers[key]}" if key in numbers else text)
