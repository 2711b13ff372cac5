"""Reports about a search that asks a judge, writes a reflection and begins a second tree."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from atomthink_plugin.answers import final_answer
from atomthink_plugin.api import Choice, Message, Node, Outcome, Path, Prompt, SearchTree, Unit, Usage
from atomthink_plugin.report.candidates import sampled_questions
from atomthink_plugin.report.choice_reason import choice_reason
from atomthink_plugin.report.node_status import FinishedTree, statuses
from atomthink_plugin.report.page_data import QuestionAnswers, question_details
from atomthink_plugin.report.run_reader import RunQuestion, read
from atomthink_plugin.report.scale import scaling
from atomthink_plugin.runtime.records import encode
from atomthink_plugin.testing import ScriptedPolicy, ScriptedScorer
from tests.report.browser import opened
from tests.report.pages import all_of, errors, page_of, texts
from tests.report.runs import Written, asked, write_run
from tests.trees import question, question_tree

SEARCH = {"name": "reflect"}
SUMMARY, WRONG, RIGHT = "Two numbers.", "The final answer is: 5.", "The final answer is: 4."
VERDICT, WAIT = "The final answer is: 1.", "Wait, the numbers are 1 and 3."
JOINTS = {"SUMMARY": "\n", "CONCLUSION": " "}


@dataclass(frozen=True)
class Stages:
    """A summary and its final answer, joined by a line break."""

    def render(self, path: Path) -> Prompt:
        return Prompt(path.question.messages, tuple(step.text for step in path.steps))

    def unit(self, path: Path) -> Unit:
        name = "CONCLUSION" if path.depth else "SUMMARY"
        return Unit(name, joint=JOINTS[name])

    def answer(self, text: str) -> str | None:
        return final_answer(text)


def replies(prompt: Prompt) -> Mapping[str, float]:
    if "judge" in str(prompt.messages[-1].parts):
        return {VERDICT: 1.0}
    if not prompt.begun:
        return {SUMMARY: 1.0}
    return {RIGHT: 1.0} if WAIT in prompt.prefix else {WRONG: 1.0}


async def reflect(tree: SearchTree) -> Choice:
    """Answers, asks a judge, and answers again after a written reflection. The second tree is not chosen."""
    ((summary,),) = await tree.expand([tree.root], 1)
    ((wrong,),) = await tree.expand([summary], 1)
    judge = Prompt((Message("user", ("judge: is it right?",)),))
    await tree.ask(wrong, judge, use="judge", role="judge", unit=Unit("verdict", partial=True), read=final_answer)
    reflection = tree.write(wrong, WAIT, Unit("reflection", joint="\n\n"))
    ((right,),) = await tree.expand([reflection], 1)
    tree.write(right, "Done.")
    other = tree.begin(replace(tree.question, choices=("B", "A")))
    ((again,),) = await tree.expand([other], 1)
    await tree.expand([again], 1)
    await tree.score(right)
    return Choice(right, 0.5, "final")


def thought(search: Any = reflect, count: int = 1) -> list[Outcome]:
    found = []
    for doc_id in range(count):
        judge = ScriptedPolicy(replies, identity="judge")
        tree = question_tree(
            ScriptedPolicy(replies), ScriptedScorer(lambda history: 0.25), asked=question(asked(doc_id)),
            format=Stages(), judge=judge,
        )  # fmt: skip
        found.append(tree.outcome(asyncio.run(search(tree))))
    return found


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return thought()[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, outcome: Outcome) -> Written:
    return write_run(tmp_path_factory.mktemp("asked"), [outcome], ["4"], search=SEARCH)


def named(outcome: Outcome, text: str, root: bool = True) -> Node:
    """The node with a text in the first or the second tree."""
    tree = FinishedTree(outcome)
    return next(node for node in outcome.nodes if node.text == text and (tree.root(node) == "root") is root)


def test_asked_and_written_nodes_are_not_candidates(outcome: Outcome) -> None:
    tree = FinishedTree(outcome)
    assert [tree.nodes[key].text for key in tree.chosen] == [SUMMARY, WRONG, WAIT, RIGHT]
    assert {tree.nodes[key].text for key in tree.side_nodes} == {VERDICT, "Done."}
    assert sorted(node.answer or "" for node in tree.finished) == ["4", "5", "5"]  # the judge's 1 is no answer
    status = statuses(tree, SEARCH)
    assert {key for key, one in status.items() if one.kind == "side"} == tree.side_nodes
    assert status[named(outcome, RIGHT).id].kind == "chosen"
    assert status[named(outcome, SUMMARY, root=False).id].kind == "continued"
    assert "one path" not in choice_reason(outcome, SEARCH, tree, status)


def test_a_judgement_has_no_rank_among_the_steps_of_a_beam(outcome: Outcome) -> None:
    nodes = tuple(replace(node, score=0.9 if node.use else 0.5) for node in outcome.nodes)
    status = statuses(FinishedTree(replace(outcome, nodes=nodes)), {"name": "beam", "beams": 1, "candidates": 1})
    assert status[named(outcome, VERDICT).id].rank is None
    assert status[named(outcome, WAIT).id].rank is None
    assert status[named(outcome, RIGHT).id].of == 1


def test_a_judged_last_step_is_not_extended() -> None:
    nodes = (
        Node("a", "root", "One.", 0.5, -1.0, 1, 1, None),
        Node("b", "a", "Good.", None, -1.0, 1, 1, None, use="judge"),
        Node("c", "root", "Two: 2.", 0.5, -1.0, 1, 1, "2"),
    )
    tree = FinishedTree(Outcome("Two: 2.", "2", ("Two: 2.",), (0.5,), 0.5, "final", Usage(), nodes))
    assert statuses(tree, SEARCH)["a"].kind == "ended"
    assert "one path" in choice_reason(tree.outcome, SEARCH, FinishedTree(replace(tree.outcome, nodes=nodes[2:])), {})


@pytest.mark.parametrize("texts", [("same",), ("given", "same")])
def test_the_chosen_path_is_the_one_with_the_recorded_scores(texts: tuple[str, ...]) -> None:
    """A reply outside the chain and a step of another tree may have the same text."""
    nodes = (
        Node("asked", "root", "same", None, -1.0, 1, 1, None, use="judge"),
        Node("other", "root-1", "same", 0.25, -1.0, 1, 1, None),
        Node("step", "root", "same", 0.5, -1.0, 1, 1, None),
    )
    scores = (*[None] * (len(texts) - 1), 0.5)
    for order in (nodes, nodes[::-1]):
        outcome = Outcome("same", None, texts, scores, 0.5, "depth", Usage(), order)
        assert FinishedTree(outcome).chosen == ["step"]
        assert list(FinishedTree(outcome).roots) == ["root", "root-1"]


def test_a_path_has_the_joints_of_the_outcome(outcome: Outcome) -> None:
    tree = FinishedTree(outcome)
    assert outcome.text == f"{SUMMARY}\n{WRONG} {WAIT}\n\n{RIGHT}"
    assert tree.text([tree.nodes[key] for key in tree.chosen]) == outcome.text
    assert tree.text(tree.lineage(named(outcome, WRONG, root=False))) == f"{SUMMARY}\n{WRONG}"
    given = replace(outcome, text=f"Given.\n{outcome.text}", steps=("Given.", *outcome.steps))
    assert FinishedTree(given).text(tree.lineage(named(outcome, WRONG))) == f"{SUMMARY}\n{WRONG}"


def test_answers_to_reordered_options_are_not_compared(outcome: Outcome, run: Written) -> None:
    (one,) = read(run.out).questions
    nodes = tuple(replace(node, answer="4") if node.answer == "5" else node for node in outcome.nodes)
    (open_ended,) = _trees(one, replace(outcome, nodes=nodes))
    assert [path.get("right") for path in open_ended["finished"]] == [True, True, True]
    assert len({path["group"] for path in open_ended["finished"]}) == 1
    (choice,) = _trees(replace(one, options=("4", "5")), replace(outcome, nodes=nodes))
    found = [(_depth(choice["nodes"], path["node"]), path.get("right", False)) for path in choice["finished"]]
    assert sorted(found) == [(2, False), (2, True), (4, True)]  # the first is of the second tree
    assert len({path["group"] for path in choice["finished"]}) == 2


def test_a_chosen_option_counts_under_its_original_letter(outcome: Outcome, run: Written) -> None:
    (one,) = read(run.out).questions
    steps = (SUMMARY, WRONG)
    mapped = replace(outcome, text="", answer="4", steps=steps, scores=(None, None))
    nodes = tuple(node for node in outcome.nodes if FinishedTree(outcome).root(node) != "root")
    (tree,) = _trees(replace(one, options=("4", "5")), replace(mapped, nodes=nodes))
    assert [path.get("right") for path in tree["finished"]] == [True]


def test_the_options_of_a_question_are_those_of_its_journal(tmp_path: FilePath, outcome: Outcome) -> None:
    written = write_run(tmp_path, [outcome], ["4"], search=SEARCH)
    assert written.journal is not None
    file = written.journal / "rank0.jsonl"
    record = json.loads(file.read_text())
    del record["checksum"]
    assert read(written.out).questions[0].options == ()
    file.write_bytes(encode(record | {"choices": ["4 cm", "5 cm"]}))
    assert read(written.out).questions[0].options == read(written.journal).questions[0].options == ("4 cm", "5 cm")


def _trees(answered: RunQuestion, outcome: Outcome) -> list[dict[str, Any]]:
    held: Any = _With(answered, outcome)
    return [one["tree"] for one in question_details(QuestionAnswers((held,)), [SEARCH])["runs"]]


class _With:
    """An answered question whose journal holds this outcome."""

    def __init__(self, answered: RunQuestion, outcome: Outcome) -> None:
        self._answered, self.outcome = answered, outcome

    def __getattr__(self, name: str) -> Any:
        return getattr(self._answered, name)


def _depth(nodes: Sequence[Mapping[str, Any]], number: int) -> int:
    depth = 0
    while number >= 0:
        number, depth = nodes[number]["parent"], depth + 1
    return depth


@pytest.mark.slow
def test_the_page_marks_side_nodes_and_shows_all_trees(
    browser: WebDriver, tmp_path: FilePath, run: Written, outcome: Outcome
) -> None:
    opened(browser, page_of(tmp_path, run))
    assert errors(browser) == []
    own = " > .line > .written, .outline {} > details > summary .written"
    assert texts(browser, f".outline .asked-node{own.format('.asked-node')}") == [VERDICT]
    assert sorted(texts(browser, f".outline .written-node{own.format('.written-node')}")) == ["Done.", WAIT]
    steps = sorted(node.text for node in outcome.nodes if node.is_step)
    assert sorted(texts(browser, f".outline .candidate{own.format('.candidate')}")) == steps
    verdict = browser.find_element(By.CSS_SELECTOR, ".outline .asked-node")
    marks = [it.get_attribute("textContent") for it in verdict.find_elements(By.CSS_SELECTOR, ".badge")]
    assert [mark.split()[-1] for mark in marks if mark] == ["judge", "judge", "verdict"]
    assert [it.get_attribute("textContent") for it in verdict.find_elements(By.CSS_SELECTOR, ".status")] == [""]
    assert texts(browser, ".map .asked-node .score") == ["judge"]
    assert len(all_of(browser, ".map .written-node")) == 2
    assert len(all_of(browser, ".map .node")) == len(outcome.nodes)
    assert (len(all_of(browser, ".map .root")), len(all_of(browser, ".outlines > .outline"))) == (2, 2)
    heads = texts(browser, ".map .head")
    assert heads == ["SUMMARY", "CONCLUSION", "reflection", "CONCLUSION", ""]
    assert texts(browser, ".chain .written") == list(outcome.steps)
    heights = browser.execute_script(
        "return [...document.querySelectorAll('.map .root')].map((it) => Number(it.getAttribute('cy')))"
    )
    below = browser.execute_script(
        "return [...document.querySelectorAll('.map .node rect')].map((it) => Number(it.getAttribute('y')))"
    )
    assert sum(y + 11 >= heights[1] for y in below) == 2  # the second tree is below all of the first
    facts = dict(zip(texts(browser, ".fact dt"), texts(browser, ".fact dd"), strict=True))
    assert facts["policy calls"] == str(outcome.usage.policy_calls) == "6"


async def judged_vote(tree: SearchTree) -> Choice:
    """Three chains, and a judge who is asked about the first."""
    paths = await tree.rollouts(3)
    judge = Prompt((Message("user", ("judge: is it right?",)),))
    await tree.ask(paths[0], judge, 2, use="judge", role="judge", read=final_answer)
    return Choice(paths[0], 1.0, "final")


def test_asked_nodes_are_not_candidates_and_not_in_their_cost(tmp_path: FilePath) -> None:
    outcomes = thought(judged_vote, 2)
    found = read(write_run(tmp_path, outcomes, ["5", "4"], search={"name": "judged_vote"}).out)
    questions, judged = sampled_questions(found)
    assert judged.agreed == 2
    for one, outcome in zip(questions, outcomes, strict=True):
        assert [candidate.text for candidate in one.candidates] == [outcome.text] * 3
        assert outcome.text == f"{SUMMARY}\n{WRONG}"
        assert one.tokens == sum(rollout.tokens for rollout in outcome.rollouts) < outcome.usage.generated
    assert {point.n for point in scaling(tmp_path / "out", None).points} == {1, 2, 3}
