"""The parts that all trainings share: the arguments of transformers' trainer, the optimizer, the summary."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar, cast

import torch
from torch import nn
from transformers import PreTrainedModel, PrinterCallback, TrainingArguments, get_scheduler

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.json_rows import Reject
from atomthink_plugin.training.records import write_rejects
from atomthink_plugin.training.train.checkpoint import check_patterns, freeze
from atomthink_plugin.training.train.collate import IGNORED
from atomthink_plugin.training.train.recipe import Recipe
from atomthink_plugin.training.train.resume import rename_newer
from atomthink_plugin.training.train.training_log import JsonLog

log = logging.getLogger(__name__)

A = TypeVar("A", bound=TrainingArguments)

OptimizerFactory = Callable[[nn.Module], torch.optim.Optimizer]

_NOT_PASSED: Final = {"output_dir", "max_length", "chat_template_path", "resume_from_checkpoint"}
"""Fields of recipes that this package acts on itself."""


class RecipeTrainer:
    """A trainer with the optimizer of a recipe; mixed in before transformers' `Trainer` or one of trl's.

    Args:
        recipe: The recipe.
        optimizer_factory: Makes the optimizer of a model, instead of transformers' `optim` with the recipe's
            parameter groups.
        **options: As the trainer takes them.
    """

    def __init__(self, *, recipe: Recipe, optimizer_factory: OptimizerFactory | None = None, **options: Any) -> None:
        self.recipe = recipe
        self._optimizer_factory = optimizer_factory
        super().__init__(**options)

    def _load_from_checkpoint(self: Any, resume_from_checkpoint: str, model: Any = None) -> None:
        """Loads weights through the model's own class, which knows the names they were saved under."""
        own = self.model if model is None else model
        if sharded(self) or not isinstance(own, PreTrainedModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
            return
        saved = type(own).from_pretrained(resume_from_checkpoint, dtype=own.dtype)
        own.load_state_dict(saved.state_dict())

    def create_optimizer(self: Any, model: Any = None) -> torch.optim.Optimizer:
        """Creates the optimizer.

        Raises:
            AtomThinkError: An optimizer that needs whole matrices would get parts of them.
        """
        own = self.model if model is None else model
        if self._optimizer_factory is not None and sharded(self):
            raise AtomThinkError(
                "this recipe's optimizer needs whole matrices, but FSDP and DeepSpeed give each process a part of "
                "them: use training/recipes/accelerate/ddp.yaml, or leave `muon` out"
            )
        if self.optimizer is None and self._optimizer_factory is not None:
            self.optimizer = self._optimizer_factory(own)
        elif self.optimizer is None:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, own)
            self.optimizer = kind(parameter_groups(own.named_parameters(), self.recipe), **options)
        return cast(torch.optim.Optimizer, self.optimizer)


