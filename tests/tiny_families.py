"""The tiny multimodal models of the tests, by the way in which a policy runs them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

from packaging.version import Version
from transformers import __version__ as transformers_version

from atomthink_plugin.inference.checkpoints import Checkpoint, load_remote_multimodal
from atomthink_plugin.inference.encoding import Encoder
from atomthink_plugin.model_adapters.emova_policy import ConversationEncoder
from atomthink_plugin.model_adapters.transformers_policy import Decoding
from tests.emova_standin import emova, emova_merging
from tests.internvl_checkpoint import original
from tests.rare_models import exaone4_5, idefics2, kimi_k25, long_llava, qianfan_ocr, qwen_omni
from tests.tiny_models import folder, gemma3, llava, llava_next, loaded, mllama, paligemma, qwen

Build = Callable[[Path], Path]


def internvl(folder: Path) -> Path:
    """InternVL in the format of its original code: an image has one to twelve tiles."""
    original(folder, "qwen2")
    return folder


SLOTS: Final[tuple[Build, ...]] = (llava, llava_next, qwen, qianfan_ocr, qwen_omni, internvl, emova)
"""Those that run in the slots engine."""

FALLBACKS: Final[dict[Build, Decoding]] = {
    mllama: "forking" if Version(transformers_version) >= Version("5.18") else "prefill",
    gemma3: "forking",
    exaone4_5: "forking",
    idefics2: "forking",
    kimi_k25: "forking",
    paligemma: "prefill",
    emova_merging: "prefill in single rows",
    long_llava: "prefill in single rows",
}
"""Those that do not, with what a policy does instead."""

_REMOTE: Final = (emova, emova_merging)


@cache
def checkpoint(build: Build) -> Checkpoint:
    """The model that `build` makes, loaded once."""
    if build in _REMOTE:
        return load_remote_multimodal(str(folder(build)), device="cpu", trust_remote_code=True)
    return loaded(build)


def encoder(build: Build) -> Encoder:
    """An encoder of the model's prompts."""
    return (ConversationEncoder if build in _REMOTE else Encoder)(checkpoint(build))
