"""How good chains are: by counting, and by a language model's score as AtomThink's paper has it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, pstdev
from typing import Annotated, Any, Final

from pydantic import Field

from atomthink_plugin.answers import equivalent, final_answer
from atomthink_plugin.api import AtomThinkError, Message, QuestionError
from atomthink_plugin.formats.steps import SEPARATOR, check
from atomthink_plugin.training.annotate.filters import well_formed
from atomthink_plugin.training.annotate.meter import LimitError
from atomthink_plugin.training.annotate.teacher import Reply, Teacher
from atomthink_plugin.training.records import Chain, RecordFile, read_images

JUDGE: Final = """You grade solutions for use as training data. Look at the question, the image and the \
solution, and give one score from 0 to 100: 100 for a solution in which every step is right, needed, clear and \
small, and the answer is right; about 50 for one with the right idea and a serious gap; 0 for one that is of no \
use. Length alone is no merit.

Reply with a JSON object: {"score": a whole number, "reason": one sentence}."""


class ChainScore(Reply):
    """A judge's verdict on a chain."""

    score: Annotated[int, Field(ge=0, le=100)]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge says of chains.

    Attributes:
        scores: By chain's id.
        failed: Why others have none.
    """

    scores: dict[str, int]
    failed: dict[str, str]

    def told(self) -> dict[str, Any]:
        """Returns mean, spread and distribution."""
        values = list(self.scores.values())
        tens = {f"{low}-{low + 9 if low < 90 else 100}": 0 for low in range(0, 100, 10)}
        names = list(tens)
        for value in values:
            tens[names[min(value // 10, 9)]] += 1
        told: dict[str, Any] = {"judged": len(values), "failed": len(self.failed), "distribution": tens}
        if values:
            told |= {"mean": fmean(values), "median": median(values), "deviation": pstdev(values)}
        return told


def statistics(chains: Sequence[Chain], tokens: Callable[[str], int] | None = None) -> dict[str, Any]:
    """Returns what can be said of chains without a judge.

    Args:
        chains: At least one.
        tokens: Counts a text's tokens, where a tokenizer is named.
    """
    texts = [SEPARATOR.join(chain.steps) for chain in chains]
    steps = sum(len(chain.steps) for chain in chains)
    repeated = sum(check(step, chain.steps[:at]) is not None for chain in chains for at, step in enumerate(chain.steps))
    answers = [(final_answer(chain.steps[-1]), chain.answer) for chain in chains]
    known = [(said, right) for said, right in answers if right]
    told: dict[str, Any] = {
        "chains": len(chains),
        "steps": steps,
        "steps_per_chain": steps / len(chains),
        "characters_per_chain": fmean(map(len, texts)),
        "well_formed": fmean(well_formed(chain.steps) for chain in chains),
        "repeated_steps": repeated / steps,
        "distinct_answers": len({" ".join(said.casefold().split()) for said, _ in answers if said is not None}),
    }
    if known:
        told["right_answers"] = fmean(said is not None and equivalent(said, right) for said, right in known)
    if tokens is not None:
        told["tokens_per_chain"] = fmean(map(tokens, texts))
    return told


def sampled(chains: Sequence[Chain], count: int) -> list[Chain]:
    """Returns so many chains by chance, always the same ones, or all where there are no more."""
    return list(chains) if count >= len(chains) else random.Random(0).sample(list(chains), count)


async def judge(found: RecordFile[Chain], chains: Sequence[Chain], teacher: Teacher, concurrency: int) -> Judged:
    """Asks a judge for a score of each chain.

    Args:
        found: Where the chains' images are.
        chains: Those that are judged.
        teacher: The judge.
        concurrency: How many at the same time.

    Raises:
        AtomThinkError: The judge cannot be asked at all.
    """
    result = Judged({}, {})
    places = asyncio.Semaphore(concurrency)

    async def work(chain: Chain) -> None:
        async with places:
            told = f"QUESTION:\n{chain.question}\n\nRIGHT ANSWER: {chain.answer or 'not known'}\n\nSOLUTION:\n"
            try:
                shown = read_images(chain, found.folder)
                reply = await teacher.ask(
                    chain.id,
                    [Message("system", (JUDGE,)), Message("user", (*shown, told + SEPARATOR.join(chain.steps)))],
                    ChainScore,
                    max_tokens=512,
                )
                result.scores[chain.id] = reply.score
            except (QuestionError, LimitError) as error:  # behind a limit nothing more is asked
                result.failed[chain.id] = str(error)

    await asyncio.gather(*map(work, chains))
    if chains and not result.scores:
        raise AtomThinkError(f"the judge scored none of {len(chains)}; the first: {next(iter(result.failed.values()))}")
    return result
