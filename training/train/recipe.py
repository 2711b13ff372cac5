"""Recipes of trainings: YAML files with the argument names of transformers and trl, checked before loading."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

import yaml
from annotated_types import Ge, Lt
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.plugins.arguments import hint
from atomthink_plugin.scorers.detect import PUBLISHED, SEPARATOR_TOKEN

Dtype = Literal["float32", "bfloat16", "float16"]

R = TypeVar("R", bound="Recipe")

RECIPES: Final = Path(__file__).parents[1] / "recipes"
"""The recipes that ship with the package."""

RENAMED: Final[Mapping[str, str]] = {
    "model": "model_name_or_path",
    "revision": "model_revision",
    "attention": "attn_implementation",
    "chat_template": "chat_template_path",
    "out": "output_dir",
    "epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
    "accumulate": "gradient_accumulation_steps",
    "rates": "module_learning_rates",
    "betas": "adam_beta1` and `adam_beta2",
    "clip": "max_grad_norm",
    "schedule": "lr_scheduler_type`: `constant` is `constant_with_warmup`, `trapezoid` is `warmup_stable_decay",
    "warmup": "warmup_steps",
    "decay_share": "lr_scheduler_kwargs: {num_decay_steps: N, decay_type: linear}",
    "precision": "bf16` or `fp16",
    "saved": "save_dtype",
    "lora": "use_peft: true` with `lora_r`, `lora_alpha`, `lora_dropout`, `lora_target_modules`, `merge_lora",
    "workers": "dataloader_num_workers",
    "save_every": "save_steps",
    "keep": "save_total_limit",
    "resume": "resume_from_checkpoint",
    "log_every": "logging_steps",
    "packed": "one_row_per_chain",
    "anchor": "loss_type: [sigmoid, sft]` with `loss_weights: [1.0, WEIGHT]",
    "tag": "step_tag",
    "good": "good_token",
    "bad": "bad_token",
    "balance": "balance_labels",
    "along": "token_loss_weight",
    "language": "lm_loss_weight",
}
"""Names that recipes had before they used those of transformers and trl."""

NOT_SUPPORTED: Final = (
    "remove_unused_columns",
    "label_names",
    "do_eval",
    "eval_strategy",
    "eval_steps",
    "load_best_model_at_end",
    "muon",
)
"""Arguments of transformers that these trainings set themselves, or that need an evaluation set; and one that only the
embedded model's recipes still have."""


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


