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
from atomthink_plugin.training.train.checkpoint import adapters, freeze, save, write
from atomthink_plugin.training.train.collate import inputs_of
from atomthink_plugin.training.train.prm_checkpoint import HEADS, Trainable, Writer, load
from atomthink_plugin.training.train.prm_loss import Targets, judgements, judging_loss, language_loss
from atomthink_plugin.training.train.prm_recipe import PrmRecipe
from atomthink_plugin.training.train.prm_samples import Samples, rows_of, samples_of
from atomthink_plugin.training.train.recipe import Lora
from atomthink_plugin.training.train.resume import resume_from
from atomthink_plugin.training.train.trainer import (
    OwnOptimiser,
    arguments,
    check_rates,
    conclude,
    report,
    run,
    sharded,
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


class PrmTrainer(OwnOptimiser, Trainer):  # type: ignore[misc]
    """Minimises the judging loss, with its helps where a recipe weighs them.

    Args:
        recipe: Weights of the losses, optimiser, schedule.
        classes: Ids of the bad and the good token; None for a classifier.
        weights: Of wrong and of right steps.
        options: As transformers' trainer takes them.
    """

    def __init__(
        self, recipe: PrmRecipe, classes: tuple[int, int] | None, weights: tuple[float, float], **options: Any
    ) -> None:
        self.recipe: PrmRecipe = recipe
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
        if self.recipe.along and len(targets.along.at):
            # By judged step: most tokens of a step are easy, and a mean would drown the others.
            tokens = judgements(logits, targets.along, self._classes)
            loss = loss + self.recipe.along * judging_loss(tokens, targets.along.target) / steps
        if self.recipe.language and len(targets.said.at):
            loss = loss + self.recipe.language * language_loss(logits, targets.said) / words
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


def train_prm(recipe: PrmRecipe) -> None:
    """Trains a PRM and writes it to the recipe's `out`, with what scorers have to know of it in its config.json.

    Raises:
        AtomThinkError: The recipe, the data or the checkpoint cannot be used.
    """
    resumed = resume_from(recipe)
    # The arguments come before the weights: DeepSpeed has to know of them to load a model in parts.
    options = TrainingArguments(**arguments(recipe), label_names=["targets"])
    set_seed(recipe.seed)  # new tokens and a new head begin at random
    model = load(recipe)
    checkpoint = model.checkpoint
    longest = min(filter(None, (recipe.max_length, checkpoint.context)), default=None)
    samples = samples_of(recipe, model.writer, longest)
    report(recipe, samples.counts, samples.rejects)
    if 0 in samples.labels:
        lacking = "wrong" if samples.labels[0] == 0 else "right"
        raise AtomThinkError(f"`data` has no {lacking} step in {len(samples.records)} usable chains: a PRM needs both")
    trained: Any = checkpoint.model
    if recipe.lora is None:
        log.info("%s parameters are trained", f"{freeze(checkpoint.model, recipe.freeze):,}")
    else:
        trained = _adapted(recipe.lora, model)
    check_rates(recipe.rates, checkpoint.model)
    collator = Collator(samples, recipe, model.writer, checkpoint.pad_id)
    trainer = PrmTrainer(
        recipe,
        model.classes,
        _weights(samples) if recipe.balance else (1.0, 1.0),
        model=trained,
        args=options,
        data_collator=collator,
        train_dataset=Dataset.from_dict({"record": samples.places}),
        processing_class=model.words,
    )
    if recipe.lora is not None and sharded(trainer):
        raise AtomThinkError(
            "`lora`: a PRM's adapters are merged on one process, which FSDP and DeepSpeed leave a part of the weights; "
            "use training/recipes/accelerate/ddp.yaml, or leave `lora` out"
        )
    if sharded(trainer):
        trainer.data_collator = collator.with_spare()
    run(trainer, recipe, resumed)
    if recipe.lora is None:
        save(trainer, recipe, model.words)
    elif trainer.is_world_process_zero():
        merged = trained.merge_and_unload()
        write(merged, merged.state_dict(), recipe.saved, model.words, recipe.out)
    code = " --prm-args prm_trust_remote_code=True" if recipe.trust_remote_code else ""
    conclude(trainer, recipe, f"atomthink prm eval SET --prm {recipe.out}{code}")


def _adapted(lora: Lora, model: Trainable) -> Any:
    from peft import get_peft_model

    own: Any = model.checkpoint.model
    tied = own.get_input_embeddings().weight is getattr(own.get_output_embeddings(), "weight", None)
    if set(model.classes or ()) & set(model.new) and not tied:
        raise AtomThinkError(
            "`lora` with `good` or `bad` that are new tokens: adapters leave the output layer as it is, where both are "
            "alike; name tokens that the tokenizer has, such as `+` and `-`, or leave `lora` out"
        )
    heads = [name for name in HEADS if model.classes is None and hasattr(own, name)]
    return get_peft_model(own, adapters(lora, own, heads, model.new))


def _weights(samples: Samples) -> tuple[float, float]:
    wrong, right = samples.labels
    return (wrong + right) / (2 * wrong), (wrong + right) / (2 * right)
