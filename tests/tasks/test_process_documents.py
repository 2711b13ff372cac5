"""The documents of the tasks are the chains of `prm eval`, on real data as well."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import pytest

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.step_metrics.judged_steps import Threshold
from atomthink_plugin.step_metrics.measure import measure
from atomthink_plugin.tasks.process import documents
from atomthink_plugin.tasks.process.metrics import prmbench_replies, prmbench_report, visualprocessbench_replies
from atomthink_plugin.training.evaluate.readers import read_set
from atomthink_plugin.training.evaluate.scores import ScoredChain
from tests.step_metrics.published_records import visualprocessbench, write_published

PRMBENCH = Path(__file__).parents[3] / "shared" / "data" / "prmbench" / "prmbench_6216.jsonl.gz"


@pytest.mark.skipif(not PRMBENCH.is_file(), reason="the shared PRMBench file is not on this machine")
def test_every_chain_of_prmbench_and_every_number_is_that_of_prm_eval(tmp_path: Path) -> None:
    file = tmp_path / "prmbench.jsonl"
    with gzip.open(PRMBENCH, "rt") as lines:
        file.write_text("".join(line for at, line in enumerate(lines) if at % 8 == 0))
    chains = read_set(str(file)).chains
    rows = datasets.Dataset.from_list([json.loads(line) for line in file.read_text().splitlines()])
    docs = list(documents.prmbench(rows))
    assert [(doc["id"], doc["question"], tuple(doc["steps"])) for doc in docs] == [
        (chain.id, chain.chain.question, chain.chain.steps) for chain in chains
    ]
    assert len(docs) > 1000

    chance, cut = random.Random(3), Threshold(0.4, strict=True)
    scores = [tuple(round(chance.random(), 2) for _ in doc["steps"]) for doc in docs]
    replies = [json.dumps({"scores": found, "threshold": cut.value, "strict": True}) for found in scores]
    said = [prmbench_replies(doc, [[text]])["report"] for doc, text in zip(docs, replies, strict=True)]
    judged = [ScoredChain(chain, found).judged(cut) for chain, found in zip(chains, scores, strict=True)]
    expected = asdict(measure(judged, prmbench=True))
    assert prmbench_report(said) == {**expected, "invalid_reasons": {}}
    assert expected["prm_score"]["all"]["score"]["value"] == pytest.approx(0.5, abs=0.1)


def rows_of(records: list[dict[str, Any]]) -> datasets.Dataset:
    return datasets.Dataset.from_list(records, split="test")


def test_visualprocessbench_keeps_all_images_and_neutral_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_published(tmp_path))
    doc = list(documents.visualprocessbench(rows_of(visualprocessbench())))[2]
    assert doc["images"] == [f"OpenGVLab/VisualProcessBench/images/MathVerse_{number}.png" for number in (0, 1)]
    assert doc["labels"] == [True, None, True]
    line = visualprocessbench_replies(doc, ['{"Score": [1, 0, 1]}'])["critic"]
    assert (line["verdicts"], line["subset"], line["invalid"]) == ([True, False, True], "MathVerse", "")
    next(Path("OpenGVLab/VisualProcessBench/images").iterdir()).unlink()
    with pytest.raises(AtomThinkError, match=r"images\.zip"):
        documents.visualprocessbench(rows_of(visualprocessbench()))


def test_records_that_cannot_be_read_are_left_out() -> None:
    good = {"id": "a-0", "problem": "Q?", "steps": ["One."], "label": -1, "final_answer_correct": True}
    bad = {**good, "id": "a-1", "label": 5}
    (doc,) = documents.processbench(rows_of([good, bad, good]))
    assert (doc["id"], doc["subset"], doc["right"]) == ("a-0", "a", True)
    with pytest.raises(AtomThinkError, match="step 5"):
        documents.processbench(rows_of([bad]))