class DataFile(BaseModel):
    """One file of training data."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    file: Path
    """JSONL file. Images are relative to its folder."""

    format: str | None = None
    """Prompt format of those of its records that name none themselves. By default that of the recipe."""

    weight: PositiveFloat = 1.0
    """How often each record is used in an epoch: 2 is twice, 0.5 a random half, the same half in every epoch."""


DataFiles = Annotated[tuple[Annotated[DataFile, BeforeValidator(_file)], ...], BeforeValidator(_listed)]


class Recipe(BaseModel):
    """The keys that all trainings share.

    Keys with the name of an argument of transformers' `TrainingArguments` or of trl's configurations mean what they
    mean there. Any further argument of `TrainingArguments` may be given as well. Paths are relative to the working
    directory.
    """

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=(), use_attribute_docstrings=True)

    model_name_or_path: str
    """The checkpoint to train: a local folder, or the id of a repository on the model hub."""

    model_revision: str | None = None
    """Branch, tag or commit of the repository on the hub."""

    trust_remote_code: bool = False
    """Whether to run Python code that comes with the checkpoint."""

    chat_template_path: str | None = None
    """File with a Jinja chat template, for checkpoints without one. It is saved with the weights."""

    attn_implementation: str | None = None
    """Attention kernel by the names of transformers: `sdpa`, `flash_attention_2`, `eager`, ... By default transformers
    chooses."""

    data: DataFiles
    """One or more files of training data. Each is a path, or a mapping with the keys of a data file: `{file:
    chains.jsonl, weight: 2}`."""

    output_dir: Path
    """Folder of the trained checkpoint, of `log.jsonl` and `rejects.jsonl`, and of `checkpoints/` during training."""

    num_train_epochs: PositiveFloat = 1.0
    """Passes over the data. Ignored if `max_steps` is given."""

    max_steps: int = -1
    """Optimizer steps of the whole training. -1 trains for `num_train_epochs`."""

    per_device_train_batch_size: PositiveInt = 8
    """Rows of one forward pass in each process."""

    gradient_accumulation_steps: PositiveInt = 1
    """Forward passes whose gradients are added up before an optimizer step."""

    learning_rate: PositiveFloat = 2e-5
    """Peak learning rate of AdamW."""

    module_learning_rates: dict[Pattern, NonNegativeFloat] = {}
    """Other learning rates, by a regular expression: they hold for parameters whose name contains a match. The first
    expression that matches counts."""

    adam_beta1: Annotated[float, Ge(0), Lt(1)] = 0.9
    """Decay rate of AdamW's first moment."""

    adam_beta2: Annotated[float, Ge(0), Lt(1)] = 0.999
    """Decay rate of AdamW's second moment."""

    weight_decay: NonNegativeFloat = 0.0
    """Weight decay of matrices. Vectors, such as biases and norms, have none."""

    max_grad_norm: NonNegativeFloat = 1.0
    """Gradients are scaled down to this norm. 0 turns clipping off."""

    lr_scheduler_type: str = "cosine"
    """Schedule of the learning rate by the names of transformers, such as `cosine`, `linear`, `constant_with_warmup` or
    `warmup_stable_decay`."""

    lr_scheduler_kwargs: dict[str, Any] = {}
    """Further arguments of the schedule by name."""

    warmup_steps: NonNegativeFloat = 0.03
    """Steps over which the learning rate rises from 0. A number below 1 is a share of all steps."""

    max_length: PositiveInt | None = None
    """Limit of a row in tokens, image tokens included. Longer rows are rejected. By default the model's context."""

    max_pixels: PositiveInt | None = None
    """Maximum pixels of an image. Larger images are scaled down before the processor reads them. The trained
    config.json holds the number, so that inference with this package does the same; other servers ignore it."""

    fp16: bool = False
    """Whether to compute in float16."""

    bf16: bool = Field(default_factory=lambda given: not given.get("fp16"))
    """Whether to compute in bfloat16: autocast over float32 weights or, with `use_peft`, over frozen bfloat16 weights.
    By default true unless `fp16` is set. With both off, the training computes in float32."""

    save_dtype: Dtype = "bfloat16"
    """Precision of the weights that are saved."""

    use_peft: bool = False
    """Whether to train LoRA adapters instead of all weights."""

    lora_r: PositiveInt = 16
    """Rank of the adapters."""

    lora_alpha: PositiveFloat = 32
    """Scale of the adapters: their output is multiplied by `lora_alpha / lora_r`."""

    lora_dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Dropout in the adapters."""

    lora_target_modules: Pattern | tuple[str, ...] = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    """Layers that get adapters, as peft takes them: a regular expression for the whole name, or a list of names. By
    default the linear layers of the language model."""

    merge_lora: bool = True
    """Whether the adapters are merged into the weights at the end. Otherwise `output_dir` holds the adapters alone."""

    freeze: Annotated[tuple[Pattern, ...], BeforeValidator(_listed)] = ()
    """Regular expressions. Parameters whose name contains a match are not trained."""

    gradient_checkpointing: bool = False
    """Whether to compute activations again in the backward pass, which takes more time and less memory."""

    dataloader_num_workers: NonNegativeInt = 0
    """Processes that measure the records before the first step and then prepare the rows."""

    seed: int = 0
    """Seed of the order of the rows, of dropout and of new weights."""

    save_steps: PositiveInt | None = None
    """Steps between two checkpoints to resume from. By default none are saved."""

    save_total_limit: PositiveInt = 2
    """Checkpoints to resume from that are kept; older ones are deleted."""

    resume_from_checkpoint: bool = False
    """Whether to continue from the newest complete checkpoint, if there is one."""

    logging_steps: PositiveInt = 10
    """Steps between two lines of the log."""

    @model_validator(mode="before")
    @classmethod
    def _known_names(cls, given: Any) -> Any:
        further = {name: _number(value) for name, value in given.items() if name not in cls.model_fields}
        if further:
            _check_names(cls, further)
        return given | further

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.data:
            raise ValueError("`data` names no file")
        if self.max_steps == 0 or self.max_steps < -1:
            raise ValueError(f"`max_steps: {self.max_steps}`: has to be above 0, or -1 for `num_train_epochs`")
        if self.bf16 and self.fp16:
            raise ValueError("`bf16` and `fp16` exclude each other: set one of them")
        if self.use_peft and self.freeze:
            raise ValueError("`freeze` with `use_peft`, which freezes all weights: use `lora_target_modules` instead")
        lora = sorted(name for name in self.model_fields_set if "lora" in name)
        if lora and not self.use_peft:
            raise ValueError(f"`{lora[0]}` needs `use_peft: true`")
        return self

    @property
    def compute_dtype(self) -> Dtype:
        """The precision of the forward pass."""
        return "bfloat16" if self.bf16 else "float16" if self.fp16 else "float32"

    @property
    def weights_dtype(self) -> Dtype:
        """The precision of the weights during training: float32, unless they are frozen."""
        return self.compute_dtype if self.use_peft else "float32"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints that a run can be resumed from."""
        return self.output_dir / "checkpoints"


