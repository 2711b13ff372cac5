"""Pairs from searches and `atomthink train dpo`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from atomthink_plugin.api import AtomThinkError, Failure, Node, Outcome, Usage
from atomthink_plugin.api import Path as Steps
from atomthink_plugin.cli import main
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.inference.checkpoints import Checkpoint, load_multimodal
from atomthink_plugin.inference.encoding import Encoder
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.training.pairs.pairing import PairLimits, Tried, contests, paths_of, siblings
from atomthink_plugin.training.records import Pair, engine_question, read_records
from atomthink_plugin.training.train.dpo import train_dpo
from atomthink_plugin.training.train.recipe import DpoRecipe
from atomthink_plugin.training.train.tokens import picture
from tests.training.train.demo_data import MODEL, demo_chains


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def node(name: str, parent: str, score: float | None, answer: str | None = None, rejected: str | None = None) -> Node:
    return Node(name, parent, f"Step {name}", score, None, 1, 1, answer, rejected)


NODES = (  # as a journal has it: in the order of the parents' names
    node("e", "a", 0.5, "11"),
    node("f", "a", 0.45, "12"),
    node("g", "b", None, "13"),
    node("a", "root", 0.9),
    node("b", "root", 0.3),
    node("c", "root", 0.6),
    node("d", "root", 0.0, rejected="empty"),
    node("h", "d", 0.9, "11"),
)
TREE = Outcome("", "11", ("Step a", "Step e"), (0.9, 0.5), 0.7, "final", Usage(), NODES)


def test_siblings_far_enough_apart_are_pairs_the_furthest_first() -> None:
    steps, tried = paths_of(TREE, "11")
    assert list(siblings(NODES, steps, PairLimits(margin=0.2))) == [((), "Step a", "Step b")]
    assert list(siblings(NODES, steps, PairLimits(margin=0.3, per_prefix=9))) == [
        ((), "Step a", "Step b"),
        ((), "Step a", "Step c"),
        ((), "Step c", "Step b"),
    ]
    assert (("Step a",), "Step e", "Step f") in siblings(NODES, steps, PairLimits(margin=0.05))
    assert [(path.steps[-1], path.right) for path in tried] == [
        ("Step e", True), ("Step f", False), ("Step g", False)
    ]  # fmt: skip
    assert paths_of(TREE, "")[1] == []


def test_whole_paths_part_where_they_differ() -> None:
    tried = [Tried(("a", "b", "c"), True), Tried(("a", "x"), False), Tried(("y",), False), Tried(("a", "b", "c"), True)]
    assert list(contests(tried, 9)) == [(("a",), ("b", "c"), ("x",)), ((), ("a", "b", "c"), ("y",))]
    assert len(list(contests(tried, 1))) == 1
    assert list(contests(tried[:1], 9)) == []
    assert list(contests([*tried[:2], Tried(("a", "x"), True)], 9)) == []  # two answers are said to be right


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions about the demo's figures, a journal of a search for two of them, and chains right and wrong."""
    folder = tmp_path_factory.mktemp("pairs")
    chains = demo_chains(folder, 3)
    journal = Journal(folder / "runs", "slow", {})
    for chain in chains[:2]:
        tree = tuple(node(*given) for given in (("a", "root", 0.9), ("b", "root", 0.2)))
        ends = (node("e", "a", 0.8, chain.answer), node("f", "b", 0.1, "-1"))
        outcome = Outcome("", None, (), (), 0.0, "final", Usage(), (*ends, *tree))
        journal.put(engine_question(chain.id, chain.question, [picture(folder / chain.images[0], None)]), outcome)
    journal.put(engine_question("elsewhere", "How many?", []), Outcome("", None, (), (), 0.0, "final", Usage(), NODES))
    journal.close()
    (folder / "journal").symlink_to(journal.folder)
    wrong = {**lines(folder / "chains.jsonl")[2], "id": "wrong"}
    wrong["steps"] = [*wrong["steps"][:-1], "Step 99: To sum up, the final answer is: -1."]
    (folder / "tried.jsonl").write_text((folder / "chains.jsonl").read_text() + json.dumps(wrong) + "\n")
    return folder


