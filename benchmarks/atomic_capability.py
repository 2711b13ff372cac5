"""Compares estimated abilities with true ones, for three policies whose steps can be judged exactly.

    python -m benchmarks.atomic_capability --questions 60 --json benchmarks/results/atomic_capability.json

On the demo task, the kind and the correctness of every step are known. The policies are the embedded one and two
damaged versions of it, in which half of the values that are read, or computed, are replaced by wrong ones. Each ability
is estimated from rollouts and right answers only, as `atomthink atoms evaluate` does. The true rates are measured on
other samples:

- true: next steps of reference prefixes, judged one by one;
- weighted: the same, weighted by the success rate of the rest of the chain. The estimate converges to this rate if a
  wrong step always loses the question;
- own chains: all steps of chains that start at the question, each judged given the steps before it.

Kendall's tau is the rank correlation of an estimate with the true rates (1: the same order).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table
from scipy.stats import kendalltau

from atomthink_plugin.api import Choice, Policy, Prompt, Proposal, Sampling, SearchTree, Step
from atomthink_plugin.named_models import rollout_plan
from atomthink_plugin.runtime.build import build
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.tasks.capability.estimates import Capability, capabilities, step_rates
from atomthink_plugin.tasks.capability.labellers import KeywordLabeller
from atomthink_plugin.tasks.capability.record_set import demo_chains, step_records
from atomthink_plugin.tasks.capability.records import StepRecord
from atomthink_plugin.tasks.capability.report_page import percent
from atomthink_plugin.tasks.capability.rollouts import PrefixResults, measure_prefixes, prefix_questions
from atomthink_plugin.tasks.capability.taxonomy import load_taxonomy
from atomthink_plugin.tasks.demo.questions import DemoQuestion, held_out
from atomthink_plugin.training.tiny.labels import verdicts
from benchmarks.provenance import provenance

OPERATIONS = Path(__file__).parent / "demo_operations.yaml"
VERBS = {"read": "Reading", "conclude": "Conclusion"}
SIGNS = {"+": "Addition", "-": "Subtraction", "x": "Multiplication"}
COARSE = {
    "Reading": "Data Extraction",
    **dict.fromkeys(SIGNS.values(), "Calculation"),
    "Conclusion": "Decision Making",
}
DAMAGE = 0.5
TRUTH_SEED = 1000
"""Added to the run's seed, so that the true rates are measured on other samples than the estimates."""


@dataclass(frozen=True)
class Damaged:
    """A policy that states a wrong number in a share of the steps that begin with a word."""

    policy: Policy
    word: str
    share: float

    @property
    def identity(self) -> str:
        return f"{self.policy.identity}, {self.share:.0%} of {self.word} damaged"

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        proposal = await self.policy.propose(prompt, n, sampling)
        steps = tuple(self._damage(step, sampling.seed_of(i)) for i, step in enumerate(proposal.steps))
        return replace(proposal, steps=steps)

    def _damage(self, step: Step, seed: int) -> Step:
        rng = random.Random(f"damage {seed}")
        found = re.search(rf": {self.word} .*?(\d+)\.\s*$", step.text)
        if found is None or rng.random() >= self.share:
            return step
        digits = found[1]
        # Only the last digit changes: a number of another length would make the following steps harder.
        wrong = digits[:-1] + rng.choice([digit for digit in "123456789" if digit != digits[-1]])
        return replace(step, text=f"{step.text[: found.start(1)]}{wrong}.")


def kinds(question: DemoQuestion) -> list[str]:
    return [VERBS.get(action.verb) or SIGNS[action.operator] for action in question.plan()]


@dataclass(frozen=True)
class Truth:
    """The share of right next steps by prefix, and the number of steps of own chains by kind and verdict."""

    next_right: dict[tuple[str, int], float]
    own_chains: Counter[tuple[str, bool]]

    def of(self, records: Sequence[StepRecord], measured: PrefixResults) -> tuple[float, float]:
        """Returns the mean share of right steps over records, unweighted and weighted by the success after them."""
        shares = [self.next_right[record.chain, len(record.history) - 1] for record in records]
        weights = [measured[record.chain, len(record.history)].share or 0.0 for record in records]
        return fmean(shares), fmean(shares, weights)

    def own(self, ability: str) -> float:
        """Returns the share of right steps in own chains, for a kind or an ability of the published taxonomy."""
        right, wrong = (
            sum(self.own_chains[kind, verdict] for kind in COARSE if ability in (kind, COARSE[kind]))
            for verdict in (True, False)
        )
        return right / (right + wrong)


