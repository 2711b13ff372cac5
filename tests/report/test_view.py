"""Pages of a run, opened by a real browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from atomthink_plugin.cli import main
from atomthink_plugin.report.node_status import FinishedTree, statuses
from atomthink_plugin.searches.best_of_n import best_of_n
from tests.report.browser import PATIENCE, opened
from tests.report.pages import (
    BEAM,
    TARGETS,
    all_of,
    errors,
    grove,
    listed,
    page_of,
    press,
    red,
    resize,
    rights,
    shown,
    texts,
    until,
)
from tests.report.runs import TASK, Written, search_all, write_run
from tests.trees import REDUCE


@pytest.mark.slow
def test_the_numbers_are_those_of_the_samples(browser: WebDriver, page: Path, searched: Any) -> None:
    opened(browser, page)
    verdicts = rights(searched)
    spent = [outcome.usage for outcome in searched]
    head = " ".join(all_of(browser, ".totals")[0].text.split())
    assert f"right {sum(verdicts)} of {len(verdicts)} {100 * sum(verdicts) / len(verdicts):.1f} %" in head
    assert f"tokens {sum(one.generated for one in spent) / len(spent):,.0f} each" in head
    assert f"policy calls {sum(one.policy_calls for one in spent) / len(spent):,.1f} each" in head
    assert "failed 1 stopped by budget 1" in head
    assert "time 1.33 s per question" in head  # eight seconds for six questions
    assert re.search(r"latency [\d.]+ s from start to answer, \d+ in flight", head)
    marks = "".join(texts(browser, ".row .mark"))
    assert marks == "".join("✓" if right else "✗" for right in verdicts[:-1]) + "!"
    facts = dict(zip(texts(browser, ".fact dt"), texts(browser, ".fact dd"), strict=True))
    assert facts["tokens"] == str(spent[0].generated)
    assert (facts["policy calls"], facts["PRM calls"]) == (str(spent[0].policy_calls), str(spent[0].score_calls))
    assert facts["stopped by"] == "a final answer"
    assert float(facts["latency, s"]) == pytest.approx(spent[0].seconds, abs=0.01)
    assert errors(browser) == []


@pytest.mark.slow
def test_filters_show_the_matching_questions(browser: WebDriver, page: Path, searched: Any) -> None:
    opened(browser, page)
    verdicts = rights(searched)
    right, wrong = ([i for i, it in enumerate(verdicts[:-1]) if it == wanted] for wanted in (True, False))
    for style, wanted in (("right", right), ("wrong", wrong), ("failed", [5]), ("budget", [4])):
        (chip,) = all_of(browser, f".chip.{style}")
        assert chip.text.endswith(str(len(wanted)))
        chip.click()
        until(browser, "#count", [f"{len(wanted)} of 6 questions"])
        assert listed(browser) == wanted
        chip.click()
        until(browser, "#count", ["6 questions"])
    browser.find_element(By.XPATH, "//option[starts-with(., 'measuring')]").click()
    assert listed(browser) == [2, 3, 4, 5]
    browser.find_element(By.XPATH, "//optgroup[@label='level']/option[starts-with(., '1')]").click()
    assert listed(browser) == [1, 3, 5]
    browser.find_element(By.ID, "search").send_keys("TRUNCATED")
    until(browser, "#count", ["1 of 6 questions"])
    assert listed(browser) == [5]


@pytest.mark.slow
def test_questions_are_sorted_by_their_tokens_or_lowest_scores(browser: WebDriver, page: Path, searched: Any) -> None:
    opened(browser, page)
    spent = [it.usage.generated for it in searched]
    lowest = [min(it.scores) for it in searched[:-1]]  # the last one failed
    for name, wanted in (
        ("most tokens first", sorted(range(6), key=lambda i: (-spent[i], i))),
        ("lowest step score first", [*sorted(range(5), key=lambda i: (lowest[i], i)), 5]),
        ("as asked", list(range(6))),
    ):
        browser.find_element(By.XPATH, f"//select[@id='order']/option[. = '{name}']").click()
        WebDriverWait(browser, PATIENCE).until(lambda it, wanted=wanted: listed(it) == wanted)


@pytest.mark.slow
def test_the_header_names_what_ran(browser: WebDriver, two: Path) -> None:
    opened(browser, two)
    first, second = texts(browser, ".made bdi")
    assert TASK in first
    assert "beam" in first
    assert "best_of_n n=4" in second


@pytest.mark.slow
def test_the_tree_shows_every_candidate_with_its_status(browser: WebDriver, page: Path, searched: Any) -> None:
    for doc_id, outcome in enumerate(searched[:-1]):
        opened(browser, page, f"{TASK}%2F{doc_id}%2F0")
        tree = FinishedTree(outcome)
        became = statuses(tree, BEAM)
        for kind in {status.kind for status in became.values()}:
            wanted = sorted(node.text for node in outcome.nodes if became[node.id].kind == kind)
            own = f".candidate.{kind} > .line > .written, .candidate.{kind} > details > summary .written"
            assert sorted(texts(browser, own)) == wanted
            assert len(all_of(browser, f".map .node.{kind}")) == len(wanted)
        assert texts(browser, ".chain .written") == list(outcome.steps)
        assert texts(browser, ".chain .pill") == [f"{score:.2f}" for score in outcome.scores]
        times = sorted(f"×{node.multiplicity}" for node in outcome.nodes if node.multiplicity > 1)
        assert sorted(texts(browser, ".map .times")) == times
        pruned = [status for status in became.values() if status.kind == "pruned"]
        said = " ".join(texts(browser, ".outline .status.pruned"))
        assert all(f"pruned after step {status.depth}: {status.rank} of {status.of}" in said for status in pruned)


@pytest.mark.slow
def test_finished_paths_have_the_aggregates_of_their_scores(browser: WebDriver, two: Path) -> None:
    opened(browser, two)
    (outcome,) = search_all(best_of_n(4), [grove("4")])
    tree = FinishedTree(outcome)
    wanted = []
    for node in tree.finished:
        scores = [step.score or 0.0 for step in tree.lineage(node)]
        values = (f"{reduce(scores):.2f}" for reduce in REDUCE.values())
        wanted.append((node.answer, str(node.multiplicity), *values))
    table = all_of(browser, ".paths")[1]
    lines = table.find_elements(By.CSS_SELECTOR, "tbody tr")
    rows = [[cell.text for cell in line.find_elements(By.TAG_NAME, "td")] for line in lines]
    found = sorted((cells[0].split()[0], cells[1].split()[0], *cells[2 : 2 + len(REDUCE)]) for cells in rows)
    assert found == sorted(wanted)
    assert [row.text.split()[0] for row in table.find_elements(By.CSS_SELECTOR, "tr.chosen")] == [outcome.answer]
    assert texts(browser, ".paths .by") == ["mean", "mean"]
    assert sum(int(cells[1].split()[0]) for cells in rows) == 4


@pytest.mark.slow
def test_a_step_is_read_by_clicking_on_it(browser: WebDriver, page: Path, searched: Any) -> None:
    opened(browser, page)
    before = texts(browser, ".chain .written")
    browser.find_element(By.CSS_SELECTOR, ".map .node:not(.selected)").click()
    after = texts(browser, ".chain .written")
    assert after != before
    assert after[-1] == texts(browser, ".candidate.selected .written")[0]
    assert after[-1] in {node.text for node in searched[0].nodes}


@pytest.mark.slow
def test_a_last_step_is_read_by_the_keyboard(browser: WebDriver, page: Path) -> None:
    opened(browser, page)
    browser.execute_script("for (const it of document.querySelectorAll('.outline details')) it.open = true")
    leaf = all_of(browser, ".candidate:not(.chosen) > .line")[-1]
    leaf.send_keys(Keys.ENTER)
    assert texts(browser, ".chain .written")[-1] == leaf.find_element(By.CSS_SELECTOR, ".written").text


@pytest.mark.slow
def test_keys_move_through_the_questions(browser: WebDriver, page: Path) -> None:
    opened(browser, page)
    shown(browser, 0)
    press(browser, "j", "j")
    shown(browser, 2)
    press(browser, "k")
    shown(browser, 1)
    press(browser, Keys.ARROW_RIGHT)
    shown(browser, 2)
    press(browser, "/")
    assert browser.switch_to.active_element.get_attribute("id") == "search"
    browser.switch_to.active_element.send_keys("j", Keys.ESCAPE)
    shown(browser, 2)
    all_of(browser, ".row")  # the search has no hit now: the question stays


@pytest.mark.slow
def test_images_are_the_thumbnails_of_the_journal(browser: WebDriver, page: Path) -> None:
    opened(browser, page)
    sizes_are(browser, [[40, 30]])
    press(browser, "j")
    shown(browser, 1)
    sizes_are(browser, [[41, 30]])


@pytest.mark.slow
def test_missing_images_are_noted_and_the_others_shown(browser: WebDriver, tmp_path: Path, searched: Any) -> None:
    colours = ("red", "green", "blue")
    run = write_run(tmp_path, searched[:2], TARGETS[:2], images=lambda doc_id: [
        Image.new("RGB", (40 + 10 * i, 30), colour) for i, colour in enumerate(colours)
    ] if doc_id == 0 else [])  # fmt: skip
    assert run.journal is not None
    files = {Image.open(file).width: file for file in (run.journal / "images").iterdir()}
    files[40].unlink()
    files[50].write_bytes(files[50].read_bytes()[:-20])
    opened(browser, page_of(tmp_path, run))
    sizes_are(browser, [[60, 30]])
    notes = [note for note in texts(browser, ".missing li") if note.startswith("images are missing")]
    assert ["missing in the journal" in notes[0], "damaged" in notes[1]] == [True, True]
    press(browser, "j")
    shown(browser, 1)
    assert texts(browser, ".pictures") == [""]  # its text is all there was


@pytest.mark.slow
@pytest.mark.parametrize("images", [None, ["../../secret.png"], ["a/b.webp"], [".."], [7], "a.webp"])
def test_a_journal_without_images_or_with_foreign_names_shows_none(
    browser: WebDriver, tmp_path: Path, searched: Any, images: Any
) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "secret.png")
    run = write_run(tmp_path, searched[:1], TARGETS[:1], images=red)
    assert run.journal is not None
    file = run.journal / "rank0.jsonl"
    record = json.loads(file.read_text())
    record.pop("images")
    del record["checksum"], record["choices"]  # older versions wrote neither
    file.write_text(json.dumps(record | ({} if images is None else {"images": images})) + "\n")
    opened(browser, page_of(tmp_path, run))
    assert all_of(browser, ".pictures img") == []
    (reason,) = texts(browser, ".pictures p")
    assert ("older version" in reason) is (images is None)
    assert (len(all_of(browser, ".map svg")) == 1) is (images is None)  # a foreign record is left out


def sizes_are(browser: WebDriver, wanted: list[list[int]]) -> None:
    """Waits until the images on screen have these sizes."""
    script = "return [...document.querySelectorAll('.pictures img')].map((it) => [it.naturalWidth, it.naturalHeight])"
    WebDriverWait(browser, PATIENCE).until(lambda it: it.execute_script(script) == wanted)


@pytest.mark.slow
def test_a_phone_shows_the_list_or_a_question(browser: WebDriver, page: Path) -> None:
    resize(browser, 390)
    opened(browser, page)
    assert browser.find_element(By.ID, "list").is_displayed()
    assert not browser.find_element(By.ID, "question").is_displayed()
    browser.execute_script("document.querySelectorAll('.row')[1].click()")
    shown(browser, 1)
    assert not browser.find_element(By.ID, "list").is_displayed()
    box = browser.execute_script("return document.querySelector('.steps-bar').getBoundingClientRect().toJSON()")
    assert box["height"] > 30
    assert box["bottom"] <= browser.execute_script("return innerHeight")
    assert browser.execute_script(
        "const it = document.getElementById('question'); return it.scrollHeight > it.clientHeight"
    )
    browser.find_element(By.ID, "next").click()
    shown(browser, 2)
    browser.find_element(By.ID, "back").click()
    assert browser.find_element(By.ID, "list").is_displayed()
    resize(browser, 1440)


@pytest.mark.slow
def test_dark_and_light(browser: WebDriver, page: Path) -> None:
    lightness = []
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)  # type: ignore[attr-defined]
        opened(browser, page)
        lightness.append(paper(browser))
    assert lightness[0] > 200
    assert lightness[1] < 60
    browser.find_element(By.ID, "theme").click()
    assert paper(browser) == lightness[0]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})  # type: ignore[attr-defined]


def paper(browser: WebDriver) -> float:
    colour = browser.execute_script("return getComputedStyle(document.documentElement).backgroundColor")
    return max(map(float, re.findall(r"\d+", colour)[:3]))


@pytest.mark.slow
def test_only_rows_in_view_are_elements(browser: WebDriver, tmp_path: Path, searched: Any) -> None:
    many = [searched[i % 5] for i in range(400)]
    opened(browser, page_of(tmp_path, write_run(tmp_path, many, ["4"] * 400, search=BEAM)))
    assert len(all_of(browser, ".row")) < 60
    browser.execute_script("const it = document.getElementById('list'); it.scrollTop = it.scrollHeight")
    WebDriverWait(browser, PATIENCE).until(lambda it: 399 in listed(it))
    assert len(all_of(browser, ".row")) < 60


@pytest.mark.slow
def test_the_command_needs_neither_the_task_nor_its_folder(
    browser: WebDriver, tmp_path: Path, run: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is not needed. Loading the tasks of lmms-eval takes many seconds."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    code = (
        "import sys; from atomthink_plugin.cli import main; code = main(sys.argv[1:]);"
        "print([name for name in ('lmms_eval', 'datasets', 'torch', 'transformers') if name in sys.modules]);"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "view", str(run.out)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    opened(browser, Path("view.html"))
    sizes_are(browser, [[40, 30]])


def test_bad_input_is_explained(
    run: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str], searched: Any
) -> None:
    other = write_run(tmp_path, searched[:1], ["4"], task="products")
    assert run.journal is not None
    for arguments, message in (
        ([str(run.out)] * 3, "3 runs"),
        ([str(tmp_path / "none")], str(tmp_path / "none")),
        ([str(run.journal.parent)], str(run.journal)),
        ([str(run.out), str(other.out)], "products"),
        ([str(run.out), str(run.out), "--journal", str(tmp_path)], "--journal"),
        ([str(run.out), "--out", str(tmp_path / "nowhere" / "view.html")], "--out"),
    ):
        assert main(["view", *arguments]) == 2
        assert message in capsys.readouterr().err
