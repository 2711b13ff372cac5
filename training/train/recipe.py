"""Recipes: what a training run is told, in a YAML file and on the command line, checked before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.plugins.arguments import hint

Precision = Literal["fp32", "bf16", "fp16"]
Schedule = Literal["constant", "linear", "cosine", "trapezoid"]

R = TypeVar("R", bound="Recipe")

RECIPES: Final = Path(__file__).parents[1] / "recipes"
"""The recipes that come with the package."""


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from None
    return text


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | dict) else value


def _file(value: Any) -> Any:
    return {"file": value} if isinstance(value, str) else value


Pattern = Annotated[str, AfterValidator(_pattern)]


class Strict(BaseModel):
    """A part of a recipe; names it does not know are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Lora(Strict):
    """Low-rank adapters instead of all weights (arXiv 2106.09685).

    Attributes:
        r: Their rank.
        alpha: Their scale is `alpha / r`.
        dropout: Before them.
        targets: Regular expression that a layer's whole name fits; by default the language model's linear layers.
        merge: Whether they are added to the weights at the end; otherwise `out` holds the adapters alone.
    """

    r: PositiveInt = 16
    alpha: PositiveFloat = 32
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    targets: Pattern = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    merge: bool = True


class Data(Strict):
    """One file of records.

    Attributes:
        file: JSONL; images are relative to it.
        format: Prompt format of its records that name none themselves; None for the recipe's.
        weight: How often each record is used in an epoch: 2 is twice, 0.5 a random half, the same in every epoch.
    """

    file: Path
    format: str | None = None
    weight: PositiveFloat = 1.0


Files = Annotated[tuple[Annotated[Data, BeforeValidator(_file)], ...], BeforeValidator(_listed)]


class Recipe(Strict):
    """What all trainings have in common.

    Paths are relative to the working directory. Numbers of rows hold for each process.

    Attributes:
        model: Folder or hub id of the checkpoint that is trained.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Whether to run Python code that comes with the checkpoint.
        chat_template: File with a Jinja chat template, for checkpoints that bring none; it is saved with the weights.
        attention: `sdpa`, `flash_attention_2`, `eager`; transformers chooses if not given.
        data: One or more files, each a path or a `Data`.
        out: Folder for the trained checkpoint, `log.jsonl`, `rejects.jsonl`, and `checkpoints/` while it trains.
        epochs: Passes over the data, unless `max_steps` says when to stop.
        max_steps: Optimiser steps; None for `epochs`.
        batch_size: Rows in one forward pass.
        accumulate: Forward passes for one optimiser step.
        learning_rate: AdamW's.
        rates: AdamW's for parameters whose name a pattern is found in; the first that fits holds.
        muon: Muon's learning rate, for matrices that are no embedding and no projector; None for AdamW alone.
        betas: AdamW's.
        weight_decay: Of matrices, under AdamW.
        clip: Norm to which gradients are cut; 0 leaves them.
        schedule: Of the learning rates behind the warm-up: `constant`, `linear` or `cosine` down to 0, or `trapezoid`:
            constant, then linear down to 0.
        warmup: Steps over which learning rates rise, or below 1 the share of all steps.
        decay_share: Share of all steps over which a trapezoid falls.
        max_length: Tokens of a row, image tokens included; longer ones are set aside. None for the model's context.
        max_pixels: Pixels of an image; a larger one is scaled down before the processor sees it, in inference too: the
            trained config.json says so. A server that knows nothing of it gets images whole.
        precision: What is calculated in: autocast over fp32 weights, or, with `lora`, over frozen weights of that kind.
        saved: Precision of the weights that are written.
        lora: Adapters to train; None for the weights themselves.
        freeze: Parameters whose name one of these patterns is found in stay as they are.
        gradient_checkpointing: Whether activations are worked out again on the way back: less memory, a third slower.
        workers: Processes that measure records before the first step and prepare rows behind it; 0 leaves both to the
            one that trains.
        seed: Of the order of rows, of dropout and of new adapters.
        save_every: Steps between two checkpoints to resume from; None for none.
        keep: How many of these are kept.
        resume: Whether to go on from the newest complete one of them, if there is one.
        log_every: Steps between two lines of the log.
    """

    model: str
    revision: str | None = None
    trust_remote_code: bool = False
    chat_template: str | None = None
    attention: str | None = None
    data: Files
    out: Path
    epochs: PositiveFloat = 1.0
    max_steps: PositiveInt | None = None
    batch_size: PositiveInt = 8
    accumulate: PositiveInt = 1
    learning_rate: PositiveFloat = 2e-5
    rates: dict[Pattern, NonNegativeFloat] = {}
    muon: PositiveFloat | None = None
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = 0.0
    clip: NonNegativeFloat = 1.0
    schedule: Schedule = "cosine"
    warmup: NonNegativeFloat = 0.03
    decay_share: Annotated[float, Gt(0), Le(1)] = 0.5
    max_length: PositiveInt | None = None
    max_pixels: PositiveInt | None = None
    precision: Precision = "bf16"
    saved: Precision = "bf16"
    lora: Lora | None = None
    freeze: Annotated[tuple[Pattern, ...], BeforeValidator(_listed)] = ()
    gradient_checkpointing: bool = False
    workers: NonNegativeInt = 0
    seed: int = 0
    save_every: PositiveInt | None = None
    keep: PositiveInt = 2
    resume: bool = False
    log_every: PositiveInt = 10

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.data:
            raise ValueError("`data` names no file")
        if self.lora is not None and self.freeze:
            raise ValueError("`freeze` beside `lora`, which freezes all weights: narrow `lora.targets` instead")
        return self

    @property
    def checkpoints(self) -> Path:
        """Where what a run can be resumed from is kept."""
        return self.out / "checkpoints"


