"""The profiles of generative PRMs: what is sent is what the authors' code sends, written here by hand."""

from __future__ import annotations

import asyncio

import pytest

from atomthink_plugin.api import Message, Path
from atomthink_plugin.scorers.critic_choice import critic_profile
from atomthink_plugin.scorers.critic_profile import CriticProfile
from atomthink_plugin.scorers.prm_judge import ChainPrmJudge, PrmJudge
from atomthink_plugin.scorers.profile_catalogue import all_profiles
from tests.scorers.scripted_critic import ScriptedCritic
from tests.tiny_models import chain, picture, question

STEPS = ("Step 1: Add 1 and 1.", "Step 2: 1 + 1 = 3.")
IMAGE = picture(0)
ASKED = question("What is 1 + 1?", IMAGE, name="a")

CRITICS = [name for name, found in all_profiles().items() if isinstance(found.model, CriticProfile)]


def sent(name: str, path: Path, critic: ScriptedCritic) -> float:
    """Scores the last step of a path with a profile, and returns the score."""
    scorer = PrmJudge(critic_profile("x", name), critic)
    return asyncio.run(scorer.score(path)).value


def texts(message: Message) -> list[str]:
    return [part if isinstance(part, str) else "<image>" for part in message.parts]


def test_all_critics_are_known_by_name() -> None:
    assert {"thinkprm_1_5b", "thinkprm_7b", "thinkprm_14b", "genprm_1_5b", "genprm_7b", "genprm_32b"} <= set(CRITICS)
    assert {"rprm_7b_sft", "rprm_7b_dpo", "vrprm_v2", "evpv_prm", "prompted_critic"} <= set(CRITICS)
    assert critic_profile("launch/ThinkPRM-7B", None) == critic_profile("x", "thinkprm_7b")


def test_thinkprm() -> None:
    critic = ScriptedCritic(
        says=lambda *_: " \\boxed{correct}\nStep 3: oops", weighs=lambda _: {" yes": 0.5, " no": 0.3}
    )
    assert sent("thinkprm_7b", chain(ASKED, *STEPS), critic) == pytest.approx(0.5 / 0.8)
    ((asked, sampling),) = [one for one in critic.prompts if not one[1].watch]
    assert [texts(turn) for turn in asked.messages] == [
        [
            "You are given a math problem and a proposed step-by-step solution:\n\n[Math Problem]\n\nWhat is 1 + 1?\n\n"
            "[Solution]\n\nStep 1: Add 1 and 1.\nStep 2: 1 + 1 = 3.\n\nReview and critique each step in the proposed "
            "solution to determine whether each step is correct. If the solution is incomplete, only verify the "
            "provided steps."
        ]
    ]
    assert asked.prefix == "\nLet's verify step by step:"
    assert asked.stops == ("Is the solution correct?", "</think>", "Step 3:")
    assert (sampling.max_tokens, sampling.temperature) == (8172, 0.7)
    begun = "\nLet's verify step by step: \\boxed{correct}\n\nIs the solution correct?"
    assert critic.verdicts[0].prefix == begun


def test_genprm_keeps_its_own_replies_and_runs_no_code() -> None:
    critic = ScriptedCritic(says=lambda *_: "fine\n</analyze>\n<verify>\n```python\nprint(1)")
    sent("genprm_7b", chain(ASKED, *STEPS), critic)
    last = critic.verdicts[-1]
    judged = "</analyze>\n<output>\n**Judgement**: $\\boxed{"
    assert [(turn.role, *texts(turn)) for turn in last.messages] == [
        (
            "system",
            "You are a math teacher. Your task is to review and critique the paragraphs in solution step by step.",
        ),
        ("user", "What is 1 + 1?\nAdd 1 and 1."),
        (
            "assistant",
            f"<analyze>\nLet's analyze the Paragraph 1 step by step: fine\n{judged}Yes}}$\n</output>",
        ),
        ("user", "1 + 1 = 3."),
    ]
    assert last.prefix == f"<analyze>\nLet's analyze the Paragraph 2 step by step: fine\n{judged}"


