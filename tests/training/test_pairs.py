"""Pairs from journals, from chains and from a search that the command runs itself."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from atomthink_plugin.api import Failure, Node, Outcome, Usage
from atomthink_plugin.cli import main
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.training.images import shared_image
from atomthink_plugin.training.pairs import FinishedPath, PairLimits, path_pairs, paths_of, sibling_pairs
from atomthink_plugin.training.records import Pair, engine_question, read_records
from tests.training.annotate.teacher_server import lines
from tests.training.train.demo_data import demo_chains


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


def test_siblings_whose_scores_differ_enough_are_pairs_the_largest_difference_first() -> None:
    steps, paths = paths_of(TREE, "11")
    assert list(sibling_pairs(NODES, steps, PairLimits(margin=0.2))) == [((), "Step a", "Step b")]
    assert list(sibling_pairs(NODES, steps, PairLimits(margin=0.3, per_prefix=9))) == [
        ((), "Step a", "Step b"),
        ((), "Step a", "Step c"),
        ((), "Step c", "Step b"),
    ]
    assert (("Step a",), "Step e", "Step f") in sibling_pairs(NODES, steps, PairLimits(margin=0.05))
    assert [(path.steps[-1], path.right) for path in paths] == [
        ("Step e", True), ("Step f", False), ("Step g", False)
    ]  # fmt: skip
    assert paths_of(TREE, "")[1] == []


def test_whole_paths_part_where_they_differ() -> None:
    paths = [
        FinishedPath(("a", "b", "c"), True),
        FinishedPath(("a", "x"), False),
        FinishedPath(("y",), False),
        FinishedPath(("a", "b", "c"), True),
    ]
    assert list(path_pairs(paths, 9)) == [(("a",), ("b", "c"), ("x",)), ((), ("a", "b", "c"), ("y",))]
    assert len(list(path_pairs(paths, 1))) == 1
    assert list(path_pairs(paths[:1], 9)) == []
    assert list(path_pairs([*paths[:2], FinishedPath(("a", "x"), True)], 9)) == []  # two right answers


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
        journal.put(engine_question(chain.id, chain.question, [shared_image(folder / chain.images[0])]), outcome)
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
    assert "--margin" in capsys.readouterr().err


def test_sources_that_give_no_pair_are_rejected_with_their_place(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    assert {one["where"] for one in lines(tmp_path / "pairs.rejects.jsonl")} == {
        *("questions.jsonl:4", "questions.jsonl:5"),
        *("rank0.jsonl:2", "rank0.jsonl:4"),  # failed, and a question that is not known
        "rank1.jsonl:1",
        *("tried.jsonl:3", "tried.jsonl, id '0'", "tried.jsonl, id '1'"),  # damaged, no answer stated, none known
    }
    printed = [line.partition(": ") for line in capsys.readouterr().out.splitlines()]
    counts = {name: [int(word) for word in counted.split() if word.isdigit()] for name, _, counted in printed}
    expected = {"questions": [5, 2], "searches": [3, 2], "damaged lines": [1, 1], "chains": [4, 3]}
    expected["nodes outside the question's own chains"] = [1]
    assert expected.items() <= counts.items()
    assert main(["pairs", str(journal.folder.parent), "--questions", str(known), "--out", str(out)]) == 2
    assert str(journal.folder) in capsys.readouterr().err
    known.write_text('{"id": "odd"}\n')
    assert main(["pairs", str(journal.folder), "--questions", str(known), "--out", str(out)]) == 2


def test_only_sampled_steps_of_the_question_are_in_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not in pairs: verdicts, written texts, steps after them, other units, trees of other roots or of given steps."""
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
    question = engine_question(chain.id, chain.question, [shared_image(tmp_path / chain.images[0])])
    journal.put(question, Outcome("", None, (), (), 0.0, "final", Usage(), nodes))
    journal.close()
    out = tmp_path / "pairs.jsonl"
    command = ["pairs", str(journal.folder), "--questions", str(tmp_path / "chains.jsonl"), "--out", str(out)]
    assert main([*command, "--margin", "0.05", "--per-prefix", "99", "--per-question", "99"]) == 0
    found = {(pair.history, pair.chosen, pair.rejected) for pair in read_records(out, Pair).records}
    ends = (("Step a",), ("Step a right",), ("Step a wrong",))
    assert found == {((), ("Step a",), ("Step b",)), ends}
    printed = dict(line.partition(": ")[::2] for line in capsys.readouterr().out.splitlines())
    assert printed["nodes outside the question's own chains"] == "12"


@pytest.mark.slow
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
