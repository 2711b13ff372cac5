"""Tests of the search and the scorer, without a model: `pip install . && pytest`."""

from atomthink_example import brevity, shortest

from atomthink_plugin.api import Message, Outcome, Path, Question, Sampling, Step
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.named_models import plan_for
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.runtime.settings import Settings
from atomthink_plugin.testing import ScriptedPolicy, ScriptedScorer

QUESTION = Question("q", (Message("user", ("How many?",)),))
LOOK, SHORT = "Step 1: Look at it for a while.", "Step 1: The final answer is: 5."
LONG = "Step 2: The final answer is: 4."


def think(tree: dict[str, dict[str, float]], n: int) -> Outcome:
    """Asks the question with a policy that takes the steps of each history in turn."""
    policy = ScriptedPolicy(tree, exhaustive=True)
    scorer = ScriptedScorer(lambda history: 0.5)
    runner = Runner(policy, scorer, Continue(), shortest(n), Settings(Sampling(temperature=1.0), max_steps=2))
    (outcome,) = runner.run([QUESTION])
    assert isinstance(outcome, Outcome)
    return outcome


def test_the_path_with_the_fewest_steps_answers() -> None:
    outcome = think({"": {LOOK: 0.9, SHORT: 0.1}, LOOK: {LONG: 1.0}}, n=2)
    assert outcome.steps == (SHORT,)
    assert outcome.value == 0.5


def test_a_path_without_an_answer_does_not_win_by_being_short() -> None:
    outcome = think({"": {LOOK: 0.9, SHORT: 0.1}, LOOK: {"Step 2: Hm.": 1.0}}, n=2)
    assert outcome.answer == "5"


def test_brevity_falls_with_the_number_of_words() -> None:
    scorer, root = brevity(words=6), Path(QUESTION)
    assert run(scorer.score(root.extend(Step("one two three four five six")))).value == 0.5
    assert run(scorer.score(root.extend(Step("one")))).value > 0.5


def test_users_can_name_both() -> None:
    typed = {"pretrained": "any", "thinking": "slow", "search": "shortest", "scorer": "brevity", "prm_words": "7"}
    plan = plan_for("atomthink_hf", typed)  # loads no model
    assert plan.search_name == "shortest"
    assert plan.scorer is not None
    assert plan.scorer().identity == "brevity"
