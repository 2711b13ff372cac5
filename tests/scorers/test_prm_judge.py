"""Scores of generative PRMs, computed by hand from what a scripted critic replies."""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields
from typing import Any

import pytest

from atomthink_plugin.api import (
    AtomThinkError,
    ChainScorer,
    CriticScorer,
    Path,
    Prompt,
    Proposal,
    Question,
    QuestionError,
    Sampling,
    Score,
)
from atomthink_plugin.redaction import remember
from atomthink_plugin.scorers.critic_profile import EXAMPLE, CriticProfile
from atomthink_plugin.scorers.critic_prompts import json_object, stated
from atomthink_plugin.scorers.prm_judge import ChainPrmJudge, PrmJudge
from atomthink_plugin.scorers.prm_profile import ImageRule
from tests.scorers.scripted_critic import ScriptedCritic, text_of
from tests.tiny_models import chain, picture, question

STEPS = ("Step 1: Compute 1 + 1 = 2.", "Step 2: Compute 2 + 2 = 5.", "Step 3: So it is 5.")
ASKED = question("How many?", picture(0), name="a")


def profile(**critique: Any) -> CriticProfile:
    """A profile with this critique."""
    given = {"scope": "step", "prompt": "{{ images }}{{ question }}|{{ step }}", "max_tokens": 50, "failure": 0.5}
    given |= {"verdict": ("Yes", "No"), "ask": " Right?", **critique}
    return CriticProfile.model_validate(
        {"names": ["x"], "loader": "image_text", "licence": "-", "source": "-", "images": {"use": "all"}}
        | {"critique": given}
    )


def judge(critic: ScriptedCritic, **critique: Any) -> PrmJudge:
    """A scorer with this critic."""
    return PrmJudge(profile(**critique), critic)


def scored(scorer: Any, *paths: Path) -> list[Score]:
    """The scores of all paths, asked for at the same time."""

    async def together() -> list[Score]:
        return await asyncio.gather(*(scorer.score(path) for path in paths))

    return asyncio.run(together())


def test_a_score_is_the_softmax_of_the_two_verdict_tokens_after_the_critique() -> None:
    critic = ScriptedCritic(says=lambda *_: "It adds up.", weighs=lambda _: {"Yes": 0.6, "No": 0.2, "Maybe": 0.2})
    (score,) = scored(judge(critic, begin="Well: "), chain(ASKED, *STEPS[:1]))
    assert score.value == pytest.approx(0.6 / 0.8)
    (prompt,) = critic.verdicts
    assert prompt.prefix == "Well: It adds up. Right?"
    assert text_of(critic.critiques[0]) == f"How many?|{STEPS[0]}\nWell: "
    assert prompt.images == ASKED.images
    assert "It adds up." in score.reason


def test_a_critique_is_cut_where_a_stop_string_begins() -> None:
    critic = ScriptedCritic(says=lambda *_: "Fine.\nVerdict: No")
    scored(judge(critic, stop=["Verdict:", "Step {{ k + 1 }}:"], ask="Verdict: "), chain(ASKED, *STEPS[:2]))
    assert critic.critiques[0].stops == ("Verdict:", "Step 3:")
    assert critic.verdicts[0].prefix == "Fine.\nVerdict: "


@pytest.mark.parametrize(("said", "asked"), [("All good. Q?", "All good. Q?"), ("All good.", "All good. Then Q?")])
def test_a_critique_without_a_stop_string_may_be_asked_otherwise(said: str, asked: str) -> None:
    critic = ScriptedCritic(says=lambda *_: said)
    scored(judge(critic, stop=["Q?"], ask="Q?", ask_unstopped=" Then Q?"), chain(ASKED, *STEPS[:1]))
    assert critic.verdicts[0].prefix == asked


