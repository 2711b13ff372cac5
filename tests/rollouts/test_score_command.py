"""`atomthink score` as a user types it: figures, step scores of a file, and real solutions of GSM8K."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from atomthink_plugin.api import AtomThinkError, Score, Usage
from atomthink_plugin.api import Path as EnginePath
from atomthink_plugin.cli import main
from atomthink_plugin.report.run_reader import read
from atomthink_plugin.rollouts import score_command
from atomthink_plugin.rollouts.prm_option import NamedPrm, read_prms
from atomthink_plugin.rollouts.score_command import score_rollouts
from atomthink_plugin.rollouts.selection import SelectionRule
from atomthink_plugin.scorer_plans import ScorerPlan
from atomthink_plugin.scorers.prm_profile import PublishedModel
from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import held_out
from atomthink_plugin.training.tiny.labels import slipped_steps
from tests.tiny_models import causal_prm, folder

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "model_solutions_test.jsonl.gz"


def lines(file: Path, records: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(file)


def demo_rollouts(target: Path, questions: int, each: int = 4) -> str:
    """Replies to held-out figures in VRPRM's format: a right one, and others with errors."""
    chance, records = random.Random(4), []
    for index, question in enumerate(held_out(questions)):
        draw(question).save(target / f"{index}.png")
        chains = [list(question.steps), *(slipped_steps(question, chance) for _ in range(each - 1))]
        chance.shuffle(chains)
        records.append(
            {
                "index": index,
                "vlmeval_dataset": "demo",
                "policy_model": "scripted",
                "question": question.text,
                "answer": str(question.answer),
                "images": [f"{index}.png"],
                "rollouts": ["\n\n".join(steps) for steps in chains],
            }
        )
    return lines(target / "rollouts.jsonl", records)


def scored_file(target: Path) -> str:
    """Two questions in the format of VRPRM's scores. One candidate has too few scores, one has none."""

    def candidate(index: int, text: str, scores: list[float] | None) -> dict[str, Any]:
        return {"candidate_idx": index, "rollout": text, "step_scores": scores}

    named = {"vlmeval_dataset": "sums", "policy_model": "scripted"}
    right, wrong = "Add.\n\nThe answer is 2.", "Add.\n\nThe answer is 3."
    return lines(
        target / "scored.jsonl",
        [
            {
                "index": 0,
                **named,
                "question": "1 + 1?",
                "answer": "2",
                "candidates": [candidate(0, right, [0.9, 0.9]), candidate(1, wrong, [0.9, 0.1])],
            },
            {
                "index": 1,
                **named,
                "question": "0 + 2?",
                "answer": "2",
                "candidates": [candidate(0, wrong, [0.2]), candidate(1, right, [0.3, 0.3]), candidate(2, wrong, None)],
            },
        ],
    )


def point(report: dict[str, Any], rule: str, n: int, prm: str | None = None, aggregate: str | None = None) -> Any:
    wanted = {"rule": rule, "n": n, "prm": prm, "aggregate": aggregate}
    return next(one for one in report["points"] if wanted.items() <= one.items())


