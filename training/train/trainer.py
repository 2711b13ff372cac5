"""What supervised and preference training have in common: arguments of transformers' trainer, optimiser, schedule."""

from __future__ import annotations

import logging
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PrinterCallback

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.training.records import Reject, write_rejects
from atomthink_plugin.training.train.checkpoint import unfit
from atomthink_plugin.training.train.collate import IGNORED
from atomthink_plugin.training.train.optimizer import optimiser
from atomthink_plugin.training.train.recipe import DpoRecipe, PolicyRecipe, Recipe, Schedule
from atomthink_plugin.training.train.resume import rename_newer
from atomthink_plugin.training.train.training_log import JsonLog

log = logging.getLogger(__name__)


class OwnOptimiser:
    """A trainer with the optimiser and the learning rates of a recipe; mixed in before one of trl's."""

    recipe: Recipe

    def _load_from_checkpoint(self: Any, resume_from_checkpoint: str, model: Any = None) -> None:
        """Takes weights back through the model's own loading, which knows the names they were saved under."""
        own = self.model if model is None else model
        if sharded(self) or not isinstance(own, PreTrainedModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
            return
        saved = type(own).from_pretrained(resume_from_checkpoint, dtype=own.dtype)
        own.load_state_dict(saved.state_dict())

    def create_optimizer(self: Any, model: Any = None) -> torch.optim.Optimizer:
        """Makes AdamW, alone or with Muon.

        Raises:
            AtomThinkError: Muon would get parts of matrices.
        """
        recipe = self.recipe
        if recipe.muon is not None and sharded(self):
            raise AtomThinkError(
                f"`muon: {recipe.muon}` needs whole matrices, of which FSDP and DeepSpeed give each process a part: "
                "leave it out, or use training/recipes/accelerate/ddp.yaml"
            )
        if self.optimizer is None:
            self.optimizer = optimiser(
                self.model if model is None else model,
                recipe.learning_rate,
                muon=recipe.muon,
                decay=recipe.weight_decay,
                betas=recipe.betas,
                rates=recipe.rates,
            )
        return self.optimizer  # type: ignore[no-any-return]

    def create_scheduler(self: Any, num_training_steps: int, optimizer: Any = None) -> Any:
        """Makes the schedule of all learning rates."""
        if self.lr_scheduler is None:
            factor = schedule_of(self.recipe, num_training_steps)
            # A function, whose fields no checkpoint brings back: a resumed run may have got more steps.
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, lambda at: factor(at))
            self._created_lr_scheduler = True
        return self.lr_scheduler


class PlainLoss:
    """Cross-entropy of the model's own logits, where trl does not know its parts; mixed in before SFTTrainer."""

    def compute_loss(
        self: Any, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Returns the mean over the learned tokens of all rows that make one step."""
        labels = inputs["labels"]
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"}, use_cache=False)
        if outputs.logits.shape[1] != labels.shape[1]:
            raise AtomThinkError(
                f"`model: {self.recipe.model}` makes {outputs.logits.shape[1]} positions of {labels.shape[1]} tokens: "
                "its code widens images itself, so that steps cannot be found; name a release whose processor does"
            )
        logits = outputs.logits[:, :-1].flatten(0, 1).float()
        total = torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum")
        count = (labels[:, 1:] != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        loss = total / torch.as_tensor(count).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


@dataclass(frozen=True)  # with a __dict__: torch's schedulers save it
class Rise:
    """The factor of a learning rate at each step: a linear rise, then the schedule."""

    schedule: Schedule
    steps: int
    warmup: int
    decay: int

    def __call__(self, step: int) -> float:
        """Returns the factor of step `step`, the first being 0."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        left = max(self.steps - step, 0)
        after = max(self.steps - self.warmup, 1)
        if self.schedule == "linear":
            return left / after
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * (1 - left / after)))
        return min(1.0, left / self.decay) if self.schedule == "trapezoid" else 1.0


def schedule_of(recipe: Recipe, steps: int) -> Callable[[int], float]:
    """Returns a recipe's factor for each of `steps` steps."""
    warmup = math.ceil(recipe.warmup * steps) if recipe.warmup < 1 else round(recipe.warmup)
    return Rise(recipe.schedule, steps, warmup, max(round(recipe.decay_share * steps), 1))


