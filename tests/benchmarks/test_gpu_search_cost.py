"""The benchmark for machines with a GPU runs where there is none: its whole path on tiny models, its arithmetic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu_search_cost.py", *arguments])
    from gpu_search_cost import main

    main()


def test_without_a_gpu_it_says_so_in_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "There is no CUDA device here: nothing was measured.\n"


def test_all_of_it_runs_on_tiny_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target = tmp_path / "cost.json"
    run(monkeypatch, "--device", "cpu", "--size", "tiny", "--questions", "1", "--json", str(target))
    record = json.loads(target.read_text())
    ours, published = record["ours"], record["published way"]
    assert ours["generated"] == published["generated"] == (6 + 6) * 4  # no step ends before its limit
    assert (ours["images_policy"], published["images_policy"]) == (1, 12)
    assert 1 <= ours["prefilled_over_distinct_prm"] <= 1.1
    floor = record["weights_gb"] / record["bandwidth_gb_per_second"] * 1e3
    assert record["decode_floor_ms"] == pytest.approx(floor)
    assert record["share_of_decode_floor"] == pytest.approx(floor / record["decode_step_ms"])


def test_a_decode_step_reads_the_language_model_and_no_table_of_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from gpu_search_cost import weights_read
    from random_models import SIZES, random_policy

    model: Any = random_policy(SIZES["tiny"], torch.device("cpu"), torch.float32).model
    width, inner, layers, words = 64, 128, 2, model.lm_head.weight.shape[0]
    layer = 4 * width * width + 3 * width * inner + 2 * width
    assert weights_read(model) == 4 * (layers * layer + width + words * width)


def test_distinct_tokens_are_the_nodes_of_a_trie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from ways import distinct

    assert distinct([[1, 2, 3], [1, 2, 4], [1, 2, 3, 5], [2, 2]]) == 7