def test_the_question_may_be_a_turn_of_its_own() -> None:
    critic = ScriptedCritic(says=lambda *_: "Hm.")
    scored(judge(critic, ask="Right?", ask_as="user"), chain(ASKED, *STEPS[:1]))
    (prompt,) = critic.verdicts
    assert [(turn.role, turn.parts[-1]) for turn in prompt.messages[-2:]] == [("assistant", "Hm."), ("user", "Right?")]
    assert prompt.begun == ()


def _odd(prompt: Prompt) -> bool:
    """Whether the number of the critique is odd."""
    return bool(int(prompt.prefix.split()[1]) % 2)


def test_the_score_is_the_mean_over_critiques_with_seeds_of_their_own() -> None:
    critic = ScriptedCritic(weighs=lambda prompt: {"Yes": 0.9, "No": 0.1} if _odd(prompt) else {"Yes": 0.2, "No": 0.8})
    (score,) = scored(judge(critic, samples=5, temperature=1.0), chain(ASKED, *STEPS[:1]))
    draws = [int(prompt.prefix.split()[1]) for prompt in critic.verdicts]
    assert len(set(draws)) == 5
    assert score.value == pytest.approx(sum(0.9 if draw % 2 else 0.2 for draw in draws) / 5)
    assert score.usage.judged == 5 * 2 + 5  # critiques of two words, and a token each for the verdict
    assert (score.usage.generated, score.usage.policy_calls, score.usage.score_calls) == (0, 0, 1)


@pytest.mark.parametrize(
    ("token", "value", "unread"), [(" Yes", 1.0, 0), ("no", 0.0, 0), ("N", 0.0, 0), ("The", 0.25, 1), ("", 0.25, 1)]
)
def test_text_is_parsed_where_there_are_no_log_probabilities(token: str, value: float, unread: int) -> None:
    critic = ScriptedCritic(weighs=lambda _: {token: 1.0}, logprobs=False)
    scorer = judge(critic, failure=0.25)
    (score,) = scored(scorer, chain(ASKED, *STEPS[:1]))
    assert score.value == value
    assert ("1 of 1" in scorer.summary()) == bool(unread)
    assert ("0.25" in score.reason) == bool(unread)


def test_a_verdict_with_neither_token_among_the_likeliest_is_unreadable() -> None:
    scorer = judge(ScriptedCritic(weighs=lambda _: {"Maybe": 0.9, "So": 0.1}), failure=0.0)
    assert scored(scorer, chain(ASKED, *STEPS[:1]))[0].value == 0.0
    assert "1 of 1" in scorer.summary()


def test_a_text_that_begins_with_both_verdicts_is_none() -> None:
    assert stated("-", ("1", "-1")) == 1
    assert stated("1", ("1", "-1")) == 0
    assert stated("", ("1", "-1")) is None
    assert stated("cor", ("correct", "corrupt")) is None


def test_scores_do_not_depend_on_the_order_of_replies_or_on_other_steps() -> None:
    def weighs(prompt: Any) -> dict[str, float]:
        share = (int(prompt.prefix.split()[1]) % 100 + 1) / 200
        return {"Yes": share, "No": 1 - share}

    paths = [chain(ASKED, *STEPS[:depth]) for depth in (1, 2, 3)]
    options: dict[str, Any] = {"samples": 3, "temperature": 0.7, "turns": True, "prompt": "{{ question }} {{ step }}"}
    alone = [scored(judge(ScriptedCritic(weighs=weighs), **options), path)[0].value for path in paths]
    slow = ScriptedCritic(weighs=weighs, pauses=lambda prompt: 7 - 3 * len(prompt.messages) % 7)
    together = [score.value for score in scored(judge(slow, **options), *reversed(paths))]
    assert alone == list(reversed(together))
    assert len(set(alone)) == 3