class PolicyRecipe(Recipe):
    """Supervised fine-tuning of a policy on chains."""

    format: str = "continue"
    """Prompt format of records and files that name none: a registered stepwise format, or `direct` or `cot`, with which
    the single step is the whole reply."""

    format_arguments: dict[str, dict[str, Any]] = {}
    """Arguments of prompt formats, by the name of the format: `{stages: {instruction: ""}}` trains on the bare
    question. Inference takes the same ones as `format_instruction=`. By default the formats' own."""

    one_row_per_chain: bool = False
    """Whether a chain is one row with a loss on all its steps, instead of one row per step. It needs a format whose
    prompt stays the same over all steps, such as `continue`."""


class DpoRecipe(Recipe):
    """Preference tuning of a policy on pairs of steps or of path endings (DPO, arXiv 2305.18290)."""

    format: str = "continue"
    """Prompt format of records and files that name none."""

    format_arguments: dict[str, dict[str, Any]] = {}
    """Arguments of prompt formats, by the name of the format, see `atomthink train policy`."""

    beta: PositiveFloat = 0.1
    """Strength of the pull towards the model before the training."""

    loss_type: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ("sigmoid",)
    """One or more losses of trl's DPOTrainer, such as `sigmoid`, or `[sigmoid, sft]`."""

    loss_weights: tuple[float, ...] | None = None
    """Weight of each loss. By default 1 for each."""

    learning_rate: PositiveFloat = 5e-7
    """Peak learning rate of AdamW."""


class PrmRecipe(Recipe):
    """Training of a process reward model on labelled chains."""

    kind: Literal["token", "head"] = "token"
    """`token`: a language model, read at a tag after each step by its good and its bad token. `head`: a token
    classifier, read at a separator after each step."""

    images: bool = True
    """Whether the model reads images. Without, it is a language model (for `head`, a classifier made of one) with the
    input layout of AtomThinkPRM or Qwen2.5-Math-PRM."""

    format: str = "continue"
    """Prompt format of a model that reads images."""

    step_tag: str = Field(
        default_factory=lambda given: SEPARATOR_TOKEN if given.get("kind") == "head" else str(PUBLISHED.tag)
    )
    """Text after each step. By default AtomThinkPRM's for `token` and `<extra_0>` for `head`. Like `good_token` and
    `bad_token` it is added to the tokenizer if it is not a single token."""

    good_token: str = str(PUBLISHED.good)
    """With `kind: token`: the token that says that a step is right."""

    bad_token: str = str(PUBLISHED.bad)
    """With `kind: token`: the token that says that a step is wrong."""

    label_threshold: Annotated[float, Ge(0), Lt(1)] | None = None
    """Labels above it count as 1, all others as 0. For files whose labels are shares of right rollouts, 0 is `any
    success`: a step is right if at least one rollout after it is. `atomthink label` writes such labels itself. By
    default labels are used as they are in the files, and one between 0 and 1 as a probability."""

    negative_upsampling: Annotated[float, Ge(1)] = 1.0
    """How often a chain with a wrong step is used for each time that another chain is: 2 is twice, 1.5 is once and a
    random half of them again, the same half in every epoch. It multiplies the `weight` of the file."""

    balance_labels: bool = False
    """Whether wrong and right steps have the same weight in total."""

    chain_loss_weight: NonNegativeFloat = 0.0
    """Weight of a loss of whole chains: the cross-entropy between the sigmoid of the mean log-odds of all steps and
    whether the chain's answer is right (DreamPRM, arXiv 2505.20241). Chains whose answer cannot be judged have none.
    0 is the paper's loss."""

    token_loss_weight: NonNegativeFloat = 0.0
    """With `kind: token`: weight of the same loss at each token of a step, from the first wrong token on. It applies to
    right steps, and to wrong steps with a known correction. 0 is the paper's loss."""

    lm_loss_weight: NonNegativeFloat = 0.0
    """With `kind: token`: weight of the language modelling loss on right steps, and on the first token in which a
    correction differs. It keeps the model's ability to do the task. 0 is the paper's loss."""

    @property
    def class_tokens(self) -> tuple[str, ...]:
        """The answers that a step is wrong and that it is right; none for a classifier."""
        return (self.bad_token, self.good_token) if self.kind == "token" else ()

    @model_validator(mode="after")
    def _fits_scorers(self) -> Self:
        if self.use_peft and not self.merge_lora:
            raise ValueError("`merge_lora: false`: scorers read complete checkpoints, not adapters")
        if self.kind == "head" and (self.token_loss_weight or self.lm_loss_weight):
            raise ValueError("`token_loss_weight` and `lm_loss_weight` need `kind: token`")
        return self


