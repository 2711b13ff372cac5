"""A published process reward model, read in one forward pass as its profile says."""

from __future__ import annotations

import torch
from pydantic import NonNegativeFloat

from atomthink_plugin.api import AtomThinkError, Path
from atomthink_plugin.inference.batch_size import BatchSize
from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.inference.gpu_memory import GpuMemory, with_share
from atomthink_plugin.inference.prefix_cache.reader import CACHE_GIB
from atomthink_plugin.scorers.batched import BatchedScorer, Reading
from atomthink_plugin.scorers.prm_profile import Profile
from atomthink_plugin.scorers.profile_catalogue import NamedProfile, profile_named, profile_of
from atomthink_plugin.scorers.profile_loaders import load_checkpoint
from atomthink_plugin.scorers.profile_reading import profile_reading
from atomthink_plugin.scorers.readouts import read_out


class ProfiledPrm(BatchedScorer):
    """Scores a step in the layout and by the read-out of a profile.

    Args:
        checkpoint: The loaded PRM.
        name: The profile's name.
        digest: The profile's digest; with the name it is a part of the scorer's identity.
        profile: The profile. Reports take threshold, aggregate and split of this attribute.
        batch_size: Paths in one batch at most.
        cache_gib: GiB of keys and values kept between batches.

    Raises:
        AtomThinkError: The tokenizer has other ids than the profile.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        name: str,
        digest: str,
        profile: Profile,
        *,
        batch_size: BatchSize = "auto",
        cache_gib: float = CACHE_GIB,
    ) -> None:
        self.profile = profile
        reading = profile_reading(checkpoint, name, profile)
        self._layout = reading.layout
        self._read_out = read_out(profile, reading.ids)
        super().__init__(checkpoint, batch_size, cache_gib)
        self.identity = f"{checkpoint.identity} read as {name} {digest}"

    def encode(self, path: Path) -> Reading:
        """Returns the input up to the reading position of the last step."""
        encoding = self._layout.encode(path)
        return Reading(encoding, encoding.length - 1, encoding.length - 1)

    def probability(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Returns the score that the profile's read-out makes of the logits."""
        return self._read_out(logits[0])


def required_profile(prm: str, name: str | None) -> tuple[NamedProfile, Profile]:
    """Returns the profile that the user names, else that of the checkpoint's hub id.

    Raises:
        AtomThinkError: There is none, or it is not read in one forward pass.
    """
    found = profile_of(prm) if name is None else profile_named(name)
    if found is None:
        raise AtomThinkError(
            f"prm={prm!r} is no published PRM that is known by name: pass prm_profile=NAME or prm_profile=FILE.yaml; "
            "`atomthink prm profiles` lists the names"
        )
    if not isinstance(found.model, Profile):
        raise AtomThinkError(f"prm_profile={found.name!r} is a generative PRM: pass scorer=prm_judge, or no scorer=")
    return found, found.model


def prm_profiled(
    prm: str,
    *,
    profile: str | None = None,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    batch_size: BatchSize = "auto",
    cache_gib: NonNegativeFloat = CACHE_GIB,
    gpu_memory: GpuMemory = None,
    trust_remote_code: bool = False,
) -> ProfiledPrm:
    """Loads a published PRM, such as `Qwen/Qwen2.5-Math-PRM-7B`, and reads it as its profile says.

    Args:
        prm: A local folder, or the id of a repository on the model hub.
        profile: Name of a profile (`atomthink prm profiles` lists them), or a YAML file with a profile of your own. By
            default the one that has the PRM's hub id.
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
        AtomThinkError: It has no profile, cannot be loaded, or its tokenizer has other ids than the profile.
    """
    found, content = required_profile(prm, profile)
    checkpoint = load_checkpoint(
        prm,
        content,
        revision=revision,
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
        argument="prm",
    )
    checkpoint = with_share(checkpoint, gpu_memory, "prm_gpu_memory")
    scorer = ProfiledPrm(checkpoint, found.name, found.digest, content, batch_size=batch_size, cache_gib=cache_gib)
    scorer.check()
    return scorer
