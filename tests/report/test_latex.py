"""The page draws LaTeX in all texts, and no LaTeX does harm."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from atomthink_plugin.api import Node, Outcome, Usage
from atomthink_plugin.report.latex import Latex
from tests.report.browser import PATIENCE, opened
from tests.report.pages import BEAM, errors, page_of, texts
from tests.report.runs import write_run

STEPS = (
    r"Step 1: From $\frac{1}{x_1} = \sqrt{2}$ and \(\vec{AB} \parallel CD\) follows \[ \sum_{k=1}^{n} k = 10. \]",
    r"Step 2: Hence $$y = \begin{cases} 1 & x > 0 \\ 0 & x \le 0 \end{cases}$$ and \begin{align} a &= b \end{align}",
    r"Step 3: To sum up, the final answer is: \boxed{\frac{3}{4}} or \boxed{the left one}.",
)
ASKED = "It costs $5 and $6, then $5, or 5$ in all, \\$7 of $x$ dollars; \\boxed{}, $ y$ and ${z$ are none."
HOSTILE = (
    r"$\href{javascript:document.body.dataset.harm=1}{x}$",
    r"$\url{https://example.com}$",
    r"$\includegraphics{https://example.com/x.png}$",
    r"$\htmlStyle{position:fixed;inset:0;z-index:9}{x}$",
    r"$\htmlData{harm=1}{\htmlId{question}{x}}$",
    r"$\def\a{\a\a}\a$",
    r"$\rule{500em}{500em}$",
    r"$\kern-500em\raisebox{-300em}{\Huge x}$",
    r"$\text{<img src=x onerror='document.body.dataset.harm = 1'>}$",
    "$" + "{" * 500 + "x" + "}" * 500 + "$",
    r"$\sqrt{" * 1500,
    r"\[" * 20_000,
    r"\begin{a}" * 10_000,
    r"\boxed{" * 10_000,
)


def _outcome(steps: tuple[str, ...], answer: str) -> Outcome:
    nodes = [Node(str(i), str(i - 1), step, 0.5, -1.0, 9, 1, None) for i, step in enumerate(steps, 1)]
    nodes[-1] = Node(str(len(steps)), str(len(steps) - 1), steps[-1], 0.5, -1.0, 9, 1, answer)
    scores = (0.5,) * len(steps)
    return Outcome("\n\n".join(steps), answer, steps, scores, 0.5, "final", Usage(), tuple(nodes))


def _page(folder: Path, steps: tuple[str, ...], answer: str = "4", **extra: Any) -> Path:
    return page_of(folder, write_run(folder, [_outcome(steps, answer)], [answer], search=BEAM, extra=extra))


def _formulas(browser: WebDriver, place: str, count: int) -> list[str]:
    """The sources of the drawn formulas in an element."""
    selector = f"{place} .maths"
    WebDriverWait(browser, PATIENCE).until(lambda it: len(texts(it, selector)) >= count)
    script = "return [...document.querySelectorAll(arguments[0])].map((it) => it.title)"
    found: list[str] = browser.execute_script(script, selector)
    return found


@pytest.mark.slow
def test_formulas_are_drawn_and_prices_are_not(browser: WebDriver, tmp_path: Path) -> None:
    record = {"options": [r"\frac{1}{2}", "all of these"]}
    page = _page(tmp_path, STEPS, r"\frac{3}{4}", input=ASKED, extracted=r"\frac{3}{4}", question=record)
    opened(browser, page)
    assert _formulas(browser, ".asked .text", 1) == ["$x$"]
    assert texts(browser, ".asked .text")[0].startswith("It costs $5 and $6, then $5, or 5$ in all, \\$7 of ")
    assert _formulas(browser, ".options", 1) == [r"\frac{1}{2}"]
    for place in (".target", ".fact.wide", ".paths", ".map .node.chosen"):
        assert _formulas(browser, place, 1) == [r"\frac{3}{4}"]
    drawn = _formulas(browser, ".chain", 7)
    assert [source for source in drawn if source.startswith(("$", r"\(", r"\["))] == [
        r"$\frac{1}{x_1} = \sqrt{2}$",
        r"\(\vec{AB} \parallel CD\)",
        r"\[ \sum_{k=1}^{n} k = 10. \]",
        r"$$y = \begin{cases} 1 & x > 0 \\ 0 & x \le 0 \end{cases}$$",
    ]
    assert drawn[-3:] == [r"\begin{align} a &= b \end{align}", r"\boxed{\frac{3}{4}}", r"\boxed{the left one}"]
    arrow = "return document.querySelector('.chain .maths svg[width]').getBoundingClientRect().width"
    assert browser.execute_script(arrow) > 0
    ready = "return [...document.fonts].filter((it) => it.status === 'loaded').map((it) => it.family)"
    WebDriverWait(browser, PATIENCE).until(lambda it: "KaTeX_Main" in "".join(it.execute_script(ready)))
    assert errors(browser) == []


@pytest.mark.slow
def test_hostile_formulas_do_no_harm(browser: WebDriver, tmp_path: Path) -> None:
    steps = tuple(f"Step {i}: {text} $x_{i}$" for i, text in enumerate(HOSTILE, 1))
    opened(browser, _page(tmp_path, steps, input="\n".join(HOSTILE)))
    for item in range(len(steps)):  # each is drawn once it is in view
        seen = "document.querySelectorAll('.chain li')[arguments[0]].scrollIntoView()"
        browser.execute_script(seen, item)
        browser.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 20))")
    assert len(_formulas(browser, ".chain", 5)) >= 5
    assert browser.execute_script("return document.querySelectorAll('.maths a, .maths img, .maths [id]').length") == 0
    names = browser.execute_script("return performance.getEntriesByType('resource').map((it) => it.name)")
    assert [name for name in names if not name.startswith("data:")] == []
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('.chain .written')].map((it) => it.getBoundingClientRect().height)"
    )
    assert max(sizes) < 1000
    article = "const it = document.getElementById('question'); return it.scrollWidth - it.clientWidth"
    assert browser.execute_script(article) <= 0
    assert browser.execute_script("return document.body.dataset.harm") is None
    assert errors(browser) == []


@pytest.mark.slow
def test_a_page_without_latex_has_no_katex(browser: WebDriver, tmp_path: Path) -> None:
    for name in ("plain", "formulas"):
        (tmp_path / name).mkdir()
    plain = _page(tmp_path / "plain", ("Step 1: It costs $5 and $6.",), input="Is it $5 or $6?")
    formulas = _page(tmp_path / "formulas", ("Step 1: It costs $x$.",))
    assert plain.stat().st_size < 100_000
    assert 400_000 < formulas.stat().st_size < 700_000
    assert "Khan Academy" in formulas.read_text()
    opened(browser, plain)
    assert browser.execute_script("return typeof katex") == "undefined"
    assert texts(browser, ".chain .written") == ["Step 1: It costs $5 and $6."]


@pytest.mark.parametrize(
    ("text", "font"),
    [(r"\mathcal{L}", "Caligraphic"), (r"\mathfrak{g}", "Fraktur"), (r"\texttt{x}", "Typewriter"), ("x", None)],
)
def test_rare_fonts_are_in_the_page_if_a_formula_needs_them(text: str, font: str | None) -> None:
    latex = Latex()
    latex.scan({"nodes": [{"text": f"By ${text}$"}]})
    style = latex.style()
    common = {"AMS", "Main", "Math", "Size1", "Size2", "Size3", "Size4"}
    assert set(re.findall(r"@font-face\{[^}]*family:KaTeX_(\w+)", style)) == common | ({font} if font else set())
    assert "url(fonts" not in style
