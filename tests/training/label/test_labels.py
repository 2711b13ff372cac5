"""Labels and samples from scripted policies: what is labelled, shared, resumed and rejected."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath

import pytest
from PIL import Image

from atomthink_plugin.api import Outcome, Policy, Prompt, Proposal, QuestionError, Sampling, Step, Usage
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.testing import ScriptedPolicy, history_in
from atomthink_plugin.training.label.estimators import METHODS
from atomthink_plugin.training.label.rollouts import RolloutResult, rollout_search, sample_chains
from atomthink_plugin.training.label.run import label_chains
from atomthink_plugin.training.records import AnsweredQuestion, Chain, RecordFile
from tests.trees import settings

Ask = tuple[str, tuple[str, ...]]
"""A sample's name and the steps before it."""


@dataclass
class Solver:
    """Concludes at once: wrongly after a wrong step, else rightly with a chance of `skill`."""

    skill: float = 1.0
    before: Callable[[Prompt], None] = lambda prompt: None
    asked: list[Ask] = field(default_factory=list)
    identity: str = "solver"

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        self.before(prompt)
        steps = tuple(filter(None, history_in(prompt).split("\n\n")))
        self.asked.append((prompt.session, steps))
        lost = any("wrongly" in step for step in steps)
        right = not lost and random.Random(sampling.seed_of(0)).random() < self.skill
        step = Step(f"Step {prompt.depth + 1}: The final answer is: {7 if right else 8}.", (1, 2, 3))
        return Proposal((step,), Usage(policy_calls=1, generated=3))


def chain(name: str, steps: int, error: int | None, ends: str | None = None, **values: object) -> Chain:
    """A chain with its first error somewhere, more errors after it, and a conclusion where one is wanted."""
    texts = [f"Step {i + 1}: Go on {'rightly' if error is None or i < error else 'wrongly'}." for i in range(steps)]
    if ends is not None:
        texts.append(f"Step {steps + 1}: The final answer is: {ends}.")
    return Chain.model_validate({"id": name, "question": "How many?", "answer": "7", "steps": texts} | values)


def runner(policy: Policy, **values: object) -> Runner:
    made = Runner(policy, None, Continue(), quick(), settings())
    return replace(made, **values)  # type: ignore[arg-type]


def labelled(chains: list[Chain], policy: Policy, method: str, n: int, **values: object) -> RolloutResult:
    return label_chains(RecordFile(FilePath(), chains), runner(policy, **values), METHODS[method], n)


@pytest.mark.parametrize("steps", range(1, 8))
def test_binary_search_labels_up_to_the_first_error_wherever_it_is(steps: int) -> None:
    chains = [chain(f"{e}", steps, e, "8", question=f"{e}?") for e in range(steps)]
    chains += [chain(f"open {e}", steps, e, question=f"open {e}?") for e in range(steps)]
    found = labelled(chains, Solver(), "omega", 3)
    for made in found.chains:
        error = int(made.id.split()[-1])
        assert made.labels == (*[1.0] * error, 0.0, *[None] * (len(made.steps) - error - 1))
    assert [made.id for made in found.chains] == [given.id for given in chains]


def test_a_stated_answer_needs_no_rollout() -> None:
    policy = Solver()
    late = chain("late", 0, None, "8")
    found = labelled([chain("right", 4, None, "7.0"), late], policy, "omega", 3)
    assert [made.labels for made in found.chains] == [(1.0,) * 5, (0.0,)]
    assert policy.asked == []
    assert found.cost.samples == 0
    found = labelled([chain("unfinished", 3, None)], policy, "omega", 3)
    assert [made.labels for made in found.chains] == [(1.0,) * 3]
    found = labelled([chain("last", 3, None, "8")], policy, "omega", 3)
    assert [made.labels for made in found.chains] == [(1.0, 1.0, 1.0, 0.0)]


