"""Supervised fine-tuning of a policy on chains of steps, with trl's SFTTrainer and rows as inference encodes them."""

from __future__ import annotations

import logging
from typing import Any

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.training.train.checkpoint import brings_code, freeze, load_trainable, lora_config, save_checkpoint
from atomthink_plugin.training.train.dataset import RowCollator, read_training_data
from atomthink_plugin.training.train.recipe import PolicyRecipe
from atomthink_plugin.training.train.resume import resume_from
from atomthink_plugin.training.train.row_encoder import row_encoder
from atomthink_plugin.training.train.tokens import ChainRows, closing_id
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


def train_policy(recipe: PolicyRecipe, optimizer: OptimizerFactory | None = None) -> None:
    """Trains a policy and writes it to the recipe's `output_dir`.

    Args:
        recipe: What is trained, on what, and how.
        optimizer: Makes the optimizer of the model, instead of transformers' `optim`.

    Raises:
        AtomThinkError: The recipe, the data or the checkpoint cannot be used.
    """
    try:
        from trl.trainer.sft_config import SFTConfig
        from trl.trainer.sft_trainer import SFTTrainer
    except ImportError as error:
        raise AtomThinkError(f"training needs trl ({error}): pip install 'atomthink-plugin[train]'") from None

    resumed = resume_from(recipe)
    # Before the weights: DeepSpeed loads a model in parts only if it knows the arguments.
    dataset = {"skip_prepare_dataset": True}
    arguments = training_arguments(SFTConfig, recipe, max_length=None, packing=False, dataset_kwargs=dataset)
    checkpoint = load_trainable(recipe)
    rows = ChainRows(row_encoder(checkpoint), closing_id(checkpoint), recipe.max_pixels, recipe.one_row_per_chain)
    data = read_training_data(recipe, rows, checkpoint.context)
    report_records(recipe, data.counts, data.rejects)
    if not recipe.use_peft:
        log.info("%s parameters are trained", f"{freeze(checkpoint.model, recipe.freeze):,}")
    check_learning_rates(recipe, checkpoint.model)
    collator = RowCollator(data, checkpoint.pad_id)
    mixed: Any = (PlainLoss, RecipeTrainer) if brings_code(checkpoint.model.config) else (RecipeTrainer,)
    trainer: Any = type("PolicyTrainer", (*mixed, SFTTrainer), {})(
        recipe=recipe,
        optimizer_factory=optimizer,
        model=checkpoint.model,
        args=arguments,
        data_collator=collator,
        train_dataset=data.parts,
        processing_class=checkpoint.processor,
        peft_config=lora_config(recipe, checkpoint.model) if recipe.use_peft else None,
    )
    if sharded(trainer):
        trainer.data_collator = collator.with_spare()
    run_training(trainer, recipe, resumed)
    assert checkpoint.processor is not None
    save_checkpoint(trainer, recipe, checkpoint.processor)
    print_summary(trainer, recipe, evaluation_command(recipe))
