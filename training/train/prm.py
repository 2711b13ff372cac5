"""Training of process reward models, with transformers' trainer (trl has none since 1.14).

The loss is the cross-entropy between the model's two classes at each labelled step (paper, section 3.3):

    L = - sum over steps of  y log r + (1 - y) log(1 - r),   r = softmax(z_wrong, z_right)_right

A recipe can add two auxiliary losses, for small models and few labels: the same cross-entropy at each token of a step,
where it is known from which token on a wrong step is wrong, and the language modelling loss on right text. It can also
add a loss of whole chains, see `chain_loss`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import Trainer, TrainingArguments, set_seed

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.training.train.checkpoint import lora_config, save_checkpoint, write_checkpoint
from atomthink_plugin.training.train.collate import IGNORED
from atomthink_plugin.training.train.dataset import RowCollator
from atomthink_plugin.training.train.prm_checkpoint import HEADS, TrainablePrm, load
from atomthink_plugin.training.train.prm_data import read_prm_data
from atomthink_plugin.training.train.recipe import PrmRecipe
from atomthink_plugin.training.train.resume import resume_from
from atomthink_plugin.training.train.tokens import LabelledRows
from atomthink_plugin.training.train.trainer import (
    OptimizerFactory,
    RecipeTrainer,
    prepare_parameters,
    print_summary,
    report_records,
    run_training,
    sharded,
    training_arguments,
)

log = logging.getLogger(__name__)


class PrmTrainer(RecipeTrainer, Trainer):
    """Minimises the loss of steps, and the auxiliary losses that a recipe gives a weight.

    Args:
        classes: Ids of the bad and the good token; None for a classifier.
        weights: Of wrong and of right steps.
        **options: As `RecipeTrainer` takes them.
    """

    recipe: PrmRecipe

    def __init__(self, *, classes: tuple[int, int] | None, weights: tuple[float, float], **options: Any) -> None:
        self._classes = classes
        self._weights = weights
        self._hits: dict[str, list[Tensor]] = {}
        super().__init__(**options)
        self.model_accepts_loss_kwargs = True  # or the loss would be divided by the number of batches once more

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """Returns the batches of an optimiser step, and how many labels they have on all processes, see `_counts`."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        counts = torch.stack([_counts(batch) for batch in batches]).sum(0).to(device) if batches else None
        return batches, counts if counts is None else self.accelerator.reduce(counts, "sum")

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Returns the share of one batch in the loss of its optimiser step, which has `num_items_in_batch` labels."""
        steps, tokens, chains = _counts(inputs) if num_items_in_batch is None else num_items_in_batch  # type: ignore[misc]
        labels, step_labels, token_labels, chain_labels = (inputs.pop(name) for name in LabelledRows.label_names)
        outputs = model(**inputs)
        logits = outputs.logits
        pairs, right = class_logits(logits, step_labels, self._classes)
        self._count_hits(pairs.detach(), right)
        loss = step_loss(pairs, right, self._weights) / steps
        if self.recipe.token_loss_weight and (token_labels != IGNORED).any():
            # Divided by steps: most tokens of a step are easy, and a mean over tokens would outweigh the others.
            loss = (
                loss
                + self.recipe.token_loss_weight * step_loss(*class_logits(logits, token_labels, self._classes)) / steps
            )
        if self.recipe.lm_loss_weight and (labels != IGNORED).any():
            loss = loss + self.recipe.lm_loss_weight * language_loss(logits, labels) / tokens
        if self.recipe.chain_loss_weight and (chain_labels != IGNORED).any():
            loss = loss + self.recipe.chain_loss_weight * chain_loss(logits, chain_labels, self._classes) / chains
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over them
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the shares of right steps accepted and of wrong steps rejected since the last log."""
        for name, hits in self._hits.items():
            if len(found := torch.cat(hits)):  # there may have been none of this kind
                logs[name] = found.float().mean().item()
        self._hits = {}
        super().log(logs, start_time)

    def _count_hits(self, pairs: Tensor, right: Tensor) -> None:
        accepted = pairs[:, 1] > pairs[:, 0]
        for name, which in (("accepts_right", right >= 0.5), ("rejects_wrong", right < 0.5)):
            self._hits.setdefault(name, []).append((accepted[which] == (name == "accepts_right")).cpu())