@pytest.mark.slow
def test_figures_with_the_embedded_prm_and_another_one_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out, curve, run = demo_rollouts(tmp_path, 10), tmp_path / "out.json", tmp_path / "c.html", tmp_path / "runs"
    typed = ["score", source, "--prm", "atomthink_tiny", "--json", str(out), "--run", str(run)]
    assert main([*typed, "--curve", str(curve)]) == 0
    first = json.loads(out.read_text())
    best = point(first, "best_of_n", 4, "atomthink_tiny", "mean")
    assert best["accuracy"] > point(first, "single", 4)["accuracy"]
    assert best["accuracy"] <= point(first, "pass", 4)["accuracy"] == 1.0
    assert {one["n"] for one in first["points"]} == {1, 2, 4}
    assert first["prms"][0]["usage"]["score_calls"] > 0
    assert first["prms"][0]["usage"]["images"] > 0
    assert first["prms"][0]["speed"]["prefilled"] == first["prms"][0]["usage"]["prefilled"]
    assert first["prms"][0]["speed"]["models"]["prm"]["shares"]["prefill"] > 0
    assert first["prms"][0]["unscored"] == {}
    shown = capsys.readouterr().out
    assert "best of N by atomthink_tiny, min" in shown
    assert f"{100 * best['accuracy']:.1f} [" in shown
    assert "<svg" in curve.read_text()

    # The run shows the same choices, with their scores and verdicts.
    recorded = read(run / "atomthink_tiny")
    assert recorded.missing == []
    assert sum(bool(one.correct) for one in recorded.questions) / 10 == pytest.approx(best["accuracy"])
    outcome = recorded.questions[0].outcome
    assert outcome is not None
    assert len(outcome.rollouts) == 4
    assert all(node.score is not None for node in outcome.nodes)
    assert recorded.questions[0].images
    page = tmp_path / "view.html"
    assert main(["view", str(run / "atomthink_tiny"), "--out", str(page)]) == 0
    assert page.stat().st_size > 10_000

    # Again with a second PRM: the first one's scores come from the file.
    other = folder(causal_prm)
    assert main([*typed, "--prm", f"{other}:scorer=prm_token"]) == 0
    both = json.loads(out.read_text())
    assert [one["scored"] for one in both["prms"]] == [0, first["prms"][0]["scored"]]
    assert both["prms"][0]["resumed"] == first["prms"][0]["scored"]
    assert both["prms"][0]["usage"] == first["prms"][0]["usage"]
    for rule in ("single", "majority", "pass"):
        assert point(both, rule, 2) == point(first, rule, 2)
    assert point(both, "best_of_n", 4, "atomthink_tiny", "mean") == best
    assert {folder.name for folder in run.iterdir()} == {"atomthink_tiny", other.name}


def test_step_scores_of_the_file_are_used_and_what_does_not_fit_is_counted(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert main(["score", scored_file(tmp_path), "--prm", "file:vrprm", "--n", "1,2,3", "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert (report["questions"], report["candidates"], report["unanswered"]) == (2, 5, 0)
    assert sum(report["prms"][0]["unscored"].values()) == 2
    assert point(report, "best_of_n", 3, "vrprm", "mean")["questions"] == 1
    # The first question: the right one is above. The second: its only candidate with scores is right.
    assert point(report, "best_of_n", 2, "vrprm", "mean")["first"] == 1.0
    assert point(report, "best_of_n", 3, "vrprm", "mean")["accuracy"] == 1.0
    assert point(report, "majority", 3)["accuracy"] == 0.0
    assert point(report, "single", 1)["accuracy"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert not (tmp_path / "scored.jsonl.scores.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "steps", "shown"), [({}, 1, "last"), ({"split": "line"}, 3, "last"), ({"aggregate": "min"}, 1, "min")]
)
def test_a_published_prm_is_used_as_its_authors_do_unless_the_user_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], steps: int, shown: str
) -> None:
    class Published:
        """A PRM whose authors take one number for the whole reply."""

        identity = "published"
        profile = PublishedModel(
            names=("ORG/PRM",), loader="causal", licence="MIT", source="here", aggregate="last", split="none"
        )

        async def score(self, path: EnginePath) -> Score:
            return Score(0.5, Usage(score_calls=1))

    plan = SimpleNamespace(kind="published", identity={}, make=Published)
    monkeypatch.setattr(score_command, "read_prms", lambda typed: [NamedPrm("PRM", cast(ScorerPlan, plan))])
    asked = {"index": 0, "vlmeval_dataset": "sums", "policy_model": "scripted", "question": "1 + 1?", "answer": "2"}
    source = lines(tmp_path / "r.jsonl", [{**asked, "rollouts": ["Read.\n\nAdd.\nThe answer is 2."]}])
    report = score_rollouts([source], ["PRM"], **options, run=tmp_path / "runs")
    assert [len(scores) for own in report.scores[0].scores for scores in own] == [steps]
    assert read(tmp_path / "runs" / "PRM").settings["search"]["aggregate"] == shown


class Prefers:
    """A PRM that gives a high score to steps with a word."""

    def __init__(self, word: str, identity: str = "weights") -> None:
        self.word, self.identity, self.calls = word, identity, 0

    async def score(self, path: EnginePath) -> Score:
        self.calls += 1
        return Score(0.9 if self.word in path.steps[-1].text else 0.1, Usage(score_calls=1))


def named_prm(name: str, scorer: Prefers, **arguments: str) -> NamedPrm:
    return NamedPrm(name, cast(ScorerPlan, SimpleNamespace(kind="x", identity=arguments, make=lambda: scorer)))


LABELLED = {"question": "1 + 1?", "answer": "2", "solutions_splits": [["It is two."], ["The answer is 3."]]}


def test_each_prm_chooses_by_its_own_scores_and_the_verdicts_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = lines(
        tmp_path / "r.jsonl", [{**LABELLED, "labels": [1, 0]}, {**LABELLED, "question": "?", "labels": [1, 0]}]
    )
    prms = [named_prm("A", Prefers("two"), kind="a"), named_prm("B", Prefers("3"), kind="b")]
    monkeypatch.setattr(score_command, "read_prms", lambda typed: prms)
    report = score_rollouts([source], ["A", "B"], n="2", aggregate="mean")
    best = {one.rule.by.prm: one.accuracy[0] for one in report.points if one.rule.by and one.rule.kind == "best_of_n"}
    assert best == {"A": 1.0, "B": 0.0}


def test_scores_are_kept_by_the_arguments_and_the_weights_of_a_prm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = lines(tmp_path / "r.jsonl", [{**LABELLED, "labels": [1, 0]}])
    for weights, dtype, calls in (("w", "a", 2), ("w", "a", 0), ("other", "a", 2), ("w", "b", 2), ("other", "a", 0)):
        scorer = Prefers("two", weights)
        named = [named_prm("A", scorer, dtype=dtype)]
        monkeypatch.setattr(score_command, "read_prms", lambda typed, named=named: named)
        score_rollouts([source], ["A"])
        assert scorer.calls == calls


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--n", "0,2"), "--n 0,2"),
        (("--n", "9"), "--n 9"),
        (("--aggregate", "median"), "median"),
        (("--curve", "chart.pdf"), "chart.pdf"),
        (("--prm", "scorer=confidence"), "probabilities"),
        (("--prm", "ORG/PRM:scorer=confidence"), "probabilities"),
        (("--prm", "file:other"), "vrprm"),
        (("--prm", "file:vrprm", "--prm", "file:vrprm"), "twice"),
        (("--run", "runs"), "--prm"),
        (("--from", "unheard_of"), "unheard_of"),
    ],
)
def test_what_cannot_be_done_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], named: str
) -> None:
    assert main(["score", scored_file(tmp_path), *options]) == 2
    assert named in capsys.readouterr().err