@pytest.mark.parametrize(
    ("said", "ending"),
    [
        ("Verification: Is the step correct (Yes/No)? Yes", "Verification: Is the step correct (Yes/No)?"),
        ("I lost it", "I lost it\nBased on your analysis. Is the answer correct (Yes/No)?"),
    ],
)
def test_rprm(said: str, ending: str) -> None:
    critic = ScriptedCritic(says=lambda *_: said, weighs=lambda _: {" Yes": 0.6, " No": 0.4})
    assert sent("rprm_7b_dpo", chain(ASKED, *STEPS), critic) == pytest.approx(0.6)
    (asked,) = critic.critiques
    assert texts(asked.messages[0]) == ["You are a helpful assistant."]
    (prompt,) = texts(asked.messages[1])
    head, _, tail = prompt.partition("\n\nQuestion: ")
    assert head.startswith("You are an excellent math teacher. Please verify the correctness of the Now Step.\n\nYou ")
    assert "\nConclusion: \nPlease verify" in head
    assert tail == (
        "What is 1 + 1?\nPrevious Steps: Step 1: Add 1 and 1.\nNow Step: Step 2: 1 + 1 = 3.\n"
        "Please carefully analyze the correctness of the Now Step.\nReply: "
    )
    assert [prompt.prefix for prompt in critic.verdicts] == [ending] * 10


def test_rprm_of_a_first_step() -> None:
    critic = ScriptedCritic()
    sent("rprm_7b_sft", chain(ASKED, STEPS[0]), critic)
    (prompt,) = texts(critic.critiques[0].messages[1])
    assert "\nPrevious Steps: \nNow Step: Step 1: Add 1 and 1.\nPlease" in prompt


def test_vrprm() -> None:
    critic = ScriptedCritic(says=lambda *_: "<think>Look.\n</think> bye", weighs=lambda _: {"1": 0.2, "0": 0.6})
    scorer = ChainPrmJudge(critic_profile("x", "vrprm_v2"), critic)
    scores = asyncio.run(scorer.score_chain(chain(ASKED, *STEPS)))
    assert [score.value for score in scores] == pytest.approx([0.25, 0.25])
    (thought,) = critic.critiques
    solution = "[Question]\nWhat is 1 + 1?\n[Candidate Solution]\nStep 0: Add 1 and 1.\nStep 1: 1 + 1 = 3.\n"
    assert texts(thought.messages[1]) == [solution, "<image>"]
    assert texts(critic.verdicts[1].messages[1]) == [
        f"{solution}[Global Thinking]\n<think>Look.</think>\n[Previous Step Judgments]\nStep 0: \\boxed{{0}}\n"
        "[Current Step]\nStep 1: 1 + 1 = 3.\nIs the current step correct in context? Output only one token: 1 or 0."
    ]
    assert "[Previous Step Judgments]\nNone\n[Current Step]\n" in texts(critic.verdicts[0].messages[1])[0]
    assert not critic.verdicts[0].begun


def test_evpv() -> None:
    critic = ScriptedCritic(says=lambda *_: '{"caption": "a \\"dot\\""}', weighs=lambda _: {"1": 0.9, "-": 0.1})
    assert sent("evpv_prm", chain(ASKED, *STEPS), critic) == pytest.approx(0.9)
    (facts,) = critic.critiques
    assert texts(facts.messages[1])[0] == "<image>"
    assert texts(facts.messages[1])[1].endswith("\nQuestion text:\n<<<What is 1 + 1?>>>")
    image, prompt = texts(critic.verdicts[0].messages[0])
    assert image == "<image>"
    assert prompt.partition("\n")[2] == (
        'Structured image description (JSON): {"caption": "a \\"dot\\""}\nQuestion: What is 1 + 1?\n'
        "Previous solution steps:\n1. Step 1: Add 1 and 1.\nStep to evaluate:\nStep 2: 1 + 1 = 3."
    )


def test_a_prompted_critic_is_asked_in_turns_of_its_own() -> None:
    critic = ScriptedCritic(says=lambda *_: "Wrong sum.", weighs=lambda _: {"Yes": 0.2, "No": 0.8})
    assert sent("prompted_critic", chain(ASKED, *STEPS), critic) == pytest.approx(0.2)
    (asked,) = critic.verdicts
    assert [turn.role for turn in asked.messages] == ["user", "assistant", "user"]
    assert not asked.begun
    assert asked.images == ASKED.images
    shown = texts(asked.messages[0])[1]
    assert shown.index(STEPS[0]) < shown.index("Step to check:\n" + STEPS[1])


@pytest.mark.parametrize("name", CRITICS)
def test_every_profile_says_what_it_leaves_out(name: str) -> None:
    found = critic_profile("x", name)
    assert found.verified == "transcription"
    assert found.notes
    assert found.source
