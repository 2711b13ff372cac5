"""A smaller run of the embedded model equals the first candidates in the journal of a larger run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from atomthink_plugin.api import Outcome
from atomthink_plugin.config import plan
from atomthink_plugin.model_adapters.tiny import TINY_ARGUMENTS
from atomthink_plugin.report.candidates import sampled_questions
from atomthink_plugin.report.replay import MAJORITY, Replay
from atomthink_plugin.report.run_reader import read
from atomthink_plugin.report.scaling_curve import curve
from atomthink_plugin.runtime.build import build
from atomthink_plugin.tasks.demo.engine_questions import engine_questions
from atomthink_plugin.tasks.demo.questions import DemoQuestion, held_out
from tests.report.runs import write_run


def voted(demo: Sequence[DemoQuestion], n: int) -> list[Outcome]:
    runner = build(plan("transformers", {"thinking": "slow", "search": "majority", "n": n}, TINY_ARGUMENTS))
    results = replace(runner, trees=True).run(engine_questions(demo))
    return [result for result in results if isinstance(result, Outcome)]


@pytest.mark.slow
def test_a_vote_of_three_is_the_first_three_of_a_vote_of_six(tmp_path: Path) -> None:
    demo = held_out(3)
    targets = [str(one.answer) for one in demo]
    large = write_run(tmp_path, voted(demo, 6), targets, {"name": "majority", "n": 6}, task="atomthink_demo")
    small = voted(demo, 3)
    questions, judged = sampled_questions(read(large.out))
    assert (len(small), judged.agreed) == (3, 3)
    for one, outcome in zip(questions, small, strict=True):
        (chosen,) = Replay(one.candidates).chosen(MAJORITY, np.arange(3)[None, :])
        assert one.candidates[chosen].text == outcome.text
        assert one.question.outcome is not None
        assert sum(rollout.tokens for rollout in one.question.outcome.rollouts[:3]) == outcome.usage.generated
    (whole,) = curve(questions, [6], [MAJORITY])
    assert list(whole.shares) == [float(bool(one.question.correct)) for one in questions]
