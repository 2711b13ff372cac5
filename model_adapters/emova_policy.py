"""EMOVA as a policy: its processor takes whole conversations, its model comes as code with the checkpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from pydantic import NonNegativeFloat

from atomthink_plugin.api import Message
from atomthink_plugin.inference.batch_size import BatchSize
from atomthink_plugin.inference.checkpoints import Checkpoint, load_remote_multimodal, own_code
from atomthink_plugin.inference.encoding import Encoder, Encoding, turn_of
from atomthink_plugin.inference.gpu_memory import GpuMemory, with_share
from atomthink_plugin.inference.message_parts import joined
from atomthink_plugin.inference.prefix_cache.reader import CACHE_GIB
from atomthink_plugin.model_adapters.transformers_policy import TransformersPolicy

if TYPE_CHECKING:
    from PIL.Image import Image


class ConversationEncoder(Encoder):
    """Encodes prompts with a processor that is called with turns and images, as EMOVA's model card does.

    All images are passed in one call, in reading order. A conversation without a system turn gets that of the config,
    as in all examples of the card. Images are prepared once for each conversation: a format that begins the reply
    keeps the conversation and prepares them once for all steps.

    Args:
        checkpoint: A checkpoint whose config names the image placeholder token.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config: Any = checkpoint.model.config
        self._system: str = getattr(config, "default_system_prompt", None) or ""
        self._image_id: int = config.image_token_index
        image = re.escape(str(self._tokenizer.convert_ids_to_tokens(self._image_id)))
        self._control = re.compile(f"{image}|{self._control.pattern}")
        self._unwritten |= {self._image_id}

    def chat(self, messages: Sequence[Message]) -> str:
        """Returns the turns as JSON, which identifies the conversation."""
        if self._system and messages[0].role != "system":
            messages = (Message("system", (self._system,)), *messages)
        return json.dumps([turn_of(turn.role, [self._part(part) for part in joined(turn.parts)]) for turn in messages])

    def _question(self, text: str, images: list[Image]) -> Encoding:
        return self._head(text, images)

    def _process(self, text: str, images: list[Image]) -> Encoding:
        """As the base class, except that the text after the last image is part of the result."""
        encoding = super()._process(text, images)
        places = [at for at, token in enumerate(encoding.ids) if token == self._image_id]
        return replace(encoding, settled=places[-1] + 1) if places else encoding

    def _prepare(self, text: str, pictures: list[Image]) -> Mapping[str, torch.Tensor]:
        turns, media = json.loads(text), {"images": pictures[0] if len(pictures) == 1 else pictures}
        inputs: Mapping[str, torch.Tensor] = self._processor(
            text=turns, return_tensors="pt", **(media if pictures else {})
        )
        return inputs


def emova_policy(
    pretrained: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    batch_size: BatchSize = "auto",
    cache_gib: NonNegativeFloat = CACHE_GIB,
    gpu_memory: GpuMemory = None,
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
) -> TransformersPolicy:
    """Loads EMOVA by one of its `-hf` checkpoints, whose Python code has to be trusted.

    Args:
        pretrained: A local folder, or the id of a repository on the model hub.
        revision: Branch, tag or commit of the repository on the hub.
        dtype: `auto` (the checkpoint's own precision on an accelerator, float32 on a CPU), `float32`, `bfloat16` or
            `float16`.
        device: `auto` (CUDA, else MPS, else CPU) or a device of torch, such as `cuda:1`.
        batch_size: Maximum rows of one forward pass. `auto`: what the GPU's memory is expected to hold, 384 at most.
            On a CPU 8 to 256, more for a smaller model. A batch that runs out of memory is halved.
        cache_gib: Memory for the KV cache in GiB. Images and prompts are prefilled once and shared by all samples,
            beams and later steps. 0 disables the cache. A model whose cache cannot be forked prefills every prompt in
            full and logs a warning.
        gpu_memory: Share of the GPU's memory for this model's weights, keys and values and working memory, above 0 and
            at most 1. By default most of what is free once policy and PRM are loaded. On a CPU there is no limit. On a
            GPU it replaces the limit of `cache_gib`.
        attn_implementation: Attention kernel by the names of transformers: `sdpa`, `flash_attention_2`, `eager`, ... By
            default transformers chooses.
        trust_remote_code: Whether to run Python code that comes with the checkpoint. EMOVA needs it.

    Raises:
        AtomThinkError: The checkpoint cannot be loaded or used.
    """
    checkpoint = load_remote_multimodal(
        pretrained,
        revision=revision,
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
        attn_implementation=attn_implementation,
    )
    checkpoint = with_share(checkpoint, gpu_memory, "gpu_memory")
    with own_code(checkpoint.model.config, f"pretrained={pretrained!r}"):
        encoder = ConversationEncoder(checkpoint)
        policy = TransformersPolicy(checkpoint, batch_size=batch_size, cache_gib=cache_gib, encoder=encoder)
        policy.check()
    return policy
