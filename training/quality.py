"""The quality of chains: counts, and the score of a language model as a judge, as in AtomThink's paper."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import Annotated, Any, Final

from pydantic import Field

from atomthink_plugin.answers import equivalent, final_answer
from atomthink_plugin.api import AtomThinkError, Message, QuestionError
from atomthink_plugin.formats.steps import SEPARATOR, check
from atomthink_plugin.report.output_files import write_json
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.training.annotate.budget import LimitError, SpendingBudget
from atomthink_plugin.training.annotate.filters import well_formed
from atomthink_plugin.training.annotate.teacher import Teacher, TeacherReply, connect
from atomthink_plugin.training.records import Chain, RecordFile, count_reasons, read_images, read_records

CONCURRENCY: Final = 16  # requests to the judge in flight

JUDGE: Final = """You grade solutions for use as training data. Look at the question, the image and the \
solution, and give one score from 0 to 100: 100 for a solution in which every step is right, needed, clear and \
small, and the answer is right; about 50 for one with the right idea and a serious gap; 0 for one that is of no \
use. Length alone is no merit.

Reply with a JSON object: {"score": a whole number, "reason": one sentence}."""


class ChainScore(TeacherReply):
    """A judge's score of a chain."""

    score: Annotated[int, Field(ge=0, le=100)]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class JudgeScores:
    """A judge's scores of chains by their ids, and why other chains have none."""

    scores: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Returns counts, mean, spread and distribution."""
        values = list(self.scores.values())
        distribution = {f"{low}-{low + 9 if low < 90 else 100}": 0 for low in range(0, 100, 10)}
        names = list(distribution)
        for value in values:
            distribution[names[min(value // 10, 9)]] += 1
        counts = {"judged": len(values), "failed": len(self.failures), "distribution": distribution}
        spread = {"mean": fmean(values), "median": median(values), "deviation": pstdev(values)} if values else {}
        return counts | spread


def report_quality(
    chains: Path,
    *,
    tokenizer: str | None = None,
    judge_model: str | None = None,
    base_url: str | None = None,
    samples: int = 500,
    max_tokens_total: int | None = None,
    json_file: Path | None = None,
) -> None:
    """Prints the quality of the chains of a file as JSON.

    The arguments are those of `atomthink data quality`.

    Raises:
        AtomThinkError: The file cannot be read, or the tokenizer or the judge cannot be used.
    """
    found = read_records(chains, Chain)
    rejected = {"rejected": len(found.rejects), "rejects": count_reasons(found.rejects)}
    report: dict[str, Any] = {"statistics": statistics(found.records, _token_counter(tokenizer)) | rejected}
    scores = JudgeScores()
    if judge_model is not None:
        budget = SpendingBudget(max_tokens=max_tokens_total)
        # The chains that are judged are the same in every run.
        chosen = random.Random(0).sample(found.records, samples) if samples < len(found) else found.records
        teacher = connect(judge_model, base_url, budget, argument="--judge-model")
        scores = run(judge(found, chosen, teacher))
        report["judge"] = {"model": judge_model, **scores.summary()}
        report["tokens_spent"] = budget.spent.tokens
    print(json.dumps(report, indent=1))
    if json_file is not None:
        each = {"scores": scores.scores, "failures": scores.failures} if judge_model is not None else {}
        write_json("--json", json_file, report | each)


def statistics(chains: Sequence[Chain], tokens: Callable[[str], int] | None = None) -> dict[str, Any]:
    """Returns what can be counted of at least one chain; tokens are counted if their counter is given."""
    texts = [SEPARATOR.join(chain.steps) for chain in chains]
    steps = sum(len(chain.steps) for chain in chains)
    repeated = sum(check(step, chain.steps[:at]) is not None for chain in chains for at, step in enumerate(chain.steps))
    answers = [(final_answer(chain.steps[-1]), chain.answer) for chain in chains]
    known = [(stated, right) for stated, right in answers if right]
    counts: dict[str, Any] = {
        "chains": len(chains),
        "steps": steps,
        "steps_per_chain": steps / len(chains),
        "characters_per_chain": fmean(map(len, texts)),
        "well_formed": fmean(well_formed(chain.steps) for chain in chains),
        "repeated_steps": repeated / steps,
        "distinct_answers": len({" ".join(stated.casefold().split()) for stated, _ in answers if stated is not None}),
    }
    if known:
        counts["right_answers"] = fmean(stated is not None and equivalent(stated, right) for stated, right in known)
    if tokens is not None:
        counts["tokens_per_chain"] = fmean(map(tokens, texts))
    return counts


async def judge(found: RecordFile[Chain], chains: Sequence[Chain], teacher: Teacher) -> JudgeScores:
    """Asks a judge to score some chains of a file.

    Raises:
        AtomThinkError: The judge scored none of them.
    """
    result = JudgeScores()
    places = asyncio.Semaphore(CONCURRENCY)

    async def score(chain: Chain) -> None:
        async with places:
            text = f"QUESTION:\n{chain.question}\n\nRIGHT ANSWER: {chain.answer or 'not known'}\n\nSOLUTION:\n"
            try:
                shown = Message("user", (*read_images(chain, found.folder), text + SEPARATOR.join(chain.steps)))
                messages = [Message("system", (JUDGE,)), shown]
                reply = await teacher.ask(chain.id, messages, ChainScore, max_tokens=512)
                result.scores[chain.id] = reply.score
            except (QuestionError, LimitError) as error:  # once a limit is reached, every request fails at once
                result.failures[chain.id] = str(error)

    await asyncio.gather(*map(score, chains))
    if chains and not result.scores:
        first = next(iter(result.failures.values()))
        raise AtomThinkError(f"the judge scored none of {len(chains)} chains; the first: {first}")
    return result


def _token_counter(name: str | None) -> Callable[[str], int] | None:
    if name is None:
        return None
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise AtomThinkError(f"`--tokenizer {name}` cannot be loaded: {str(error).splitlines()[0]}") from None
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])
