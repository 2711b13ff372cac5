"""Two implementations of the same beam search: the plugin's, and that of AtomThink's published code.

The published code samples one candidate at a time, prefills image and prompt for each of them, and gives the PRM the
full history for each step. Both use B = 2 and C = 3 and accept every step, so they do the same work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Protocol

import torch
from PIL.Image import Image

from atomthink_plugin.answers import final_answer
from atomthink_plugin.api import Path, Prompt, Question, Sampling, Step, Usage
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.inference.encoding import Encoder, Encoding, text_encoding
from atomthink_plugin.inference.phases import PhaseClock
from atomthink_plugin.inference.slots.reader import SlotReader
from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.model_adapters.transformers_policy import TransformersPolicy
from atomthink_plugin.scorers.batched import BatchedScorer
from atomthink_plugin.scorers.detect import PUBLISHED, SECTION, PrmSettings
from atomthink_plugin.scorers.prm_token import TextLayout, TokenPrm, prm_token

BEAMS, CANDIDATES = 2, 3
CACHE_GIB = 16.0
"""A 7B LLaVA needs about 1 GiB per question."""


class Judge(Protocol):
    """The published scoring: the whole history is encoded and read by plain transformers."""

    def write(self, path: Path) -> Encoding: ...

    def read(self, logits: torch.Tensor, encoding: Encoding, path: Path) -> float: ...


@dataclass(frozen=True)
class Setting:
    """A policy, a PRM in both implementations, and the form of the steps.

    `lengths` gives the tokens of a step from a seed, for models that end no step by themselves; without it every step
    has as many as `sampling` allows.
    """

    name: str
    policy: Checkpoint
    prm: Checkpoint
    scorer: Callable[[Checkpoint], BatchedScorer]
    judge: Callable[[Checkpoint], Judge]
    sampling: Sampling
    levels: int
    lengths: Callable[[int], int] | None = None


class TagJudge:
    """AtomThink's text PRM: `+` against `-` at the tag after the last step."""

    def __init__(self, checkpoint: Checkpoint, signs: PrmSettings = PUBLISHED) -> None:
        self._words = checkpoint.tokenizer
        self._signs = [self._words.convert_tokens_to_ids(sign) for sign in (signs.good, signs.bad)]

    def write(self, path: Path) -> Encoding:
        text = f"{path.question.text} " + "".join(step.text + str(PUBLISHED.tag) for step in path.steps)
        return text_encoding(self._words.encode(text, add_special_tokens=False))

    def read(self, logits: torch.Tensor, encoding: Encoding, path: Path) -> float:
        return torch.softmax(logits[-1, self._signs].float(), -1)[0].item()


class SeeingJudge(TagJudge):
    """The embedded model's PRM: the same, after the image and the question as in the policy's prompt."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        signs = PrmSettings.model_validate(getattr(checkpoint.model.config, SECTION))
        super().__init__(checkpoint, signs)
        self._encoder, self._tag = Encoder(checkpoint, remember=0), self._words.convert_tokens_to_ids(signs.tag)

    def write(self, path: Path) -> Encoding:
        steps = self._encoder.split(texts_of(path))
        return asked_again(self._encoder, path).extend([id for step in steps for id in (*step, self._tag)])


def embedded(checkpoint: Checkpoint) -> BatchedScorer:
    return prm_token(str(WEIGHTS / "prm"), device=str(checkpoint.device))


def tagged(checkpoint: Checkpoint) -> TokenPrm:
    tag, good, bad = (str(sign) for sign in (PUBLISHED.tag, PUBLISHED.good, PUBLISHED.bad))
    ids = [checkpoint.tokenizer.convert_tokens_to_ids(sign) for sign in (tag, good, bad)]
    return TokenPrm(checkpoint, TextLayout(checkpoint.tokenizer, tag, ids[0]), *ids[1:])


class Way(Protocol):
    """An implementation of sampling and scoring, with the encoding of its models' inputs."""

    async def propose(self, path: Path, n: int) -> tuple[list[Step], Usage]: ...

    async def score(self, path: Path) -> tuple[float, Usage]: ...

    def prompt(self, path: Path) -> Encoding: ...

    def history(self, path: Path) -> Encoding: ...


