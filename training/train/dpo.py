"""Preference tuning of a policy on pairs, by trl's DPOTrainer with the rows of supervised fine-tuning.

trl's own collator renders conversations through the chat template and cuts prompts at `max_length`; steps that go on in
a begun reply are none, so batches are made here and the trainer gets tokens: the chosen rows, then the rejected ones.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from atomthink_plugin.api import AtomThinkError, Format, Question, QuestionError
from atomthink_plugin.formats.steps import stepwise
from atomthink_plugin.training.records import Pair, Reject, first_reason, read_records
from atomthink_plugin.training.train.checkpoint import brings_code, freeze, load_trainable, lora_config, save_checkpoint
from atomthink_plugin.training.train.collate import IGNORED, Batch, collate
from atomthink_plugin.training.train.measuring import measured
from atomthink_plugin.training.train.recipe import DpoRecipe
from atomthink_plugin.training.train.resume import resume_from
from atomthink_plugin.training.train.row_encoder import RowEncoder
from atomthink_plugin.training.train.samples import Forms, drawn, fits
from atomthink_plugin.training.train.tokens import Renderer, Row, closing_id, packable, posed
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

log = logging.getLogger(__name__)


class Contest(NamedTuple):
    """A pair and how it is learned.

    Attributes:
        pair: As it was read.
        folder: What its images are relative to.
        form: Its prompt format.
    """

    pair: Pair
    folder: Path
    form: Format

    def sides(self, renderer: Renderer, question: Question) -> tuple[Row, Row]:
        """Returns the chosen row and the rejected one."""
        start = len(self.pair.history)
        good, bad = ((*self.pair.history, *side) for side in (self.pair.chosen, self.pair.rejected))
        return renderer.chain(self.form, question, good, start), renderer.chain(self.form, question, bad, start)


@dataclass(frozen=True, slots=True)
class PairCollator:
    """Renders the pairs of a batch, in the process that loads the data."""

    contests: Sequence[Contest]
    places: Sequence[int]
    renderer: Renderer
    pad_id: int
    max_pixels: int | None

    def __call__(self, items: Sequence[dict[str, int]]) -> Batch:
        """Returns the batch of the pairs with these numbers: chosen rows, then rejected ones."""
        chosen, rejected = [], []
        for item in items:
            contest = self.contests[self.places[item["row"]]]
            question = posed(contest.pair, contest.folder, self.max_pixels)
            good, bad = contest.sides(self.renderer, question)
            chosen.append(good)
            rejected.append(bad)
        batch = collate([*chosen, *rejected], self.pad_id)
        batch["completion_mask"] = (batch.pop("labels") != IGNORED).long()
        return batch


def train_dpo(recipe: DpoRecipe) -> None:
    """Trains a policy on pairs and writes it to the recipe's `output_dir`.

    What it is held to is the recipe's model as it was: with adapters the weights beneath them, else a second copy.

    Raises:
        AtomThinkError: The recipe, the data or the checkpoint cannot be used.
    """
    try:
        from datasets import Dataset
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
    encoder = RowEncoder(checkpoint)
    renderer = Renderer(encoder, closing_id(checkpoint))
    longest = min(filter(None, (recipe.max_length, checkpoint.context)), default=None)
    contests, places, rejects = contests_of(recipe, encoder, renderer, longest)
    counts = f"pairs: {len(contests) + len(rejects)} read, {len(contests)} used, {len(rejects)} set aside"
    report_records(recipe, f"{counts}; {len(places)} rows", rejects)
    if not recipe.use_peft:
        freeze(checkpoint.model, recipe.freeze)
    check_learning_rates(recipe, checkpoint.model)
    trainer: Any = type("DpoTrainer", (RecipeTrainer, DPOTrainer), {})(
        recipe=recipe,
        model=checkpoint.model,
        ref_model=None if recipe.use_peft else load_trainable(recipe).model,
        args=arguments,
        data_collator=PairCollator(contests, places, renderer, checkpoint.pad_id, recipe.max_pixels),
        # A column of this name tells the trainer that rows are made by the collator.
        train_dataset=Dataset.from_dict({"row": range(len(places)), "images": [None] * len(places)}),
        processing_class=checkpoint.processor,
        peft_config=lora_config(recipe, checkpoint.model) if recipe.use_peft else None,
    )
    if sharded(trainer) and len({bool(contest.pair.images) for contest in contests}) > 1:
        raise AtomThinkError(
            "`data`: pairs with images and pairs without cannot share a step under FSDP or DeepSpeed, whose processes "
            "have to run the same layers: train on one kind, or with training/recipes/accelerate/ddp.yaml"
        )
    run_training(trainer, recipe, resumed)
    assert checkpoint.processor is not None
    save_checkpoint(trainer, recipe, checkpoint.processor)
    print_summary(trainer, recipe, evaluation_command(recipe))


def contests_of(
    recipe: DpoRecipe, encoder: RowEncoder, renderer: Renderer, longest: int | None
) -> tuple[list[Contest], list[int], list[Reject]]:
    """Reads the files of a recipe and measures their pairs.

    Returns:
        The pairs, the number of a pair for each row, and what was set aside.

    Raises:
        AtomThinkError: A file cannot be read, a format is unknown, or nothing can be used.
    """
    contests: list[Contest] = []
    places: list[int] = []
    rejects: list[Reject] = []
    forms = Forms(packed=False)
    for data in recipe.data:
        default = data.format or recipe.format
        forms(default)
        found = read_records(data.file, Pair)
        rejects += found.rejects
        rows: list[int] = []
        known: list[Contest] = []
        for pair in found.records:
            try:
                known.append(Contest(pair, found.folder, forms(pair.format or default)))
            except AtomThinkError as error:
                rejects.append(_reject(data.file, pair, error))
        results = measured(known, partial(_measure, recipe, encoder, renderer, longest), recipe.dataloader_num_workers)
        for contest, fault in zip(known, results, strict=True):
            if fault is not None:
                rejects.append(_reject(data.file, contest.pair, fault))
                continue
            rows.append(len(contests))
            contests.append(contest)
        places += drawn(rows, data, recipe.seed)
    if not places:
        raise AtomThinkError(f"`data` has no pair that can be used: {len(rejects)} rejected{first_reason(rejects)}")
    return contests, places, rejects


def _reject(file: Path, pair: Pair, fault: AtomThinkError) -> Reject:
    return Reject(f"{file.name}, id {pair.id!r}", str(fault), pair.model_dump(exclude_none=True))


def _measure(recipe: DpoRecipe, encoder: RowEncoder, renderer: Renderer, longest: int | None, contest: Contest) -> None:
    """Refuses a pair that cannot be learned."""
    pair, form = contest.pair, contest.form
    if not packable(form) and len(pair.chosen) + len(pair.rejected) != 2:
        raise QuestionError("several steps on a side, whose format asks for each anew: make it one step, or `continue`")
    if not stepwise(form) and pair.history:
        raise QuestionError("steps to go on from, in a format of whole replies: leave `history` out")
    question = posed(pair, contest.folder, recipe.max_pixels, empty=True)
    written = []
    for side in (pair.chosen, pair.rejected):
        turns = list(renderer.turns(form, question, (*pair.history, *side)))[len(pair.history) :]
        written.append([token for _, reply in turns for token in reply])
        fits(encoder.length(turns[0][0]) + len(written[-1]), longest)
    if written[0] == written[1]:
        raise QuestionError("chosen and rejected are the same tokens")
