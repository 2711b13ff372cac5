"""How the PRM of a profile is served with vLLM, if it can be."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

from atomthink_plugin.scorers.prm_profile import ClassesReadOut, Profile, ScalarReadOut

ORIGINAL_INTERNVL = "InternVLChatModel"
"""vLLM's class of checkpoints in the format of InternVL's original code."""


def classified(profile: Profile) -> bool:
    """Returns whether the PRM is a classifier, and not a language model."""
    return isinstance(profile.read, (ClassesReadOut, ScalarReadOut))


def not_served(profile: Profile) -> str | None:
    """Returns why vLLM cannot serve the PRM of a profile, None if it can."""
    if profile.loader == "remote" and profile.served_as is None:
        return "its model is Python code of its own, and vLLM has no class for it"
    if (profile.loader == "value_head" or profile.head is not None) and profile.served_as is None:
        return "its head has a name of its own, and vLLM has no class for it"
    if classified(profile) and profile.images.use != "none":
        return "it is a classifier that reads images, and vLLM classifies token ids without images"
    return None


def vllm_command(profile: Profile, prm: str | None = None) -> str:
    """Returns the command that serves the PRM of a profile.

    Args:
        profile: A profile that can be served.
        prm: The checkpoint; by default the first that the profile names.
    """
    return shlex.join(["vllm", "serve", prm or profile.names[0], *_options(profile)])


def _options(profile: Profile) -> Iterator[str]:
    if classified(profile):
        yield from ("--runner", "pooling")
        if profile.served_as is None:
            yield from ("--pooler-config", json.dumps({"task": "classify"}))
    if profile.served_as is not None:
        yield from ("--hf-overrides", json.dumps({"architectures": [profile.served_as]}))
    if not classified(profile):
        yield "--enable-prompt-tokens-details"
    if profile.images.use != "none":
        yield "--enable-scale-out"
        if processor := _processor_arguments(profile):
            yield from ("--mm-processor-kwargs", json.dumps(processor))
    if profile.loader == "internvl":
        yield "--trust-remote-code"


def _processor_arguments(profile: Profile) -> dict[str, Any]:
    """Returns the sizes of the profile's image rule under the names of vLLM's image processors."""
    rule = profile.images
    sizes = {"min_pixels": rule.min_pixels, "max_pixels": rule.max_pixels}
    if profile.loader == "internvl":
        sizes["max_dynamic_patch"] = rule.tiles
    return {name: size for name, size in sizes.items() if size is not None}