class PolicyRecipe(Recipe):
    """Supervised fine-tuning on chains.

    Attributes:
        format: Prompt format of records and files that name none: a registered stepwise format, or `direct` or `cot`,
            where the single step is the whole reply.
        packed: Whether a chain is one row with a loss on all its steps, instead of one row per step. Needs a format
            whose question stays the same over all steps, as `continue`'s does.
    """

    format: str = "continue"
    packed: bool = False


class DpoRecipe(Recipe):
    """Preference tuning on pairs of steps or of rests of paths (DPO, arXiv 2305.18290).

    Attributes:
        format: Prompt format of records and files that name none.
        beta: How strongly the policy is held to what it was.
        anchor: Weight of the supervised loss on the chosen side, added to the preference loss; 0 leaves it out.
    """

    format: str = "continue"
    beta: PositiveFloat = 0.1
    anchor: NonNegativeFloat = 0.0
    learning_rate: PositiveFloat = 5e-7


def load_recipe(kind: type[R], file: Path, overrides: Sequence[str] = ()) -> R:
    """Reads a recipe.

    Args:
        kind: The model that checks it.
        file: A YAML file.
        overrides: `key=value`, in YAML, instead of what the file says; `lora.r=8` reaches into a part.

    Raises:
        AtomThinkError: It cannot be read, or something in it is unknown or no valid value.
    """
    try:
        told = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        shipped = sorted(path.name for path in RECIPES.glob("*.yaml"))
        raise AtomThinkError(
            f"there is no recipe {str(file)!r}{hint(file.name, shipped)}; {RECIPES} has {', '.join(shipped)}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise AtomThinkError(f"the recipe {str(file)!r} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise AtomThinkError(f"the recipe {str(file)!r} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(told, dict):
        raise AtomThinkError(f"the recipe {str(file)!r} holds no `name: value` lines")
    for override in overrides:
        _set(told, override)
    try:
        return kind.model_validate(told)
    except ValidationError as error:
        raise AtomThinkError(f"{file}: {'; '.join(_told(kind, fault) for fault in error.errors())}") from None


def _set(told: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    *parts, last = key.split(".")
    if not equals or not all((*parts, last)):
        raise AtomThinkError(f"{override!r} is no key=value: write for example `learning_rate=1e-5` or `lora.r=8`")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise AtomThinkError(f"{override!r}: {text!r} is no YAML value") from None
    for part in parts:
        inner = told.get(part)
        inner = dict(inner) if isinstance(inner, dict) else {}
        told[part] = inner
        told = inner
    told[last] = value


def _fields(kind: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """Returns the names that a recipe or, at a place within it, one of its parts has."""
    parts: dict[str, type[BaseModel]] = {"lora": Lora, "data": Data}
    return list(parts.get(str(place[0]), kind).model_fields if place else kind.model_fields)


def _told(kind: type[BaseModel], fault: Any) -> str:
    """Names the argument, the value and the way out."""
    where = ".".join(map(str, fault["loc"]))
    if fault["type"] == "extra_forbidden":
        valid = _fields(kind, fault["loc"][:-1])
        return f"`{where}` is unknown{hint(str(fault['loc'][-1]), valid)}; valid: {', '.join(valid)}"
    if fault["type"] == "missing":
        return f"`{where}` is missing: it has to be given"
    return f"`{where}: {fault['input']!r}`: {fault['msg']}" if where else str(fault["msg"])
