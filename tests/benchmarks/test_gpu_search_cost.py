"""The benchmark for machines with a GPU runs where there is none: its whole path on tiny models, its arithmetic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from atomthink_plugin.tasks.demo.engine_questions import engine_questions
from atomthink_plugin.tasks.demo.questions import held_out
from benchmarks.baselines import distinct
from benchmarks.gpu_decode_step import weights_read
from benchmarks.gpu_search_cost import main, setting_of
from benchmarks.gpu_searches import Measurement, Searches, drawn_length, order, union
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
    few = ("--in-flight", "1", "2", "--decoded", "1", "2")
    run(monkeypatch, "--device", "cpu", "--size", "tiny", *few, "--json", str(target))
    record = json.loads(target.read_text())
    searches = {(o["way"], o["lengths"], o["in_flight"], o["cudnn_attention"]): o for o in record["searches"]}
    ways = [("published way", 1), ("ours", 1), ("ours", 2)]
    kinds = [(way, lengths, count, False) for way, count in ways for lengths in ("fixed", "lognormal")]
    generated = [("plain generate", "fixed", count, False) for count in (1, 2)]
    cudnn = [("ours", "fixed", 2, True), ("published way", "fixed", 1, True)]
    assert set(searches) == {*kinds, *generated, *cudnn}
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
    for one in generated:
        assert searches[one]["generated"] == 12 * 4
    assert 3 < ours["rows_per_pass"] <= 12
    assert ours["graphs_captured"] == [0, 0]
    assert {"decode", "prefill", "sample"} <= set(ours["phases"]["policy"])
    step, more, *less = record["decode_steps"]
    assert record["decode_step"] == step
    assert [one["rows"] for one in (step, more, *less)] == [6, 12, 6, 6]
    floor = step["weights_gb"] / step["bandwidth_gb_per_second"] * 1e3
    assert step["floor_ms"] == pytest.approx(floor)
    assert step["share_of_floor"] == pytest.approx(floor / step["step_ms"])
    # A token of the tiny policy has 2 layers, each with a key and a value of 64 numbers in float32.
    tokens = [one["states_gb"] * 1e9 / (2 * 2 * 64 * 4) for one in (step, more)]
    assert 576 + 6 * 8 < tokens[0] < 800
    assert tokens[1] == pytest.approx(2 * tokens[0], rel=0.05)  # a question's tokens count once


def test_the_most_important_measurements_come_first_and_none_begins_after_the_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    first, second, third, *rest = order([1, 4, 16, 64])
    assert [first, third] == [Measurement("ours", "fixed", number) for number in (4, 16)]
    assert second == Measurement("published way", "fixed")
    assert len({first, second, third, *rest}) == 3 + len(rest) == 14
    assert [one.cudnn for one in rest] == [False] * 9 + [True] * 2
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
    setting = setting_of(torch.device("cpu"), "tiny")
    searches = Searches(setting, engine_questions(held_out(12)))
    seen: list[bool] = []
    for model in (setting.policy.model, setting.prm.model):
        model.register_forward_pre_hook(lambda *given: seen.append(torch.backends.cuda.cudnn_sdp_enabled()))
    for cudnn in (False, True):
        for wanted in (Measurement("ours", "fixed", 1, cudnn), Measurement("published way", "fixed", 1, cudnn)):
            seen.clear()
            searches.measure(wanted)
            assert set(seen) == {cudnn}


def test_time_in_which_several_kernels_run_counts_once() -> None:
    assert union([(5, 8), (0, 2), (1, 3), (6, 7)]) == 6
    assert union([]) == 0


def test_a_decode_step_reads_the_language_model_and_no_table_of_embeddings() -> None:
    model: Any = random_policy(SIZES["tiny"], torch.device("cpu"), torch.float32).model
    width, inner, layers, words = 64, 128, 2, model.lm_head.weight.shape[0]
    layer = 4 * width * width + 3 * width * inner + 2 * width
    assert weights_read(model) == 4 * (layers * layer + width + words * width)


def test_distinct_tokens_are_the_nodes_of_a_trie() -> None:
    assert distinct([[1, 2, 3], [1, 2, 4], [1, 2, 3, 5], [2, 2]]) == 7
