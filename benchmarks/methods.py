"""Measures every search and format with the embedded models on held-out demo questions.

    python -m benchmarks.methods --json benchmarks/results/methods.json --policy forms=DIR

Each row is written as soon as it is measured. A further run measures the rows that the file lacks, that have fewer
questions, or whose arguments have changed since; `--only NAME` measures the named rows anyway. All rows together take
hours of CPU time.

The embedded policy was trained to write atomic steps. Rows of a form of reply that it does not know are measured twice:
with the embedded policy, and with one that was fine-tuned for the form, whose folder `--policy FORM=DIR` names. The
recipes of these policies are in `training/tiny`. Rows without a policy are left out.

Searches that sample the same chains ask for the same answers. The file `--answers` keeps them, so that they are
generated once. The CPU seconds of a row include what its kept answers took when they were generated.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from atomthink_plugin.accuracy_stats import wilson
from atomthink_plugin.api import Failure, Outcome, Result, Usage
from atomthink_plugin.formats.continuation import CONTINUE_INSTRUCTION
from atomthink_plugin.model_adapters.tiny import TINY_ARGUMENTS
from atomthink_plugin.named_models import plan_for
from atomthink_plugin.runtime.build import build
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.tasks.demo.engine_questions import engine_questions, right_answers
from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import DemoQuestion, held_out, training_stream
from benchmarks.held_out import named
from benchmarks.provenance import provenance
from benchmarks.reuse import Answers, KeptPolicy
from benchmarks.tables.methods import compared

BASELINE: Final = "quick"
"""The row that all others are compared with."""

EMBEDDED: Final = "embedded"

EXAMPLES: Final = "examples.jsonl"
"""Solved questions of the demo task, with gold steps; not in the results, because they are made for each run."""

FEW: Final = 200
"""Questions of rows in which nearly every answer is wrong."""


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        name: Its name, unique.
        family: What decides: see `benchmarks.tables.method_chart.FAMILIES`.
        arguments: Model arguments, as a user would type them.
        form: The form of reply that its policy was fine-tuned for; empty for the embedded policy.
        limit: Questions that it is measured on at most; None for all.
    """

    name: str
    family: str
    arguments: Mapping[str, Any]
    form: str = ""
    limit: int | None = None


def chain(name: str, form: str = "", limit: int | None = None, **arguments: Any) -> Method:
    """Returns a row without search."""
    return Method(name, "one chain", {"thinking": "quick", **arguments}, form, limit)


def search(name: str, family: str, form: str = "", limit: int | None = None, **arguments: Any) -> Method:
    """Returns the row of the search that the name begins with."""
    return Method(name, family, {"thinking": "slow", "search": name.split(",")[0], **arguments}, form, limit)


def mini(tokens: int) -> dict[str, Any]:
    """Returns the arguments of mini-steps, asked for as the embedded policy was trained to be asked."""
    return {"format": "mini", "format_mini_tokens": tokens, "format_instruction": CONTINUE_INSTRUCTION}


