"""A classifier of tokens read at the separator after each step.

Source: Qwen2.5-Math-PRM, "The Lessons of Developing Process Reward Models" (arXiv 2501.07301).
"""

from __future__ import annotations

from typing import Final

import torch
from pydantic import NonNegativeFloat
from transformers import PreTrainedTokenizerBase

from atomthink_plugin.api import AtomThinkError, Path, QuestionError
from atomthink_plugin.formats.named import format_named
from atomthink_plugin.inference.batch_size import BatchSize
from atomthink_plugin.inference.checkpoint_files import load_config
from atomthink_plugin.inference.checkpoints import Checkpoint, load_head_prm
from atomthink_plugin.inference.encoding import (
    Encoder,
    Encoding,
    control_tokens,
    neutralise,
    text_encoding,
)
from atomthink_plugin.inference.gpu_memory import GpuMemory, with_share
from atomthink_plugin.inference.piece_tokenizer import PieceTokenizer
from atomthink_plugin.inference.prefix_cache.reader import CACHE_GIB
from atomthink_plugin.scorers.batched import BatchedScorer, Reading, single_token
from atomthink_plugin.scorers.detect import SEPARATOR_TOKEN, PrmSettings, prm_settings
from atomthink_plugin.scorers.prm_token import ChatLayout, Layout
from atomthink_plugin.scorers.scored_step import TextAlone, last_step

SYSTEM: Final = r"Please reason step by step, and put your final answer within \boxed{}."
"""The system turn of the published model's training data."""

_CLASSES: Final = 2


class Conversation:
    """Published text-only layout: the model's own chat, a separator after each step of the reply.

    The question's text is kept as it is, with its options and line breaks. Images are not read; a warning says so once.

    Args:
        tokenizer: The PRM's; it has a chat template.
        separator_id: Id of the token after every step.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, separator_id: int) -> None:
        self._tokenizer = tokenizer
        self._pieces = PieceTokenizer(tokenizer)
        self._separator = separator_id
        self._control = control_tokens(tokenizer, None)
        self._asked = TextAlone()

    def encode(self, path: Path) -> Encoding:
        """Returns the chat up to the last step's separator.

        Raises:
            QuestionError: A step's own text is read as a separator.
        """
        last_step(path)
        pieces = self._pieces.split([self._clean(step.text) for step in path.steps])
        if any(self._separator in piece for piece in pieces):
            raise QuestionError(
                "a step contains the PRM's separator, so the PRM would take a part of it for a whole step"
            )
        turns = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": self._clean(self._asked.text(path.question))},
        ]
        chat = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        question = text_encoding(self._tokenizer.encode(str(chat), add_special_tokens=False))
        return question.extend([token for piece in pieces for token in (*piece, self._separator)])

    def _clean(self, text: str) -> str:
        return neutralise(text, self._control)


class HeadPrm(BatchedScorer):
    """Scores a step by the classifier's probability of its second class, "right", at the separator.

    Args:
        checkpoint: The loaded token classifier.
        layout: Where its input has what; it ends at the last step's separator.
        batch_size: Paths in one batch at most.
        cache_gib: GiB of keys and values kept between batches.

    Raises:
        AtomThinkError: The head has not two classes.
    """

    def __init__(
        self, checkpoint: Checkpoint, layout: Layout, *, batch_size: BatchSize = "auto", cache_gib: float = CACHE_GIB
    ) -> None:
        super().__init__(checkpoint, batch_size, cache_gib)
        self._layout = layout
        classes = checkpoint.model.config.num_labels
        if classes != _CLASSES:
            raise AtomThinkError(f"the PRM {self.identity} has {classes} classes, not wrong and right: name another")

    def encode(self, path: Path) -> Reading:
        """Returns the input up to the last step's separator, where it is read."""
        encoding = self._layout.encode(path)
        return Reading(encoding, encoding.length - 1, encoding.length - 1)

    def probability(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Returns softmax over the two classes, of "right"."""
        return torch.softmax(logits[0], dim=-1)[1]


def prm_head(
    prm: str,
    *,
    separator: str | None = None,
    format: str | None = None,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    batch_size: BatchSize = "auto",
    cache_gib: NonNegativeFloat = CACHE_GIB,
    gpu_memory: GpuMemory = None,
    trust_remote_code: bool = False,
) -> HeadPrm:
    """Loads a token classifier that is read at a separator after each step, such as Qwen2.5-Math-PRM.

    A classifier that reads images gets the prompt format that it was trained with. All others get the input layout in
    which Qwen2.5-Math-PRM was published, without images.

    Args:
        prm: A local folder, or the id of a repository on the model hub.
        separator: Token after each step, where the PRM is read. By default that of its config.json, else
            Qwen2.5-Math-PRM's `<extra_0>`.
        format: Prompt format that a PRM with images was trained with: `continue`, `atomic`, `stages` or a plugin's. By
            default that of its config.json, else `continue`. Refused for a PRM of text alone.
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
        trust_remote_code: Whether to run Python code that comes with the checkpoint. Qwen2.5-Math-PRM needs it.

    Raises:
        AtomThinkError: It cannot be loaded, or read at `separator` or in `format`.
    """
    checkpoint = load_head_prm(
        prm,
        revision=revision,
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
        argument="prm",
    )
    section = prm_settings(load_config(prm, revision=revision, argument="prm"), prm)
    separator_id = single_token(checkpoint.tokenizer, separator_of(section, separator), "prm_separator")
    layout: Layout
    if checkpoint.processor is not None:
        trained = section.format if section is not None else "continue"
        layout = ChatLayout(Encoder(checkpoint), format_named(trained if format is None else format), separator_id)
    elif format is not None:
        raise AtomThinkError(
            f"prm_format={format!r} goes with a PRM that reads images, and prm={prm!r} reads text alone: leave it out"
        )
    elif checkpoint.tokenizer.chat_template is None:
        raise AtomThinkError(f"prm={prm!r} has no chat template: add chat_template.jinja to its folder")
    else:
        layout = Conversation(checkpoint.tokenizer, separator_id)
    checkpoint = with_share(checkpoint, gpu_memory, "prm_gpu_memory")
    scorer = HeadPrm(checkpoint, layout, batch_size=batch_size, cache_gib=cache_gib)
    scorer.check()
    return scorer


def separator_of(section: PrmSettings | None, given: str | None) -> str:
    """Returns the token after every step: as given, as the PRM's config.json has it, or Qwen2.5-Math-PRM's."""
    return given or (section.tag if section is not None else None) or SEPARATOR_TOKEN