class PlainLoss:
    """Cross-entropy of the model's own logits, for models that trl does not know; mixed in before SFTTrainer."""

    def compute_loss(
        self: Any, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Returns the mean over the labelled tokens of all rows of one optimizer step."""
        labels = inputs["labels"]
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"}, use_cache=False)
        if outputs.logits.shape[1] != labels.shape[1]:
            raise AtomThinkError(
                f"`model_name_or_path: {self.recipe.model_name_or_path}` returns {outputs.logits.shape[1]} positions "
                f"for {labels.shape[1]} tokens: its code expands images itself, so that the positions of steps are not "
                "known; use a release whose processor expands them"
            )
        logits = outputs.logits[:, :-1].flatten(0, 1).float()
        total = nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum")
        count = (labels[:, 1:] != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        loss = total / torch.as_tensor(count).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


def training_arguments(kind: type[A], recipe: Recipe, **fixed: Any) -> A:
    """Returns the trainer's arguments: the recipe's fields of the same names, and what this package's rows need.

    Args:
        kind: The class of the arguments.
        recipe: The recipe.
        **fixed: Arguments that no recipe can change.

    Raises:
        AtomThinkError: transformers or trl refuses a value.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    defaults = {
        "save_strategy": "steps" if recipe.save_steps else "no",
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if recipe.gradient_checkpointing else None,
        "dataloader_persistent_workers": recipe.dataloader_num_workers > 0,
        "dataloader_pin_memory": accelerated,
        "use_cpu": not accelerated,
        "ddp_backend": "gloo" if several and not accelerated else None,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,  # `JsonLog` writes a line per measurement instead
    }
    names = kind.__dataclass_fields__.keys() - _NOT_PASSED
    given = {name: value for name, value in recipe if name in names and value is not None}
    fixed |= {"output_dir": str(recipe.checkpoints), "remove_unused_columns": False}
    try:
        with warnings.catch_warnings():
            # trl's configurations have arguments whose names transformers has deprecated.
            warnings.filterwarnings("ignore", message=".*is deprecated and will be removed", category=FutureWarning)
            arguments = kind(**defaults | given | fixed)
        # A schedule that lacks an argument would be refused only after the model is loaded.
        any_optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        schedule, options = arguments.lr_scheduler_type, recipe.lr_scheduler_kwargs
        get_scheduler(schedule, any_optimizer, arguments.get_warmup_steps(1), 1, scheduler_specific_kwargs=options)
    except (ValueError, TypeError, ImportError) as error:
        raise AtomThinkError(f"transformers refuses an argument of the recipe: {error}") from None
    return arguments


def parameter_groups(named: Iterable[tuple[str, nn.Parameter]], recipe: Recipe) -> list[dict[str, Any]]:
    """Returns the trained parameters in groups with a learning rate and a weight decay each; vectors do not decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            rates = (rate for pattern, rate in recipe.module_learning_rates.items() if re.search(pattern, name))
            axes = len(getattr(parameter, "ds_shape", parameter.shape))  # under DeepSpeed, parameters are empty
            key = (next(rates, recipe.learning_rate), recipe.weight_decay if axes >= 2 else 0.0)
            groups.setdefault(key, []).append(parameter)
    return [{"params": found, "lr": rate, "weight_decay": decay} for (rate, decay), found in groups.items()]


def prepare_parameters(recipe: Recipe, model: nn.Module) -> None:
    """Freezes the parameters that the recipe names.

    Raises:
        AtomThinkError: A pattern of `freeze` or `module_learning_rates` matches no name, or nothing is left to train.
    """
    if not recipe.use_peft:
        log.info("%s parameters are trained", f"{freeze(model, recipe.freeze):,}")
    check_patterns("module_learning_rates", recipe.module_learning_rates, model)


def report_records(recipe: Recipe, counts: str, rejects: Sequence[Reject]) -> None:
    """Logs the counts of the records that are read, and writes the rejects; once, however many processes there are."""
    if int(os.environ.get("RANK", "0")):
        return
    log.info("%s", counts)
    file = recipe.output_dir / "rejects.jsonl"
    if write_rejects(file, rejects):
        log.warning("rejects, with their reasons: %s", file)


def sharded(trainer: Any) -> bool:
    """Returns whether each process holds a part of the weights, by FSDP or DeepSpeed."""
    return bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)


def run_training(trainer: Any, recipe: Recipe, checkpoint: str | None) -> None:
    """Trains, from a checkpoint if one is given, with this package's log instead of transformers' own."""
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(JsonLog(recipe.output_dir / "log.jsonl"))
    if trainer.is_world_process_zero():
        rename_newer(recipe, checkpoint)
    if checkpoint is not None:
        log.info("resuming from %s", os.path.basename(checkpoint))
    trainer.train(resume_from_checkpoint=checkpoint)


def print_summary(trainer: Any, recipe: Recipe, next_command: str) -> None:
    """Prints the result of a training that is saved, and the next command."""
    if not trainer.is_world_process_zero():
        return
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    course = f", loss {losses[0]:.4f} -> {losses[-1]:.4f}" if losses else ""
    seconds = next((entry["train_runtime"] for entry in reversed(history) if "train_runtime" in entry), 0.0)
    print(f"{trainer.state.global_step} steps in {seconds:.0f} s{course}")
    print(f"output_dir: {recipe.output_dir}\nnext: {next_command}")
