"""Insight-V's two agents: one writes the reasoning, the other judges it silently and answers.

Source: Insight-V (arXiv 2411.14432) and its inference code: a reasoning agent writes one chain of thought at
temperature 0.2, top_p 0.95 and at most 1024 tokens; a summary agent, a second checkpoint, reads the question, the image
and the chain, and replies in at most 4096 tokens. Its prompt has the published parts, in other words.

Different from the published code: the paper ranks several chains of a question for its training data only. Here `n`
chains can be ranked by the same assessment before the best one is summarised. The reply has the reasoning before the
summary, as that of every search; the step in which the chain states an answer of its own is left out.
"""

from __future__ import annotations

from typing import Final

from atomthink_plugin.answers import final_answer
from atomthink_plugin.api import Choice, Count, Path, Prompt, Question, Search, SearchTree, Unit
from atomthink_plugin.formats.parts import append, check_not_empty, prepend
from atomthink_plugin.formats.thoughts import END, START, THOUGHTS, bare
from atomthink_plugin.searches.parts.ranking import rank

_HEAD: Final = (
    "You are given a question about an image and a reasoning process that was written for it, which may be wrong. "
    "Answer the question.\n\nQUESTION: "
)

_TASK: Final = (
    "If the reasoning process is right, summarize it and answer the question. If it is wrong, ignore it, look at the "
    "image and answer the question yourself. Never mention the reasoning process, nor whether it is right. End with "
    '"The final answer is: X."'
)


def reason_summarise(n: Count = 1, reply_tokens: Count = 4096) -> Search:
    """Writes `n` chains of thought and lets a second model answer from the best one, or by itself if it is wrong.

    The run's policy is the reasoning agent. The model in the role `summary` is the summary agent and sees the image
    again; without one, the policy itself is. If several distinct chains were sampled, the model in the role `judge`,
    else the policy, scores all of them in one pass, and the best goes to the summary agent. A summary that states no
    answer is the answer as a whole. Without a summary that ended (it is empty, it reached its token limit, or the
    budget does not pay for one), the best chain is the reply.

    With another format than `thoughts`, whole chains take the place of the thoughts.

    Args:
        n: Chains sampled. The published search has 1. For more, a temperature above the default of 0.2 gives chains
            that differ; the paper samples those of its training data at 0.7.
        reply_tokens: Limit of the summary agent's reply, in tokens.
    """

    async def search(tree: SearchTree) -> Choice:
        chains = await _chains(tree, n)
        if not chains:
            return Choice(tree.root, 0.0, tree.why(tree.root))
        if len(chains) > 1:
            chains = await rank(tree, tree.root, chains, [_reasoning(chain) for chain in chains])
        replies = await _summary(tree, chains[0], reply_tokens)
        path = replies[0] if replies else chains[0]
        return Choice(path, 0.0, tree.why(path))

    return search


async def _chains(tree: SearchTree, n: int) -> list[Path]:
    """Returns the distinct chains of thought, in the order of their samples."""
    unit = tree.format.unit(tree.root)
    if unit is not None and unit.name == THOUGHTS:  # without the answer that may follow
        (chains,) = await tree.expand([tree.root], n)
        return chains
    found = {chain.key: chain for chain in await tree.rollouts(n)}
    return [chain for chain in found.values() if chain.key != tree.root.key]


def summary_prompt(question: Question, reasoning: str) -> Prompt:
    """Returns the prompt of the summary agent."""
    text = f"\n\nREASON PROCESS:\n{START}\n{reasoning}\n{END}\n\n{_TASK}"
    return Prompt(append(prepend(question.messages, _HEAD), text))


async def _summary(tree: SearchTree, chain: Path, tokens: int) -> list[Path]:
    """Returns the summary agent's reply, after the steps of the chain; empty if there is none."""
    at = chain.parent if chain.final and chain.parent is not None else chain
    prompt = summary_prompt(chain.question, _reasoning(chain))
    unit = Unit("summary", tokens=tokens, check=check_not_empty)
    return await tree.ask(at, prompt, use="summary", role="summary", unit=unit, read=_answer)


def _reasoning(chain: Path) -> str:
    return "\n\n".join(bare(step.text) for step in chain.steps)


def _answer(reply: str) -> str | None:
    return final_answer(reply) or reply.strip().rstrip(".") or None
