"""Makes the processor of a tiny model: image, video and sound parts with the sizes of its config."""

from __future__ import annotations

import inspect
from typing import Any, Final

from transformers import PreTrainedTokenizerFast, ProcessorMixin

from benchmarks.family_models.facts import Config, Facts
from benchmarks.family_models.shrink import GRID

_PIXELS: Final = 2000
"""A size above it is a number of pixels, not the length of a side."""

_COPIED: Final = {
    "patch_size": ("patch_size",),
    "merge_size": ("spatial_merge_size", "merge_size", "merge_kernel_size"),
    "temporal_patch_size": ("temporal_patch_size",),
    "downsample_factor": ("downsample_factor",),
    "image_grid_pinpoints": ("image_grid_pinpoints",),
}
"""Settings of an image processor that the config has too, and their names there."""

_ALIASES: Final = {"image_seq_length": ("image_seq_length", "mm_tokens_per_image")}
"""Arguments of processors that have other names in the config."""


def make_processor(
    cls: type[ProcessorMixin],
    facts: Facts,
    config: Config,
    words: PreTrainedTokenizerFast,
    *,
    image: Any,
    video: Any,
    sound: Any,
) -> ProcessorMixin:
    """Returns the processor of a tiny model.

    Args:
        cls: Its class.
        facts: What is special about the architecture.
        config: The tiny config.
        words: The tokenizer.
        image: Class of its image processor.
        video: Class of its video processor, None without.
        sound: Class of its feature extractor for sounds, None without.
    """
    if not issubclass(cls, ProcessorMixin):
        raise TypeError(f"{cls.__name__} is no processor")
    parameters = inspect.signature(cls.__init__).parameters
    made: dict[str, Any] = {"tokenizer": words}
    if image is not None:
        made["image_processor"] = image_processor(image, config, facts)
    if video is not None and "video_processor" in parameters:
        made["video_processor"] = video(**{**_same(video, made.get("image_processor")), **facts.video_processor})
    if sound is not None and "feature_extractor" in parameters:
        made["feature_extractor"] = sound()
    for name in parameters:
        names = _ALIASES.get(name, (name,))
        value = next((value for one in names if (value := find(config, one)) is not None), None)
        if name not in made and value is not None and not name.endswith("_token"):
            made[name] = value
    if (
        "num_additional_image_tokens" in parameters
        and (config.get("vision_config") or {}).get("model_type") == "clip_vision_model"
    ):
        made["num_additional_image_tokens"] = 1
    if facts.parts is not None:
        made |= facts.parts(words)
    return cls(**{**made, **facts.processor})


def image_processor(cls: Any, config: Config, facts: Facts) -> Any:
    """Returns an image processor that makes small images for the config's vision part."""
    default = cls()
    settings: dict[str, Any] = {}
    for name, there in _COPIED.items():
        if getattr(default, name, None) is not None and name not in facts.image_processor:
            value = next((value for one in there if (value := find(config, one)) is not None), None)
            if value is not None:
                settings[name] = (
                    value[0] if isinstance(value, (list, tuple)) and name != "image_grid_pinpoints" else value
                )
    patch = settings.get("patch_size") or find(config, "patch_size") or 14
    merge = settings.get("merge_size") or 1
    side = find(config, "image_size") or GRID * patch
    side = side[0] if isinstance(side, (list, tuple)) else side
    for name in ("size", "crop_size"):
        if (size := getattr(default, name, None)) is not None:
            settings[name] = _small(dict(size), side, patch * merge)
    for name, patches in (("min_pixels", 4), ("max_pixels", 16)):
        if getattr(default, name, None) is not None:
            settings[name] = patches * (patch * merge) ** 2
    return cls(**{**settings, **facts.image_processor})


def _small(size: dict[str, Any], side: int, patch: int) -> dict[str, int]:
    """Returns a size of the same form: sides, or numbers of pixels."""
    small = {}
    for name, value in size.items():
        if value is not None and value > _PIXELS:
            small[name] = (4 if name == "shortest_edge" else 16) * patch**2
        elif value is not None:
            small[name] = side
    return small


def _same(video: Any, image: Any) -> dict[str, Any]:
    """Returns the settings of a video processor that an image processor has too."""
    names = ("patch_size", "merge_size", "size")
    default = video()
    both = (
        name for name in names if getattr(image, name, None) is not None and getattr(default, name, None) is not None
    )
    return {name: getattr(image, name) for name in both}


def find(config: Config, name: str) -> Any:
    """Returns a value of the config or of its vision part, None if neither has it."""
    for part in (config, config.get("vision_config")):
        if isinstance(part, dict) and part.get(name) is not None:
            return part[name]
    return None