def test_turns_hold_the_critics_own_replies_which_are_asked_for_once() -> None:
    critic = ScriptedCritic(says=lambda prompt, _: f"about turn {len(prompt.messages)}")
    scorer = judge(critic, turns=True, prompt="{{ step | bare }}", ask=" [", close="]")
    costs = [score.usage.judged for score in scored(scorer, *(chain(ASKED, *STEPS[:depth]) for depth in (3, 1, 2)))]
    last = max(critic.verdicts, key=lambda prompt: len(prompt.messages))
    assert [turn.parts[0] for turn in last.messages] == [
        "Compute 1 + 1 = 2.",
        "about turn 1 [Yes]",
        "Compute 2 + 2 = 5.",
        "about turn 3 [Yes]",
        "So it is 5.",
    ]
    assert len(critic.critiques) == len(critic.verdicts) == 3
    assert sum(costs) == 3 * 3 + 3


def test_facts_are_asked_for_once_per_question_and_read_as_json() -> None:
    def says(prompt: Any, _: str) -> str:
        return 'Sure:\n```json\n{"caption":\n "a dot"}\n```' if "Describe" in text_of(prompt) else "ok"

    critic = ScriptedCritic(says=says)
    facts = {"prompt": "Describe {{ images }}", "max_tokens": 40, "json_object": True, "fallback": "{}"}
    scorer = judge(critic, facts=facts, prompt="{{ facts }}|{{ step }}", max_tokens=0, ask="")
    other = question("Why?", picture(1), name="b")
    scored(scorer, *(chain(ASKED, *STEPS[:depth]) for depth in (1, 2, 3)), chain(other, STEPS[0]))
    described = critic.critiques
    assert [prompt.images for prompt in described] == [ASKED.images, other.images]
    assert {text_of(prompt) for prompt in critic.verdicts} == {f'{{"caption": "a dot"}}|{step}\n' for step in STEPS}
    assert all(prompt.images == () and prompt.begun == () for prompt in critic.verdicts)


def test_facts_that_are_no_json_are_replaced_and_counted() -> None:
    critic = ScriptedCritic(says=lambda *_: "no idea {")
    facts = {"prompt": "Describe {{ images }}", "max_tokens": 40, "json_object": True, "fallback": "nothing known"}
    scorer = judge(critic, facts=facts, prompt="{{ facts }}", max_tokens=0)
    scored(scorer, chain(ASKED, *STEPS[:1]))
    assert "nothing known" in text_of(critic.verdicts[0])
    assert scorer.summary()


def test_a_question_without_images_is_not_described() -> None:
    critic = ScriptedCritic()
    facts = {"prompt": "Describe {{ images }}", "max_tokens": 40, "json_object": True, "fallback": "{}"}
    scored(judge(critic, facts=facts, prompt="{{ facts }}|", max_tokens=0), chain(question("Why?"), STEPS[0]))
    assert not critic.critiques
    assert text_of(critic.verdicts[0]).startswith("{}|")


def chain_judge(critic: ScriptedCritic, **critique: Any) -> ChainPrmJudge:
    """A scorer of whole chains that shows everything in its prompts."""
    thought = {"prompt": "Think. {{ images }}{{ steps | join(';') }}", "max_tokens": 20, "stop": ["</think>"]}
    shown = "{{ thought }}|{{ verdicts | join(',') }}|{{ k }}|{{ step }}|{{ steps | length }}"
    given: dict[str, Any] = {"thought": thought, "prompt": shown, "max_tokens": 0, "ask": ""}
    return ChainPrmJudge(profile(scope="chain", **(given | critique)), critic)


