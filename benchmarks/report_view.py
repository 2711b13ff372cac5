"""The picture of `atomthink view` in the README: a beam search of the embedded model, in a real browser.

    python -m benchmarks.report_view --runs runs

Runs lmms-eval on the demo task as `report_curves.py` does (finished runs in the folder `--runs` are not
repeated), writes the page, and takes its picture to `benchmarks/results/view.png` by headless Chromium.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from atomthink_plugin.report.view import view
from benchmarks.report_curves import WAYS, evaluate
from tests.report.browser import chromium, opened

PICTURE = Path(__file__).parent / "results" / "view.png"


def main() -> None:
    parser = argparse.ArgumentParser(description="The README's picture of a run.")
    parser.add_argument("--runs", type=Path, required=True, help="folder of runs and journals")
    parser.add_argument("--limit", type=int, default=200, help="questions of the demo task (default: all)")
    parser.add_argument("--question", type=int, default=0, help="the one that is shown")
    options = parser.parse_args()
    folder = options.runs.absolute()
    page = folder / "view.html"
    view([evaluate("beam", WAYS["beam"], folder, options.limit)], page, [])
    with chromium() as browser:
        browser.set_window_size(1440, 1150)
        opened(browser, page, f"atomthink_demo%2F{options.question}%2F0")
        browser.save_screenshot(str(PICTURE))


if __name__ == "__main__":
    main()
