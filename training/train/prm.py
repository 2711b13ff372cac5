"""Training of process reward models, on transformers' trainer (trl has none since 1.14)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import Trainer, TrainingArguments, set_seed

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.encoding import Encoding
from atomthink_plugin.training.train.checkpoint import freeze, lora_config, save_checkpoint, write_checkpoint
from atomthink_plugin.training.train.collate import inputs_of
from atomthink_plugin.training.train.prm_checkpoint import HEADS, Trainable, Writer, load
from atomthink_plugin.training.train.prm_loss import Targets, judgements, judging_loss, language_loss
from atomthink_plugin.training.train.prm_recipe import PrmRecipe
from atomthink_plugin.training.train.prm_samples import Samples, rows_of, samples_of
from atomthink_plugin.training.train.resume import resume_from
from atomthink_plugin.training.train.trainer import (
    OptimizerFactory,
    RecipeTrainer,
    check_learning_rates,
    print_summary,
    report_records,
    run_training,
    sharded,
    training_arguments,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Collator:
    """Lays out the chains of a batch, in the process that loads the data.

    Attributes:
        samples: All chains.
        recipe: How they are learned.
        writer: Writes them.
        pad_id: Fills short rows.
        spare: See `collating.inputs_of`.
    """

    samples: Samples
    recipe: PrmRecipe
    writer: Writer
    pad_id: int
    spare: Encoding | None = None

    def __call__(self, items: Sequence[dict[str, int]]) -> dict[str, Any]:
        """Returns the inputs of a forward pass, and as `targets` what is learned from it."""
        records = [self.samples.records[item["record"]] for item in items]
        found = [row for record in records for row in rows_of(record, self.recipe, self.writer)]
        inputs = inputs_of([row.encoding for row in found], self.pad_id, self.spare)
        return {**inputs, "targets": Targets.of(found)}

    def with_spare(self) -> Collator:
        """Returns the same with the first row that has an image to spare, if one has and is looked at."""
        seen = (record for record in self.samples.records if record.chain.images and self.recipe.images)
        rows = [rows_of(record, self.recipe, self.writer)[0] for record in islice(seen, 1)]
        return replace(self, spare=rows[0].encoding) if rows else self


class PrmTrainer(RecipeTrainer, Trainer):  # type: ignore[misc]
    """Minimises the judging loss, with its helps where a recipe weighs them.

    Args:
        recipe: Weights of the losses, optimizer, schedule.
        classes: Ids of the bad and the good token; None for a classifier.
        weights: Of wrong and of right steps.
        **options: As `RecipeTrainer` takes them.
    """

    recipe: PrmRecipe

    def __init__(self, *, classes: tuple[int, int] | None, weights: tuple[float, float], **options: Any) -> None:
        self._classes = classes
        self._weights = weights
        self._right: dict[str, list[Tensor]] = {}
        super().__init__(**options)
        self.model_accepts_loss_kwargs = True  # or the loss would be divided by the number of batches once more

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """Returns the batches of one optimiser step, and what all processes judge and say in them."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        counts = torch.stack([batch["targets"].counts for batch in batches]).sum(0).to(device) if batches else None
        return batches, counts if counts is None else self.accelerator.reduce(counts, "sum")

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Returns the part of one batch in the loss of its optimiser step, which has the `num_items_in_batch`."""
        targets: Targets = inputs.pop("targets")
        outputs = model(**inputs)
        logits = outputs.logits
        steps, words = targets.counts if num_items_in_batch is None else num_items_in_batch  # type: ignore[misc]
        pairs = judgements(logits, targets.steps, self._classes)
        self._count(pairs.detach(), targets.steps.target)
        loss = judging_loss(pairs, targets.steps.target, self._weights) / steps
        if self.recipe.token_loss_weight and len(targets.along.at):
            # By judged step: most tokens of a step are easy, and a mean would drown the others.
            tokens = judgements(logits, targets.along, self._classes)
            loss = loss + self.recipe.token_loss_weight * judging_loss(tokens, targets.along.target) / steps
        if self.recipe.lm_loss_weight and len(targets.said.at):
            loss = loss + self.recipe.lm_loss_weight * language_loss(logits, targets.said) / words
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over them
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the shares of right steps accepted and of wrong ones rejected since the last time."""
        for name, hits in self._right.items():
            if len(found := torch.cat(hits)):  # there may have been none of this kind
                logs[name] = found.float().mean().item()
        self._right = {}
        super().log(logs, start_time)

    def _count(self, pairs: Tensor, right: Tensor) -> None:
        accepted = (pairs[:, 1] > pairs[:, 0]).cpu()
        for name, which in (("accepts_right", right >= 0.5), ("rejects_wrong", right < 0.5)):
            self._right.setdefault(name, []).append(accepted[which] == (name == "accepts_right"))


