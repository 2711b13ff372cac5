"""How large a page of `atomthink view` is and how fast a browser shows it, for 50, 500 and 5,000 questions.

    python -m benchmarks.report_size --questions 50 500 5000 --json benchmarks/results/report_size.json

The runs are made up: eight chains of five steps for each question, with random words, and a picture
with the detail of a photograph, whose thumbnail is in the journal. Times are of reading the run and writing
the page, without imports, and of one load in headless Chromium, from disk.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from atomthink_plugin.api import Message, Node, Outcome, Question, Usage
from atomthink_plugin.api import Path as Chain
from atomthink_plugin.api import Step as ChainStep
from atomthink_plugin.report.page_html import write_page
from atomthink_plugin.report.run_reader import read
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.searches.parts.aggregates import AGGREGATES
from benchmarks.provenance import provenance
from tests.report.browser import chromium, opened
from tests.report.runs import DATE, sample

TASK = "made_up"
CHAINS = 8
STEPS = 5
WORDS = 24
VOCABULARY = 4000
SIZE = (800, 600)


def picture(doc_id: int) -> Image.Image:
    """Returns a picture: large soft shapes, finer ones, and grain, as photographs have them."""
    rng = np.random.default_rng(doc_id)
    whole = np.zeros((SIZE[1], SIZE[0], 3), np.float32)
    for cells, weight in ((4, 90), (16, 45), (64, 22), (256, 10)):
        coarse = Image.fromarray(rng.integers(0, 256, (cells * 3 // 4, cells, 3), np.uint8))
        whole += (np.asarray(coarse.resize(SIZE, Image.Resampling.BICUBIC), np.float32) - 128) / 128 * weight
    return Image.fromarray(np.clip(whole + 128, 0, 255).astype(np.uint8))


def sentence(rng: random.Random, words: int) -> str:
    """Returns random words with Zipf frequencies: the k-th of a vocabulary in proportion to 1 / k."""
    ranks = (int(VOCABULARY ** rng.random()) for _ in range(words))
    return " ".join(np.base_repr(rank * 7919 + 40_000, 26).lower() for rank in ranks)


def thought(doc_id: int) -> tuple[Question, Outcome]:
    """Returns a question and eight chains about it, the best of which is chosen."""
    rng = random.Random(doc_id)
    question = Question(f"{TASK}/test/{doc_id}/0", (Message("user", (picture(doc_id), f"{sentence(rng, 30)}?")),))
    chains, nodes = [], []
    for _ in range(CHAINS):
        path, scores = Chain(question), []
        for k in range(1, STEPS + 1):
            answer = str(rng.randint(1, 4)) if k == STEPS else None
            text = f"To sum up, the final answer is: {answer}." if answer else f"{sentence(rng, WORDS)}."
            path = path.extend(ChainStep(f"Step {k}: {text}"), answer)
            scores.append(rng.random())
            assert path.parent is not None
            assert path.step is not None
            node = Node(path.key, path.parent.key, path.step.text, scores[-1], -9.0 * rng.random(), 30, 1, answer)
            nodes.append(node)
        chains.append((AGGREGATES["mean"](scores), path, tuple(scores)))
    value, best, scores_of_best = max(chains, key=lambda chain: chain[0])
    texts = tuple(step.text for step in best.steps)
    usage = Usage(CHAINS * STEPS, CHAINS * STEPS, 30 * CHAINS * STEPS, seconds=rng.random() * 9)
    merged = tuple({node.id: node for node in nodes}.values())
    return question, Outcome("\n\n".join(texts), best.answer, texts, scores_of_best, value, "final", usage, merged)


def write(folder: Path, questions: int) -> Path:
    """Writes a run of lmms-eval and its journal, and returns the run's folder."""
    out = folder / "out"
    out.mkdir()
    settings: dict[str, Any] = {"search": {"name": "best_of_n", "n": CHAINS}, "policy_weights": "made up"}
    journal = Journal(folder / "journal", "made_up", settings)
    with (out / f"{DATE}_samples_{TASK}.jsonl").open("w") as samples:
        for doc_id in range(questions):
            question, outcome = thought(doc_id)
            journal.put(question, outcome)
            line = {**sample(doc_id, outcome, "1", journal.folder.name), "input": question.text}
            line["groups"] = {"subject": [f"subject {doc_id % 12}"], "level": [str(doc_id % 5)]}
            samples.write(json.dumps(line) + "\n")
    journal.close()
    results = {
        "config": {"model": "made_up", "model_args": f"journal={folder / 'journal'}"},
        "higher_is_better": {TASK: {"acc": True}},
        "versions": {TASK: 1.0},
        "n-samples": {TASK: {"original": questions, "effective": questions}},
    }
    (out / f"{DATE}_results.json").write_text(json.dumps(results))
    return out


def measure(questions: int) -> dict[str, Any]:
    """Returns the size of one page in megabytes, and the seconds it took to be written and shown."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run = write(folder, questions)
        started = time.process_time()
        page = folder / "view.html"
        with page.open("w", encoding="utf-8") as file:
            write_page(file, [read(run)])
        written = time.process_time() - started
        with chromium() as browser:
            opened(browser, page)
            painted, ready, whole = browser.execute_script(
                "return [performance.getEntriesByName('first-contentful-paint')[0].startTime,"
                " Number(document.body.dataset.ready), performance.getEntriesByType('navigation')[0].loadEventEnd]"
            )
        return {
            "questions": questions,
            "megabytes": round(page.stat().st_size / 1e6, 2),
            "written_cpu_s": round(written, 1),
            "first_paint_s": round(painted / 1000, 2),
            "first_question_s": round(ready / 1000, 2),
            "whole_file_s": round(whole / 1000, 2),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, nargs="+", default=[50, 500, 5000], metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows = []
    for questions in options.questions:
        rows.append(measure(questions))
        print(rows[-1], flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps({**provenance(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