class Published:
    """Samples and scores one at a time, without a cache: an independent implementation on plain transformers."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._device = setting.policy.device
        self._encoder = Encoder(setting.policy, remember=0)
        self._judge = setting.judge(setting.prm)
        self._draws = torch.Generator(self._device).manual_seed(0)
        self._lengths, self._drawn = setting.lengths, 0

    async def propose(self, path: Path, n: int) -> tuple[list[Step], Usage]:
        """Samples one step at a time."""
        steps, spent = [], Usage()
        for index in range(n):
            step, usage = self._sample(path, self._setting.sampling.temperature_of(index))
            steps.append(step)
            spent += usage
        return steps, spent

    async def score(self, path: Path) -> tuple[float, Usage]:
        """Reads the whole history to score its last step."""
        model, encoding = self._setting.prm.model, self._judge.write(path)
        with torch.inference_mode():
            logits = model(**self._inputs(encoding, model.dtype)).logits[0]
        value = self._judge.read(logits, encoding, path)
        return value, Usage(1, 1, 0, encoding.length, 0, encoding.images)

    def prompt(self, path: Path) -> Encoding:
        return written(self._encoder, path)

    def history(self, path: Path) -> Encoding:
        return self._judge.write(path)

    def _sample(self, path: Path, temperature: float) -> tuple[Step, Usage]:
        checkpoint, limit = self._setting.policy, self._setting.sampling.max_tokens
        if self._lengths is not None:
            self._drawn += 1
            limit = self._lengths(self._drawn)
        encoding = self.prompt(path)
        stops = Continue().render(path).stops
        tokenizer, new, cache = checkpoint.tokenizer, [], None
        inputs = self._inputs(encoding, checkpoint.model.dtype)
        with torch.inference_mode():
            while len(new) < limit:
                output = checkpoint.model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache, logits = output.past_key_values, output.logits[0, -1].float()
                if temperature:
                    drawn = torch.multinomial((logits / temperature).softmax(-1), 1, generator=self._draws)
                new.append(int(drawn) if temperature else int(logits.argmax()))
                written_so_far = tokenizer.decode(new, skip_special_tokens=True).lstrip()
                if new[-1] == tokenizer.eos_token_id or any(stop in written_so_far for stop in stops):
                    break
                inputs = {"input_ids": torch.tensor([[new[-1]]], device=self._device)}
        text = tokenizer.decode(new, skip_special_tokens=True).strip()
        return Step(text, tuple(new)), Usage(1, 0, len(new), encoding.length, 0, encoding.images)

    def _inputs(self, encoding: Encoding, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        media = {name: value.to(dtype) for name, value in encoding.media.items()}
        return {name: value.to(self._device) for name, value in (encoding.tokens | media).items()}


class Ours:
    """The plugin's policy and PRM."""

    def __init__(self, setting: Setting) -> None:
        self.lengths = setting.lengths
        self._sampling = setting.sampling
        self._policy = TransformersPolicy(setting.policy, cache_gib=CACHE_GIB)
        self._prm = setting.scorer(setting.prm)
        self._encoder = Encoder(setting.policy)

    @property
    def clocks(self) -> dict[str, PhaseClock]:
        """Returns what measures the phases of both models."""
        return {"policy": self._policy.clock, "prm": self._prm.clock}

    @property
    def readers(self) -> dict[str, SlotReader]:
        """Returns the readers of the models that run on the slots engine."""
        found = {"policy": getattr(self._policy._decoder, "_reader", None), "prm": self._prm._reader}
        return {name: reader for name, reader in found.items() if isinstance(reader, SlotReader)}

    @property
    def rows(self) -> int:
        """Returns the largest batch size, which shrinks when memory runs out."""
        return self._policy.max_rows

    async def propose(self, path: Path, n: int) -> tuple[list[Step], Usage]:
        if self.lengths is None:
            proposal = await self._policy.propose(prompt_of(path), n, self._sampling_of(path))
            return stripped(proposal.steps), proposal.usage
        draws = [self._alone(path, index, self.lengths) for index in range(n)]
        proposals = await asyncio.gather(*(self._policy.propose(prompt_of(path), 1, draw) for draw in draws))
        return stripped([step for one in proposals for step in one.steps]), sum(
            (one.usage for one in proposals), Usage()
        )

    def _alone(self, path: Path, index: int, lengths: Callable[[int], int]) -> Sampling:
        """Returns the sampling of one candidate with its own length. Batches are the same as for all candidates."""
        sampling = self._sampling_of(path)
        temperature, seed = sampling.temperature_of(index), sampling.seed_of(index)
        return replace(sampling, first=index, temperature=temperature, rise=0.0, max_tokens=lengths(seed))

    def _sampling_of(self, path: Path) -> Sampling:
        return replace(self._sampling, key=f"{path.question.id}\0{path.key}")

    async def score(self, path: Path) -> tuple[float, Usage]:
        score = await self._prm.score(path)
        return score.value, score.usage

    def prompt(self, path: Path) -> Encoding:
        return self._encoder.encode(Continue().render(path))

    def history(self, path: Path) -> Encoding:
        return self._prm.encode(path).encoding


def stripped(steps: Sequence[Step]) -> list[Step]:
    return [replace(step, text=step.text.strip()) for step in steps]


def prompt_of(path: Path) -> Prompt:
    """Returns the prompt of a search tree for the step after `path`."""
    return replace(Continue().render(path), session=path.question.id, depth=path.depth)


