"""The data of a PRM's training: chains with a wrong step drawn more often, and the labels of an epoch counted."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from atomthink_plugin.training.records import Chain, ErrorKind
from atomthink_plugin.training.train.dataset import TrainingData, parts_table, read_training_data, repeated
from atomthink_plugin.training.train.prm_checkpoint import TrainablePrm
from atomthink_plugin.training.train.recipe import PrmRecipe


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """The labels of an epoch: a chain that is drawn twice counts twice.

    Attributes:
        right: Sum of the labels.
        wrong: Number of the labels, less their sum: a label between 0 and 1 is a part of both.
        between: Labels between 0 and 1.
        kinds: Wrong steps by kind of error, where it is known.
        chains: Chains with a wrong step (True) and without one (False).
        draws: How often an epoch uses chains of either sort.
        answers: Chains with the right answer (True), a wrong one (False), or an unknown one (None).
    """

    right: float
    wrong: float
    between: int
    kinds: Mapping[ErrorKind, int]
    chains: Mapping[bool, int]
    draws: Mapping[bool, int]
    answers: Mapping[bool | None, int]

    def __str__(self) -> str:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.kinds.items()))
        chains, draws = self.chains, self.draws
        line = f"chains with a wrong step: {chains[True]:,}, drawn {draws[True]:,} times, without: {chains[False]:,}, "
        line += f"drawn {draws[False]:,} times; "
        line += f"steps: {self.right:,.0f} right, {self.wrong:,.0f} wrong" + (f" ({kinds})" if kinds else "")
        if self.between:
            line += f"; {self.between:,} labels between 0 and 1 are probabilities, see `label_threshold`"
        return line

    @property
    def verdicts(self) -> str:
        """How many chains have a known verdict, in one line."""
        right, wrong, unknown = (self.answers.get(verdict, 0) for verdict in (True, False, None))
        return f"answers: {right:,} right, {wrong:,} wrong, {unknown:,} unknown, which have no chain loss"


def read_prm_data(recipe: PrmRecipe, prm: TrainablePrm) -> tuple[TrainingData[Chain], LabelCounts]:
    """Reads the files of a recipe, draws chains with a wrong step more often, and counts the labels.

    Raises:
        AtomThinkError: A file cannot be read, or has nothing to train on.
    """
    data = read_training_data(recipe, prm.rows, prm.checkpoint.context)
    if recipe.negative_upsampling > 1:
        data = upsampled(data, recipe.negative_upsampling, recipe.seed)
    return data, count_labels(data)


def upsampled(data: TrainingData[Chain], times: float, seed: int) -> TrainingData[Chain]:
    """Returns data whose chains with a wrong step are drawn so many times as often."""
    parts = list(zip(data.parts["example"], data.parts["part"], strict=True))
    wrong = {example for example in {example for example, _ in parts} if has_error(data.record(example))}
    negatives = [part for part in parts if part[0] in wrong]
    more = repeated(negatives, times - 1, random.Random(f"{seed} negative_upsampling"))
    return replace(data, parts=parts_table([*parts, *more]))


def has_error(chain: Chain) -> bool:
    """Returns whether a step is labelled wrong."""
    return chain.first_error() is not None


def count_labels(data: TrainingData[Chain]) -> LabelCounts:
    """Counts the labels of an epoch."""
    right = wrong = 0.0
    between = 0
    kinds: Counter[ErrorKind] = Counter()
    chains: Counter[bool] = Counter()
    draws: Counter[bool] = Counter()
    answers: Counter[bool | None] = Counter()
    for example, times in Counter(data.parts["example"]).items():
        chain = data.record(example)
        chains[has_error(chain)] += 1
        draws[has_error(chain)] += times
        answers[chain.correct] += 1
        for label in chain.labels or ():
            if label is not None:
                right += times * label
                wrong += times * (1 - label)
                between += times * (0 < label < 1)
        for kind in chain.wrong_kinds():
            if kind is not None:
                kinds[kind] += times
    return LabelCounts(right, wrong, between, kinds, chains, draws, answers)
