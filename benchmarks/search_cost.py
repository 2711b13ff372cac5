"""What a beam search costs, beside the same search done the way AtomThink's published code does it.

    python benchmarks/search_cost.py --json benchmarks/results/search_cost.json

Published way: one candidate at a time, image and prompt read anew for each, the PRM over the full history for each
step. Both arms run the same search (B = 2, C = 3) on the same questions, in turns of a few questions, in one
process. Two models: the embedded one, and a LLaVA with random weights and 576 image tokens whose steps always have
32 tokens, six of them. A token of the tree is distinct if no earlier prompt or step of the question contained it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from statistics import fmean

import torch
from rich.console import Console
from rich.table import Table
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

from atomthink_plugin.answers import final_answer
from atomthink_plugin.api import Path, Question, Sampling, Step, Usage
from atomthink_plugin.checkpoints import Checkpoint, load_multimodal
from atomthink_plugin.formats import Continue
from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.model_adapters.transformers_policy import TransformersPolicy
from atomthink_plugin.prompting import Encoder, Encoding
from atomthink_plugin.scorers.prm_likelihood import LikelihoodPrm
from atomthink_plugin.tasks.demo.ask import ask
from atomthink_plugin.tasks.demo.questions import held_out

BEAMS, CANDIDATES, TURN = 2, 3, 8


@dataclass(frozen=True)
class Setting:
    """A model, and what its steps are like."""

    name: str
    policy: Checkpoint
    prm: Checkpoint
    sampling: Sampling
    levels: int


@dataclass
class Arm:
    """What one way of searching took, per question."""

    name: str
    seconds: list[float] = field(default_factory=list)
    policy: list[Usage] = field(default_factory=list)
    prm: list[Usage] = field(default_factory=list)
    distinct: list[int] = field(default_factory=list)


class Published:
    """One at a time and from scratch; an independent twin of policy and PRM on plain transformers."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._encoders = {id(c): Encoder(c) for c in (setting.policy, setting.prm)}
        self._draws = torch.Generator().manual_seed(0)

    async def propose(self, path: Path, n: int) -> tuple[list[Step], Usage]:
        """Samples one step after another."""
        steps, spent = [], Usage()
        for index in range(n):
            step, usage = self._sample(path, self._setting.sampling.temperature_of(index))
            steps.append(step)
            spent += usage
        return steps, spent

    async def score(self, path: Path) -> tuple[float, Usage]:
        """Reads the whole history for its last step."""
        checkpoint = self._setting.prm
        encoding = self._encode(checkpoint, path)
        with torch.inference_mode():
            logits = checkpoint.model(**encoding.tokens, **encoding.media).logits[0].float()
        last = len(self._encoders[id(checkpoint)].split(text_of(path))[-1])
        ids = encoding.tokens["input_ids"][0]
        logprobs = logits[:-1].log_softmax(-1).gather(1, ids[1:, None])[-last:].sum()
        return torch.sigmoid(0.02 * logprobs + 2).item(), Usage(1, 1, 0, encoding.length, 0, encoding.images)

    def _sample(self, path: Path, temperature: float) -> tuple[Step, Usage]:
        checkpoint, limit = self._setting.policy, self._setting.sampling.max_tokens
        encoding = self._encode(checkpoint, path)
        stops = Continue().render(path).stops
        tokenizer, new, cache = checkpoint.tokenizer, [], None
        inputs = {**encoding.tokens, **encoding.media}
        with torch.inference_mode():
            while len(new) < limit:
                output = checkpoint.model(**inputs, past_key_values=cache, use_cache=True)
                cache, logits = output.past_key_values, output.logits[0, -1].float()
                if temperature:
                    drawn = torch.multinomial((logits / temperature).softmax(-1), 1, generator=self._draws)
                new.append(int(drawn) if temperature else int(logits.argmax()))
                written = tokenizer.decode(new, skip_special_tokens=True).lstrip()
                if new[-1] == tokenizer.eos_token_id or any(stop in written for stop in stops):
                    break
                inputs = {"input_ids": torch.tensor([[new[-1]]])}
        text = tokenizer.decode(new, skip_special_tokens=True).strip()
        return Step(text, tuple(new)), Usage(1, 0, len(new), encoding.length, 0, encoding.images)

    def _encode(self, checkpoint: Checkpoint, path: Path) -> Encoding:
        encoder = Encoder(checkpoint)  # a new one: the published code prepares the image again
        prompt = Continue().render(Path(path.question))
        return encoder.encode(prompt).extend(self._encoders[id(checkpoint)].pieces(text_of(path)))


class Ours:
    """The plugin's policy and PRM."""

    def __init__(self, setting: Setting) -> None:
        self._sampling = setting.sampling
        self._policy = TransformersPolicy(setting.policy, Continue(), batch_size=128)
        self._prm = LikelihoodPrm(setting.prm, Continue(), 0.02, 2.0, batch_size=128)

    async def propose(self, path: Path, n: int) -> tuple[list[Step], Usage]:
        proposal = await self._policy.propose(path, n, self._sampling)
        return list(proposal.steps), proposal.usage

    async def score(self, path: Path) -> tuple[float, Usage]:
        score = await self._prm.score(path)
        return score.value, score.usage