def test_the_command_makes_pairs_of_journals_and_chains(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = ["--questions", str(folder / "chains.jsonl")]
    command = ["pairs", str(folder / "journal"), str(folder / "tried.jsonl"), "--out", str(tmp_path / "in" / "p.jsonl")]
    assert main([*command, *questions]) == 0
    found = read_records(tmp_path / "in" / "p.jsonl", Pair)
    assert not found.rejects
    kinds = Counter((pair.id.split("/")[1], len(pair.chosen), len(pair.history)) for pair in found.records)
    chains = lines(folder / "chains.jsonl")
    last = len(chains[2]["steps"]) - 1
    assert kinds == {("step", 1, 0): 2, ("path", 2, 0): 2, ("path", 1, last): 1}
    assert {pair.question for pair in found.records} == {chain["question"] for chain in chains}
    assert main(command) == 2
    assert "--questions" in capsys.readouterr().err
    assert main([*command, *questions, "--margin", "2"]) == 2
    assert "--margin" in capsys.readouterr().err
    assert main(["pairs", str(folder / "chains.jsonl"), "--out", str(tmp_path / "none.jsonl")]) == 2
    assert "no pair" in capsys.readouterr().err


def test_what_gives_no_pair_is_set_aside_with_its_reason(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("INFO")
    chains = lines(folder / "chains.jsonl")
    questions = [engine_question(chain["id"], chain["question"], []) for chain in chains]
    lost = engine_question("lost", "Lost?", [])
    journal = Journal(tmp_path / "runs", "slow", {})
    for question in (questions[0], lost):
        journal.put(question, Failure("the server was away"))
    journal.put(questions[0], TREE)  # asked again, and done
    journal.put(engine_question("elsewhere", "How many?", []), TREE)
    journal.close()
    with (journal.folder / "rank1.jsonl").open("w") as torn:
        torn.write('{"key": "to')
    (tmp_path / "images").symlink_to(folder / "images")
    known = tmp_path / "questions.jsonl"
    known.write_bytes((folder / "chains.jsonl").read_bytes() + b'{"id": "odd"}\n{"id": "Caf\xe9"}\n')
    open_ended = [{**chains[0], "steps": chains[0]["steps"][:1]}, {**chains[1], "answer": None}, {"id": "none"}]
    tried = tmp_path / "tried.jsonl"
    tried.write_text("".join(json.dumps(chain) + "\n" for chain in [*open_ended, chains[2]]))
    out = tmp_path / "pairs.jsonl"
    assert main(["pairs", str(journal.folder), str(tried), "--questions", str(known), "--out", str(out)]) == 0
    rejects = {one["where"]: one["reason"] for one in lines(tmp_path / "pairs.rejects.jsonl")}
    assert {where: reason.split(":")[0] for where, reason in rejects.items()} == {
        "questions.jsonl:4": "question",
        "questions.jsonl:5": "no JSON",
        "rank0.jsonl:2": "it failed",
        "rank0.jsonl:4": "its question is not in --questions",
        "rank1.jsonl:1": "torn, or of no search",
        "tried.jsonl:3": "question",
        "tried.jsonl, id '0'": "it states no final answer",
        "tried.jsonl, id '1'": "its right answer is not known",
    }
    counts = dict(reversed(part.split(" ", 1)) for part in caplog.messages[-3].split("; "))
    assert {name: counts[name] for name in counts if "pairs" not in name} == {
        **{"questions": "5", "questions set aside": "2", "searches": "3", "searches set aside": "2"},
        **{"chains": "4", "chains set aside": "3", "lines of a journal": "1", "lines of a journal set aside": "1"},
        "nodes outside the question's own chains": "1",
    }
    assert main(["pairs", str(journal.folder.parent), "--questions", str(known), "--out", str(out)]) == 2
    assert str(journal.folder) in capsys.readouterr().err
    known.write_text('{"id": "odd"}\n')
    assert main(["pairs", str(journal.folder), "--questions", str(known), "--out", str(out)]) == 2


def test_what_is_no_sampled_step_of_the_question_is_in_no_pair(folder: Path, tmp_path: Path, caplog: Any) -> None:
    """Verdicts, written texts, what follows them, other units, and trees of another root or of given steps."""
    caplog.set_level("INFO")
    chain = demo_chains(tmp_path, 1)[0]
    right, wrong = chain.answer, "-1"
    nodes = (
        node("a", "root", 0.9),
        node("b", "root", 0.1),
        replace(node("verdict", "root", 1.0, right), use="judge", role="judge"),
        replace(node("rewritten", "root", 0.0, wrong), role=""),
        replace(node("reply", "root", 0.0), unit="reply"),
        replace(node("critique", "a", 0.9), use="critic"),
        replace(node("wait", "b", 0.9), role=""),
        node("a right", "a", 0.8, right),
        node("a wrong", "a", 0.3, wrong),
        *(node(f"{name} of {parent}", parent, score, answer) for parent in ("critique", "wait", "root-1f", "9c0de")
          for name, score, answer in (("right", 0.8, right), ("wrong", 0.1, wrong))),
    )  # fmt: skip
    journal = Journal(tmp_path / "runs", "slow", {})
    question = engine_question(chain.id, chain.question, [picture(tmp_path / chain.images[0], None)])
    journal.put(question, Outcome("", None, (), (), 0.0, "final", Usage(), nodes))
    journal.close()
    out = tmp_path / "pairs.jsonl"
    command = ["pairs", str(journal.folder), "--questions", str(tmp_path / "chains.jsonl"), "--out", str(out)]
    assert main([*command, "--margin", "0.05", "--per-prefix", "99", "--per-question", "99"]) == 0
    found = {(pair.history, pair.chosen, pair.rejected) for pair in read_records(out, Pair).records}
    ends = (("Step a",), ("Step a right",), ("Step a wrong",))
    assert found == {((), ("Step a",), ("Step b",)), ends}
    assert "12 nodes outside" in caplog.text


def test_the_command_searches_for_pairs_itself(folder: Path, tmp_path: Path) -> None:
    arguments = (
        "thinking=slow,search=greedy,candidates=4,temperature=1.0,device=cpu"  # warm enough that siblings differ
    )
    questions = ["--questions", str(folder / "chains.jsonl"), "--margin", "0.001"]
    out = tmp_path / "pairs.jsonl"
    assert main(["pairs", "--model", "atomthink_tiny", "--model_args", arguments, *questions, "--out", str(out)]) == 0
    found = read_records(out, Pair)
    assert found.records
    assert not found.rejects
    assert all(len(pair.chosen) == len(pair.rejected) == 1 for pair in found.records if "/step/" in pair.id)


def margin(checkpoint: Checkpoint, pair: dict[str, Any], folder: Path) -> float:
    """How much likelier the chosen side is than the rejected one."""
    encoder, totals = Encoder(checkpoint), []
    path = Steps(engine_question("q", pair["question"], [picture(folder / image, None) for image in pair["images"]]))
    prompt = encoder.encode(Continue().render(path))
    for side in ("chosen", "rejected"):
        ids = encoder.pieces([f"{step}\n\n" for step in pair[side]])
        inputs = prompt.extend(ids)
        with torch.no_grad():
            logits = checkpoint.model(**inputs.tokens, **inputs.media).logits[0, -len(ids) - 1 : -1]
        totals.append(torch.log_softmax(logits, -1).gather(1, torch.tensor(ids)[:, None]).sum().item())
    return totals[0] - totals[1]


def recipe(folder: Path, **given: Any) -> DpoRecipe:
    told = {
        "model_name_or_path": MODEL,
        "data": str(folder / "pairs.jsonl"),
        "output_dir": folder / "out",
        "per_device_train_batch_size": 2,
    }
    told |= {
        "bf16": False,
        "save_dtype": "float32",
        "max_steps": 4,
        "logging_steps": 1,
        "learning_rate": 1e-4,
        "warmup_steps": 0,
    }
    return DpoRecipe.model_validate(told | given)


@pytest.mark.parametrize("lora", [{}, {"use_peft": True, "lora_r": 4, "lora_alpha": 8}])
def test_tuning_makes_the_chosen_side_likelier_and_sets_bad_pairs_aside(
    folder: Path, tmp_path: Path, lora: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "images").symlink_to(folder / "images")
    chains = lines(folder / "chains.jsonl")
    good = [
        {"id": c["id"], "question": c["question"], "images": c["images"], "chosen": c["steps"][:1]}
        | {"rejected": [c["steps"][0].replace("Step 1", "Step 7")]}
        for c in chains[:2]
    ]
    bad = [
        {**good[0], "id": "equal", "rejected": good[0]["chosen"]},
        {**good[0], "id": "empty", "rejected": []},
        {**good[0], "id": "no image", "images": ["none.png"]},
        {**good[0], "id": "long", "question": "How many? " * 500},
        {**good[0], "id": "atomic", "format": "atomic", "chosen": ["Step 1: a.", "Step 2: b."]},
        {**good[0], "id": "odd", "format": "haiku"},
        good[0],
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in [*good, *bad]))
    train_dpo(recipe(tmp_path, learning_rate=1e-3 if lora else 1e-4, max_length=500, **lora))
    assert "pairs: 9 read, 2 used, 7 set aside; 2 rows" in caplog.text
    assert len(lines(tmp_path / "out" / "rejects.jsonl")) == 7
    losses = [record["loss"] for record in lines(tmp_path / "out" / "log.jsonl")]
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)  # as likely as under itself
    assert losses[-1] < losses[0]
    before, after = (load_multimodal(name, device="cpu") for name in (MODEL, str(tmp_path / "out")))
    for pair in good:
        assert margin(after, pair, tmp_path) > margin(before, pair, tmp_path) + 0.01


def test_a_second_round_starts_from_the_first_and_nothing_usable_is_an_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "images").symlink_to(folder / "images")
    chain = lines(folder / "chains.jsonl")[0]
    pair = {"id": "p", "question": chain["question"], "images": chain["images"], "history": chain["steps"][:1]}
    pair |= {"chosen": chain["steps"][1:], "rejected": ["Step 2: To sum up, the final answer is: -1."]}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    train_dpo(
        recipe(
            tmp_path, output_dir=tmp_path / "one", max_steps=1, loss_type=["sigmoid", "sft"], loss_weights=[1.0, 1.0]
        )
    )
    train_dpo(recipe(tmp_path, model_name_or_path=str(tmp_path / "one"), output_dir=tmp_path / "two", max_steps=1))
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert any(not torch.equal(one[name], two[name]) for name in one)
    (tmp_path / "pairs.jsonl").write_text(json.dumps({**pair, "rejected": pair["chosen"]}) + "\n")
    with pytest.raises(AtomThinkError, match=r"1 rejected.*pairs\.jsonl:1"):
        train_dpo(recipe(tmp_path, output_dir=tmp_path / "none"))