def arguments(recipe: Recipe) -> dict[str, Any]:
    """Returns a recipe as arguments of transformers' trainer."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    return {
        "output_dir": str(recipe.checkpoints),
        "per_device_train_batch_size": recipe.batch_size,
        "gradient_accumulation_steps": recipe.accumulate,
        "num_train_epochs": recipe.epochs,
        "max_steps": recipe.max_steps or -1,
        "learning_rate": recipe.learning_rate,
        "max_grad_norm": recipe.clip,
        "bf16": recipe.precision == "bf16",
        "fp16": recipe.precision == "fp16",
        "use_cpu": not accelerated,
        "gradient_checkpointing": recipe.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if recipe.gradient_checkpointing else None,
        "dataloader_num_workers": recipe.workers,
        "dataloader_persistent_workers": recipe.workers > 0,
        "dataloader_pin_memory": accelerated,
        "seed": recipe.seed,
        "save_strategy": "steps" if recipe.save_every else "no",
        "save_steps": recipe.save_every or 500,
        "save_total_limit": recipe.keep,
        "logging_steps": recipe.log_every,
        "logging_nan_inf_filter": False,
        "remove_unused_columns": False,
        "report_to": "none",
        "disable_tqdm": True,  # `JsonLog` says what a bar would, once for each of its measurements
        "ddp_backend": "gloo" if several and not accelerated else None,
    }


def check_rates(rates: Mapping[str, float], model: torch.nn.Module) -> None:
    """Refuses learning rates for parameters that the model does not have.

    Raises:
        AtomThinkError: A pattern fits no name.
    """
    for pattern in rates:
        if not any(re.search(pattern, name) for name, _ in model.named_parameters()):
            raise AtomThinkError(unfit("rates", pattern, model))


def report(recipe: Recipe, counts: str, rejects: Sequence[Reject]) -> None:
    """Says what became of the records, and writes what was set aside; once, however many processes there are."""
    if int(os.environ.get("RANK", "0")):
        return
    log.info("%s", counts)
    file = recipe.out / "rejects.jsonl"
    if write_rejects(file, rejects):
        log.warning("set aside, with the reasons: %s", file)


def sharded(trainer: Any) -> bool:
    """Returns whether each process holds a part of the weights, by FSDP or DeepSpeed."""
    return bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)


@contextmanager
def quietly() -> Iterator[None]:
    """Keeps back what transformers says of the names of trl's own arguments."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is deprecated and will be removed", category=FutureWarning)
        yield


def run(trainer: Any, recipe: Recipe, resumed: str | None) -> None:
    """Trains, with our log instead of transformers' own."""
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(JsonLog(recipe.out / "log.jsonl"))
    if trainer.is_world_process_zero():
        rename_newer(recipe, resumed)
    if resumed is not None:
        log.info("going on from %s", os.path.basename(resumed))
    trainer.train(resume_from_checkpoint=resumed)


def conclude(trainer: Any, recipe: Recipe, following: str) -> None:
    """Prints what the training came to and the next command, once it is written."""
    if not trainer.is_world_process_zero():
        return
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    course = f", loss {losses[0]:.4f} at first and {losses[-1]:.4f} at last" if losses else ""
    print(f"{trainer.state.global_step} steps{course}; written to {recipe.out}\nnext: {following}")


def evaluation(recipe: PolicyRecipe | DpoRecipe) -> str:
    """Returns the command that evaluates a trained policy."""
    if recipe.lora is not None and not recipe.lora.merge:
        return f"merge the adapters of {recipe.out} into {recipe.model}, or train with `lora.merge=true`"
    thinking = recipe.format if recipe.format in ("direct", "cot") else "quick"
    form = f",format={recipe.format}" if thinking == "quick" else ""
    code = ",trust_remote_code=True" if recipe.trust_remote_code else ""
    return (
        "lmms-eval --model atomthink_hf --tasks mathvision_testmini "
        f"--model_args pretrained={recipe.out},thinking={thinking}{form}{code}"
    )
