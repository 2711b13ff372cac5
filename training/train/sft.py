"""Supervised fine-tuning of a policy on chains of steps, by trl's SFTTrainer with this package's own rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.encoding import Encoding
from atomthink_plugin.training.train.checkpoint import brings_code, freeze, load_trainable, lora_config, save_checkpoint
from atomthink_plugin.training.train.collate import Batch, collate
from atomthink_plugin.training.train.recipe import PolicyRecipe
from atomthink_plugin.training.train.resume import resume_from
from atomthink_plugin.training.train.row_encoder import row_encoder
from atomthink_plugin.training.train.samples import Samples, row_of, samples_of
from atomthink_plugin.training.train.tokens import Renderer, closing_id
from atomthink_plugin.training.train.trainer import (
    OptimizerFactory,
    PlainLoss,
    RecipeTrainer,
    check_learning_rates,
    evaluation_command,
    print_summary,
    report_records,
    run_training,
    sharded,
    training_arguments,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Collator:
    """Renders the rows of a batch, in the process that loads the data.

    Attributes:
        samples: All rows.
        renderer: Of the checkpoint.
        pad_id: Fills short rows.
        max_pixels: Of an image; None for any.
        spare: See `collating.inputs_of`.
    """

    samples: Samples
    renderer: Renderer
    pad_id: int
    max_pixels: int | None
    spare: Encoding | None = None

    def __call__(self, items: Sequence[dict[str, int]]) -> Batch:
        """Returns the batch of the rows with these numbers."""
        rows = [row_of(self.samples, item["row"], self.renderer, self.max_pixels) for item in items]
        return collate(rows, self.pad_id, self.spare)

    def with_spare(self) -> Collator:
        """Returns the same with the first row that has an image to spare, if one has."""
        seen = (i for i, (at, _) in enumerate(self.samples.places) if self.samples.records[at].chain.images)
        rows = [row_of(self.samples, i, self.renderer, self.max_pixels) for i in islice(seen, 1)]
        return replace(self, spare=rows[0].encoding) if rows else self


def train_policy(recipe: PolicyRecipe, optimizer: OptimizerFactory | None = None) -> None:
    """Trains a policy and writes it to the recipe's `output_dir`.

    Args:
        recipe: What is trained, on what, and how.
        optimizer: Makes the optimizer of the model, instead of transformers' `optim`.

    Raises:
        AtomThinkError: The recipe, the data or the checkpoint cannot be used.
    """
    try:
        from datasets import Dataset
        from trl.trainer.sft_config import SFTConfig
        from trl.trainer.sft_trainer import SFTTrainer
    except ImportError as error:
        raise AtomThinkError(f"training needs trl ({error}): pip install 'atomthink-plugin[train]'") from None

    resumed = resume_from(recipe)
    # The arguments come before the weights: DeepSpeed has to know of them to load a model in parts.
    dataset = {"skip_prepare_dataset": True}
    arguments = training_arguments(SFTConfig, recipe, max_length=None, packing=False, dataset_kwargs=dataset)
    checkpoint = load_trainable(recipe)
    encoder = row_encoder(checkpoint)
    renderer = Renderer(encoder, closing_id(checkpoint))
    longest = min(filter(None, (recipe.max_length, checkpoint.context)), default=None)
    samples = samples_of(recipe, encoder, renderer, longest)
    report_records(recipe, samples.counts, samples.rejects)
    if not recipe.use_peft:
        log.info("%s parameters are trained", f"{freeze(checkpoint.model, recipe.freeze):,}")
    check_learning_rates(recipe, checkpoint.model)
    collator = Collator(samples, renderer, checkpoint.pad_id, recipe.max_pixels)
    mixed: Any = (PlainLoss, RecipeTrainer) if brings_code(checkpoint.model.config) else (RecipeTrainer,)
    trainer: Any = type("PolicyTrainer", (*mixed, SFTTrainer), {})(
        recipe=recipe,
        optimizer_factory=optimizer,
        model=checkpoint.model,
        args=arguments,
        data_collator=collator,
        train_dataset=Dataset.from_dict({"row": range(len(samples.places))}),
        processing_class=checkpoint.processor,
        peft_config=lora_config(recipe, checkpoint.model) if recipe.use_peft else None,
    )
    if sharded(trainer):
        trainer.data_collator = collator.with_spare()
    run_training(trainer, recipe, resumed)
    assert checkpoint.processor is not None
    save_checkpoint(trainer, recipe, checkpoint.processor)
    print_summary(trainer, recipe, evaluation_command(recipe))
