"""The likelihood of the step itself, under a model trained to find right steps likely and wrong ones unlikely.

    score = sigmoid(scale * log p(step tokens | image, question, earlier steps) + bias)

The softmax over the next token compares the written token with the expected ones, which a separate
good-or-bad read-out has to learn first.
"""

from __future__ import annotations

import torch
from pydantic import NonNegativeFloat

from atomthink_plugin.api import AtomThinkError, Format, Path
from atomthink_plugin.formats.named import format_named
from atomthink_plugin.inference.batch_size import BatchSize
from atomthink_plugin.inference.checkpoint_files import load_config
from atomthink_plugin.inference.checkpoints import Checkpoint, end_ids, load_multimodal
from atomthink_plugin.inference.encoding import Encoder
from atomthink_plugin.inference.gpu_memory import GpuMemory, with_share
from atomthink_plugin.inference.prefix_cache.reader import CACHE_GIB
from atomthink_plugin.scorers.batched import BatchedScorer, Reading
from atomthink_plugin.scorers.chat_layout import prompt_and_reply
from atomthink_plugin.scorers.detect import SECTION, PrmSettings, prm_settings
from atomthink_plugin.scorers.scored_step import last_step


class LikelihoodPrm(BatchedScorer):
    """Scores a step by the calibrated likelihood of its tokens, those that end it included.

    A step ends with the format's joint, a concluding step with the end of the reply.

    Args:
        checkpoint: The loaded PRM.
        format: The prompt format it was trained with.
        scale: Factor of the log-likelihood (natural log, summed over the step's tokens).
        bias: Added to it.
        batch_size: Paths in one batch at most.
        cache_gib: GiB of keys and values kept between batches.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        format: Format,
        scale: float,
        bias: float,
        *,
        batch_size: BatchSize = "auto",
        cache_gib: float = CACHE_GIB,
    ) -> None:
        super().__init__(checkpoint, batch_size, cache_gib)
        self._encoder = Encoder(checkpoint)
        self._format = format
        self._scale = scale
        self._bias = bias
        self._end = end_ids(checkpoint)[:1]

    def encode(self, path: Path) -> Reading:
        """Returns the path's input; read where each of the last step's tokens is predicted."""
        prompt, reply = prompt_and_reply(self._format, path)
        written = last_step(path).text if path.final else reply[-1].text
        *before, step = self._encoder.split([*(piece.text for piece in reply[:-1]), written])
        step = (*step, *self._end) if path.final else step
        encoding = self._encoder.question(prompt.messages)
        encoding = encoding.extend([token for piece in before for token in piece]).extend(step)
        return Reading(encoding, encoding.length - len(step) - 1, encoding.length - 2, step)

    def probability(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Returns the calibrated likelihood."""
        logprobs = torch.log_softmax(logits, dim=-1).gather(1, targets[:, None])
        return torch.sigmoid(self._scale * logprobs.sum() + self._bias)


def prm_likelihood(
    prm: str,
    *,
    format: str | None = None,
    scale: float | None = None,
    bias: float | None = None,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    batch_size: BatchSize = "auto",
    cache_gib: NonNegativeFloat = CACHE_GIB,
    gpu_memory: GpuMemory = None,
    trust_remote_code: bool = False,
) -> LikelihoodPrm:
    """Loads a model that scores a step by the calibrated likelihood of its tokens.

    The score is `sigmoid(scale * log p(step | image, question, earlier steps) + bias)`.

    Args:
        prm: A local folder, or the id of a repository on the model hub.
        format: Prompt format that it was trained with: `continue`, `atomic`, `stages` or a plugin's. By default that of
            its config.json, else `continue`.
        scale: Factor of the log-likelihood (natural logarithm, summed over the step's tokens). By default that of its
            config.json.
        bias: Added to the scaled log-likelihood. By default that of its config.json.
        revision: Branch, tag or commit of the repository on the hub.
        dtype: `auto` (the checkpoint's own precision on an accelerator, float32 on a CPU), `float32`, `bfloat16` or
            `float16`.
        device: `auto` (CUDA, else MPS, else CPU) or a device of torch, such as `cuda:1`.
        batch_size: Maximum rows of one forward pass. `auto`: what the GPU's free memory is expected to hold, 128 at
            most. On a CPU 8 to 256, more for a smaller model. A batch that runs out of memory is halved.
        cache_gib: Memory for the KV cache in GiB, which keeps the question and earlier steps between batches. 0
            disables it.
        gpu_memory: Share of the GPU's memory for this model's weights, keys and values and working memory, above 0 and
            at most 1. By default most of what is free once policy and PRM are loaded. On a CPU there is no limit. On a
            GPU it replaces the limit of `cache_gib`.
        trust_remote_code: Whether to run Python code that comes with the checkpoint.

    Raises:
        AtomThinkError: It cannot be loaded, or its calibration is missing.
    """
    section = prm_settings(load_config(prm, revision=revision, argument="prm"), prm)
    if section is None and (scale is None or bias is None):
        raise AtomThinkError(
            f"prm={prm!r} has no {SECTION} in its config.json, so its calibration is unknown: pass prm_scale= and "
            "prm_bias=, or another scorer"
        )
    given = {"format": format, "scale": scale, "bias": bias}
    settings = (section or PrmSettings(kind="likelihood")).model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    checkpoint = load_multimodal(
        prm,
        revision=revision,
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
        argument="prm",
    )
    checkpoint = with_share(checkpoint, gpu_memory, "prm_gpu_memory")
    scorer = LikelihoodPrm(
        checkpoint,
        format_named(settings.format),
        settings.scale,
        settings.bias,
        batch_size=batch_size,
        cache_gib=cache_gib,
    )
    scorer.check()
    return scorer