def test_a_wrong_name_of_scores_is_found_before_a_prm_scores_anything(tmp_path: Path) -> None:
    prm = f"{folder(causal_prm)}:scorer=prm_token"
    assert main(["score", scored_file(tmp_path), "--prm", prm, "--prm", "file:other"]) == 2
    assert not (tmp_path / "scored.jsonl.scores.jsonl").exists()


def test_a_file_of_another_kind_is_refused_with_those_that_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("text")
    assert main(["score", str(tmp_path / "notes.txt")]) == 2
    assert ".jsonl" in capsys.readouterr().err


def test_each_prm_has_arguments_of_its_own(tmp_path: Path) -> None:
    prm = folder(causal_prm)
    assert [one.name for one in read_prms([f"{prm}:scorer=prm_token", "file:a"])] == [prm.name, "a"]
    exact, fast = read_prms([f"{prm}:prm_dtype=float32,scorer=prm_token", f"{prm}:prm_dtype=bfloat16,scorer=prm_token"])
    assert exact.plan is not None
    assert fast.plan is not None
    assert (exact.plan.identity["dtype"], fast.plan.identity["dtype"]) == ("float32", "bfloat16")
    assert exact.name != fast.name
    with pytest.raises(AtomThinkError, match="prm_typo"):
        read_prms([f"{prm}:prm_typo=1,scorer=prm_token"])


@pytest.mark.skipif(not GSM8K.exists(), reason="the real solutions are not on this machine")
def test_real_gsm8k_solutions_reach_what_their_own_verdicts_say() -> None:
    records = [json.loads(line) for line in gzip.decompress(GSM8K.read_bytes()).splitlines()]
    verdicts = [[one["is_correct"] for one in record.values() if isinstance(one, dict)] for record in records]
    report = score_rollouts([str(GSM8K)], n="1,4")
    points = {(one.rule, one.n): one for one in report.points}
    count = len(verdicts)
    assert len(report.pools) == count == 1319
    assert points[SelectionRule("single"), 1].accuracy[0] == pytest.approx(sum(map(sum, verdicts)) / 4 / count)
    assert points[SelectionRule("pass"), 4].accuracy[0] == pytest.approx(sum(map(any, verdicts)) / count)
    assert points[SelectionRule("majority"), 4].accuracy[0] <= points[SelectionRule("pass"), 4].accuracy[0]
