"""The gallery of the documentation: pages of real runs, charts, and pictures of them in light and dark.

    python -m benchmarks.gallery --runs FOLDER

Runs lmms-eval on a few questions of the demo task with the embedded model (finished runs in FOLDER are not repeated),
writes the pages of `atomthink view` and `atomthink atoms evaluate` to `docs/gallery`, draws the scaling curve of
`benchmarks/results/scaling.json`, takes the pictures by headless Chromium, and writes the generated parts of
`docs/gallery/index.md`. `benchmarks/report_curves.py` measures the comparison and the curve.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from selenium.webdriver.remote.webdriver import WebDriver

from atomthink_plugin import ask, load
from atomthink_plugin.cli import main as atomthink
from atomthink_plugin.report.chart import draw
from atomthink_plugin.report.view import view
from atomthink_plugin.tasks.demo.figures import draw as figure
from atomthink_plugin.tasks.demo.questions import held_out
from benchmarks.provenance import provenance
from benchmarks.report_curves import RESULTS, evaluate
from tests.report.browser import chromium, opened

ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "docs" / "gallery"
WAYS = {"beam": "thinking=slow,search=beam", "best_of_8": "thinking=slow,search=best_of_n,n=8"}
SHOWN = {"beam": 18, "best-of-8": 21, "two-runs": 3}
"""The question in the pictures of each page."""

SIZES = {"": (1400, 1000), "-phone": (390, 1300)}
"""Widths and heights of the pictures in pixels. A phone's picture is longer than its screen, to show the tree."""

SCHEMES = ("light", "dark")
BLOCK = re.compile(r"(<!-- made: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def write_pages(runs: Path, questions: int) -> None:
    """Writes the pages of runs with the embedded model."""
    beam, best_of_8 = (evaluate(name, arguments, runs, questions) for name, arguments in WAYS.items())
    view([beam], GALLERY / "beam.html", [])
    view([best_of_8], GALLERY / "best-of-8.html", [])
    view([beam, best_of_8], GALLERY / "two-runs.html", [])
    records = runs / "atoms.jsonl"
    for command in (
        ["atoms", "build", "demo", "--limit", str(questions), "--out", str(records)],
        ["atoms", "evaluate", str(records), "--rollouts", "8", "--html", str(GALLERY / "capability.html")],
    ):
        if atomthink(command):
            raise SystemExit(f"`atomthink {' '.join(command)}` failed")
    for page in GALLERY.glob("*.html"):  # the settings of a run name the folder of the embedded weights
        page.write_text(page.read_text(encoding="utf-8").replace(f"{ROOT}/", ""), encoding="utf-8")


def draw_curve() -> None:
    """Draws the scaling curve."""
    record = json.loads((RESULTS / "scaling.json").read_text())
    title = f"{record['run']}, {record['questions']} questions: {record['thinking']}"
    (GALLERY / "scaling.svg").write_bytes(draw(record["points"], [title])["svg"])


def notebook_page(folder: Path) -> Path:
    """Writes what a notebook shows of an outcome as a page, for its picture."""
    item = held_out(8)[4]
    drawn = ask(load("atomthink_tiny", thinking="slow", search="beam"), item.text, figure(item))._repr_html_()
    page = folder / "notebook.html"
    style = "<style>:root { color-scheme: light dark } body { font: 14px system-ui, sans-serif; margin: 1rem }</style>"
    page.write_text(
        f'<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">{style}{drawn}'
    )
    return page


def take_pictures(browser: WebDriver, folder: Path) -> None:
    """Takes the pictures of all pages: light and dark, on a desktop and a phone."""
    notebook = notebook_page(folder)
    for scheme in SCHEMES:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        devtools(browser, "Emulation.setEmulatedMedia", media)
        for suffix, (width, height) in SIZES.items():
            for name, question in SHOWN.items():
                resize(browser, width, height)
                opened(browser, GALLERY / f"{name}.html", f"atomthink_demo%2F{question}%2F0")
                save(browser, f"{name}{suffix}-{scheme}")
            for page in (GALLERY / "capability.html", notebook):
                resize(browser, 1000 if page == notebook and width > 1000 else width, 800)
                browser.get(page.resolve().as_uri())
                resize_to_page(browser)
                save(browser, f"{page.stem}{suffix}-{scheme}")


def take_tree(browser: WebDriver) -> None:
    """Takes the picture of one question and its search tree, for the README: sharp at 900 pixels and more."""
    devtools(browser, "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]})
    resize(browser, 1400, 1400)
    opened(browser, GALLERY / "best-of-8.html", f"atomthink_demo%2F{SHOWN['best-of-8']}%2F0")
    browser.execute_script(
        "document.querySelector('.facts').style.display = 'none';"
        "document.querySelector('.pictures img').style.maxHeight = '9rem'"
    )
    areas = "return ['.asked', '.tree'].map((it) => document.querySelector(it).getBoundingClientRect().toJSON())"
    asked, tree = browser.execute_script(areas)
    left, top, right, bottom = asked["left"], asked["top"], asked["right"], tree["bottom"] + 10
    clip = {"x": left, "y": top, "width": right - left, "height": bottom - top, "scale": 1.5}
    taken = devtools(browser, "Page.captureScreenshot", {"clip": clip})
    picture = Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")
    picture.quantize(256, kmeans=4, dither=Image.Dither.NONE).save(GALLERY / "tree-light.png", optimize=True)


def devtools(browser: WebDriver, command: str, values: dict[str, Any]) -> dict[str, Any]:
    reply: dict[str, Any] = browser.execute_cdp_cmd(command, values)  # type: ignore[attr-defined]
    return reply


def resize(browser: WebDriver, width: int, height: int) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    devtools(browser, "Emulation.setDeviceMetricsOverride", size)


def resize_to_page(browser: WebDriver) -> None:
    """Makes the window as high as the page."""
    width, height = browser.execute_script("return [innerWidth, document.documentElement.scrollHeight]")
    resize(browser, width, height)


def save(browser: WebDriver, name: str) -> None:
    """Writes a picture of the window."""
    picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    picture.save(GALLERY / f"{name}.webp", quality=88, method=6)


def made_on(questions: int) -> str:
    where = provenance()
    return (
        f"The pages are made by `python -m benchmarks.gallery --runs FOLDER` with {questions} questions of the demo "
        f"task ({where['machine']}; {where['date']}).\n"
    )


def comparison() -> str:
    """Returns the first table of the comparison."""
    record = json.loads((RESULTS / "comparison.json").read_text())
    lines = (RESULTS / "comparison.md").read_text().splitlines()
    table = lines[: lines.index("", lines.index("") + 1)]  # up to the end of the first table
    return "\n".join([*table, "", f"({record['machine']}; {record['date']})", ""])


def filled(page: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """Returns the gallery's page with new generated parts; parts without a maker stay as they are."""

    def new(block: re.Match[str]) -> str:
        return f"{block[1]}\n{parts[block[2]]()}\n{block[4]}" if block[2] in parts else block[0]

    return BLOCK.sub(new, page)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder of runs and journals")
    parser.add_argument("--limit", type=int, default=24, help="questions of the demo task")
    options = parser.parse_args(arguments)
    runs = options.runs.absolute()
    runs.mkdir(parents=True, exist_ok=True)
    write_pages(runs, options.limit)
    draw_curve()
    with chromium() as browser:
        take_pictures(browser, runs)
        take_tree(browser)
    index = GALLERY / "index.md"
    index.write_text(
        filled(index.read_text(), {"provenance": lambda: made_on(options.limit), "comparison": comparison})
    )


if __name__ == "__main__":
    main()
