"""A beam search on vLLM in this process, against vLLM's own offline throughput on the same tree.

    python -m benchmarks.vllm_throughput --json benchmarks/results/vllm_throughput.json

Two ways, in turn, each on its own engine with the same arguments:

- the search: the questions run through `atomthink_vllm`'s policy, each at its own pace. The scorer costs nothing.
- plain vLLM: `LLM.generate` with all prompts of one level of the same trees at once, then those of the next level. It
  gets the token ids, the images, the sampling parameters and the seeds that the search had, with one request for all
  samples of a prompt at one temperature.

Both are measured without log-probabilities and with them.

The questions of a round are new to both engines. Reported are generated tokens per second of wall time and of CPU time
(all processes of an engine and its front end), and their quotients, the median of the rounds. `equal_steps` is the
share of the search's steps that plain vLLM has with the same tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path as FilePath
from statistics import median
from typing import TYPE_CHECKING, Any

import psutil
from rich.console import Console
from rich.table import Table

from atomthink_plugin.api import Outcome, Path, Policy, Prompt, Proposal, Question, Sampling, Score, Usage
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.inference.encoding import ChatText
from atomthink_plugin.inference.preprocessors import load_preprocessor
from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.model_adapters.vllm_policy import VllmPolicy, vllm_policy, vllm_seed
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.runtime.settings import Settings
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.tasks.demo.engine_questions import engine_questions
from atomthink_plugin.tasks.demo.questions import held_out
from benchmarks.provenance import provenance

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput

BEAMS, CANDIDATES = 2, 3


@dataclass(frozen=True)
class Case:
    """How samples are drawn, and whether both ways give log-probabilities."""

    sampling: Sampling
    logprobs: bool


ONE = Sampling(1.0, max_tokens=48)
"""The samples of a step have one temperature, as by default."""

RISING = Sampling(0.0, 0.5, max_tokens=48)
"""Each sample has its own temperature, as in the published code."""

CASES = {
    "one temperature": Case(ONE, logprobs=False),
    "one temperature, log-probabilities": Case(ONE, logprobs=True),
    "rising temperatures": Case(RISING, logprobs=False),
    "rising temperatures, log-probabilities": Case(RISING, logprobs=True),
}

CONTEXT = 2048
WARM_UP = 4
"""Questions before the first round."""


@dataclass(frozen=True)
class Asked:
    """A request of the search for steps, and the token ids of what it got."""

    prompt: Prompt
    n: int
    sampling: Sampling
    ids: tuple[tuple[int, ...], ...]


class Recording:
    """A policy whose requests are kept.

    Args:
        policy: The policy.
    """

    def __init__(self, policy: Policy) -> None:
        self.identity = policy.identity
        self.asked: list[Asked] = []
        self._policy = policy

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        proposal = await self._policy.propose(prompt, n, sampling)
        self.asked.append(Asked(prompt, n, sampling, tuple(step.token_ids for step in proposal.steps)))
        return proposal


class Instant:
    """A scorer whose verdict is a digest of the chain."""

    identity = "instant"

    async def score(self, path: Path) -> Score:
        return Score(int(path.key, 16) / 2**64, Usage(score_calls=1))


@dataclass(frozen=True)
class Measured:
    """What one way took for one round."""

    tokens: int
    seconds: float
    cpu_seconds: float

    @property
    def rates(self) -> dict[str, float]:
        return {
            "tokens": self.tokens,
            "tokens_per_second": self.tokens / self.seconds,
            "tokens_per_cpu_second": self.tokens / self.cpu_seconds,
        }


def timed(work: Callable[[], int]) -> Measured:
    """Measures `work`, which returns the number of tokens it generated.

    The other way's processes are idle meanwhile.
    """
    started, worked = time.perf_counter(), cpu_seconds()
    tokens = work()
    return Measured(tokens, time.perf_counter() - started, cpu_seconds() - worked)


def cpu_seconds() -> float:
    """Returns the processor seconds of this process and all below it so far."""
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(one.user + one.system for one in times)


class Plain:
    """Replays recorded requests with `LLM.generate`.

    Args:
        pretrained: The checkpoint.
        arguments: Those of the engine.
    """

    def __init__(self, pretrained: str, arguments: dict[str, Any]) -> None:
        from vllm import LLM

        self._llm: LLM = LLM(
            model=pretrained,
            enable_chunked_prefill=False,
            generation_config="vllm",
            enable_prefix_caching=True,
            **arguments,
        )
        self._processor = load_preprocessor(pretrained, images=True)
        assert self._processor.processor is not None
        self._text = ChatText(self._processor.processor, self._processor.tokenizer)

    def replay(self, asked: Sequence[Asked], logprobs: bool) -> list[list[tuple[int, ...]]]:
        """Returns the token ids of each request's samples."""
        found: dict[int, list[tuple[int, ...]]] = {}
        for depth in sorted({one.prompt.depth for one in asked}):
            level = [index for index, one in enumerate(asked) if one.prompt.depth == depth]
            requests = [(index, *group) for index in level for group in _groups(asked[index])]
            prompts = [self._prompt(asked[index].prompt) for index, *_ in requests]
            params = [_params(asked[index], *group, logprobs=logprobs) for index, *group in requests]
            outputs: list[RequestOutput] = self._llm.generate(prompts, params, use_tqdm=False)
            for (index, *_), output in zip(requests, outputs, strict=True):
                found.setdefault(index, []).extend(tuple(one.token_ids) for one in output.outputs)
        return [found[index] for index in range(len(asked))]

    def _prompt(self, prompt: Prompt) -> Any:
        text = self._text.chat(prompt.messages)
        ids = self._processor.tokenizer.encode(text, add_special_tokens=not self._text.has_bos(text))
        ids += self._text.pieces(prompt.begun)
        return {"prompt_token_ids": ids, "multi_modal_data": {"image": list(prompt.images)}}