METHODS: Final = (
    chain(BASELINE),
    chain("quick, T=1", temperature=1.0),
    chain("direct", thinking="direct"),
    chain("cot", thinking="cot"),
    chain("quick, atomic", format="atomic"),
    chain("quick, few_shot", format="few_shot", format_examples=EXAMPLES, format_k=5),
    chain("quick, stages untrained", limit=FEW, format="stages"),
    chain("quick, steps", "forms"),
    chain("quick, stages", "forms", format="stages"),
    chain("quick, thoughts untrained", limit=FEW, format="thoughts"),
    chain("quick, thoughts", "forms", format="thoughts"),
    chain("quick, arrow untrained", limit=FEW, format="arrow"),
    chain("quick, arrow", "forms", format="arrow"),
    search("majority", "vote", n=8),
    search("adaptive_majority", "vote", n=8),
    search("complex_vote", "vote", n=8, keep=6),
    search("shuffle_vote", "vote", n=8),
    search("weighted", "PRM on chains", n=8),
    search("best_of_n", "PRM on chains", n=8),
    search("refined_best_of_n", "PRM on chains", n=4, candidates=3),
    search("greedy", "PRM on steps", candidates=8, temperature=1.0),
    search("beam", "PRM on steps", beams=2, candidates=3),
    search("annealed_beam", "PRM on steps", beams=4, narrowest=1, candidates=3),
    search("lookahead", "PRM on steps", beams=2, candidates=3, depth=1),
    search("dvts", "PRM on steps", n=8, width=4),
    search("particle_filter", "PRM on steps", particles=8),
    search("mcts, PRM", "PRM on steps", simulations=8, children=3),
    search("mcts", "policy's confidence", simulations=8, children=3, prm="None"),
    search("mcts, 64 tokens", "policy's confidence", simulations=8, children=3, prm="None", **mini(64)),
    search("mcts, 32 tokens", "policy's confidence", simulations=8, children=3, prm="None", **mini(32)),
    search("two_stage", "further prompts"),
    search("two_stage, answer first", "further prompts", order="answer_first"),
    search("two_stage, answer first in one reply", "further prompts", order="answer_first", stages=1),
    search("two_stage, blind", "further prompts", blind=True),
    search("zero_shot_cot", "further prompts"),
    search("least_to_most", "further prompts", subquestions=4),
    search("workflow", "further prompts", parts=4),
    search("judge_best_of_n", "judged by the policy", n=8),
    search("stepwise_bon", "judged by the policy", candidates=8),
    search("self_refine", "judged by the policy", rounds=3),
    search("reason_summarise, steps", "further prompts", n=1, format="continue"),
    search("reason_summarise, untrained", "further prompts", limit=FEW, n=1),
    search("reason_summarise, thoughts", "further prompts", "forms", n=1),
    search("stage_beam, steps", "judged by the policy", candidates=4, format="continue"),
    search("stage_beam, stages", "judged by the policy", "forms", candidates=4),
    search("stage_beam, sentences", "judged by the policy", "forms", candidates=4, format="sentences"),
    search("best_of_n, stages", "PRM on chains", "forms", n=8, format="stages"),
    search("swires, stages", "PRM on steps", "forms", candidates=4, keep=2, retraces=3),
)
"""Searches with a number of candidates have 8 chains, 8 candidates of a step, or 2 beams with 3 candidates."""


def built(method: Method, policy: str, answers: Answers, folder: Path) -> Runner:
    """Loads the models of a row. Examples are written to `folder`."""
    typed = {"journal": "off", **method.arguments}
    if "format_examples" in typed:
        typed["format_examples"] = str(write_examples(folder))
    runner = build(plan_for("atomthink_tiny", typed, {**TINY_ARGUMENTS, "pretrained": policy}))
    roles = {role: KeptPolicy(other, answers) for role, other in runner.roles.items()}
    return replace(runner, policy=KeptPolicy(runner.policy, answers), roles=roles)


def measured(method: Method, demo: Sequence[DemoQuestion], runner: Runner, answers: Answers) -> dict[str, Any]:
    """Measures a row."""
    extra, processor = 0, time.process_time()

    def finished(result: Result, spent: Usage | None) -> None:
        nonlocal extra
        progress.finished(result, spent)
        if isinstance(result, Outcome):
            extra += sum(node.tokens * node.multiplicity for node in result.nodes if node.use)

    with RunProgress(len(demo), method.name) as progress:
        results = runner.run(engine_questions(demo), finished)
    seconds = answers.end_row(time.process_time() - processor)
    right, count = right_answers(demo, results), len(demo)
    interval = wilson(sum(right), count)
    return {
        "thinking": method.name,
        "arguments": dict(method.arguments),
        "policy": method.form or EMBEDDED,
        "questions": count,
        "accuracy": round(sum(right) / count, 4),
        "interval": [round(bound, 4) for bound in interval],
        "failed": sum(isinstance(result, Failure) for result in results),
        "unanswered": sum(isinstance(result, Outcome) and result.answer is None for result in results),
        "tokens_per_question": round(sum(result.usage.generated for result in results) / count, 1),
        "extra_tokens_per_question": round(extra / count, 1),
        "prm_calls_per_question": round(sum(result.usage.score_calls for result in results) / count, 2),
        "cpu_seconds_per_question": round(seconds / count, 3),
        **provenance(),
        "right": "".join("01"[one] for one in right),
    }