def class_logits(logits: Tensor, labels: Tensor, classes: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
    """Returns the logits `[labelled, 2]`, wrong then right, in float32, and their labels.

    Args:
        logits: `[rows, positions, outputs]`.
        labels: `[rows, positions]`, probability that a step is right, or `IGNORED`.
        classes: Ids of the bad and the good token; None for a classifier, whose outputs are the two classes.
    """
    labelled = labels != IGNORED
    read = logits[labelled]
    return (read if classes is None else read[:, list(classes)]).float(), labels[labelled]


def step_loss(pairs: Tensor, right: Tensor, weights: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """Returns the cross-entropy summed over labels.

    It is a sum, so that the caller can divide by the number of labels in all batches of an optimiser step. Means of
    single batches would undo the weights where a batch has labels of one class only.

    Args:
        pairs: `[labelled, 2]`, as `class_logits` returns them.
        right: `[labelled]`, in [0, 1].
        weights: Of wrong and of right steps.
    """
    bad, good = pairs.log_softmax(-1).unbind(-1)
    return -(weights[1] * right * good + weights[0] * (1 - right) * bad).sum()


def chain_loss(logits: Tensor, labels: Tensor, classes: tuple[int, int] | None) -> Tensor:
    """Returns the cross-entropy of whole chains, summed over them.

    The log-odds of a step being right are the difference of its two logits. The chain's probability of being right is
    the sigmoid of their mean. DreamPRM (arXiv 2505.20241, `main.py` of its repository) compares that probability by
    squared error, as it does with steps; here both have the cross-entropy, whose gradient does not vanish where the
    model is confident and wrong.

    Args:
        logits: `[rows, positions, outputs]`.
        labels: `[rows, positions]`, at each step of a row whether the row's chain is right (1 or 0), else `IGNORED`.
        classes: Ids of the bad and the good token; None for a classifier, whose outputs are the two classes.
    """
    steps = labels != IGNORED
    judged = steps.any(-1)
    pairs, _ = class_logits(logits, labels, classes)
    log_odds = labels.new_zeros(labels.shape).masked_scatter(steps, pairs[:, 1] - pairs[:, 0])
    mean = log_odds.sum(-1)[judged] / steps.sum(-1)[judged]
    return binary_cross_entropy_with_logits(mean, labels.amax(-1)[judged], reduction="sum")


def language_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the cross-entropy of the tokens `labels` `[rows, positions]`, each predicted from the position before."""
    following = labels[:, 1:]
    labelled = following != IGNORED
    return cross_entropy(logits[:, :-1][labelled].float(), following[labelled], reduction="sum")


def train_prm(recipe: PrmRecipe, optimizer: OptimizerFactory | None = None) -> None:
    """Trains a PRM and writes it to the recipe's `output_dir`, with the settings of its scorer in its config.json.

    Args:
        recipe: What is trained, on what, and how.
        optimizer: Makes the optimizer of the model, instead of transformers' `optim`.

    Raises:
        AtomThinkError: The recipe, the data or the checkpoint cannot be used.
    """
    resumed = resume_from(recipe)
    # Before the weights: DeepSpeed loads a model in parts only if it knows the arguments.
    arguments = training_arguments(TrainingArguments, recipe, label_names=["step_labels"])
    set_seed(recipe.seed)  # new tokens and a new head are initialised at random
    prm = load(recipe)
    checkpoint = prm.checkpoint
    data, labels = read_prm_data(recipe, prm)
    counts = f"{labels}; {labels.verdicts}" if recipe.chain_loss_weight else str(labels)
    report_records(recipe, f"{data.counts}; {counts}", data.rejects)
    if not labels.wrong or not labels.right:
        raise AtomThinkError(f"`data` has no {'right' if labels.wrong else 'wrong'} step: a PRM needs both")
    if recipe.chain_loss_weight and not labels.answers[True] + labels.answers[False]:
        raise AtomThinkError("`chain_loss_weight`: no chain has `correct`, or states an answer and has the right one")
    trained: Any = _with_adapters(recipe, prm) if recipe.use_peft else checkpoint.model
    prepare_parameters(recipe, checkpoint.model)
    total = labels.wrong + labels.right
    collator = RowCollator(data, checkpoint.pad_id)
    trainer: Any = PrmTrainer(
        recipe=recipe,
        optimizer_factory=optimizer,
        classes=prm.classes,
        weights=(total / (2 * labels.wrong), total / (2 * labels.right)) if recipe.balance_labels else (1.0, 1.0),
        model=trained,
        args=arguments,
        data_collator=collator,
        train_dataset=data.parts,
        processing_class=prm.processing_class,
    )
    if sharded(trainer):
        if recipe.use_peft:
            raise AtomThinkError(
                "`use_peft`: the adapters of a PRM are merged on one process, which has only a part of the weights "
                "under FSDP and DeepSpeed; use training/recipes/accelerate/ddp.yaml, or leave `use_peft` out"
            )
        trainer.data_collator = collator.with_spare()
    run_training(trainer, recipe, resumed)
    if not recipe.use_peft:
        save_checkpoint(trainer, recipe, prm.processing_class)
    elif trainer.is_world_process_zero():
        merged = trained.merge_and_unload()
        write_checkpoint(merged, merged.state_dict(), recipe.save_dtype, prm.processing_class, recipe.output_dir)
    code = " --prm-args prm_trust_remote_code=True" if recipe.trust_remote_code else ""
    print_summary(trainer, recipe, f"atomthink prm eval SET --prm {recipe.output_dir}{code}")


def _counts(batch: dict[str, Tensor]) -> Tensor:
    """Returns how many steps, tokens and chains have a label: `[3]`."""
    steps, tokens, chains = (batch[name] != IGNORED for name in ("step_labels", "labels", "chain_labels"))
    return torch.stack([steps.sum(), tokens.sum(), chains.any(-1).sum()])


def _with_adapters(recipe: PrmRecipe, prm: TrainablePrm) -> Any:
    from peft import get_peft_model

    model: Any = prm.checkpoint.model
    tied = model.get_input_embeddings().weight is getattr(model.get_output_embeddings(), "weight", None)
    if set(prm.classes or ()) & set(prm.new_tokens) and not tied:
        raise AtomThinkError(
            "`use_peft` with a `good_token` or `bad_token` that is new: adapters do not train the output layer, where "
            "both have the same weights; name tokens of the tokenizer, such as `+` and `-`, or leave `use_peft` out"
        )
    heads = [name for name in HEADS if prm.classes is None and hasattr(model, name)]
    return get_peft_model(model, lora_config(recipe, model, heads, prm.new_tokens))
