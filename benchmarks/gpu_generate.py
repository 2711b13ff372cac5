"""The tokens per second of transformers' own `generate`, with all samples of a step in one batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from atomthink_plugin.api import Path, Question
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.inference.encoding import Encoder, collate
from benchmarks.baselines import BEAMS, CANDIDATES, Setting
from benchmarks.gpu_decode_step import wait


def plain_generate(setting: Setting, questions: Sequence[Question], levels: int) -> dict[str, Any]:
    """Returns what it takes to sample a step of all questions at once, level after level, without a PRM.

    At each level `generate` samples as many steps as a search has for each question. The first one is added to the
    prompt, which the next level prefills from the beginning. A batch goes on until its longest step ends; the tokens
    of shorter ones after their end do not count.

    Args:
        setting: The policy, and the lengths of the steps.
        questions: All in one batch.
        levels: Steps of each question.
    """
    checkpoint, samples, generated = setting.policy, BEAMS * CANDIDATES, 0
    model: Any = checkpoint.model
    encoder = Encoder(checkpoint, remember=0)
    began = time.perf_counter()
    prompts = [encoder.encode(Continue().render(Path(question))) for question in questions]
    for level in range(levels):
        lengths = [_length(setting, level * len(prompts) * samples + at) for at in range(len(prompts) * samples)]
        inputs = collate(prompts, checkpoint, "left")
        with torch.inference_mode():
            replies = model.generate(
                **inputs,
                do_sample=True,
                temperature=setting.sampling.temperature,
                num_return_sequences=samples,
                max_new_tokens=max(lengths),
            )
        new = replies[:, inputs["input_ids"].shape[1] :].tolist()
        generated += sum(lengths)
        prompts = [prompt.extend(new[at * samples][: lengths[at * samples]]) for at, prompt in enumerate(prompts)]
    wait(checkpoint.device)
    taken = time.perf_counter() - began
    return {
        "seconds_per_question": taken / len(questions),
        "generated": generated / len(questions),
        "tokens_per_second": generated / taken,
    }


def _length(setting: Setting, seed: int) -> int:
    lengths: Callable[[int], int] | None = setting.lengths
    return setting.sampling.max_tokens if lengths is None else lengths(seed)
