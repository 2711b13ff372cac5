"""Preference tuning of a policy on pairs, with trl's DPOTrainer and the rows of supervised fine-tuning.

trl's own collator renders conversations with the chat template and truncates prompts. Steps that continue a begun reply
are not conversations, so the trainer gets batches of tokens: the chosen rows, then the rejected ones.
"""

from __future__ import annotations

from typing import Any

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.training.train.checkpoint import brings_code, freeze, load_trainable, lora_config, save_checkpoint
from atomthink_plugin.training.train.dataset import PairCollator, read_training_data
from atomthink_plugin.training.train.recipe import DpoRecipe
from atomthink_plugin.training.train.resume import resume_from
from atomthink_plugin.training.train.row_encoder import RowEncoder
from atomthink_plugin.training.train.tokens import PairRows, closing_id
from atomthink_plugin.training.train.trainer import (
    RecipeTrainer,
    check_learning_rates,
    evaluation_command,
    print_summary,
    report_records,
    run_training,
    sharded,
    training_arguments,
)


def train_dpo(recipe: DpoRecipe) -> None:
    """Trains a policy on pairs and writes it to the recipe's `output_dir`.

    The reference model is the recipe's model before training: the weights without the adapters, or a second copy.

    Raises:
        AtomThinkError: The recipe, the data or the checkpoint cannot be used.
    """
    try:
        from trl.trainer.dpo_config import DPOConfig
        from trl.trainer.dpo_trainer import DPOTrainer
    except ImportError as error:
        raise AtomThinkError(f"training needs trl ({error}): pip install 'atomthink-plugin[train]'") from None

    resumed = resume_from(recipe)
    arguments = training_arguments(DPOConfig, recipe, max_length=None)
    checkpoint = load_trainable(recipe)
    if brings_code(checkpoint.model.config):
        raise AtomThinkError(
            f"`model_name_or_path: {recipe.model_name_or_path}` comes with its own model code, which trl's DPOTrainer "
            "cannot read: name a checkpoint of an architecture that transformers has"
        )
    rows = PairRows(RowEncoder(checkpoint), closing_id(checkpoint), recipe.max_pixels)
    data = read_training_data(recipe, rows, checkpoint.context)
    report_records(recipe, data.counts, data.rejects)
    if not recipe.use_peft:
        freeze(checkpoint.model, recipe.freeze)
    check_learning_rates(recipe, checkpoint.model)
    trainer: Any = type("DpoTrainer", (RecipeTrainer, DPOTrainer), {})(
        recipe=recipe,
        model=checkpoint.model,
        ref_model=None if recipe.use_peft else load_trainable(recipe).model,
        args=arguments,
        data_collator=PairCollator(data, checkpoint.pad_id),
        # A column of this name tells trl that the collator makes the rows.
        train_dataset=data.parts.add_column("images", [None] * len(data.parts)),
        processing_class=checkpoint.processor,
        peft_config=lora_config(recipe, checkpoint.model) if recipe.use_peft else None,
    )
    if sharded(trainer) and len({bool(data.record(at).images) for at in set(data.parts["example"])}) > 1:
        raise AtomThinkError(
            "`data`: pairs with images and pairs without cannot share a step under FSDP or DeepSpeed, whose processes "
            "have to run the same layers: train on one kind, or with training/recipes/accelerate/ddp.yaml"
        )
    run_training(trainer, recipe, resumed)
    assert checkpoint.processor is not None
    save_checkpoint(trainer, recipe, checkpoint.processor)
    print_summary(trainer, recipe, evaluation_command(recipe))
