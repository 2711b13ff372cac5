"""The benchmark for machines with a GPU runs where there is none: its whole path on tiny models, its arithmetic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import benchmarks.gpu_search_cost as benchmark
from benchmarks.baselines import distinct
from benchmarks.gpu_search_cost import drawn_length, main, order, weights_read
from benchmarks.random_models import SIZES, random_policy


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu_search_cost.py", *arguments])
    main()


def test_without_a_gpu_nothing_is_measured(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "CUDA" in line


@pytest.mark.slow
def test_all_of_it_runs_on_tiny_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target = tmp_path / "cost.json"
    run(monkeypatch, "--device", "cpu", "--size", "tiny", "--in-flight", "1", "2", "--json", str(target))
    record = json.loads(target.read_text())
    searches = {(o["way"], o["lengths"], o["in_flight"], o["cudnn_attention"]): o for o in record["searches"]}
    ways = [("published way", 1), ("ours", 1), ("ours", 2)]
    kinds = [(way, lengths, count, False) for way, count in ways for lengths in ("fixed", "lognormal")]
    assert set(searches) == {*kinds, ("ours", "fixed", 2, True), ("published way", "fixed", 1, True)}
    for kind in kinds:
        one, (way, lengths, in_flight, _) = searches[kind], kind
        assert one["questions"] == (2 * in_flight if way == "ours" else 1)
        if lengths == "fixed":
            assert one["generated"] == (6 + 6) * 4  # no step ends before its limit
        else:
            assert 12 <= one["generated"] <= 12 * 3 * 4
            assert one["generated"] != 48
    ours, published = searches["ours", "fixed", 2, False], searches["published way", "fixed", 1, False]
    assert (ours["images_policy"], published["images_policy"]) == (1, 12)
    assert 1 <= ours["prefilled_over_distinct_prm"] <= 1.1
    assert ours["speedup"] == pytest.approx(ours["tokens_per_second"] / published["tokens_per_second"])
    step = record["decode_step"]
    floor = step["weights_gb"] / step["bandwidth_gb_per_second"] * 1e3
    assert step["floor_ms"] == pytest.approx(floor)
    assert step["share_of_floor"] == pytest.approx(floor / step["step_ms"])


def test_the_most_important_measurements_come_first_and_none_begins_after_the_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    first, second, third, *rest = [(one.lengths, one.in_flight, one.cudnn) for one in order([1, 4, 16])]
    assert (first, second, third) == (("fixed", 4, False), ("fixed", 0, False), ("fixed", 16, False))
    assert len({first, second, third, *rest}) == 3 + len(rest) == 10
    assert [cudnn for *_, cudnn in rest] == [False] * 5 + [True] * 2
    target = tmp_path / "cost.json"
    run(monkeypatch, "--device", "cpu", "--size", "tiny", "--minutes", "0", "--json", str(target))
    assert not target.exists()
    assert capsys.readouterr().err


def test_lengths_are_log_normal_with_the_mean_of_fixed_ones() -> None:
    lengths = [drawn_length(32, seed) for seed in range(4000)]
    assert sum(lengths) / len(lengths) == pytest.approx(32, rel=0.03)
    assert min(lengths) < 12
    assert max(lengths) == 96
    assert lengths == [drawn_length(32, seed) for seed in range(4000)]


@pytest.mark.slow
def test_both_ways_run_with_the_same_attention_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = benchmark.engine_questions(benchmark.held_out(3))
    setting = benchmark.setting_of(torch.device("cpu"), "tiny")
    seen: list[bool] = []
    for model in (setting.policy.model, setting.prm.model):
        model.register_forward_pre_hook(lambda *given: seen.append(torch.backends.cuda.cudnn_sdp_enabled()))
    for in_flight in (0, 1):
        for cudnn in (False, True):
            seen.clear()
            benchmark.searched(setting, benchmark.Measurement("fixed", in_flight, cudnn), questions)
            assert set(seen) == {cudnn}


def test_a_decode_step_reads_the_language_model_and_no_table_of_embeddings() -> None:
    model: Any = random_policy(SIZES["tiny"], torch.device("cpu"), torch.float32).model
    width, inner, layers, words = 64, 128, 2, model.lm_head.weight.shape[0]
    layer = 4 * width * width + 3 * width * inner + 2 * width
    assert weights_read(model) == 4 * (layers * layer + width + words * width)


def test_distinct_tokens_are_the_nodes_of_a_trie() -> None:
    assert distinct([[1, 2, 3], [1, 2, 4], [1, 2, 3, 5], [2, 2]]) == 7