def test_shares_are_those_of_the_samples_and_search_looks_at_the_same_ones() -> None:
    chains = [chain(f"{e}", 5, e, "8", question=f"{e}?") for e in range(5)]
    every, some = Solver(0.4), Solver(0.4)
    n = 6
    shares = labelled(chains, every, "monte_carlo", n)
    found = labelled(chains, some, "omega", n)
    assert shares.cost.samples == len(every.asked) == 5 * 5 * n
    assert shares.cost.usage.generated == 3 * 5 * 5 * n
    assert set(some.asked) < set(every.asked)
    assert found.cost.samples == len(some.asked) == len(set(some.asked))
    for by_share, by_search in zip(shares.chains, found.chains, strict=True):
        assert by_share.labels is not None
        assert all(share == 0 for share in by_share.labels[int(by_share.id) :])
        error = by_search.first_error()
        assert error is not None
        assert by_share.labels[error] == 0
        assert error == 0 or (by_share.labels[error - 1] or 0) > 0
    values = [share for made in shares.chains for share in (made.labels or ())[: int(made.id)]]
    assert sum(share or 0 for share in values) / len(values) == pytest.approx(0.4, abs=0.15)


def test_chains_that_begin_alike_share_their_rollouts() -> None:
    policy = Solver(0.5)
    one, two = chain("a", 4, 2, "8"), chain("b", 4, 3, "8")
    elsewhere = chain("c", 4, 3, "8", question="How much?")
    found = labelled([one, two, elsewhere], policy, "monte_carlo", 3)
    assert len(set(policy.asked)) == len(policy.asked)
    # Two steps are common to the first two chains, two are not; the other question shares nothing.
    assert found.cost.samples == len(policy.asked) == 3 * (2 + 2 + 2) + 3 * 4
    alone = [labelled([made], Solver(0.5), "monte_carlo", 3).chains[0] for made in (one, two, elsewhere)]
    assert list(found.chains) == alone


@pytest.mark.parametrize("method", ["monte_carlo", "omega"])
def test_the_labels_do_not_depend_on_the_number_in_flight(method: str) -> None:
    chains = [chain(f"{e}", 6, e % 7, "8", question=f"{e % 3}?") for e in range(9)]
    runs = [labelled(chains, Solver(0.5), method, 4, concurrency=limit) for limit in (1, 5, 64)]
    assert runs[0].chains == runs[1].chains == runs[2].chains
    assert runs[0].cost.samples == runs[1].cost.samples == runs[2].cost.samples


@pytest.mark.parametrize("method", ["monte_carlo", "omega"])
def test_a_killed_run_is_resumed_without_sampling_anything_twice(method: str, tmp_path: FilePath) -> None:
    chains = [chain(f"{e}", 6, e, "8", question=f"{e % 2}?") for e in range(6)]
    whole = labelled(chains, Solver(0.5), method, 4)

    def killed(prompt: Prompt) -> None:
        if len(first.asked) == 15:
            raise KeyboardInterrupt

    first, second = Solver(0.5, killed), Solver(0.5)
    journal = Journal(tmp_path, "label", {})
    with pytest.raises(KeyboardInterrupt):
        labelled(chains, first, method, 4, journal=journal, concurrency=3)
    journal.close()
    kept = len(Journal(tmp_path, "label", {}))
    assert 10 < kept <= 15
    found = labelled(chains, second, method, 4, journal=Journal(tmp_path, "label", {}), concurrency=3)
    assert found.chains == whole.chains
    assert found.cost.resumed == kept
    # What a killed run had begun of a rollout is not asked again either.
    assert whole.cost.samples - 15 <= len(second.asked) <= whole.cost.samples - kept
    assert found.cost.samples == whole.cost.samples
    assert found.cost.usage.generated == whole.cost.usage.generated


def test_a_chain_that_cannot_be_rolled_out_is_rejected_and_no_other() -> None:
    def too_long(prompt: Prompt) -> None:
        if "long?" in prompt.messages[-1].parts[0] and prompt.depth == 2:
            raise QuestionError("the prompt has 5000 tokens, the model takes 4096")

    chains = [chain("long", 3, 1, "8", question="long?"), chain("short", 3, 1, "8")]
    found = labelled(chains, Solver(before=too_long), "monte_carlo", 2)
    assert [made.id for made in found.chains] == ["short"]
    (reject,) = found.rejects
    assert "step 2" in reject.reason
    assert "5000 tokens" in reject.reason
    assert reject.record["id"] == "long"
    with pytest.raises(QuestionError, match="5000 tokens"):
        labelled(chains, Solver(before=too_long), "omega", 2, on_error="raise")