def test_a_chain_has_one_thought_and_a_text_only_verdict_per_step_that_knows_the_earlier_ones() -> None:
    wrong = STEPS[1]
    critic = ScriptedCritic(
        says=lambda *_: "Step 2 is off</think> Bye",
        weighs=lambda prompt: {"Yes": 0.1, "No": 0.9} if wrong in text_of(prompt) else {"Yes": 0.8, "No": 0.2},
    )
    scorer = chain_judge(critic)
    assert isinstance(scorer, ChainScorer)
    assert isinstance(scorer, CriticScorer)
    scores = asyncio.run(scorer.score_chain(chain(ASKED, *STEPS)))
    assert [score.value for score in scores] == pytest.approx([0.8, 0.1, 0.8])
    assert [text_of(prompt).strip() for prompt in critic.verdicts] == [
        f"Step 2 is off||1|{STEPS[0]}|3",
        f"Step 2 is off|1|2|{STEPS[1]}|3",
        f"Step 2 is off|1,0|3|{STEPS[2]}|3",
    ]
    (thought,) = critic.critiques
    assert thought.images == ASKED.images
    assert not any(prompt.images for prompt in critic.verdicts)
    assert [score.usage.judged for score in scores] == [5 + 3, 0, 0]
    assert sum(score.usage.score_calls for score in scores) == 3


def test_a_chain_averages_the_critiques_of_each_step() -> None:
    critic = ScriptedCritic(weighs=lambda prompt: {"Yes": 0.9, "No": 0.1} if _odd(prompt) else {"Yes": 0.2, "No": 0.8})
    scores = asyncio.run(
        chain_judge(critic, max_tokens=9, samples=3, temperature=1.0).score_chain(chain(ASKED, *STEPS[:2]))
    )
    values = [0.9 if _odd(prompt) else 0.2 for prompt in critic.verdicts]
    assert len(set(values[:3])) == 2
    assert [score.value for score in scores] == pytest.approx([sum(values[:3]) / 3, sum(values[3:]) / 3])


def test_a_verdict_at_one_half_is_a_right_one_to_later_steps() -> None:
    critic = ScriptedCritic(says=lambda *_: "hm", weighs=lambda _: {"Yes": 0.5, "No": 0.5})
    asyncio.run(chain_judge(critic).score_chain(chain(ASKED, *STEPS[:2])))
    assert "|1|2|" in text_of(critic.verdicts[1])


def test_a_critic_of_chains_refuses_a_single_step() -> None:
    with pytest.raises(AtomThinkError, match="score_chain"):
        scored(chain_judge(ScriptedCritic()), chain(ASKED, *STEPS[:1]))


def test_a_scorer_of_steps_is_no_scorer_of_chains() -> None:
    assert not isinstance(judge(ScriptedCritic()), ChainScorer)
    assert isinstance(judge(ScriptedCritic()), CriticScorer)


@pytest.mark.parametrize(("rule", "shown"), [({"use": "first"}, 1), ({"use": "all"}, 2), ({"use": "none"}, 0)])
def test_the_image_rule_chooses_the_images(rule: dict[str, Any], shown: int) -> None:
    asked = question("Which?", picture(0), picture(1), name="two")
    critic = ScriptedCritic()
    made = CriticProfile.model_validate(json.loads(profile().model_dump_json()) | {"images": rule})
    scored(PrmJudge(made, critic), chain(asked, STEPS[0]))
    assert critic.critiques[0].images == asked.images[:shown]


def test_a_question_with_more_images_than_allowed_is_refused() -> None:
    asked = question("Which?", picture(0), picture(1), name="two")
    rule = {"images": {"use": "all", "most": 1}}
    made = CriticProfile.model_validate(json.loads(profile().model_dump_json()) | rule)
    with pytest.raises(QuestionError, match="2 images"):
        scored(PrmJudge(made, ScriptedCritic()), chain(asked, STEPS[0]))
    (score,) = scored(PrmJudge(made, ScriptedCritic()), chain(ASKED, STEPS[0]))
    assert score.value == pytest.approx(0.75)


def test_images_stand_at_their_first_place_in_a_prompt() -> None:
    critic = ScriptedCritic()
    scored(judge(critic, prompt="See {{ images }}{{ question }}{{ images }}"), chain(ASKED, STEPS[0]))
    assert critic.critiques[0].messages[0].parts == ("See ", *ASKED.images, "How many?")