def load_recipe(kind: type[R], recipe: str | Path, overrides: Mapping[str, str] | None = None) -> R:
    """Reads a recipe.

    Args:
        kind: The model that checks it.
        recipe: A YAML file, or the name of a recipe that ships with the package.
        overrides: Values in YAML by field name, used instead of those of the file.

    Raises:
        AtomThinkError: It cannot be read, or a name or a value in it is not valid.
    """
    try:
        fields = yaml.safe_load(recipe_text(recipe))
    except yaml.YAMLError as error:
        raise AtomThinkError(f"the recipe {str(recipe)!r} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(fields, dict):
        raise AtomThinkError(f"the recipe {str(recipe)!r} has no `name: value` lines")
    for name, text in (overrides or {}).items():
        try:
            fields[name] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise AtomThinkError(f"`{name}`: {text!r} is no YAML value") from None
    return checked_recipe(kind, fields, str(recipe))


def checked_recipe(kind: type[R], fields: Mapping[str, Any], source: str) -> R:
    """Returns the recipe with these fields.

    Args:
        kind: The model that checks it.
        fields: Names and values.
        source: The file they are from, for error messages.

    Raises:
        AtomThinkError: A name or a value is not valid.
    """
    try:
        return kind.model_validate(dict(fields))
    except ValidationError as error:
        raise AtomThinkError(f"{source}: {'; '.join(map(_message, error.errors()))}") from None


def recipe_text(recipe: str | Path) -> str:
    """Returns the text of a recipe: a YAML file, or one that ships with the package, named without folder and suffix.

    Raises:
        AtomThinkError: It cannot be read.
    """
    shipped = {file.stem: file for file in sorted(RECIPES.glob("*.yaml"))}
    file = Path(recipe)
    try:
        return (file if file.is_file() else shipped.get(str(recipe), file)).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise AtomThinkError(
            f"there is no recipe {str(recipe)!r}{hint(file.stem, shipped)}; name a YAML file, or one of the recipes "
            f"that ship with the package: {', '.join(shipped)}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise AtomThinkError(f"the recipe {str(recipe)!r} cannot be read: {error}") from None


def _check_names(kind: type[Recipe], further: Iterable[str]) -> None:
    """Refuses names that are neither the recipe's own nor transformers'."""
    for name in further:
        if name in RENAMED:
            raise ValueError(f"`{name}` is now `{RENAMED[name]}`")
        if name in NOT_SUPPORTED:
            raise ValueError(f"`{name}` is not supported: leave it out")
    # Takes seconds, which recipes without further names do not have to wait for.
    from transformers import TrainingArguments

    valid = [*kind.model_fields, *TrainingArguments.__dataclass_fields__]
    for name in further:
        if name not in valid:
            raise ValueError(
                f"`{name}` is unknown{hint(name, valid)}; valid: {', '.join(kind.model_fields)}, and the arguments "
                "of transformers' TrainingArguments"
            )


def _number(value: Any) -> Any:
    """Returns a number where YAML reads one without a point, such as `1e-8`, as text."""
    with suppress(ValueError):
        return float(value) if isinstance(value, str) else value
    return value


def _message(fault: Any) -> str:
    """Returns an error that names the field and the value."""
    where = ".".join(map(str, fault["loc"]))
    if fault["type"] == "extra_forbidden":
        valid = list(DataFile.model_fields)
        return f"`{where}` is unknown{hint(str(fault['loc'][-1]), valid)}; valid: {', '.join(valid)}"
    if fault["type"] == "missing":
        return f"`{where}` is missing"
    message = fault["msg"].removeprefix("Value error, ")
    return f"`{where}: {fault['input']!r}`: {message}" if where else str(message)
