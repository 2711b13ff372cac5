"""An outcome in a notebook: all of its tree, safe for any text, and bounded in size."""

from __future__ import annotations

import asyncio
import base64
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from selenium.webdriver.remote.webdriver import WebDriver

from atomthink_plugin.api import Message, Node, Outcome, Question, Usage
from atomthink_plugin.report.node_status import FinishedTree, preorder, statuses
from atomthink_plugin.report.outcome_html import MOST_STEPS, outcome_html
from atomthink_plugin.report.tree_layout import layout
from atomthink_plugin.report.tree_svg import MOST_NODES, score_colour, shown_nodes
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.searches.best_of_n import best_of_n
from tests.report.pages import BEAM, errors, resize
from tests.report.test_view_safety import HOSTILE
from tests.trees import Grove, groves, tree_of

SVG = "{http://www.w3.org/2000/svg}"
ASKED = Question("q", (Message("user", (Image.new("RGB", (30, 20), "red"), "How many?")),))


def searched(search: Any, grove: Grove) -> Outcome:
    tree = tree_of(grove)
    return tree.outcome(asyncio.run(search(tree)))


def picture(html: str) -> ElementTree.Element:
    """The picture of the tree."""
    (content,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    return ElementTree.fromstring(base64.b64decode(content))


def drawn(html: str) -> dict[str, str]:
    """The kind of each drawn node, by its id. Fails for a node that is drawn twice."""
    groups = [group for group in picture(html).iter(f"{SVG}g") if group.get("data-node")]
    found = {group.attrib["data-node"]: group.attrib["class"] for group in groups}
    assert len(found) == len(groups)
    return found


@given(grove=groves(), beams=st.integers(1, 3), candidates=st.integers(1, 4))
def test_each_node_is_drawn_once_with_its_status(grove: Grove, beams: int, candidates: int) -> None:
    outcome = searched(beam(beams, candidates), grove)
    search = {"name": "beam", "beams": beams, "candidates": candidates}
    html = outcome_html(outcome, ASKED, search)
    status = statuses(FinishedTree(outcome), search)
    assert drawn(html) == {key: it.kind for key, it in status.items()}
    assert [key for key, kind in drawn(html).items() if kind == "chosen"] == [*FinishedTree(outcome).chosen]
    for node in outcome.nodes:
        assert node.text in html


@given(grove=groves(), n=st.integers(1, 8))
def test_boxes_do_not_overlap_and_children_are_one_column_to_the_right(grove: Grove, n: int) -> None:
    tree = FinishedTree(searched(best_of_n(n), grove))
    nodes = preorder(tree, statuses(tree, {"name": "best_of_n"}))
    cells, roots = layout(nodes)
    assert len({*cells}) == len(nodes)
    of = {node.id: cell for node, cell in zip(nodes, cells, strict=True)}
    assert all(of[node.id].column == (of[node.parent].column if node.parent in of else 0) + 1 for node in nodes)
    assert all(of[node.id].line >= of[node.parent].line for node in nodes if node.parent in of)
    assert {of[key].line for key in tree.chosen} <= {0}
    assert roots == {"root": 0}
    taken = {(cell.column, cell.line) for cell in cells}
    for node, cell in of.items():
        if tree.nodes[node].answer is not None:  # it is drawn in the next two columns
            assert not {(cell.column + 1, cell.line), (cell.column + 2, cell.line)} & taken


def test_scores_multiplicities_answers_and_costs_are_shown() -> None:
    nodes = (
        Node("a", "root", "Add.", 0.91, -1.0, 3, 5, None),
        Node("b", "root", "Guess.", 0.12, -2.0, 3, 1, None),
        Node("c", "root", "Oops", None, -2.0, 3, 1, None, "no label"),
        Node("d", "a", "So it is 4.", 0.88, -1.0, 3, 2, "4"),
    )
    outcome = Outcome("", "4", ("Add.", "So it is 4."), (0.91, 0.88), 0.9, "final", Usage(7, 6, 50, 40, 30), nodes)
    html = outcome_html(outcome, ASKED, {"name": "beam", "beams": 1})
    assert drawn(html) == {"a": "chosen", "b": "pruned", "c": "rejected", "d": "chosen"}
    labels = {
        group.get("data-node"): [it.text for it in group.iter(f"{SVG}text")] for group in picture(html).iter(f"{SVG}g")
    }
    assert labels == {"a": [".91", "×5"], "b": [".12"], "c": ["×"], "d": [".88", "×2", "4"]}
    assert html.count('src="data:image/webp') == 1
    assert "rejected: " in html
    for number in ("0.91", "0.88", "0.12", "50", "40", "30"):
        assert number in html


def test_an_outcome_without_a_tree_is_shown() -> None:
    outcome = Outcome("4", None, ("4",), (None,), 0.0, "budget", Usage())
    html = outcome_html(outcome, Question("q", (Message("user", ("How many?",)),)), {"name": "direct"})
    assert "How many?" in html
    assert "svg" not in html


def chains(count: int, length: int, text: str = "Step: go on.") -> Outcome:
    """Chains with one answer, of which the first is chosen."""
    answers = [*[None] * (length - 1), "4"]
    nodes = [
        Node(
            f"{c}/{k}",
            f"{c}/{k - 1}" if k else "root",
            f"{text} {c} {k}",
            1 - c / count,
            -1.0,
            9,
            1,
            answers[k],
        )
        for c in range(count)
        for k in range(length)
    ]
    steps = tuple(node.text for node in nodes[:length])
    return Outcome("\n\n".join(steps), "4", steps, (1.0,) * length, 1.0, "final", Usage(), tuple(nodes))


@pytest.mark.parametrize(("count", "length"), [(2000, 3), (3, 500), (60, 60)])
def test_a_large_tree_is_bounded_and_what_is_left_out_is_said(count: int, length: int) -> None:
    outcome = chains(count, length, "word " * 2000)
    html = outcome_html(outcome, ASKED, {"name": "best_of_n", "n": count})
    assert len(html) < 300_000
    shown = drawn(html)
    assert len(shown) <= MOST_NODES
    tree = FinishedTree(outcome)
    assert {*tree.chosen[:MOST_NODES]} <= shown.keys()
    assert all(tree.nodes[key].parent in shown or tree.nodes[key].parent == "root" for key in shown)
    left_out = len(outcome.nodes) - len(shown)
    assert f"{left_out:,} of {len(outcome.nodes):,} nodes" in html
    assert ("more steps are not shown" in html) == (length > MOST_STEPS)


def test_alternatives_to_the_chosen_steps_come_before_others() -> None:
    outcome = chains(40, 10)
    tree = FinishedTree(outcome)
    nodes = {node.id for node in shown_nodes(tree, statuses(tree, {"name": "majority"}), 60)}
    assert {f"0/{k}" for k in range(10)} | {f"{c}/0" for c in range(40)} <= nodes
    assert len(nodes) <= 60


def test_colours_are_those_of_the_viewer() -> None:
    assert [score_colour(score) for score in (0.0, 0.5, 1.0)] == ["#f08a72", "#f5d77a", "#68c7a0"]


def hostile_outcome() -> tuple[Outcome, Question]:
    texts = [*HOSTILE, '" onerror="document.body.dataset.harm = 1', "a lone \ud800 surrogate and \uffff"]
    nodes = [Node("0", "root", texts[0], 0.5, -1.0, 9, 1, None)]
    for k, text in enumerate(texts[1:], 1):
        nodes.append(Node(str(k), str(k - 1), text, 0.5, -1.0, 9, 1, text, use=text if k == 2 else ""))
        nodes.append(Node(f'"><b>{k}', str(k - 1), text, None, None, 9, 1, None, text))
    steps = tuple(node.text for node in nodes if node.id.isdigit())
    outcome = Outcome("", texts[1], steps, (0.5,) * len(steps), 0.5, "final", Usage(), tuple(nodes))
    return outcome, Question("q", (Message("user", ("\n".join(texts),)),))


def test_hostile_texts_stay_texts() -> None:
    outcome, question = hostile_outcome()
    html = outcome_html(outcome, question, {"name": HOSTILE[0]})
    assert not re.search(r"<(?:script|b>St|i>)|<img src=x", html)
    assert "document.body.dataset" in html  # as text
    html.encode()
    assert len(drawn(html)) == len(outcome.nodes)


@pytest.mark.slow
def test_a_browser_draws_it_in_light_and_dark_and_runs_nothing(browser: WebDriver, tmp_path: Path) -> None:
    outcome, question = hostile_outcome()
    for name, html in {
        "hostile": outcome_html(outcome, question, {"name": "majority"}),
        "plain": outcome_html(chains(2, 8), ASKED, BEAM),
    }.items():
        page = tmp_path / f"{name}.html"
        page.write_text(f'<!doctype html><meta charset="utf-8"><body>{html}')
        for width in (1000, 390):
            resize(browser, width)
            browser.get(page.as_uri())
            sizes = browser.execute_script("return [...document.images].map((it) => it.naturalWidth)")
            assert sizes
            assert all(sizes)
            assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert browser.execute_script("return document.querySelectorAll('script').length") == 0
        assert browser.execute_script("return document.body.dataset.harm") is None
        names = browser.execute_script("return performance.getEntriesByType('resource').map((it) => it.name)")
        assert all(name.startswith("data:") for name in names)
    resize(browser, 1440)
    assert errors(browser) == []


@pytest.mark.slow
def test_the_picture_follows_the_colour_scheme_of_the_notebook(browser: WebDriver, tmp_path: Path) -> None:
    outcome = chains(3, 3)
    page = tmp_path / "page.html"
    corners = {}
    for scheme in ("light", "dark"):
        page.write_text(f'<!doctype html><body style="color-scheme:{scheme}">{outcome_html(outcome, ASKED, BEAM)}')
        browser.get(page.as_uri())
        corners[scheme] = browser.execute_async_script(
            "const done = arguments[0]; const it = [...document.images].at(-1);"
            "const board = document.createElement('canvas');"
            "it.decode().then(() => { board.width = it.naturalWidth; board.height = it.naturalHeight;"
            " const pen = board.getContext('2d'); pen.drawImage(it, 0, 0);"
            " done(pen.getImageData(it.naturalWidth / 2 | 0, it.naturalHeight - 4, 1, 1).data[0]); })"
        )
    assert corners["dark"] < 100 < 200 < corners["light"]