def test_a_request_that_failed_is_sent_again() -> None:
    class Flaky(ScriptedCritic):
        async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
            found = await super().propose(prompt, n, sampling)
            if len(self.prompts) == 1:
                raise QuestionError("lost")
            return found

    scorer = judge(Flaky())
    with pytest.raises(QuestionError, match="lost"):
        scored(scorer, chain(ASKED, *STEPS[:1]))
    assert scored(scorer, chain(ASKED, *STEPS[:1]))[0].value == pytest.approx(0.75)


def test_the_json_object_of_a_reply_may_hold_others() -> None:
    assert json_object('So: {"caption": {"text": "a"}, "facts": []} done') == '{"caption": {"text": "a"}, "facts": []}'


def test_identity_depends_on_the_critic_the_profile_and_the_seed() -> None:
    critic = ScriptedCritic()
    made = [
        PrmJudge(profile(), critic),
        PrmJudge(profile(samples=2, temperature=1.0), critic),
        PrmJudge(profile(), ScriptedCritic(identity="other")),
        PrmJudge(profile(), critic, seed=1),
        PrmJudge(profile().model_copy(update={"images": ImageRule(use="first")}), critic),
    ]
    assert len({scorer.identity for scorer in made}) == 5


def test_draws_differ_between_seeds_and_questions() -> None:
    asked = [question("How many?", name=name) for name in "ab"]
    seeds = []
    for seed, each in ((0, asked[0]), (1, asked[0]), (0, asked[1])):
        critic = ScriptedCritic()
        scored(PrmJudge(profile(temperature=1.0), critic, seed=seed), chain(each, STEPS[0]))
        seeds.append(critic.prompts[0][1].seed_of(0))
    assert len(set(seeds)) == 3


def test_a_critique_holds_no_secret() -> None:
    remember({"api_key": "sk-critic-secret"})
    (score,) = scored(judge(ScriptedCritic(says=lambda *_: "key sk-critic-secret")), chain(ASKED, *STEPS[:1]))
    assert "sk-critic-secret" not in score.reason


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": "{{ gold }}"},
        {"prompt": "{{ answer }}"},
        {"prompt": "{% for step in steps %}"},
        {"prompt": "{{ question.__class__.__mro__ }}"},
        {"verdict": ["Yes", " Yes"]},
        {"verdict": ["Yes"]},
        {"samples": 2},
        {"scope": "chain"},
        {"ask_as": "user", "ask": ""},
        {"begin": "{{ nothing }}"},
    ],
)
def test_a_profile_that_cannot_be_asked_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="critique"):
        profile(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"loader": "token_class"},
        {"ids": {"Yes": 3}},
        {"images": {"use": "tiled"}},
        {"images": {"use": "all", "tiles": 4}},
    ],
)
def test_a_profile_says_nothing_that_a_policy_does_not_do(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CriticProfile.model_validate(json.loads(profile().model_dump_json()) | wrong)


def test_a_reference_answer_can_reach_no_prompt() -> None:
    """Templates know the question as the policy sees it, and a question has no field for a reference answer."""
    critic = ScriptedCritic(says=lambda *_: "hm")
    facts = {"prompt": "{{ question }}{{ images }}", "max_tokens": 9}
    everything = "|".join(f"{{{{ {name} }}}}" for name in EXAMPLE)
    scored(judge(critic, facts=facts, prompt=everything), chain(ASKED, *STEPS))
    assert set(EXAMPLE) == {"question", "images", "steps", "step", "k", "verdicts", "thought", "facts"}
    assert {item.name for item in fields(Question)} == {"id", "messages", "choices", "limits", "history", "direct"}
    shown = text_of(critic.verdicts[0])
    for known in (ASKED.text, *STEPS, "hm", "3", "()", "Right?", "|", "'", "(", ")", ",", " ", "\n"):
        shown = shown.replace(known, "")
    assert shown == ""
