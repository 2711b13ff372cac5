"""Every number of a comparison is computed again from the verdicts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from atomthink_plugin.accuracy_stats import wilson
from atomthink_plugin.api import AtomThinkError, Failure, Outcome, Usage
from atomthink_plugin.cli import main
from atomthink_plugin.report.compare import compare
from atomthink_plugin.report.paired_runs import thinking
from atomthink_plugin.searches.majority import majority
from atomthink_plugin.searches.quick import quick
from tests.report.runs import search_all, write_run
from tests.report.test_scale import TREE

COSTS = Usage(policy_calls=3, score_calls=2, generated=40, seconds=0.5)
FIRST = [True] * 12 + [False] * 4 + [True] * 8
SECOND = [True] * 12 + [False] * 4 + [False] * 6 + [True] * 2


def answered(verdicts: Sequence[bool], tokens: int = 40) -> list[Outcome | Failure]:
    right = Outcome("The answer is 1.", "1", ("The answer is 1.",), (None,), 0.0, "final", COSTS)
    right = replace(right, usage=replace(COSTS, generated=tokens))
    return [right if verdict else replace(right, text="The answer is 2.", answer="2") for verdict in verdicts]


def half(doc_id: int) -> dict[str, list[str]]:
    return {"half": ["first" if doc_id < 12 else "second"], "skill": ["reading", "adding"][: 1 + doc_id % 2]}


def write(folder: Path, verdicts: Sequence[bool], tokens: int = 40, **given: Any) -> Path:
    return write_run(folder, answered(verdicts, tokens), ["1"] * len(verdicts), groups=half, **given).out


def binomial(won: int, lost: int) -> float:
    tail = sum(math.comb(won + lost, k) for k in range(min(won, lost) + 1)) / 2 ** (won + lost)
    return min(1.0, 2 * tail)


def test_rows_hold_accuracy_cost_and_the_paired_test(tmp_path: Path) -> None:
    first, second = write(tmp_path / "cot", FIRST), write(tmp_path / "direct", SECOND, tokens=10)
    _, found = compare([first, second], [], False, False)
    one, other = found["rows"]
    assert (one.accuracy[0], other.accuracy[0]) == (20 / 24, 14 / 24)
    assert other.accuracy[1:] == pytest.approx(wilson(14, 24))
    assert one.contrast is None
    assert (other.contrast.won, other.contrast.lost) == (0, 6)
    assert other.contrast.p == pytest.approx(binomial(0, 6))
    assert other.contrast.difference[0] == pytest.approx(-6 / 24)
    assert (one.tokens, one.prm_calls, one.latency, one.seconds) == (40, 2, 0.5, 8.0 / 24)
    assert other.tokens == 10


def test_categories_are_sorted_by_loss_and_corrected_together(tmp_path: Path) -> None:
    first, second = write(tmp_path / "cot", FIRST), write(tmp_path / "direct", SECOND)
    _, found = compare([first, second], [], False, False)
    by_value = {(one.grouping, one.value): one for one in found["categories"]}
    assert set(by_value) == {("half", "first"), ("half", "second"), ("skill", "reading"), ("skill", "adding")}
    hurt = by_value["half", "second"]
    assert (hurt.questions, hurt.first[0], hurt.accuracy[0]) == (12, 8 / 12, 2 / 12)
    assert (hurt.contrast.won, hurt.contrast.lost) == (0, 6)
    odd = [i for i in range(24) if i % 2]
    lost = sum(FIRST[i] and not SECOND[i] for i in odd)
    assert by_value["skill", "adding"].contrast.lost == lost
    p = {key: binomial(one.contrast.won, one.contrast.lost) for key, one in by_value.items()}
    assert {key: one.contrast.p for key, one in by_value.items()} == pytest.approx(p)
    stepped, largest = {}, 0.0
    for rank, key in enumerate(sorted(p, key=lambda key: p[key])):
        largest = max(largest, min(1.0, p[key] * (4 - rank)))
        stepped[key] = largest
    assert sorted(one.p for one in by_value.values()) == pytest.approx(sorted(stepped.values()))


def test_at_equal_tokens_a_vote_has_as_many_candidates_as_they_pay_for(tmp_path: Path) -> None:
    """By brute force: the mean of all subsets of two and of three, mixed so that tokens are met."""
    voted = search_all(majority(6), [TREE] * 5)
    each = fmean(outcome.usage.generated for outcome in voted) / 6
    cheap = answered([True, False, True, False, False], tokens=round(2.5 * each))
    first = write_run(tmp_path / "cheap", cheap, ["1"] * 5, {"name": "quick"}).out
    second = write_run(tmp_path / "vote", voted, ["1"] * 5, {"name": "majority", "n": 6}).out
    _, found = compare([first, second], [], False, False)
    (cut,) = found["equal_tokens"]
    assert (cut.run, cut.other) == ("out (2)", "out (1)")
    assert cut.tokens == round(2.5 * each)
    assert cut.candidates == pytest.approx(cut.tokens / each)

    def share(outcome: Outcome, size: int) -> float:
        """Its two answers are as likely, so that a tie goes by likelihood, which is equal, and then to the first."""
        answers = {node.id: node.answer for node in outcome.nodes}
        ends = [answers[rollout.end] for rollout in outcome.rollouts]
        return fmean(
            max(one, key=lambda end: (one.count(end), -one.index(end))) == "1" for one in combinations(ends, size)
        )

    part = cut.candidates - 2
    expected = [(1 - part) * share(outcome, 2) + part * share(outcome, 3) for outcome in voted]
    assert cut.accuracy[0] == pytest.approx(fmean(expected))
    assert cut.other_accuracy[0] == 2 / 5
    assert cut.difference[0] == pytest.approx(fmean(expected) - 2 / 5)


def test_the_cost_of_failed_questions_counts(tmp_path: Path) -> None:
    voted = search_all(majority(6), [TREE] * 5)
    spent = voted[0].usage.generated
    failing = [*voted, *[Failure("no", Usage(generated=spent))] * 5]
    cheap = answered([True] * 10, tokens=round(0.75 * spent))
    first = write_run(tmp_path / "cheap", cheap, ["1"] * 10, {"name": "quick"}).out
    second = write_run(tmp_path / "vote", failing, ["1"] * 10, {"name": "majority", "n": 6}).out
    _, found = compare([first, second], [], False, False)
    (cut,) = found["equal_tokens"]
    # Half of the questions spend all of it however few candidates the others have: (n / 6 + 1) / 2 of it in all.
    assert cut.candidates == pytest.approx(6 * (2 * cut.tokens / spent - 1))
    assert cut.accuracy[0] < 0.5


def test_candidates_are_not_reduced_if_the_judge_disagrees_with_the_task(tmp_path: Path) -> None:
    voted = search_all(majority(6), [TREE] * 5)
    first = write_run(tmp_path / "cheap", answered([True] * 5, tokens=20), ["1"] * 5, {"name": "quick"}).out
    wrong = {"acc": 0.0}
    second = write_run(tmp_path / "vote", voted, ["1"] * 5, {"name": "majority", "n": 6}, extra=wrong).out
    _, found = compare([first, second], [], False, False)
    assert found["equal_tokens"] == []
    assert any("of 5" in note and "`out (2)`" in note for note in found["notes"])


def test_a_run_without_candidates_is_not_reduced_with_a_note(tmp_path: Path) -> None:
    first, second = write(tmp_path / "cheap", FIRST, tokens=10), write(tmp_path / "dear", SECOND, tokens=90)
    _, found = compare([first, second], [], False, False)
    assert found["equal_tokens"] == []
    assert any("`out (2)`" in note for note in found["notes"])


def test_failed_questions_count_as_wrong_and_are_counted(tmp_path: Path) -> None:
    first = write(tmp_path / "a", FIRST)
    failing = [*answered(FIRST[:-1]), Failure("too long")]
    second = write_run(tmp_path / "b", failing, ["1"] * 24, groups=half).out
    _, found = compare([first, second], [], False, False)
    assert found["rows"][1].failed == 1
    assert found["rows"][1].accuracy[0] == 19 / 24
    assert found["rows"][1].tokens == 23 * 40 / 24  # of all questions, as accuracy is


def test_a_failed_question_is_wrong_whatever_the_task_makes_of_its_empty_reply(tmp_path: Path) -> None:
    first = write(tmp_path / "a", [True, False])
    failed = Failure("too long", replace(COSTS, generated=60))
    second = write_run(tmp_path / "b", [*answered([True]), failed], ["1"] * 2, groups=half, extra={"acc": 1.0}).out
    row = compare([first, second], [], False, False)[1]["rows"][1]
    assert (row.accuracy[0], row.tokens, row.prm_calls) == (0.5, 50, 2)


def test_different_question_sets_need_the_option_common(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", FIRST), write(tmp_path / "b", SECOND[:20])
    with pytest.raises(AtomThinkError, match=r"\b4 .*`out \(1\)`.*sums 20, .*--common") as refused:
        compare([first, second], [], False, False)
    assert "`out (2)`" in str(refused.value)
    _, found = compare([first, second], [], True, False)
    assert [row.questions for row in found["rows"]] == [20, 20]
    assert found["rows"][0].accuracy[0] == fmean(FIRST[:20])
    assert any("`out (1)`: 4 questions" in note for note in found["notes"])


def test_equal_indices_of_other_data_are_different_questions(tmp_path: Path) -> None:
    first = write(tmp_path / "a", FIRST)
    second = write_run(tmp_path / "b", answered(SECOND), ["2"] * 24, groups=half).out
    for common in (False, True):
        with pytest.raises(AtomThinkError, match="answer 2"):
            compare([first, second], [], common, False)


def test_other_tasks_are_named(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", FIRST), write(tmp_path / "b", SECOND, task="products", scorer="x")
    third = write(tmp_path / "c", FIRST, scorer="x")
    with pytest.raises(AtomThinkError, match=r"sums.*products"):
        compare([third, second], [], False, False)
    with pytest.raises(AtomThinkError, match=r"sums.*products"):
        compare([first, second], [], True, False)


def test_different_scorers_need_the_option_any_scorer(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", FIRST, scorer="rules 1"), write(tmp_path / "b", SECOND, scorer="rules 2")
    with pytest.raises(AtomThinkError, match=r"rules 1.*rules 2.*--any-scorer"):
        compare([first, second], [], False, False)
    assert len(compare([first, second], [], False, True)[1]["rows"]) == 2


def test_a_single_run_and_a_run_without_verdicts_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", answered(FIRST), ["1"] * 24)
    with pytest.raises(AtomThinkError, match=r"`.*out`"):
        compare([run.out], [], False, False)
    assert run.journal is not None
    with pytest.raises(AtomThinkError, match=run.journal.name):
        compare([run.out, run.journal], [], False, False)


def test_the_command_prints_and_writes_the_same_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = write(tmp_path / "a", FIRST), write(tmp_path / "b", SECOND)
    files = {name: tmp_path / f"found.{name}" for name in ("json", "markdown")}
    options = [part for name, file in files.items() for part in (f"--{name}", str(file))]
    assert main(["compare", str(first), str(second), *options]) == 0
    printed, written = capsys.readouterr().out, files["markdown"].read_text()
    for shown in ("83.3 [", "58.3 [", "-25.0 [", "+0 -6", "half: second", "corrected p"):
        assert shown in printed
        assert shown in written
    record = json.loads(files["json"].read_text())
    assert [row["accuracy"][0] for row in record["rows"]] == [20 / 24, 14 / 24]
    assert {one["value"] for one in record["categories"]} == {"first", "second", "reading", "adding"}


def test_names_are_printed_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd: Mapping[str, Any] = {"groups": {"kind": ["[bold]a|b", "x"]}}
    runs = [write_run(tmp_path / name, answered(FIRST), ["1"] * 24, extra=odd).out for name in "ab"]
    runs = [run.rename(run.with_name(name)) for run, name in zip(runs, ("first[slow]", "[red]"), strict=True)]
    file = tmp_path / "found.md"
    assert main(["compare", *map(str, runs), "--markdown", str(file)]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("[bold]a", "first[slow]", "[red]"))
    assert "[bold]a\\|b" in file.read_text()


def test_each_run_has_its_own_journal(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, answered(FIRST), ["1"] * 24) for name in "ab"]
    journals = [run.journal for run in runs if run.journal is not None]
    moved = [journal.rename(tmp_path / f"{i}-{journal.name}") for i, journal in enumerate(journals)]
    places = [place.parent / str(i) / journals[i].name for i, place in enumerate(moved)]
    for place, folder in zip(places, moved, strict=True):
        place.parent.mkdir()
        folder.rename(place)
    _, found = compare([run.out for run in runs], [place.parent for place in places], False, False)
    assert [row.latency for row in found["rows"]] == [0.5, 0.5]
    with pytest.raises(AtomThinkError, match=r"--journal.*\b1\b.*\b2\b"):
        compare([run.out for run in runs], places[:1], False, False)


def test_a_search_is_described_in_one_line() -> None:
    assert thinking({"thinking": "slow", "search": {"name": "beam", "beams": 2}}) == "slow beam beams=2"
    assert thinking({"thinking": "quick", "search": {"name": "quick"}}) == "quick"
    assert thinking({"model_args": "pretrained=x"}) == "pretrained=x"


def test_a_run_with_one_chain_is_not_reduced(tmp_path: Path) -> None:
    chains = search_all(quick(), [TREE] * 3)
    first = write_run(tmp_path / "a", answered([True] * 3, tokens=1), ["1"] * 3).out
    second = write_run(tmp_path / "b", chains, ["1"] * 3, {"name": "quick"}).out
    _, found = compare([first, second], [], False, False)
    assert found["equal_tokens"] == []
    assert any("`out (2)`" in note for note in found["notes"])