def text_of(path: Path) -> str:
    return "".join(step.text + "\n\n" for step in path.steps)


async def search(way: Published | Ours, question: Question, levels: int, arm: Arm) -> None:
    """Beam search by mean score; every step is taken as it is, so that both arms do the same amount of work."""
    live = [(0.0, (), Path(question))]
    policy, prm, distinct, final = Usage(), Usage(), 0, 0
    for _ in range(levels):
        count = BEAMS * CANDIDATES if live[0][2].depth == 0 else CANDIDATES
        families = await asyncio.gather(*(way.propose(path, count) for _, _, path in live))
        children = []
        for (_, scores, path), (steps, usage) in zip(live, families, strict=True):
            policy += usage
            merged = {step.text: step for step in steps if step.text}
            distinct += sum(len(step.token_ids) for step in merged.values())
            children += [(scores, path.extend(step, final_answer(step.text))) for step in merged.values()]
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
    arm.distinct.append(distinct)


def compare(setting: Setting, questions: Sequence[Question]) -> tuple[Arm, Arm]:
    """Runs both ways over the questions, in turns."""
    arms = Arm("ours"), Arm("published way")
    ways = Ours(setting), Published(setting)

    async def turn(way: Published | Ours, some: Sequence[Question], arm: Arm) -> None:
        if isinstance(way, Ours):
            await asyncio.gather(*(search(way, question, setting.levels, arm) for question in some))
        else:
            for question in some:
                await search(way, question, setting.levels, arm)

    async def main() -> None:
        for start in range(0, len(questions), TURN):
            for way, arm in zip(ways, arms, strict=True):
                began = time.monotonic()
                await turn(way, questions[start : start + TURN], arm)
                arm.seconds.append(time.monotonic() - began)

    asyncio.run(main())
    encoder = Encoder(setting.policy)
    prompts = fmean(encoder.encode(Continue().render(Path(question))).length for question in questions)
    for arm in arms:
        arm.distinct = [round(prompts) + tokens for tokens in arm.distinct]
    return arms


def random_llava(folder: FilePath) -> FilePath:
    """A LLaVA of some 40 M random weights that sees 336x336 pixels in 576 tokens; saved with the demo's tokenizer."""
    processor = LlavaProcessor.from_pretrained(WEIGHTS / "policy")
    side = {"height": 336, "width": 336}
    processor.image_processor.size = processor.image_processor.crop_size = side
    processor.patch_size = 14
    words = processor.tokenizer
    vision = CLIPVisionConfig(
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=336,
        patch_size=14,
    )
    text = LlamaConfig(
        vocab_size=len(words),
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=4096,
        pad_token_id=words.pad_token_id,
        eos_token_id=words.eos_token_id,
    )
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        image_seq_length=576,
    )
    model = LlavaForConditionalGeneration(config)
    head = model.lm_head.weight.data
    for token in (words.eos_token_id, *words("\n\n", add_special_tokens=False).input_ids):
        head[token] = 0  # such a token is hardly ever drawn, so that steps are as long as they may be
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def settings(folder: FilePath) -> list[Setting]:
    policy, prm = (load_multimodal(str(WEIGHTS / name), device="cpu") for name in ("policy", "prm"))
    random = load_multimodal(str(random_llava(folder)), device="cpu")
    return [
        Setting("demo model", policy, prm, Sampling(0.0, rise=0.5, max_tokens=48), levels=12),
        Setting("random LLaVA, 576 image tokens", random, random, Sampling(0.8, rise=0.2, max_tokens=32), levels=6),
    ]


def numbers(arm: Arm) -> dict[str, float]:
    count = len(arm.policy)
    return {
        "seconds_per_question": sum(arm.seconds) / count,
        "images_policy": sum(usage.images for usage in arm.policy) / count,
        "prefilled_over_distinct_policy": sum(u.prefilled for u in arm.policy) / sum(arm.distinct),
        "images_prm": sum(usage.images for usage in arm.prm) / count,
        "prefilled_over_distinct_prm": sum(u.prefilled for u in arm.prm) / sum(arm.distinct),
        "generated": sum(usage.generated for usage in arm.policy) / count,
        "distinct": sum(arm.distinct) / count,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=32)
    parser.add_argument("--json", type=FilePath)
    options = parser.parse_args()
    grid = Table(title=f"beam search, B = {BEAMS}, C = {CANDIDATES}, {options.questions} questions")
    rows, record = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for setting in settings(FilePath(folder)):
            arms = compare(setting, ask(held_out(options.questions)))
            measured = {arm.name: numbers(arm) for arm in arms}
            ratio = measured["published way"]["seconds_per_question"] / measured["ours"]["seconds_per_question"]
            record[setting.name] = {**measured, "wall_time_ratio": ratio}
            rows += [(setting.name, name, values, ratio) for name, values in measured.items()]
    for heading in ("model", "way", *next(iter(rows))[2], "ratio"):
        grid.add_column(heading.replace("_", " "), justify="right")
    for model, name, values, ratio in rows:
        shown = [f"{value:.3g}" for value in values.values()]
        grid.add_row(model, name, *shown, f"{ratio:.1f}" if name == "ours" else "")
    Console(width=180).print(grid)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    print(machine)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(
            json.dumps({"machine": machine, "questions": options.questions, **record}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
