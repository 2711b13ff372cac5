"""Candidates of our own runs, with the samples of the harness and from the journal alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from atomthink_plugin.api import AtomThinkError, Failure, Message, Outcome, Question, Usage
from atomthink_plugin.rollouts.candidate_verdicts import BY_RULES, judge_candidates
from atomthink_plugin.rollouts.readers.run_folder import _candidates, scorer_name
from atomthink_plugin.rollouts.rollout_file import RUN, read_rollouts
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.searches.best_of_n import best_of_n
from tests.report.pages import grove, red
from tests.report.runs import Written, search_all, write_run

ANSWERS = ("4", "7")


def best_of_four() -> list[Outcome | Failure]:
    outcomes = search_all(best_of_n(4), [grove(answer) for answer in ANSWERS])
    return [*outcomes, Failure("the image is truncated", Usage())]


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome | Failure]:
    return best_of_four()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, outcomes: list[Outcome | Failure]) -> Written:
    search = {"name": "best_of_n", "n": 4}
    return write_run(tmp_path_factory.mktemp("run"), outcomes, ["4", "4", "4"], search=search, images=red)


def test_the_rollouts_of_a_run_are_candidates_in_the_order_of_their_samples(
    run: Written, outcomes: list[Outcome | Failure]
) -> None:
    found = read_rollouts([str(run.out)])
    assert (found.format, found.records, len(found.sets)) == (RUN, 3, 2)
    for one, outcome in zip(found.sets, outcomes, strict=False):
        assert isinstance(outcome, Outcome)
        chains = outcome.chains()
        assert [candidate.steps for candidate in one.candidates] == [chains[each.end] for each in outcome.rollouts]
        assert [candidate.tokens for candidate in one.candidates] == [each.tokens for each in outcome.rollouts]
        assert len(one.candidates) == 4
    assert [one.gold for one in found.sets] == ["4", "4"]
    assert all(len(one.pictures) == 1 for one in found.sets)
    assert "truncated" in found.rejects[0].reason


def test_the_chosen_chain_is_among_the_candidates_with_its_scores(
    run: Written, outcomes: list[Outcome | Failure]
) -> None:
    found = read_rollouts([str(run.out)])
    for one, outcome in zip(found.sets, outcomes, strict=False):
        assert isinstance(outcome, Outcome)
        chosen = [candidate for candidate in one.candidates if candidate.steps == outcome.steps]
        assert chosen
        assert chosen[0].answer == outcome.answer
        assert all(candidate.text == outcome.text for candidate in chosen)


def test_a_candidate_without_a_score_or_a_probability_of_each_step_has_none_of_them(
    outcomes: list[Outcome | Failure],
) -> None:
    outcome = outcomes[0]
    assert isinstance(outcome, Outcome)
    first = outcome.rollouts[0].end
    nodes = tuple(replace(one, score=None, logprob=None) if one.id == first else one for one in outcome.nodes)
    for rollout, candidate in zip(outcome.rollouts, _candidates(replace(outcome, nodes=nodes), "prm"), strict=True):
        assert (candidate.logprob is None) == (rollout.end == first)
        assert bool(candidate.scores) == (rollout.end != first)
        assert all(len(scores) == len(candidate.steps or ()) for scores in candidate.scores.values())


def test_candidates_of_a_run_are_judged_by_equivalence_without_a_benchmark(run: Written) -> None:
    judged = judge_candidates(read_rollouts([str(run.out)]).sets)
    assert judged.by == {BY_RULES: 8}
    for one in judged.sets:
        assert [candidate.correct for candidate in one.candidates] == [each.answer == "4" for each in one.candidates]


def test_a_journal_alone_has_candidates_and_no_right_answers(run: Written) -> None:
    assert run.journal is not None
    found = read_rollouts([str(run.journal)])
    with_samples = read_rollouts([str(run.out)])
    assert [one.candidates for one in found.sets] == [one.candidates for one in with_samples.sets]
    assert [one.gold for one in found.sets] == [None, None]
    assert judge_candidates(found.sets).sets == ()


def test_the_finished_paths_of_a_stepwise_search_are_candidates(tmp_path: Path) -> None:
    (outcome,) = search_all(beam(2, 3), [grove("4")])
    run = write_run(tmp_path, [outcome], ["4"], search={"name": "beam", "beams": 2})
    (one,) = read_rollouts([str(run.out)]).sets
    chains = set(outcome.chains().values())
    assert one.candidates
    assert all(candidate.steps in chains and candidate.answer is not None for candidate in one.candidates)
    assert outcome.steps in [candidate.steps for candidate in one.candidates]


def test_repeats_of_a_question_are_in_the_journal_alone(tmp_path: Path) -> None:
    first, second, unknown = search_all(best_of_n(2), [grove(answer) for answer in ("4", "4", "4")])
    run = write_run(tmp_path, [first, Failure("no image", Usage())], ["4", "5"], images=red)
    assert run.journal is not None
    journal = Journal(run.journal.parent, "run", json.loads((run.journal / "settings.json").read_text()))
    for name, result in (("sums/test/0/1", second), ("sums/test/1/1", second), ("sums/test/7/0", unknown)):
        journal.put(Question(name, (Message("user", ("Another wording", *red(0))),)), result)
    journal.close()
    found = read_rollouts([str(run.out)])
    assert [(one.id, len(one.candidates), one.gold) for one in found.sets] == [("sums/0", 4, "4"), ("sums/1", 2, "5")]
    assert [reject.where.partition(": ")[2] for reject in found.rejects] == ["sums/1/0"]


def test_a_search_without_a_finished_path_has_its_chosen_path_as_a_candidate(tmp_path: Path) -> None:
    (outcome,) = search_all(beam(1, 2), [grove("4")], max_steps=1)
    assert outcome.answer is None
    run = write_run(tmp_path, [outcome], ["4"], search={"name": "beam", "beams": 1})
    found = read_rollouts([str(run.out)])
    (candidate,) = found.sets[0].candidates
    assert (candidate.steps, candidate.answer, found.rejects) == (outcome.steps, None, ())
    assert judge_candidates(found.sets).sets[0].candidates[0].correct is False


def test_the_samples_of_another_model_are_read_from_its_folder(tmp_path: Path) -> None:
    (outcome,) = search_all(best_of_n(2), [grove("4")])
    run = write_run(tmp_path, [outcome], ["4"], journal=False)
    found = read_rollouts([str(run.out)])
    assert (found.format, len(found.sets[0].candidates)) == ("lmms_eval", 1)
    assert found.sets[0].candidates[0].correct == (outcome.answer == "4")
    with pytest.raises(AtomThinkError, match="journal"):
        read_rollouts([str(run.out)], format=RUN)


@pytest.mark.parametrize(
    ("scorer", "name"),
    [
        ({"kind": "prm_token", "prm": "ORG/PRM"}, "ORG/PRM"),
        ({"kind": "prm_token", "prm": "/models/own/prm"}, "prm"),
        ({"kind": "confidence"}, "confidence"),
        (None, ""),
    ],
)
def test_the_scores_of_a_run_have_the_name_of_its_prm(scorer: dict[str, str] | None, name: str) -> None:
    assert scorer_name({"scorer": scorer}) == name
