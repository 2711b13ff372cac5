"""Any language model of transformers that reads no images, as a policy: for critics."""

from __future__ import annotations

from pydantic import NonNegativeFloat

from atomthink_plugin.inference.batch_size import BatchSize
from atomthink_plugin.inference.checkpoints import load_text_policy
from atomthink_plugin.inference.gpu_memory import GpuMemory, with_share
from atomthink_plugin.inference.prefix_cache.reader import CACHE_GIB
from atomthink_plugin.model_adapters.transformers_policy import TransformersPolicy, checked_policy


def text_policy(
    pretrained: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    batch_size: BatchSize = "auto",
    cache_gib: NonNegativeFloat = CACHE_GIB,
    gpu_memory: GpuMemory = None,
    chat_template: str | None = None,
    trust_remote_code: bool = False,
) -> TransformersPolicy:
    """Loads any causal language model. It refuses prompts with images.

    Args:
        pretrained: A local folder, or the id of a repository on the model hub.
        revision: Branch, tag or commit of the repository on the hub.
        dtype: `auto` (the checkpoint's own precision on an accelerator, float32 on a CPU), `float32`, `bfloat16` or
            `float16`.
        device: `auto` (CUDA, else MPS, else CPU) or a device of torch, such as `cuda:1`.
        batch_size: Maximum rows of one forward pass. `auto`: what the GPU's memory is expected to hold, 384 at most.
            On a CPU 8 to 256, more for a smaller model. A batch that runs out of memory is halved.
        cache_gib: Memory for the KV cache in GiB. Prompts are prefilled once and shared by all samples and later
            steps. 0 disables the cache.
        gpu_memory: Share of the GPU's memory for this model's weights, keys and values and working memory, above 0 and
            at most 1. By default most of what is free once policy and PRM are loaded. On a CPU there is no limit. On a
            GPU it replaces the limit of `cache_gib`.
        chat_template: File with a Jinja chat template, for checkpoints without one.
        trust_remote_code: Whether to run Python code that comes with the checkpoint.

    Raises:
        AtomThinkError: The checkpoint cannot be loaded or used.
    """
    checkpoint = load_text_policy(
        pretrained,
        revision=revision,
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
        chat_template=chat_template,
    )
    checkpoint = with_share(checkpoint, gpu_memory, "gpu_memory")
    return checked_policy(checkpoint, pretrained, batch_size, cache_gib)