def truth(demo: Sequence[DemoQuestion], made: Sequence[StepRecord], folder: Path, runner: Runner, m: int) -> Truth:
    """Judges `m` next steps of every reference prefix, and all steps of `m` chains of each question."""
    question_of = {f"demo{index}": question for index, question in enumerate(demo)}
    next_right: dict[tuple[str, int], float] = {}
    own_chains: Counter[tuple[str, bool]] = Counter()

    async def look(tree: SearchTree) -> Choice:
        chain = tree.root.question.id.partition("/")[0]
        question = question_of[chain]
        if not tree.root.final:
            (children,) = await tree.expand([tree.root], m)
            drawn = [child.steps[-1].multiplicity for child in children]
            right = [verdicts(question, [step.text for step in child.steps])[-1] for child in children]
            next_right[chain, tree.root.depth] = fmean(right, drawn)
        if tree.root.depth == 0:
            for path in await tree.rollouts(m):
                own_chains.update(zip(kinds(question), verdicts(question, [s.text for s in path.steps]), strict=False))
        return Choice(tree.root, 0.0, "depth")

    settings = runner.settings
    sampling = replace(settings.sampling, seed=settings.sampling.seed + TRUTH_SEED)
    looking = replace(runner, search=look, settings=replace(settings, sampling=sampling), on_error="raise")
    asked = prefix_questions(made, folder)
    with RunProgress(len(asked), "truth") as progress:
        looking.run(asked, progress.finished)
    return Truth(next_right, own_chains)


@dataclass(frozen=True)
class AbilityRow:
    """One ability of one policy: the true rates and the estimates."""

    policy: str
    ability: str
    true: float
    weighted: float
    own_chains: float
    capability: Capability


def agreement(rows: Sequence[AbilityRow], quantity: str) -> float:
    """Returns Kendall's tau of an estimate with the true rates, over the abilities that have both."""
    pairs = [(row.true, e.value) for row in rows if (e := getattr(row.capability, quantity)) is not None]
    return float(kendalltau(*zip(*pairs, strict=True)).statistic)


def table(rows: Sequence[AbilityRow], title: str) -> Table:
    grid = Table(title=title)
    for heading in (
        "policy",
        "ability",
        "true",
        "weighted",
        "own chains",
        "quality, %",
        "utilisation, %",
        "gain, %",
        "steps",
    ):
        grid.add_column(heading, justify="left" if heading in ("policy", "ability") else "right", no_wrap=True)
    for row in rows:
        c = row.capability
        cells = (
            *(f"{x:.1%}" for x in (row.true, row.weighted, row.own_chains)),
            percent(c.quality),
            percent(c.utilisation),
            percent(c.gain),
        )
        grid.add_row(row.policy, row.ability, *cells, str(c.records))
    return grid


def relabelled(made: Sequence[StepRecord], demo: Sequence[DemoQuestion]) -> tuple[list[StepRecord], int]:
    """Returns the records with their true kinds, and how many the labeller had assigned to another ability."""
    of = [kinds(demo[int(record.chain.removeprefix("demo"))])[len(record.history) - 1] for record in made]
    wrong = sum(COARSE[kind] != record.ability for kind, record in zip(of, made, strict=True))
    return [record.model_copy(update={"ability": kind}) for kind, record in zip(of, made, strict=True)], wrong


def policies(whole: Runner) -> Iterator[tuple[str, Runner]]:
    yield "embedded", whole
    yield "weak at reading", replace(whole, policy=Damaged(whole.policy, "Read", DAMAGE))
    yield "weak at arithmetic", replace(whole, policy=Damaged(whole.policy, "Compute", DAMAGE))


def as_record(policy: str, taxonomy: str, rows: Sequence[AbilityRow], taus: dict[str, float]) -> dict[str, Any]:
    abilities = [
        {"true": row.true, "weighted": row.weighted, "own_chains": row.own_chains, **asdict(row.capability)}
        for row in rows
    ]
    return {"policy": policy, "taxonomy": taxonomy, "kendall_tau": taus, "abilities": abilities}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--seed", type=int, default=77, help="of the held-out questions; the demo task's is 2024")
    parser.add_argument("--rollouts", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    demo = held_out(options.questions, options.seed)
    published, operations = load_taxonomy(), load_taxonomy(OPERATIONS)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made, _, _ = step_records(demo_chains(demo, folder), KeywordLabeller(), published)
        by_kind, wrong = relabelled(made, demo)
        print(f"{len(made)} records; the keyword labeller gave {wrong} of them a wrong ability")
        for policy, runner in policies(build(rollout_plan("atomthink_tiny", {}))):
            started, cpu = time.monotonic(), time.process_time()
            true = truth(demo, made, folder, runner, options.rollouts)
            measured = measure_prefixes(prefix_questions(made, folder), runner, options.rollouts)
            for taxonomy, labelled in ((published, made), (operations, by_kind)):
                capabilities_found = capabilities(step_rates(labelled, measured), taxonomy)
                rows = [
                    AbilityRow(
                        policy,
                        c.name,
                        *true.of([r for r in labelled if r.ability == c.name], measured),
                        true.own(c.name),
                        c,
                    )
                    for c in capabilities_found
                    if c.group
                ]
                name = "published" if taxonomy is published else "operations"
                Console(width=140).print(table(rows, f"{policy}, {name}"))
                taus = {q: agreement(rows, q) for q in ("quality", "utilisation", "gain")}
                print("Kendall's tau with the truth: " + ", ".join(f"{q} {tau:.2f}" for q, tau in taus.items()))
                results.append(as_record(policy, name, rows, taus))
            print(f"{time.monotonic() - started:.0f} s, {time.process_time() - cpu:.0f} s of CPU time")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "questions": options.questions,
            "seed": options.seed,
            "rollouts": options.rollouts,
            "damage": DAMAGE,
            "records": len(made),
            "labelled_elsewhere": wrong,
            **provenance(),
            "results": results,
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
