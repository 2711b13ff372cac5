"""The vLLM policy in this process, on the embedded model: against transformers, and what a search costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from types import SimpleNamespace

import pytest
from PIL import Image

from atomthink_plugin.api import (
    AtomThinkError,
    Choice,
    Format,
    Message,
    Outcome,
    Path,
    Policy,
    Prompt,
    Proposal,
    Question,
    QuestionError,
    Sampling,
    Usage,
)
from atomthink_plugin.config import plan
from atomthink_plugin.formats.continuation import CONTINUE_INSTRUCTION, Continue
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.formats.mini import Mini
from atomthink_plugin.inference.checkpoints import load_multimodal
from atomthink_plugin.model_adapters.transformers_policy import TransformersPolicy
from atomthink_plugin.model_adapters.vllm_engine import _check_runner
from atomthink_plugin.model_adapters.vllm_policy import VllmPolicy, vllm_policy, vllm_seed
from atomthink_plugin.runtime.build import build
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.runtime.settings import Settings
from atomthink_plugin.runtime.tree import QuestionTree
from atomthink_plugin.searches.mcts import mcts
from atomthink_plugin.searches.parts.token_confidence import chain_confidence
from atomthink_plugin.tasks.demo.engine_questions import engine_questions
from atomthink_plugin.tasks.demo.questions import held_out
from tests import policy_prompts
from tests.model_adapters.test_transformers_policy import MiniSteps
from tests.vllm.vllm_server import ENGINE

CONTEXT = 512
CONTINUE = Continue()
WARM = Sampling(temperature=2.0, max_tokens=48, seed=5)


@pytest.fixture(scope="module")
def policy(policy_folder: FilePath) -> Iterator[VllmPolicy]:
    engine = {**ENGINE, "max_num_batched_tokens": CONTEXT}  # a pass reads the prompts of three questions
    made = vllm_policy(str(policy_folder), dtype="float32", max_model_len=CONTEXT, engine=engine)
    yield made
    made._engine.close()


@pytest.fixture(scope="module")
def twin(policy_folder: FilePath) -> TransformersPolicy:
    return TransformersPolicy(load_multimodal(str(policy_folder), device="cpu"), cache_gib=0)


def propose(policy: Policy, path: Path, n: int, sampling: Sampling, form: Format = CONTINUE) -> Proposal:
    return run(policy_prompts.propose(policy, form, path, n, sampling))


@dataclass(frozen=True)
class StopsAt(Continue):
    """Ends a step at other strings."""

    stops: tuple[str, ...] = ()

    def render(self, path: Path) -> Prompt:
        return replace(super().render(path), stops=self.stops)


def long(question: Question) -> Question:
    """The question after a longer instruction: the prefix cache keeps whole blocks."""
    (turn,) = question.messages
    text = "Look at all that is drawn and at all that is written before you begin. " * 6
    return replace(question, messages=(replace(turn, parts=(*turn.parts, text)),))


def test_greedy_chains_are_those_of_transformers(policy: VllmPolicy, twin: TransformersPolicy) -> None:
    for question in engine_questions(held_out(8)):
        path = Path(question)
        for _ in range(3):
            (ours,) = propose(policy, path, 1, Sampling(max_tokens=48)).steps
            (theirs,) = propose(twin, path, 1, Sampling(max_tokens=48)).steps
            assert (ours.text, ours.finish) == (theirs.text, theirs.finish)
            assert ours.token_ids[: len(theirs.token_ids)] == theirs.token_ids[: len(ours.token_ids)]
            assert ours.logprob == pytest.approx(theirs.logprob, abs=0.02)
            path = path.extend(ours)


def test_the_likeliest_tokens_are_those_of_transformers(policy: VllmPolicy, twin: TransformersPolicy) -> None:
    inside = []
    for question in engine_questions(held_out(4)):
        path = Path(question)
        for sampling in (Sampling(max_tokens=24, tops=3), replace(WARM, max_tokens=24, tops=3)):
            (ours,) = propose(policy, path, 1, sampling).steps
            assert [len(position) for position in ours.tops] == [4] * len(ours.token_ids)
            assert sum(own for own, *_ in ours.tops) == pytest.approx(ours.logprob, abs=1e-3)
            assert all(list(likeliest) == sorted(likeliest, reverse=True) for _, *likeliest in ours.tops)
            inside += [own >= last for own, *_, last in ours.tops]
        greedy = propose(policy, path, 1, Sampling(max_tokens=24, tops=30)).steps[0]
        theirs = propose(twin, path, 1, Sampling(max_tokens=24, tops=30)).steps[0]
        for mine, other in zip(greedy.tops, theirs.tops, strict=False):
            assert mine == pytest.approx(other, abs=0.02)
    assert set(inside) == {True, False}


@pytest.mark.parametrize("heat", [0.0, 1.0])
def test_tree_search_over_mini_steps_is_rewarded_by_the_likeliest_tokens(
    policy: VllmPolicy, twin: TransformersPolicy, heat: float
) -> None:
    sampling = Sampling(temperature=heat, tops=5, seed=3)
    limits = Settings(sampling, max_new_tokens=200, max_steps=16)

    def thought(policy: Policy) -> tuple[Choice, Outcome]:
        (question,) = engine_questions(held_out(1))
        tree = QuestionTree(question, {"policy": policy}, None, Mini(CONTINUE_INSTRUCTION, 16), limits)
        choice = run(mcts(simulations=8)(tree))
        return choice, tree.outcome(choice)

    choice, ours = thought(policy)
    assert choice.path.final
    assert ours.value == pytest.approx(chain_confidence(choice.path))
    assert 0.2 < ours.value <= 1.0
    assert (sum("simulation" in node.note for node in ours.nodes) > 1) == (heat > 0)
    if heat == 0:
        _, theirs = thought(twin)
        assert (ours.text, ours.answer) == (theirs.text, theirs.answer)
        assert ours.value == pytest.approx(theirs.value, abs=0.01)


@pytest.mark.slow
def test_mini_steps_continue_by_their_ids(policy: VllmPolicy) -> None:
    for question in engine_questions(held_out(3)):
        whole = propose(policy, Path(question), 1, Sampling(max_tokens=24), Direct()).steps[0].token_ids
        path = Path(question)
        while sum(len(step.token_ids) for step in path.steps) < len(whole):
            (step,) = propose(policy, path, 1, Sampling(max_tokens=3), MiniSteps()).steps
            path = path.extend(step)
        assert tuple(token for step in path.steps for token in step.token_ids) == whole


def test_a_sample_is_the_same_whatever_it_is_drawn_with(policy: VllmPolicy) -> None:
    paths = [Path(question) for question in engine_questions(held_out(4))]
    together = [propose(policy, path, 5, WARM).steps for path in paths]
    for path, steps in zip(paths, together, strict=True):
        alone = [propose(policy, path, 1, replace(WARM, first=index)).steps[0] for index in range(5)]
        assert [step.text for step in alone] == [step.text for step in steps]
    assert len({step.text for steps in together for step in steps}) > 4


def test_the_samples_of_a_node_are_those_of_one_request_with_n(policy: VllmPolicy) -> None:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    (question,) = engine_questions(held_out(1))
    prompt = CONTINUE.render(Path(question))
    sampling = policy_prompts.sampling_at(Path(question), WARM)
    steps = run(policy.propose(prompt, 5, sampling)).steps
    params = SamplingParams(n=3, temperature=2.0, seed=vllm_seed(sampling, 2), max_tokens=48, stop=list(prompt.stops))
    params.output_kind = RequestOutputKind.FINAL_ONLY
    (output,) = run(policy._engine.generate(policy._encode(prompt), [params]))
    assert [tuple(one.token_ids) for one in output.outputs] == [step.token_ids for step in steps[2:]]


def test_more_prompts_than_one_pass_reads_are_answered_at_once(policy: VllmPolicy) -> None:
    questions = engine_questions(held_out(12, seed=77))
    proposals = policy_prompts.ask(policy, CONTINUE, [Path(question) for question in questions], WARM, 2)
    assert sum(proposal.usage.prefilled for proposal in proposals) > 2 * CONTEXT
    assert all(len(proposal.steps) == 2 for proposal in proposals)


def test_log_probabilities_are_left_out_where_nothing_reads_them(
    policy: VllmPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    (question,) = engine_questions(held_out(1))
    with_them = propose(policy, Path(question), 2, WARM).steps
    monkeypatch.setattr(policy, "logprobs", False)
    without = propose(policy, Path(question), 2, WARM).steps
    assert [step.logprob for step in without] == [None, None]
    assert [step.token_ids for step in without] == [step.token_ids for step in with_them]
    assert propose(policy, Path(question), 1, replace(WARM, tops=2)).steps[0].tops


def test_greedy_samples_are_asked_once(policy: VllmPolicy) -> None:
    (question,) = engine_questions(held_out(1))
    made = propose(policy, Path(question), 4, Sampling(max_tokens=48))
    assert len(made.steps) == 4
    assert len(set(made.steps)) == 1
    assert made.usage.policy_calls == 4
    assert made.usage.generated == len(made.steps[0].token_ids)


def test_a_stop_string_before_anything_visible_is_waited_through(policy: VllmPolicy) -> None:
    (question,) = engine_questions(held_out(1))
    whole = propose(policy, Path(question), 1, Sampling(max_tokens=24), StopsAt()).steps[0].text
    first, second = whole.split(" ")[:2]
    assert first == "Step"
    cut = propose(policy, Path(question), 1, Sampling(max_tokens=24), StopsAt(stops=("Step",)))
    assert cut.steps[0].text.startswith(f"Step {second}")


def test_a_beam_search_reads_its_image_and_four_fifths_of_its_tokens_from_the_cache(policy_folder: FilePath) -> None:
    arguments = {
        "pretrained": str(policy_folder),
        "dtype": "float32",
        "engine": dict(ENGINE),
        "thinking": "slow",
        "search": "beam",
        "scorer": "confidence",
        "step_tokens": 48,
        "max_steps": 6,
    }
    runner = build(plan("vllm", arguments))
    questions = [long(question) for question in engine_questions(held_out(6, seed=31))]
    outcomes = [result for result in runner.run(questions) if isinstance(result, Outcome)]
    # Once each, but vLLM sends an image again if its front end and its engine disagree about what is cached.
    assert len(questions) <= sum(outcome.usage.images for outcome in outcomes) <= 2 * len(questions)
    usage = sum((outcome.usage for outcome in outcomes if len(outcome.steps) >= 4), Usage())
    assert usage.policy_calls >= 40
    print(f"cached share: {usage.cached / (usage.cached + usage.prefilled):.3f}")
    assert usage.cached >= 0.8 * (usage.cached + usage.prefilled)


def test_what_does_not_fit_is_the_question_s_fault_first_and_an_end_later(policy: VllmPolicy) -> None:
    image = Image.new("RGB", (112, 112))
    endless = Question("endless", (Message("user", (image, "one two three " * 400)),))
    with pytest.raises(QuestionError, match=r"maximum (context|model) length"):
        propose(policy, Path(endless), 1, WARM)
    nearly = Question("nearly", (Message("user", (image, "1 " * 175)),))
    path = Path(nearly)
    (step,) = propose(policy, path, 1, Sampling(max_tokens=8)).steps
    path = path.extend(replace(step, text="Step 1: " + "1 " * 150))
    assert propose(policy, path, 1, WARM).steps == ()


def test_a_question_may_have_two_images(policy: VllmPolicy) -> None:
    other, third = Image.new("RGB", (112, 112), "red"), Image.new("RGB", (112, 112), "blue")
    two = Question("two", (Message("user", (other, third, "What is larger?")),))
    assert propose(policy, Path(two), 1, Sampling(max_tokens=8)).usage.images == 2


@pytest.mark.parametrize(("on_cpu", "v2", "warns"), [(False, False, True), (False, True, False), (True, False, False)])
def test_the_runner_that_draws_seeded_samples_one_by_one_is_warned_about(
    on_cpu: bool, v2: bool, warns: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from vllm.platforms import current_platform

    monkeypatch.setattr(type(current_platform), "is_cpu", lambda self: on_cpu)
    _check_runner(SimpleNamespace(use_v2_model_runner=v2))  # type: ignore[arg-type]
    assert ("VLLM_USE_V2_MODEL_RUNNER" in caplog.text) == warns


def test_an_engine_argument_that_vllm_does_not_know_is_refused(policy_folder: FilePath) -> None:
    with pytest.raises(AtomThinkError, match=r"engine=.*blocksize"):
        vllm_policy(str(policy_folder), engine={"blocksize": 32})