def write_examples(folder: Path, count: int = 200) -> Path:
    """Writes solved training questions as examples for `format=few_shot`, and returns their file."""
    lines = []
    for i, item in enumerate(islice(training_stream(seed=7), count)):
        draw(item).save(folder / f"{i}.png")
        question = {"id": str(i), "question": item.text, "images": [f"{i}.png"]}
        lines.append(json.dumps(question | {"steps": item.steps, "answer": str(item.answer)}))
    file = folder / EXAMPLES
    file.write_text("\n".join(lines) + "\n")
    return file


def known(file: Path | None) -> dict[str, dict[str, Any]]:
    """Returns the rows of an earlier run, by name."""
    if file is None or not file.exists():
        return {}
    return {row["thinking"]: row for row in json.loads(file.read_text())["rows"]}


def missing(rows: Mapping[str, Mapping[str, Any]], methods: Sequence[Method], questions: int = 1) -> list[Method]:
    """Returns the methods that have no row with their arguments, their policy and so many questions."""

    def has_row(method: Method) -> bool:
        row, wanted = rows.get(method.name, {}), min(method.limit or questions, questions)
        known = row.get("arguments"), row.get("policy")
        return known == (dict(method.arguments), method.form or EMBEDDED) and row["questions"] >= wanted

    return [method for method in methods if not has_row(method)]


def save(file: Path, rows: Mapping[str, Mapping[str, Any]], seed: int) -> None:
    """Writes all rows, in the order of the methods."""
    ordered = [rows[method.name] | {"family": method.family} for method in METHODS if method.name in rows]
    first = rows[BASELINE]
    record = {
        "seed": seed,
        "baseline": BASELINE,
        "questions": first["questions"],
        "machine": first["machine"],
        "date": max(row["date"] for row in ordered),
        "rows": ordered,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(part, file)


def described(row: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
    """Returns a row as one line."""
    won, lost, _ = compared(row, baseline)
    costs = f"{row['tokens_per_question']:.0f} tokens/q, {row['prm_calls_per_question']:.1f} PRM calls/q"
    return f"{row['thinking']}: {row['accuracy']:.1%}, +{won} -{lost}, {costs}, {row['cpu_seconds_per_question']} s/q"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=600)
    parser.add_argument("--seed", type=int, default=31, help="of the held-out questions; the demo task's is 2024")
    parser.add_argument("--policy", nargs="*", type=named, default=[], metavar="FORM=DIR")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="rows to measure (default: those that JSON lacks)")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--answers", type=Path, help="file of the policies' answers (default: beside JSON)")
    options = parser.parse_args()
    by_name = {method.name: method for method in METHODS}
    if unknown := set(options.only or ()) - by_name.keys():
        parser.error(f"`--only {' '.join(sorted(unknown))}`: rows are {', '.join(by_name)}")
    policies = {"": TINY_ARGUMENTS["pretrained"], **dict(options.policy)}
    demo = held_out(options.questions, options.seed)
    rows, answers = known(options.json), Answers(options.answers or options.json.with_suffix(".answers"))
    todo = [by_name[name] for name in options.only] if options.only else missing(rows, METHODS, len(demo))
    for method in todo:
        if method.form not in policies:
            print(f"{method.name}: left out, because it needs `--policy {method.form}=DIR`")
            continue
        with TemporaryDirectory() as folder:
            runner = built(method, policies[method.form], answers, Path(folder))
            row = rows[method.name] = measured(method, demo[: method.limit], runner, answers)
        save(options.json, rows, options.seed)
        print(described(row, rows[BASELINE]), flush=True)


if __name__ == "__main__":
    main()