def texts_of(path: Path) -> list[str]:
    return [step.text + "\n\n" for step in path.steps]


def written(encoder: Encoder, path: Path) -> Encoding:
    """Encodes the image again, as the published code does, the question, and the steps so far."""
    return asked_again(encoder, path).extend(encoder.pieces(texts_of(path)))


def asked_again(encoder: Encoder, path: Path) -> Encoding:
    """Encodes the image again, and the question."""
    turns = [replace(turn, parts=tuple(map(again, turn.parts))) for turn in path.question.messages]
    asked = replace(path.question, messages=tuple(turns))
    return encoder.encode(Continue().render(Path(asked)))


def again(part: str | Image) -> str | Image:
    """Returns a copy of an image that no encoder has cached."""
    return part if isinstance(part, str) else part.copy()


@dataclass
class Arm:
    """The cost of one implementation: seconds per turn, the other fields per question."""

    name: str
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    policy: list[Usage] = field(default_factory=list)
    prm: list[Usage] = field(default_factory=list)
    trees: list[list[Path]] = field(default_factory=list)
    distinct_policy: list[int] = field(default_factory=list)
    distinct_prm: list[int] = field(default_factory=list)

    @property
    def generated(self) -> int:
        return sum(usage.generated for usage in self.policy)

    def count(self, way: Way) -> None:
        """Counts the tokens that both models must process at least: those that are in no earlier prefix."""
        for tree in self.trees:
            prompts = [(*way.prompt(path.parent or path).ids, *path.steps[-1].token_ids) for path in tree]
            self.distinct_policy.append(distinct(prompts))
            self.distinct_prm.append(distinct([way.history(path).ids for path in tree]))

    def numbers(self) -> dict[str, float]:
        count = len(self.policy)
        return {
            "seconds_per_question": sum(self.seconds) / count,
            "cpu_seconds_per_question": sum(self.cpu) / count,
            "images_policy": sum(usage.images for usage in self.policy) / count,
            "prefilled_over_distinct_policy": sum(u.prefilled for u in self.policy) / sum(self.distinct_policy),
            "images_prm": sum(usage.images for usage in self.prm) / count,
            "prefilled_over_distinct_prm": sum(u.prefilled for u in self.prm) / sum(self.distinct_prm),
            "generated": self.generated / count,
            "distinct_policy": sum(self.distinct_policy) / count,
            "distinct_prm": sum(self.distinct_prm) / count,
        }


def distinct(rows: Sequence[Sequence[int]]) -> int:
    """Returns the number of different prefixes of rows, including the rows: the nodes of their trie."""
    trie: dict[tuple[int, int], int] = {}
    for row in rows:
        node = 0
        for token in row:
            node = trie.setdefault((node, token), len(trie) + 1)
    return len(trie)


async def search(way: Way, question: Question, levels: int, arm: Arm) -> None:
    """Beam search by mean score."""
    live: list[tuple[float, tuple[float, ...], Path]] = [(0.0, (), Path(question))]
    policy, prm, tree, final = Usage(), Usage(), [], 0
    for _ in range(levels):
        count = BEAMS * CANDIDATES if live[0][2].depth == 0 else CANDIDATES
        families = await asyncio.gather(*(way.propose(path, count) for _, _, path in live))
        children = []
        for (_, scores, path), (steps, usage) in zip(live, families, strict=True):
            policy += usage
            merged = {step.text: step for step in steps if step.text}
            children += [(scores, path.extend(step, final_answer(step.text))) for step in merged.values()]
        tree += [path for _, path in children]
        judged = await asyncio.gather(*(way.score(path) for _, path in children))
        prm = sum((usage for _, usage in judged), prm)
        ranked = [
            (fmean((*scores, value)), (*scores, value), path)
            for (scores, path), (value, _) in zip(children, judged, strict=True)
        ]
        ranked.sort(key=lambda item: item[0], reverse=True)
        final += sum(path.final for _, _, path in ranked[:BEAMS])
        live = [item for item in ranked[:BEAMS] if not item[2].final]
        if not live or final >= BEAMS:
            break
    arm.policy.append(policy)
    arm.prm.append(prm)
    arm.trees.append(tree)


async def run(way: Way, questions: Sequence[Question], levels: int, arm: Arm, in_flight: int | None = None) -> None:
    """Searches a turn of questions and measures the time.

    Ours has `in_flight` questions in flight, by default all of them. The published code has one.
    """
    began, busy = time.monotonic(), time.process_time()
    waiting = iter(questions)

    async def work() -> None:
        for question in waiting:
            await search(way, question, levels, arm)

    together = (in_flight or len(questions)) if isinstance(way, Ours) else 1
    await asyncio.gather(*(work() for _ in range(together)))
    arm.seconds.append(time.monotonic() - began)
    arm.cpu.append(time.process_time() - busy)