def train_prm(recipe: PrmRecipe, optimizer: OptimizerFactory | None = None) -> None:
    """Trains a PRM and writes it to the recipe's `output_dir`, with the settings of its scorer in its config.json.

    Args:
        recipe: What is trained, on what, and how.
        optimizer: Makes the optimizer of the model, instead of transformers' `optim`.

    Raises:
        AtomThinkError: The recipe, the data or the checkpoint cannot be used.
    """
    resumed = resume_from(recipe)
    # The arguments come before the weights: DeepSpeed has to know of them to load a model in parts.
    arguments = training_arguments(TrainingArguments, recipe, label_names=["targets"])
    set_seed(recipe.seed)  # new tokens and a new head begin at random
    model = load(recipe)
    checkpoint = model.checkpoint
    longest = min(filter(None, (recipe.max_length, checkpoint.context)), default=None)
    samples = samples_of(recipe, model.writer, longest)
    report_records(recipe, samples.counts, samples.rejects)
    if 0 in samples.labels:
        lacking = "wrong" if samples.labels[0] == 0 else "right"
        raise AtomThinkError(f"`data` has no {lacking} step in {len(samples.records)} usable chains: a PRM needs both")
    trained: Any = checkpoint.model
    if not recipe.use_peft:
        log.info("%s parameters are trained", f"{freeze(checkpoint.model, recipe.freeze):,}")
    else:
        trained = _adapted(recipe, model)
    check_learning_rates(recipe, checkpoint.model)
    collator = Collator(samples, recipe, model.writer, checkpoint.pad_id)
    trainer = PrmTrainer(
        recipe=recipe,
        optimizer_factory=optimizer,
        classes=model.classes,
        weights=_weights(samples) if recipe.balance_labels else (1.0, 1.0),
        model=trained,
        args=arguments,
        data_collator=collator,
        train_dataset=Dataset.from_dict({"record": samples.places}),
        processing_class=model.words,
    )
    if recipe.use_peft and sharded(trainer):
        raise AtomThinkError(
            "`use_peft`: the adapters of a PRM are merged on one process, which has only a part of the weights under "
            "FSDP and DeepSpeed; use training/recipes/accelerate/ddp.yaml, or leave `use_peft` out"
        )
    if sharded(trainer):
        trainer.data_collator = collator.with_spare()
    run_training(trainer, recipe, resumed)
    if not recipe.use_peft:
        save_checkpoint(trainer, recipe, model.words)
    elif trainer.is_world_process_zero():
        merged = trained.merge_and_unload()
        write_checkpoint(merged, merged.state_dict(), recipe.save_dtype, model.words, recipe.output_dir)
    code = " --prm-args prm_trust_remote_code=True" if recipe.trust_remote_code else ""
    print_summary(trainer, recipe, f"atomthink prm eval SET --prm {recipe.output_dir}{code}")


def _adapted(recipe: PrmRecipe, model: Trainable) -> Any:
    from peft import get_peft_model

    own: Any = model.checkpoint.model
    tied = own.get_input_embeddings().weight is getattr(own.get_output_embeddings(), "weight", None)
    if set(model.classes or ()) & set(model.new) and not tied:
        raise AtomThinkError(
            "`use_peft` with a `good_token` or `bad_token` that is new: adapters do not train the output layer, where "
            "both have the same weights; name tokens of the tokenizer, such as `+` and `-`, or leave `use_peft` out"
        )
    heads = [name for name in HEADS if model.classes is None and hasattr(own, name)]
    return get_peft_model(own, lora_config(recipe, own, heads, model.new))


def _weights(samples: Samples) -> tuple[float, float]:
    wrong, right = samples.labels
    return (wrong + right) / (2 * wrong), (wrong + right) / (2 * right)
