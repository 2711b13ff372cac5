"""Each example of the page of file formats is read by the code that reads the file, or has what the code writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, get_args

import pytest
import yaml
from PIL import Image

from atomthink_plugin.api import Node, Outcome, Proposal, Rollout, Score, Usage
from atomthink_plugin.config import plan
from atomthink_plugin.examples.example_file import ExampleRecord, read_examples
from atomthink_plugin.inference.phases import ModelWork, Phase, PhaseTotals
from atomthink_plugin.json_rows import Reject
from atomthink_plugin.model_adapters.lmms_requests import ThoughtCounts
from atomthink_plugin.named_models import with_config_file
from atomthink_plugin.report.run_reader import read
from atomthink_plugin.report.scale import Scaling
from atomthink_plugin.rollouts.candidate_scores import CandidateScores
from atomthink_plugin.rollouts.readers.formats import ROLLOUT_FORMATS
from atomthink_plugin.rollouts.rollout_file import RUN, read_rollouts
from atomthink_plugin.rollouts.score_file import CandidateScoreFile, ScoreKey
from atomthink_plugin.rollouts.selection import SelectionRule
from atomthink_plugin.rollouts.selection_curve import SelectionPoint
from atomthink_plugin.rollouts.selection_report import ScoredRollouts, selection_json
from atomthink_plugin.runtime.journal_reader import JournalEntry, read_entries
from atomthink_plugin.runtime.partial_log import PartialLog
from atomthink_plugin.runtime.solution_scores import GivenSolution, ScoreFile
from atomthink_plugin.runtime.speed import ModelSpeed, RunSpeed
from atomthink_plugin.step_metrics.measure import Metrics
from atomthink_plugin.tasks.benchmarks.mathvista.task import MATHVISTA
from atomthink_plugin.tasks.benchmarks.metrics import sample_line
from atomthink_plugin.tasks.capability.estimates import Capability
from atomthink_plugin.tasks.capability.records import read_step_records
from atomthink_plugin.tasks.capability.report import CapabilityReport
from atomthink_plugin.tasks.capability.taxonomy import load_taxonomy
from atomthink_plugin.tasks.demo.comparison import ModeResult
from atomthink_plugin.tasks.demo.task import process_results
from atomthink_plugin.tasks.process.metrics import prmbench_replies
from atomthink_plugin.tasks.step_report import StepReportRow
from atomthink_plugin.tasks.submissions.entries import MathVerseEntry, MathVisionEntry, MathVistaEntry
from atomthink_plugin.training.annotate.budget import read_price
from atomthink_plugin.training.annotate.ledger import Cost, Ledger
from atomthink_plugin.training.llava_cot import row_of
from atomthink_plugin.training.published import import_published
from atomthink_plugin.training.quality import statistics
from atomthink_plugin.training.records import AnsweredQuestion, Chain, Pair, QuestionRecord, read_records
from atomthink_plugin.training.train.recipe import PrmRecipe
from tests.reference.pages import code, examples, page, section, table

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)

PAGE = page("file-formats.md")
EXAMPLES = examples(PAGE)

Check = Callable[[list[str], Path], None]
CHECKS: dict[str, Check] = {}


def checks(heading: str) -> Callable[[Check], Check]:
    def add(check: Check) -> Check:
        CHECKS[heading] = check
        return check

    return add


def names(kind: Any) -> set[str]:
    return {field.name for field in fields(kind)}


@checks("Arguments in a file")
def _(texts: list[str], folder: Path) -> None:
    (folder / "run.yaml").write_text(texts[0])
    given = with_config_file({"config": str(folder / "run.yaml"), "beams": "3"})
    assert given.pop("prm") == "ORG/PRM"
    planned = plan("vllm", {**given, "scorer": "confidence"})
    assert planned.identity["search"] == {"name": "beam", **planned.identity["search"], "beams": 3}


@checks("Recipe")
def _(texts: list[str], folder: Path) -> None:
    assert PrmRecipe.model_validate(yaml.safe_load(texts[0])).max_steps == 150


@checks("Prices")
def _(texts: list[str], folder: Path) -> None:
    (folder / "prices.yaml").write_text(texts[0])
    assert read_price(folder / "prices.yaml", "gpt-4o").usd(2_000_000, 1_000_000, 1_000_000) == 2.5 + 10 + 1.25


@checks("Taxonomy")
def _(texts: list[str], folder: Path) -> None:
    (folder / "taxonomy.yaml").write_text(texts[0])
    assert load_taxonomy(folder / "taxonomy.yaml").group_of("Decision Making") == "Interpretation and Conclusion"


@checks("Samples")
def _(texts: list[str], folder: Path) -> None:
    answered, failed = map(json.loads, texts)
    assert answered.keys() == ThoughtCounts(1, 1, journal="x").to_dict().keys()
    assert failed.keys() == ThoughtCounts(1, 1, error="x", status="failed").to_dict().keys()
    explained = {name for row in table(section(PAGE, "### Samples")) for name in code(row[0])}
    assert explained == answered.keys() | failed.keys() | {"judged_tokens"}


@checks("Speed")
def _(texts: list[str], folder: Path) -> None:
    printed, kept = texts
    works = {name: ModelSpeed(ModelWork({phase: PhaseTotals() for phase in PHASES}), 1.0) for name in ("policy", "prm")}
    speed = RunSpeed(1.0, 10, 20, works)
    assert [line.split()[:2] for line in printed.splitlines()[1:]] == [["speed:", f"{role}:"] for role in works]
    numbers = [name.removeprefix("avg_") for name in json.loads(kept) if name.startswith(("avg_policy", "avg_prm"))]
    assert set(numbers) <= speed.flat().keys()
    explained = {name for row in table(section(PAGE, "### Speed")) for name in code(row[0])}
    assert explained >= {*PHASES, "waiting"}
    assert ModelSpeed(ModelWork(requests=1), 1.0).shares.keys() == {"request", "waiting"}


@checks("Samples of the benchmark tasks")
def _(texts: list[str], folder: Path) -> None:
    benchmark, demo = map(json.loads, texts)
    line = sample_line(MATHVISTA, benchmark["question"], f"The answer is {benchmark['extracted']}.")
    assert line.keys() == benchmark.keys()
    for name in ("correct", "by_category", "question", "benchmark", "extracted", "normalized", "scorer"):
        assert json.loads(json.dumps(line[name])) == benchmark[name]
    questions = Path(__file__).parents[2] / "tasks" / "demo" / "questions.jsonl"
    first = json.loads(questions.read_text(encoding="utf-8").splitlines()[0])
    assert process_results(first, ["\n\n".join(demo["steps"])]) == demo


@checks("Samples of the tasks of critics")
def _(texts: list[str], folder: Path) -> None:
    shown = json.loads(texts[0])
    own = shown["prmscore"]
    doc = {**own, "problem": own["question"], "steps": own["labels"], "right": None}
    reply = json.dumps({"scores": own["scores"], **own["threshold"]})
    assert json.loads(json.dumps(prmbench_replies(doc, [[reply]]))) == shown


@checks("Journal")
def _(texts: list[str], folder: Path) -> None:
    line, settings = texts
    (folder / "hf-quick-1").mkdir()
    (folder / "hf-quick-1" / "rank0.jsonl").write_text(line)
    (folder / "hf-quick-1" / "settings.json").write_text(settings)
    (entry,) = read_entries([folder / "hf-quick-1" / "rank0.jsonl"])
    assert isinstance(entry, JournalEntry)
    assert isinstance(entry.result, Outcome)
    assert entry.result.chains()[entry.result.rollouts[0].end] == entry.result.steps
    record = json.loads(line)
    below = section(PAGE, "### Journal")
    shown = {name for row in table(below[below.index("| field") :]) for cell in row for name in code(cell)}
    assert names(Node) | names(Rollout) | names(Usage) <= shown
    assert names(Outcome) <= {name.rpartition(".")[2] for name in shown}
    assert record.keys() - {"outcome", "checksum"} <= shown
    (question,) = read(folder / "hf-quick-1").questions
    assert question.text == record["text"]


@checks("Log of unfinished questions")
def _(texts: list[str], folder: Path) -> None:
    (folder / "partial_rank0.jsonl").write_text(texts[0])
    key = json.loads(texts[0].splitlines()[0])["key"]
    answers = [answer for _, _, answer in PartialLog(folder, 1, ()).earlier(key)]
    assert [type(answer) for answer in answers] == [Proposal, Score]


def record_check(kind: type[QuestionRecord], name: str) -> Check:
    def check(texts: list[str], folder: Path) -> None:
        given = json.loads(texts[0])
        (folder / "images").mkdir()
        for image in given["images"]:
            Image.new("RGB", (8, 8)).save(folder / image)
        (folder / name).write_text(texts[0])
        (record,) = read_records(folder / name, kind, strict=True).records
        known = {name: value for name, value in given.items() if name in kind.model_fields}
        assert json.loads(record.model_dump_json(exclude_unset=True)) == known
        assert given.keys() - known.keys() <= {"method", "source", "teacher"}  # where `annotate` made the chain

    return check


for heading, kind in (("Questions", AnsweredQuestion), ("Chains", Chain), ("Labels", Chain), ("Pairs", Pair)):
    CHECKS[heading] = record_check(kind, f"{heading.lower()}.jsonl")


@checks("Examples")
def _(texts: list[str], folder: Path) -> None:
    given = json.loads(texts[0])
    (folder / "images").mkdir()
    Image.new("RGB", (8, 8)).save(folder / given["images"][0])
    (folder / "examples.jsonl").write_text(texts[0])
    (example,) = read_examples(folder / "examples.jsonl", "format_examples=examples.jsonl").examples
    assert (example.question, list(example.steps), example.answer) == (
        given["question"],
        given["steps"],
        given["answer"],
    )
    assert given.keys() == ExampleRecord.model_fields.keys()


@checks("Rejects")
def _(texts: list[str], folder: Path) -> None:
    plain_one, annotated = map(json.loads, texts)
    assert plain_one.keys() == names(Reject)
    assert annotated.keys() - plain_one.keys() == {"stage", "detail", "faults"}


@checks("Summaries")
def _(texts: list[str], folder: Path) -> None:
    annotated, solved, labelled = map(json.loads, texts)
    assert annotated["asked"] == annotated["good"] + annotated["rejected"]
    assert solved["asked"] == solved["right"] + solved["rejected"]
    assert labelled["records"] * 2 == labelled["samples"] == labelled["chains"]


@checks("Ledger of a teacher")
def _(texts: list[str], folder: Path) -> None:
    (folder / "journal.jsonl").write_text(texts[0])
    ledger = Ledger(folder)
    assert ledger.spent == Cost(calls=1, prompt=790, completion=14, usd=0.0021)
    assert ledger.reply("q1", "propose 1/0") == "Step 1: Read blue = 9."
    ledger.close()


@checks("Data sets in the form of AMATH")
def _(texts: list[str], folder: Path) -> None:
    for name, text in zip(("sft", "prm"), texts, strict=True):
        (record,) = json.loads(text)
        (folder / record["image"]).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / record["image"])
        (folder / f"amath_{name}.json").write_text(text)
        import_published(str(folder / f"amath_{name}.json"), folder / f"{name}.jsonl")
        (chain,) = read_records(folder / f"{name}.jsonl", Chain, strict=True).records
        assert len(chain.steps) == 1


@checks("Data sets in the form of LLaVA-CoT-100k")
def _(texts: list[str], folder: Path) -> None:
    row = json.loads(texts[0])
    (folder / row["image"]).parent.mkdir()
    Image.new("RGB", (8, 8)).save(folder / row["image"])
    (folder / "train.jsonl").write_text(texts[0])
    import_published(str(folder / "train.jsonl"), folder / "stages.jsonl")
    (chain,) = read_records(folder / "stages.jsonl", Chain, strict=True).records
    assert chain.answer == "2"
    assert row_of(chain) | {"image": row["image"]} == row


@checks("Training log")
def _(texts: list[str], folder: Path) -> None:
    policy, prm = map(json.loads, texts[0].splitlines())
    assert {"step", "loss", "learning_rate", "seconds"} <= policy.keys() & prm.keys()


@checks("Records of atomic capability")
def _(texts: list[str], folder: Path) -> None:
    (folder / "images").mkdir()
    Image.new("RGB", (8, 8)).save(folder / json.loads(texts[0])["images"][0])
    (folder / "set.jsonl").write_text(texts[0])
    (record,) = read_step_records(folder / "set.jsonl").records
    assert record.ability in load_taxonomy().by_name


@checks("Scores of a PRM")
def _(texts: list[str], folder: Path) -> None:
    (folder / "scores.jsonl").write_text(texts[0])
    head, scored = map(json.loads, texts[0].splitlines())
    scores = ScoreFile(folder / "scores.jsonl", head["prm"])
    solution = GivenSolution(scored["id"], "q", ("Step.",) * len(scored["scores"]))
    assert scores.get(solution, scored["key"]) == tuple(scored["scores"])
    scores.close()


@checks("Candidates of other runs")
def _(texts: list[str], folder: Path) -> None:
    (folder / "images").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "images" / "1.png")
    listed = [code(row[0])[0] for row in table(section(PAGE, "### Candidates of other runs"))]
    assert listed == [RUN, *ROLLOUT_FORMATS]
    for name, text in zip(ROLLOUT_FORMATS, texts, strict=True):
        file = folder / f"{name}{'.jsonl' if text.startswith('{') else '.csv'}"
        file.write_text(text, encoding="utf-8")
        found = read_rollouts([str(file)])
        assert (found.format, len(found.sets), found.rejects) == (name, 1, ())


@checks("Scores of candidates")
def _(texts: list[str], folder: Path) -> None:
    (folder / "scores.jsonl").write_text(texts[0])
    *_, scored = map(json.loads, texts[0].splitlines())
    scores = CandidateScoreFile(folder / "scores.jsonl")
    found = scores.get(ScoreKey(*(scored[name] for name in ScoreKey._fields)), scored["scores"])
    scores.close()
    assert found is not None
    assert found.usage.prefilled == scored["usage"]["prefilled"]


@checks("compare --json")
def _(texts: list[str], folder: Path) -> None:
    found = json.loads(texts[0])
    assert set(found) == {"rows", "categories", "equal_tokens", "notes"}
    assert found["rows"][0]["contrast"] is None


@checks("scale --json")
def _(texts: list[str], folder: Path) -> None:
    found = json.loads(texts[0])
    assert found.keys() == names(Scaling) | {"model", "thinking"}


@checks("steps --json")
def _(texts: list[str], folder: Path) -> None:
    found = json.loads(texts[0])
    assert found["rows"][0].keys() == names(StepReportRow)


@checks("score --json")
def _(texts: list[str], folder: Path) -> None:
    found = json.loads(texts[0])
    point = SelectionPoint(SelectionRule("pass"), 1, 1, (0.5, 0.0, 1.0), 0.5, (0.0, 0.0, 0.0), 0.0)
    written = selection_json(ScoredRollouts("f", "run", (), (), (point,), {}, {}, 0, ()))
    assert found.keys() == written.keys()
    assert found["points"][-1].keys() == written["points"][0].keys()
    scored = CandidateScores("PRM", (), Usage(), identity={}, speed=RunSpeed(1.0, 0, 1, {}))
    (prm,) = selection_json(ScoredRollouts("f", "run", (), (scored,), (), {}, {}, 0, ()))["prms"]
    assert found["prms"][0].keys() == prm.keys()
    assert found["prms"][0]["speed"].keys() == prm["speed"].keys()


@checks("demo --json")
def _(texts: list[str], folder: Path) -> None:
    (found,) = json.loads(texts[0])
    assert found.keys() == names(ModeResult) | {"accuracy", "interval"}
    written = RunSpeed(1.0, 10, 20, {"policy": ModelSpeed(ModelWork(), 1.0)}).to_json()
    assert found["speed"].keys() == written.keys()
    assert found["speed"]["models"]["policy"].keys() == written["models"]["policy"].keys()


@checks("prm eval --json")
def _(texts: list[str], folder: Path) -> None:
    found = json.loads(texts[0])
    assert found.keys() == names(Metrics) | {"set", "prm", "threshold"}


@checks("atoms evaluate --json")
def _(texts: list[str], folder: Path) -> None:
    found = json.loads(texts[0])
    assert found.keys() == names(CapabilityReport)
    assert found["rows"][0].keys() == names(Capability)


@checks("data quality --json")
def _(texts: list[str], folder: Path) -> None:
    chain = Chain(id="1", question="q", steps=("Step 1: The final answer is: 2.",), answer="2")
    written = statistics([chain], None)
    assert json.loads(texts[0])["statistics"].keys() == written.keys() | {"rejected", "rejects"}


@checks("Submissions")
def _(texts: list[str], folder: Path) -> None:
    mathvista, mathverse, mathvision = map(json.loads, texts)
    for pid, entry in mathvista.items():
        assert MathVistaEntry.model_validate(entry).pid == pid
    for entry in mathverse:
        MathVerseEntry.model_validate(entry)
    MathVisionEntry.model_validate(mathvision)


def test_every_example_has_a_check() -> None:
    assert EXAMPLES.keys() == CHECKS.keys()


@pytest.mark.parametrize("heading", EXAMPLES)
def test_the_examples_are_read_or_have_what_is_written(heading: str, tmp_path: Path) -> None:
    CHECKS[heading](EXAMPLES[heading], tmp_path)


def test_there_is_an_example_of_each_file_of_the_picture_of_the_training_stages() -> None:
    readme = (Path(__file__).parents[2] / "training" / "README.md").read_text(encoding="utf-8")
    drawn = set(re.findall(r"\[/(\S+\.jsonl)/\]", readme))
    assert len(drawn) > 4
    assert drawn <= set(re.findall(r"`(\w+\.jsonl)`", PAGE))
