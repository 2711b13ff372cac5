"""Labels, draws and counts of a PRM's training data, without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.formats.atomic import Atomic
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.scorers.prm_token import ChatLayout, TextLayout
from atomthink_plugin.training.records import Chain, write_records
from atomthink_plugin.training.train.collate import IGNORED
from atomthink_plugin.training.train.dataset import TrainingData, read_training_data
from atomthink_plugin.training.train.prm import chain_loss
from atomthink_plugin.training.train.prm_data import count_labels, read_prm_data, upsampled
from atomthink_plugin.training.train.recipe import PrmRecipe
from atomthink_plugin.training.train.tokens import LabelledRows

TAG = "<|step|>"
TOKENIZER = AutoTokenizer.from_pretrained(WEIGHTS / "prm")


def chain(name: str, *labels: float | None, **fields: Any) -> Chain:
    steps = tuple(f"Step {number}: It is {number}." for number in range(1, len(labels) + 1))
    return Chain(id=name, question="How many?", **{"steps": steps, "labels": labels, **fields})


def read(folder: Path, chains: Sequence[Chain], weight: float = 1.0, **given: Any) -> TrainingData[Chain]:
    file = folder / "chains.jsonl"
    write_records(file, chains)
    fields = {"model_name_or_path": "any", "output_dir": folder, "images": False}
    recipe = PrmRecipe.model_validate({**fields, "data": {"file": file, "weight": weight}})
    tag = TOKENIZER.convert_tokens_to_ids(TAG)
    return read_training_data(recipe, LabelledRows(TextLayout(TOKENIZER, TAG, tag), None, tag, **given))


def step_labels(data: TrainingData[Chain]) -> list[list[float]]:
    return [list(row.step_labels.values()) for item in data.parts for row in data.rows(item)]


SHARES = [chain("a", 1.0, 0.125, 0.0), chain("b", None, 0.5), chain("c", 0.25, 0.25)]


def test_shares_become_any_success_only_if_the_recipe_says_so(tmp_path: Path) -> None:
    kept = read(tmp_path, SHARES)
    assert step_labels(kept) == [[1.0, 0.125, 0.0], [0.5], [0.25, 0.25]]
    counts = count_labels(kept)
    assert (counts.right, counts.wrong, counts.between) == (2.125, 3.875, 4)
    hard = read(tmp_path, SHARES, label_threshold=0.0)
    assert step_labels(hard) == [[1.0, 1.0, 0.0], [1.0], [1.0, 1.0]]
    counts = count_labels(hard)
    assert (counts.right, counts.wrong, counts.between) == (5, 1, 0)
    assert step_labels(read(tmp_path, SHARES, label_threshold=0.25)) == [[1.0, 0.0, 0.0], [1.0], [0.0, 0.0]]


def test_hard_labels_of_a_file_are_the_same_with_a_threshold(tmp_path: Path) -> None:
    hard = [chain("a", 1.0, 0.0, None), chain("b", 1.0)]
    assert step_labels(read(tmp_path, hard, label_threshold=0.0)) == step_labels(read(tmp_path, hard))


def test_the_whole_of_a_right_step_is_a_text_to_learn(tmp_path: Path) -> None:
    """A step that counts as right has a language modelling loss; as a share of 0.125 it has none."""
    (item,) = read(tmp_path, SHARES[:1]).parts
    soft, hard = (read(tmp_path, SHARES[:1], label_threshold=threshold).rows(item)[0] for threshold in (None, 0.0))
    assert len(hard.labels) > len(soft.labels) > 0


@pytest.mark.parametrize(("times", "draws"), [(1.0, 4), (2.0, 8), (2.5, 10), (1.25, 5)])
def test_chains_with_a_wrong_step_are_drawn_more_often(tmp_path: Path, times: float, draws: int) -> None:
    wrong = [chain(f"w{number}", 1.0, 0.0) for number in range(4)]
    right = [chain(f"r{number}", 1.0, 0.5, 1.0) for number in range(10)]
    data = read(tmp_path, [*right[:5], *wrong, *right[5:]])
    more = upsampled(data, times, seed=3)
    drawn = Counter(data.record(example).id for example in more.parts["example"])
    assert {drawn[one.id] for one in right} == {1}
    assert sum(drawn[one.id] for one in wrong) == draws
    assert {drawn[one.id] for one in wrong} <= {int(times), int(times) + 1}
    counts = count_labels(more)
    assert (counts.chains, counts.draws) == ({True: 4, False: 10}, {True: draws, False: 10})
    assert counts.answers == {None: 14}  # chains, however often they are drawn
    assert (counts.wrong, counts.right) == (draws + 5, draws + 25)
    assert upsampled(data, times, seed=3).parts[:] == more.parts[:]  # a resumed run draws the same ones
    if draws == 10:
        others = {tuple(upsampled(data, times, seed).parts["example"]) for seed in range(8)}
        assert len(others) > 1


def test_upsampling_multiplies_the_weight_of_a_file(tmp_path: Path) -> None:
    data = read(tmp_path, [chain("w", 0.0), chain("r", 1.0)], weight=3)
    drawn = Counter(data.record(example).id for example in upsampled(data, 2.0, seed=0).parts["example"])
    assert drawn == {"w": 6, "r": 3}


def test_a_recipe_draws_wrong_chains_more_often(tmp_path: Path) -> None:
    file = tmp_path / "chains.jsonl"
    write_records(file, [*(chain(f"w{number}", 0.0) for number in range(4)), chain("r", 1.0)])
    tag = TOKENIZER.convert_tokens_to_ids(TAG)
    rows = LabelledRows(TextLayout(TOKENIZER, TAG, tag), None, tag)
    prm: Any = SimpleNamespace(rows=rows, checkpoint=SimpleNamespace(context=None))
    fields = {"model_name_or_path": "any", "output_dir": tmp_path, "images": False, "data": {"file": file}}
    for times, draws in ((1, 4), (1.5, 6)):
        recipe = PrmRecipe.model_validate({**fields, "negative_upsampling": times})
        data, counts = read_prm_data(recipe, prm)
        assert (len(data.parts), counts.draws) == (draws + 1, {True: draws, False: 1})


def labelled(data: TrainingData[Chain], name: str) -> list[dict[int, float]]:
    """The labels of each row, by the number of the tag that they are at."""
    found = []
    for item in data.parts:
        (row,) = data.rows(item)
        ids = row.encoding.tokens["input_ids"][0].tolist()
        tags = [at for at, token in enumerate(ids) if token == TOKENIZER.convert_tokens_to_ids(TAG)]
        found.append({tags.index(at): label for at, label in getattr(row, name).items()})
    return found


ENDS = ("Step 1: 2 + 2 = 4.", "Step 2: To sum up, the final answer is: 4.")
JUDGED = [
    chain("right", 1.0, 1.0, steps=ENDS, answer="4"),
    chain("wrong", 0.0, None, steps=ENDS, answer="5"),  # the second step has no label, but is a part of the chain
    chain("stated", 0.0, None, 1.0, correct=True),
    chain("no answer", 1.0, None, answer="4"),
    chain("not known", 1.0, steps=ENDS[1:]),
]


def test_each_step_of_a_judged_chain_has_its_verdict(tmp_path: Path) -> None:
    data = read(tmp_path, JUDGED, judge_chains=True)
    assert labelled(data, "chain_labels") == [{0: 1.0, 1: 1.0}, {0: 0.0, 1: 0.0}, {0: 1.0, 1: 1.0, 2: 1.0}, {}, {}]
    assert labelled(data, "step_labels") == [{0: 1.0, 1: 1.0}, {0: 0.0}, {0: 0.0, 2: 1.0}, {0: 1.0}, {0: 1.0}]
    assert count_labels(data).answers == {True: 2, False: 1, None: 2}
    usual = read(tmp_path, JUDGED)
    assert not any(labelled(usual, "chain_labels"))
    assert labelled(usual, "step_labels") == labelled(data, "step_labels")
    lengths = [[rows.rows(item)[0].encoding.length for item in rows.parts] for rows in (usual, data)]
    assert [short < long for short, long in zip(*lengths, strict=True)] == [False, True, False, False, False]


def test_a_chain_in_several_rows_has_no_loss_of_its_own() -> None:
    tag = TOKENIZER.convert_tokens_to_ids(TAG)
    with pytest.raises(AtomThinkError, match="format: continue"):
        LabelledRows(ChatLayout(Mock(), Atomic(), tag), None, tag, judge_chains=True)
    LabelledRows(ChatLayout(Mock(), Continue(), tag), None, tag, judge_chains=True)


def log_odds(pairs: np.ndarray) -> np.ndarray:
    """Of steps whose logits are `pairs`, wrong then right: by their probability."""
    right = np.exp(pairs[:, 1]) / np.exp(pairs).sum(axis=1)
    return np.log(right / (1 - right))


@pytest.mark.parametrize("classes", [None, (7, 2)])
def test_the_loss_of_chains_is_that_of_their_mean_log_odds(classes: tuple[int, int] | None) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4, 6, 2 if classes is None else 9)) * 2
    at = {0: ([1, 3, 4], 1.0), 2: ([5], 0.0), 3: ([0, 5], 0.0)}  # the steps of each judged row, and its verdict
    labels = torch.full((4, 6), float(IGNORED))
    expected, padded = 0.0, torch.tensor(logits, dtype=torch.float32)
    for row, (steps, right) in at.items():
        labels[row, steps] = right
        pairs = logits[row][steps][:, list(classes or (0, 1))]
        probability = 1 / (1 + np.exp(-log_odds(pairs).mean()))
        expected -= np.log(probability if right else 1 - probability)
    padded[1] = torch.inf  # nothing is read in a row without a verdict
    found = chain_loss(padded.requires_grad_(), labels, classes)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    (gradient,) = torch.autograd.grad(found, padded)
    moved = {(row, step) for row, step, _ in gradient.nonzero().tolist()}
    assert moved == {(row, step) for row, (steps, _) in at.items() for step in steps}


def test_wrong_steps_are_counted_by_kind(tmp_path: Path) -> None:
    kinds = ("perception", "reasoning", "perception")
    data = read(tmp_path, [chain("a", 0.0, 0.0, 1.0, error_kinds=kinds), chain("b", 0.0)], weight=2)
    assert count_labels(data).kinds == {"perception": 2, "reasoning": 2}
