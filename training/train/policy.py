"""Training of policies with trl: on chains (SFTTrainer) or on pairs (DPOTrainer), with rows as inference encodes them.

trl's own collators render conversations with the chat template and truncate prompts. Steps that continue a begun reply
are not conversations, so the trainers get batches of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.training.records import QuestionRecord
from atomthink_plugin.training.train.checkpoint import brings_code, load_trainable, lora_config, save_checkpoint
from atomthink_plugin.training.train.dataset import PairCollator, RowCollator, TrainingData, read_training_data
from atomthink_plugin.training.train.recipe import DpoRecipe, PolicyRecipe
from atomthink_plugin.training.train.resume import resume_from
from atomthink_plugin.training.train.row_encoder import RowEncoder, row_encoder
from atomthink_plugin.training.train.tokens import ChainRows, PairRows, RowBuilder, closing_id
from atomthink_plugin.training.train.trainer import (
    OptimizerFactory,
    PlainLoss,
    RecipeTrainer,
    prepare_parameters,
    print_summary,
    report_records,
    run_training,
    sharded,
    training_arguments,
)

R = TypeVar("R", bound=QuestionRecord)


def train_policy(recipe: PolicyRecipe, optimizer: OptimizerFactory | None = None) -> None:
    """Fine-tunes a policy on chains and writes it to the recipe's `output_dir`.

    Args:
        recipe: What is trained, on what, and how.
        optimizer: Makes the optimizer of the model, instead of transformers' `optim`.

    Raises:
        AtomThinkError: The recipe, the data or the checkpoint cannot be used.
    """
    with _trl_required():
        from trl.trainer.sft_config import SFTConfig
        from trl.trainer.sft_trainer import SFTTrainer
    resumed = resume_from(recipe)
    # Before the weights: DeepSpeed loads a model in parts only if it knows the arguments.
    dataset = {"skip_prepare_dataset": True}
    arguments = training_arguments(SFTConfig, recipe, max_length=None, packing=False, dataset_kwargs=dataset)
    checkpoint = load_trainable(recipe)
    rows = ChainRows(
        row_encoder(checkpoint),
        closing_id(checkpoint),
        recipe.max_pixels,
        recipe.format_arguments,
        recipe.one_row_per_chain,
    )
    data = _read(recipe, checkpoint, rows)
    collator = RowCollator(data, checkpoint.pad_id)
    mixed: Any = (PlainLoss, RecipeTrainer) if brings_code(checkpoint.model.config) else (RecipeTrainer,)
    trainer: Any = type("PolicyTrainer", (*mixed, SFTTrainer), {})(
        **_common_options(recipe, checkpoint),
        optimizer_factory=optimizer,
        args=arguments,
        data_collator=collator,
        train_dataset=data.parts,
    )
    if sharded(trainer):
        trainer.data_collator = collator.with_spare()
    _run(trainer, recipe, checkpoint, resumed)


def train_dpo(recipe: DpoRecipe) -> None:
    """Tunes a policy on pairs and writes it to the recipe's `output_dir`.

    The reference model is the recipe's model before training: the weights without the adapters, or a second copy.

    Raises:
        AtomThinkError: The recipe, the data or the checkpoint cannot be used.
    """
    with _trl_required():
        from trl.trainer.dpo_config import DPOConfig
        from trl.trainer.dpo_trainer import DPOTrainer
    resumed = resume_from(recipe)
    arguments = training_arguments(DPOConfig, recipe, max_length=None)
    checkpoint = load_trainable(recipe)
    if brings_code(checkpoint.model.config):
        raise AtomThinkError(
            f"`model_name_or_path: {recipe.model_name_or_path}` comes with its own model code, which trl's DPOTrainer "
            "cannot read: name a checkpoint of an architecture that transformers has"
        )
    rows = PairRows(RowEncoder(checkpoint), closing_id(checkpoint), recipe.max_pixels, recipe.format_arguments)
    data = _read(recipe, checkpoint, rows)
    trainer: Any = type("DpoTrainer", (RecipeTrainer, DPOTrainer), {})(
        **_common_options(recipe, checkpoint),
        ref_model=None if recipe.use_peft else load_trainable(recipe).model,
        args=arguments,
        data_collator=PairCollator(data, checkpoint.pad_id),
        # A column of this name tells trl that the collator makes the rows.
        train_dataset=data.parts.add_column("images", [None] * len(data.parts)),
    )
    if sharded(trainer) and len({bool(data.record(at).images) for at in set(data.parts["example"])}) > 1:
        raise AtomThinkError(
            "`data`: pairs with images and pairs without cannot share a step under FSDP or DeepSpeed, whose processes "
            "have to run the same layers: train on one kind, or with training/recipes/accelerate/ddp.yaml"
        )
    _run(trainer, recipe, checkpoint, resumed)


@contextmanager
def _trl_required() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise AtomThinkError(f"training needs trl ({error}): pip install 'atomthink-plugin[train]'") from None


def _read(recipe: PolicyRecipe | DpoRecipe, checkpoint: Checkpoint, rows: RowBuilder[R]) -> TrainingData[R]:
    """Returns the data of a recipe, once it and the parameters to train are known to be usable."""
    data = read_training_data(recipe, rows, checkpoint.context)
    report_records(recipe, data.counts, data.rejects)
    prepare_parameters(recipe, checkpoint.model)
    return data


def _common_options(recipe: PolicyRecipe | DpoRecipe, checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "recipe": recipe,
        "model": checkpoint.model,
        "processing_class": checkpoint.processor,
        "peft_config": lora_config(recipe, checkpoint.model) if recipe.use_peft else None,
    }


def _run(trainer: Any, recipe: PolicyRecipe | DpoRecipe, checkpoint: Checkpoint, resumed: str | None) -> None:
    """Trains, saves, and prints the command that evaluates the policy."""
    run_training(trainer, recipe, resumed)
    assert checkpoint.processor is not None
    save_checkpoint(trainer, recipe, checkpoint.processor)
    if recipe.use_peft and not recipe.merge_lora:
        following = f"merge the adapters of {recipe.output_dir} into {recipe.model_name_or_path}, or use `merge_lora`"
    else:
        whole = recipe.format in ("direct", "cot")
        thinking = recipe.format if whole else f"quick,format={recipe.format}"
        arguments = recipe.format_arguments.get(recipe.format, {})
        thinking += "".join(f",format_{name}={value}" for name, value in arguments.items())
        code = ",trust_remote_code=True" if recipe.trust_remote_code else ""
        following = (
            "lmms-eval --model atomthink_hf --tasks mathvision_atomic_testmini "
            f"--model_args pretrained={recipe.output_dir},thinking={thinking}{code}"
        )
    print_summary(trainer, recipe, following)
