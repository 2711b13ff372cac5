"""Reports about searches that note what they compute, begin further trees and ask a judge."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from functools import cache
from pathlib import Path as FilePath
from xml.etree import ElementTree

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from atomthink_plugin.api import Node, Outcome, Usage
from atomthink_plugin.plugins.registry import registry
from atomthink_plugin.report.choice_reason import confirmed_reason
from atomthink_plugin.report.node_notes import SHORT, pairs_of, short_note
from atomthink_plugin.report.node_status import FinishedTree, statuses
from atomthink_plugin.report.outcome_html import outcome_html
from atomthink_plugin.report.page_data import QuestionAnswers, question_details
from atomthink_plugin.report.run_reader import read
from atomthink_plugin.report.tree_names import readable_note, tree_names
from atomthink_plugin.runtime.records import decode, encode
from tests.report.browser import opened
from tests.report.pages import errors, page_of, texts
from tests.report.runs import asked, write_run
from tests.searches.test_every_search import QUESTIONS, planned
from tests.searches.thinker import Thinker

NAMES = sorted(registry().searches)


@cache
def outcomes(name: str) -> tuple[Outcome, ...]:
    """Outcomes of a search with its default arguments, on a scripted policy that all searches understand."""
    questions = [replace(question, id=asked(i)) for i, question in enumerate(QUESTIONS[:3])]
    found = planned(name).runner(Thinker(), concurrency=1).run(questions)
    assert all(isinstance(one, Outcome) for one in found)
    return tuple(one for one in found if isinstance(one, Outcome))


def reason_of(outcome: Outcome, name: str) -> str | None:
    tree = FinishedTree(outcome)
    return confirmed_reason(outcome, {"name": name}, tree, statuses(tree, {"name": name}))


@pytest.mark.parametrize("name", NAMES)
def test_every_search_says_why_it_chose(name: str) -> None:
    for outcome in outcomes(name):
        assert reason_of(outcome, name) is not None


def node(id: str, parent: str = "root", note: str = "", answer: str | None = None, **more: object) -> Node:
    return Node(id, parent, f"Step: {id}.", None, -1.0, 1, 1, answer, note=note, **more)  # type: ignore[arg-type]


def chosen(*ids: str, nodes: tuple[Node, ...], value: float = 0.5) -> Outcome:
    by_id = {node.id: node for node in nodes}
    line = [by_id[id] for id in ids]
    steps = tuple(node.text for node in line)
    return Outcome("", line[-1].answer, steps, (None,) * len(steps), value, "final", Usage(), nodes)


def test_visits_are_named_only_where_they_decided() -> None:
    nodes = (
        node("a", note="visits 9, value 0.40"),
        node("b", note="visits 3, value 0.90", answer="1"),
        node("c", "a", "visits 5, value 0.50", answer="2"),
        node("d", "a", "visits 4, value 0.30", answer="3"),
    )
    assert "9, 5 visits" in (reason_of(chosen("a", "c", nodes=nodes), "mcts") or "")
    partly = reason_of(chosen("a", "d", nodes=nodes), "mcts") or ""
    assert "9 visits" in partly
    assert "4" not in partly
    assert reason_of(chosen("b", nodes=nodes), "mcts") is None


def test_the_mean_reward_decides_between_equal_visits() -> None:
    nodes = (
        node("a", note="visits 1, value 0.82", answer="1"),
        node("b", note="visits 1, value 0.73", answer="2"),
        node("c", note="value 0.90", answer="3"),
    )
    said = reason_of(chosen("a", nodes=nodes), "mcts") or ""
    unequal = (nodes[0], replace(nodes[1], note="visits 0, value 0.73"))
    assert "mean reward" in said
    assert "mean reward" not in (reason_of(chosen("a", nodes=unequal), "mcts") or "mean reward")
    assert reason_of(chosen("b", nodes=nodes), "mcts") is None


def test_votes_over_shuffled_options_count_under_their_original_letters() -> None:
    nodes = (
        node("a", note="order ABC, vote B", answer="B"),
        node("b", "root-1", "order BCA, vote B", answer="A"),
        node("c", "root-1", "order BCA, vote C", answer="B"),
    )
    said = reason_of(chosen("a", nodes=nodes), "shuffle_vote")
    assert said is not None
    assert all(part in said for part in ("2 of 3", "B 2", "C 1"))
    assert reason_of(chosen("c", nodes=nodes), "shuffle_vote") is None


@pytest.mark.parametrize("by", ["verdict", "likelihood"])
def test_a_judge_that_names_none_is_not_the_reason(by: str) -> None:
    nodes = (
        node("a", note="candidate 1 of 2", answer="1"),
        node("b", note=f"candidate 2 of 2, chosen by {by}", answer="2"),
    )
    said = reason_of(chosen("b", nodes=nodes), "judge_best_of_n") or ""
    assert ("named candidate 2 of 2" in said) is (by == "verdict")


def test_votes_of_the_longest_chains_alone_count() -> None:
    nodes = (
        node("a", note="steps 1, lines 1, votes 0", answer="1"),
        node("b", note="steps 1, lines 1, votes 0", answer="1"),
        node("c", note="steps 1, lines 3, votes 1", answer="2"),
    )
    assert "all 1 votes" in (reason_of(chosen("c", nodes=nodes), "complex_vote") or "")
    assert reason_of(chosen("a", nodes=nodes), "complex_vote") is None


def names_of(name: str, outcome: Outcome) -> list[str]:
    return list(tree_names(FinishedTree(outcome), {"name": name}))


def test_further_trees_are_named_by_their_notes_and_are_in_their_order() -> None:
    for outcome in outcomes("workflow"):
        first, question, *parts = names_of("workflow", outcome)
        assert "composition" in first
        assert question == "the question"
        assert parts == [f"part {k} of {len(parts)}" for k in range(1, len(parts) + 1)]
    assert sorted(names_of("shuffle_vote", outcomes("shuffle_vote")[1])) == [
        "order BCA",
        "order CAB",
        "the question: order ABC",
    ]


def test_drafts_are_trees() -> None:
    nodes = (
        node("a", note="draft 1", answer="1"),
        node("r", "a", "round 1, verdict wrong", use="critic"),
        node("b", "root-9", "draft 2", answer="2"),
        node("c", "root-1", "draft 3", answer="3"),
        node("s", "c", "round 3, verdict correct", use="critic"),
    )
    outcome = chosen("c", nodes=nodes)
    assert names_of("self_refine", outcome) == ["draft 3", "the question: draft 1", "draft 2"]
    said = reason_of(outcome, "self_refine") or ""
    assert "draft 3 of 3" in said
    assert "correct" in said


def test_notes_are_pairs() -> None:
    assert pairs_of("drawn 4 of 16, votes 3 to 1, certainty 0.812, chosen by verdict, names none") == {
        "drawn": "4 of 16", "votes": "3 to 1", "certainty": "0.812", "chosen by": "verdict", "names": "none",
    }  # fmt: skip
    assert pairs_of("") == {}


def test_ids_in_notes_are_shown_as_texts_of_their_nodes() -> None:
    key = "0123456789abcdef"
    tree = FinishedTree(chosen(key, nodes=(node(key, answer="1"),)))
    assert readable_note(f"corrects {key}, end {key[::-1]}", tree) == f"corrects “Step: {key}.”, end {key[::-1]}"


@pytest.mark.parametrize("name", NAMES)
def test_the_page_and_the_notebook_have_every_note(name: str) -> None:
    for outcome, question in zip(outcomes(name), QUESTIONS, strict=False):
        tree = FinishedTree(outcome)
        noted = [readable_note(node.note, tree) for node in outcome.nodes if node.note]
        html = outcome_html(outcome, question, {"name": name})
        svg = next(base64.b64decode(found) for found in re.findall(r"svg\+xml;base64,([^\"]+)", html))
        drawn = [it.text for it in ElementTree.fromstring(svg).iter() if it.get("class") == "note"]
        shown = [short for node in outcome.nodes if (short := short_note(node.note))]
        assert sorted(filter(None, drawn)) == sorted(shown)
        assert all(len(short) <= SHORT for short in shown)
        assert all(html.count(note.replace("“<", "“&lt;").partition("<")[0].partition("&")[0]) for note in noted)


def test_a_run_without_notes_has_none_in_its_page(tmp_path: FilePath) -> None:
    run = write_run(tmp_path, outcomes("beam"), ["1", "1", "1"], search={"name": "beam"})
    for answered in read(run.out).questions:
        (details,) = question_details(QuestionAnswers((answered,)), [{"name": "beam"}])["runs"]
        assert "roots" not in details["tree"]
        assert not any("note" in one for one in details["tree"]["nodes"])


def test_a_journal_from_before_notes_opens(tmp_path: FilePath) -> None:
    run = write_run(tmp_path, outcomes("mcts"), ["1", "1", "1"], search={"name": "mcts"})
    assert run.journal is not None
    for file in run.journal.rglob("*.jsonl"):
        records = [decode(line) for line in file.read_bytes().splitlines()]
        for record in records:
            for one in record["outcome"]["nodes"]:
                del one["note"]
        file.write_bytes(b"".join(encode(record) for record in records))
    found = [answered.outcome for answered in read(run.out).questions]
    assert all(outcome is not None and not any(node.note for node in outcome.nodes) for outcome in found)
    assert [len(outcome.nodes) for outcome in found if outcome] == [len(outcome.nodes) for outcome in outcomes("mcts")]


@pytest.mark.slow
def test_the_map_shows_notes_and_names_trees(browser: WebDriver, tmp_path: FilePath) -> None:
    for name in ("mcts", "workflow"):
        folder = tmp_path / name
        run = write_run(folder, outcomes(name), ["1", "1", "1"], search={"name": name})
        opened(browser, page_of(folder, run))
        assert errors(browser) == []
        outcome = outcomes(name)[0]
        tree = FinishedTree(outcome)
        assert sorted(texts(browser, ".map .note-mark")) == sorted(
            short for node in outcome.nodes if (short := short_note(node.note))
        )
        assert sorted(texts(browser, ".outline .note")) == sorted(
            readable_note(node.note, tree) for node in outcome.nodes if node.note
        )
        heads = names_of(name, outcome) if len(tree.roots) > 1 else []
        assert texts(browser, ".map .tree-head") == texts(browser, ".outlines h4") == heads
        edge = "return document.querySelector('.map > svg').getBoundingClientRect().right"
        ends = [it.rect["x"] + it.rect["width"] for it in browser.find_elements(By.CSS_SELECTOR, ".map .note-mark")]
        assert max(ends) <= browser.execute_script(edge)