def _groups(asked: Asked) -> list[tuple[float, int, int]]:
    """Returns temperature, first index and number of each run of samples of one temperature."""
    found: list[tuple[float, int, int]] = []
    for index in range(asked.n):
        heat = asked.sampling.temperature_of(index)
        if found and found[-1][0] == heat:
            found[-1] = (heat, found[-1][1], found[-1][2] + 1)
        else:
            found.append((heat, index, 1))
    return found


def _params(asked: Asked, temperature: float, first: int, n: int, logprobs: bool) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        n=n,
        temperature=temperature,
        seed=vllm_seed(asked.sampling, first) if temperature else None,
        max_tokens=asked.sampling.max_tokens,
        stop=list(asked.prompt.stops),
        logprobs=0 if logprobs else None,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def searched(policy: Recording, sampling: Sampling, questions: Sequence[Question], in_flight: int) -> int:
    """Runs the search and returns the tokens it generated."""
    settings = Settings(sampling, max_steps=12)
    runner = Runner(policy, Instant(), Continue(), beam(BEAMS, CANDIDATES), settings, concurrency=in_flight)
    results = runner.run(questions)
    assert all(isinstance(result, Outcome) for result in results)
    return sum(result.usage.generated for result in results)


def measure(
    policy: VllmPolicy, plain: Plain, case: Case, questions: Sequence[Question], in_flight: int
) -> dict[str, float]:
    """One round: the search, then the replay of its requests."""
    recording = Recording(policy)
    replayed: list[list[tuple[int, ...]]] = []

    def replay() -> int:
        replayed.extend(plain.replay(recording.asked, case.logprobs))
        return sum(len(ids) for samples in replayed for ids in samples)

    search = timed(lambda: searched(recording, case.sampling, questions, in_flight))
    offline = timed(replay)
    pairs = [
        (mine, other)
        for one, samples in zip(recording.asked, replayed, strict=True)
        for mine, other in zip(one.ids, samples, strict=True)
    ]
    return {
        **{f"search_{key}": value for key, value in search.rates.items()},
        **{f"plain_{key}": value for key, value in offline.rates.items()},
        "ratio": search.rates["tokens_per_second"] / offline.rates["tokens_per_second"],
        "cpu_ratio": search.rates["tokens_per_cpu_second"] / offline.rates["tokens_per_cpu_second"],
        "equal_steps": sum(mine == other for mine, other in pairs) / len(pairs),
    }


def each_case(
    pretrained: str, dtype: str, *, questions: int, rounds: int, in_flight: int
) -> Iterator[tuple[str, list[dict[str, float]]]]:
    """Yields the rounds of each case, by its name."""
    arguments = {"dtype": dtype, "max_model_len": CONTEXT}
    engine = {"enforce_eager": True, "block_size": 32}
    policy = vllm_policy(pretrained, **arguments, engine=engine)
    plain = Plain(pretrained, {**arguments, **engine})
    for at, (name, case) in enumerate(CASES.items()):
        policy.logprobs = case.logprobs
        measure(policy, plain, case, engine_questions(held_out(WARM_UP, seed=at)), WARM_UP)
        seeds = [1000 + at * rounds + repeat for repeat in range(rounds)]
        asked = (engine_questions(held_out(questions, seed=seed)) for seed in seeds)
        yield name, [measure(policy, plain, case, one, in_flight) for one in asked]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretrained", default=str(WEIGHTS / "policy"))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--questions", type=int, default=48, help="of one round")
    parser.add_argument("--in-flight", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=FilePath)
    options = parser.parse_args()
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    versions = {name: version(name) for name in ("vllm", "torch", "transformers")}
    size = {"questions": options.questions, "rounds": options.rounds, "in_flight": options.in_flight}
    record: dict[str, Any] = {**provenance(), "versions": versions, **size, "cases": {}}
    table = Table(title=f"beam search, B = {BEAMS}, C = {CANDIDATES}, {options.in_flight} questions in flight")
    for name, rows in each_case(options.pretrained, options.dtype, **size):
        case = {key: round(median(row[key] for row in rows), 4) for key in rows[0]}
        all_ratios = {f"{key}s": [round(row[key], 3) for row in rows] for key in ("ratio", "cpu_ratio")}
        record["cases"][name] = {**case, **all_ratios}
        print(name, record["cases"][name], flush=True)
        if not table.columns:
            for heading in ("samples", *case):
                table.add_column(heading.replace("_", " "), justify="right")
        table.add_row(name, *(f"{value:.3g}" for value in case.values()))
    Console(width=160).print(table)
    if options.json is not None:
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
