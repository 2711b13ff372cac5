"""Labels for all chains of a file: every question at the same time, chains of one question together."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from atomthink_plugin.answers import equivalent
from atomthink_plugin.api import QuestionError
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.training.label.estimators import Rollouts, monte_carlo, right_steps
from atomthink_plugin.training.label.rollouts import Roller, Spent
from atomthink_plugin.training.records import Chain, RecordFile, Reject

Labels = tuple[float | None, ...]

Way = Callable[[Chain, str | None, Rollouts, int], Awaitable[Labels]]
"""Labels a chain; given what it concludes with (None if it does not), rollouts from its prefixes, and how many."""


async def by_monte_carlo(chain: Chain, stated: str | None, rollouts: Rollouts, n: int) -> Labels:
    """Labels each step with the share of right rollouts from behind it; one that concludes with 1 or 0."""
    return tuple(await monte_carlo(len(chain.steps), rollouts, n))


async def by_binary_search(chain: Chain, stated: str | None, rollouts: Rollouts, n: int) -> Labels:
    """Labels steps with 1 before the first error and 0 at it; what is behind it is not looked at and stays None.

    A chain with the right answer is taken to be right throughout, without a rollout.
    """
    if stated is not None and await asyncio.to_thread(equivalent, stated, chain.answer):
        return (1.0,) * len(chain.steps)
    # Where a wrong answer is stated, the chain as a whole is known to be wrong.
    right = await right_steps(len(chain.steps) - (stated is not None), rollouts, n)
    behind = len(chain.steps) - right
    return (*[1.0] * right, *[0.0] * (behind > 0), *[None] * (behind - 1))


WAYS: Final[Mapping[str, Way]] = {"monte_carlo": by_monte_carlo, "omega": by_binary_search}


@dataclass(frozen=True, slots=True)
class Labelled:
    """What labelling came to; chains and rejects together are all that were given.

    Attributes:
        chains: With labels, in the order they came.
        rejects: Chains that could not be labelled.
        spent: The rollouts.
    """

    chains: Sequence[Chain]
    rejects: Sequence[Reject]
    spent: Spent


def label(source: RecordFile[Chain], runner: Runner, way: Way, n: int) -> Labelled:
    """Labels chains by rollouts.

    Args:
        source: RecordFile[Chain] without labels; its own rejects are left alone.
        runner: The policy, its settings and the journal; its search follows one path.
        way: How.
        n: Rollouts from a prefix, at most.

    Raises:
        QuestionError: A rollout failed and `runner.on_error` is "raise".
    """
    return run(_label(source, runner, way, n))


async def _label(source: RecordFile[Chain], runner: Runner, way: Way, n: int) -> Labelled:
    groups = _by_question(source.records)
    todo = iter(groups)
    free = asyncio.Semaphore(runner.concurrency)
    done: dict[str, Chain | Reject] = {}
    costs: list[Spent] = []

    async def work(queue: Iterator[Sequence[Chain]], progress: RunProgress) -> None:
        for chains in queue:
            roller = Roller(replace(source.question(chains[0]), id=_identity(chains[0])), runner, free)
            results = await asyncio.gather(*(_labelled(chain, roller, runner, way, n) for chain in chains))
            await roller.finish()
            done.update(zip((chain.id for chain in chains), results, strict=True))
            costs.append(roller.spent)
            fresh = roller.spent.resumed == 0
            failed = any(isinstance(result, Reject) for result in results)
            progress.advance(amount=roller.spent.usage.generated if fresh else 0, resumed=not fresh, failed=failed)

    with RunProgress(len(groups), "labels") as progress:
        await asyncio.gather(*(work(todo, progress) for _ in range(min(runner.concurrency, len(groups)))))
    results = [done[chain.id] for chain in source.records]
    return Labelled(
        [result for result in results if isinstance(result, Chain)],
        [result for result in results if isinstance(result, Reject)],
        sum(costs, Spent()),
    )


async def _labelled(chain: Chain, roller: Roller, runner: Runner, way: Way, n: int) -> Chain | Reject:
    if fault := _fault(chain):
        return _reject(chain, fault)
    stated = runner.format.answer(chain.steps[-1])
    try:
        labels = await way(chain, stated, partial(roller.right, chain), n)
    except QuestionError as error:
        if runner.on_error == "raise":
            raise
        return _reject(chain, str(error))
    return chain.model_copy(update={"labels": labels})


def _fault(chain: Chain) -> str | None:
    """Why a chain cannot be labelled by rollouts."""
    if not chain.answer.strip():
        return "answer: the right one is not known, and rollouts are compared with it"
    if chain.labels is not None:
        return "labels: it has some already; take them out to label it anew"
    return None


def _reject(chain: Chain, reason: str) -> Reject:
    return Reject(f"id {chain.id!r}", reason, chain.model_dump(exclude_none=True))


def _by_question(chains: Sequence[Chain]) -> list[list[Chain]]:
    groups: dict[str, list[Chain]] = {}
    for chain in chains:
        groups.setdefault(_identity(chain), []).append(chain)
    return list(groups.values())


def _identity(chain: Chain) -> str:
    """Returns what chains of one question have in common; their samples' seeds come from it."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (chain.question, *chain.images):
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()