def test_a_full_context_is_no_wrong_step() -> None:
    @dataclass
    class Full:
        identity: str = "full"

        async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
            return Proposal(())

    (reject,) = labelled([chain("full", 2, None)], Full(), "omega", 2).rejects
    assert reject.record["id"] == "full"
    assert "first 1 steps" in reject.reason


def test_chains_without_an_answer_or_with_labels_are_rejected() -> None:
    policy = Solver()
    unknown, done = chain("unknown", 2, 1, answer=" "), chain("done", 2, 1, labels=(1, None))
    found = labelled([unknown, done, chain("good", 2, 1)], policy, "monte_carlo", 1)
    assert [made.labels for made in found.chains] == [(1.0, 0.0)]
    assert [reject.reason.partition(":")[0] for reject in found.rejects] == ["answer", "labels"]
    assert found.rejects[1].record["labels"] == (1.0, None)


def test_chains_are_sampled_one_by_one_and_broken_images_are_rejected(tmp_path: FilePath) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (4, 4)).save(tmp_path / "whole.png")
    names = ("broken", "whole", "none")
    asked = [AnsweredQuestion(id=name, question="How many?", images=(f"{name}.png",), answer="7") for name in names]
    tree = {
        "": {"Step 1: Look left.": 0.5, "Step 1: Look right.": 0.5},
        "Step 1: Look left.": {"Step 2: The answer is 7.": 1.0},
        "Step 1: Look right.": {"Step 2: The answer is 8.": 1.0},
    }
    policy = ScriptedPolicy(tree)
    sampled = sample_chains(RecordFile(tmp_path, asked), runner(policy), 12)
    assert [made.id for made in sampled.chains] == [f"whole/{i}" for i in range(12)]
    assert {made.steps[1] for made in sampled.chains} == {"Step 2: The answer is 7.", "Step 2: The answer is 8."}
    assert {(made.answer, made.images, made.labels) for made in sampled.chains} == {("7", ("whole.png",), None)}
    assert len(sampled.rejects) == 24
    assert (sampled.rejects[0].where, sampled.rejects[12].where) == ("sample 'broken/0'", "sample 'none/0'")
    assert "UnidentifiedImageError" in sampled.rejects[0].reason
    assert sampled.cost.samples == 36
    greedy = sample_chains(RecordFile(tmp_path, asked[1:2]), runner(policy), 4, temperature=0.0)
    assert len({made.steps for made in greedy.chains}) == 1


def test_a_question_without_a_valid_step_gives_no_chain(tmp_path: FilePath) -> None:
    policy = ScriptedPolicy({"": {"...": 1.0}})
    sampled = sample_chains(
        RecordFile(tmp_path, [AnsweredQuestion(id="q", question="?", answer="7")]), runner(policy), 1
    )
    assert sampled.chains == []
    assert [(reject.where, reject.record["id"]) for reject in sampled.rejects] == [("sample 'q/0'", "q")]
    assert "invalid" in sampled.rejects[0].reason


def test_rollouts_of_one_search_are_counted_against_the_answer_of_their_question() -> None:
    tree = {"": {"Step 1: The answer is 7.": 0.5, "Step 1: The answer is 8.": 0.5}}
    questions = RecordFile(FilePath(), [AnsweredQuestion(id=name, question=f"{name}?") for name in "abc"])
    answers = {"a": "7", "b": "8.0", "c": "9"}
    n = 16
    found = runner(ScriptedPolicy(tree), search=rollout_search(n, answers), trees=True).run(questions)
    for name, outcome in zip("abc", found, strict=True):
        assert isinstance(outcome, Outcome)
        assert len(outcome.rollouts) == n
        stated = {node.id: node.answer for node in outcome.nodes}
        right = sum(float(stated[rollout.end] or 0) == float(answers[name]) for rollout in outcome.rollouts)
        assert outcome.value == right / n
        assert (name == "c") == (right == 0)
    (plain,) = runner(ScriptedPolicy(tree), search=rollout_search(n)).run([questions[0]])
    assert isinstance(plain, Outcome)
    assert plain.value == 0
