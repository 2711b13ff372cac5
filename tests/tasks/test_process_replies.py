"""What replies say about steps: the accepted forms, and everything else counted as invalid with its reason."""

from __future__ import annotations

import pytest

from atomthink_plugin.step_metrics.judged_steps import Threshold
from atomthink_plugin.tasks.process.replies import CriticReply, read_reply, vote_on_first_error, vote_on_steps

T, F, N = True, False, None


@pytest.mark.parametrize(
    ("text", "verdicts"),
    [
        ('{"Score": [1, 0, 1]}', (T, F, T)),
        ('Sure:\n```json\n{"Score": [1, 0, 1]}\n```', (T, F, T)),
        ('First {"Score": [0, 0, 0]}, no: {"Score": [1, 1, 1]} in $\\frac{1}{2}$', (T, T, T)),
        ('{"note": "a {brace}", "Score": [1, 0, 1], "Judge": 0}', (T, F, T)),
        ('{"validity": [0.1, 0, -1], "redundancy": [1, 1, 1]}', (T, F, F)),
        (r"The first error is \boxed{1}.", (T, F, N)),
        (r"\boxed{0} or rather \boxed{ -1 }", (T, T, T)),
        (r'\boxed{0} {"Score": [1, 1, 0]}', (T, T, F)),
    ],
)
def test_accepted_replies(text: str, verdicts: tuple[bool | None, ...]) -> None:
    reply = read_reply(text, 3)
    assert (reply.verdicts, reply.invalid) == (verdicts, "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        "All steps are right.",
        '{"Score": [1, 0]}',  # a step too few
        '{"Score": [1, 0, 1, 1]}',
        '{"Score": [1, 0, 2]}',
        '{"Score": [1, 0, 0.5]}',
        '{"Score": [1, 0, true]}',
        '{"Score": "101"}',
        '{"scores": [0.5, -0.1, 1]}',
        '{"scores": [0.5, 1.1, 1]}',
        '{"Score": [1, 0, 1]',  # cut off
        '{"scores": [0.1, 0.2, 1.5]}',
        '{"scores": [0.1, 0.2, NaN]}',
        '{"scores": [0.1, 0.2, 0.3], "threshold": "high"}',
        '{"validity": [0.1, 0.2, -2]}',
        r"\boxed{none}",
        r"\boxed{1.0}",
        r"\boxed{3}",  # steps are 0 to 2
        r"\boxed{-2}",
        '<think>Perhaps {"Score": [1, 1, 1]}',  # cut off in the thought
        '◁think▷ {"Score": [1, 1, 1]}',
    ],
)
def test_other_replies_say_nothing_and_have_a_reason(text: str) -> None:
    reply = read_reply(text, 3)
    assert (reply.verdicts, reply.scores) == ((N, N, N), None)
    assert reply.invalid


def test_scores_bring_their_threshold() -> None:
    reply = read_reply('{"scores": [0.85, 0.9], "threshold": 0.85, "strict": true}', 2)
    assert (reply.verdicts, reply.scores, reply.threshold) == ((F, T), (0.85, 0.9), Threshold(0.85, True))
    assert read_reply('{"scores": [0.5, 0.4]}', 2).verdicts == (T, F)


def test_redundant_steps_of_prmbench_are_judged_by_redundancy() -> None:
    text = '{"validity": [1, 1, 1], "redundancy": [-1, 0, 0.5]}'
    assert read_reply(text, 3, "circular").verdicts == (T, T, F)
    assert read_reply(text, 3, "deception").verdicts == (T, T, T)
    assert read_reply('{"validity": [1, 1, -1]}', 3, "redundency").verdicts == (T, T, F)


def replies(*texts: str) -> list[CriticReply]:
    return [read_reply(text, 2) for text in texts]


def test_the_majority_decides_on_each_step_and_a_tie_is_wrong() -> None:
    given = replies('{"Score": [1, 1]}', '{"Score": [1, 0]}', "no idea", '{"Score": [0, 1]}', '{"Score": [0, 1]}')
    assert vote_on_steps(given).verdicts == (F, T)
    assert vote_on_steps(replies("?", "?")).invalid
    assert vote_on_steps(given[:1]) is given[0]
    assert vote_on_steps([given[0], *replies("?", "?", "?")]).verdicts == given[0].verdicts


def test_the_most_frequent_first_error_wins_and_of_several_the_first() -> None:
    given = replies(r"\boxed{1}", r"\boxed{0}", "?", r"\boxed{0}")
    assert vote_on_first_error(given).verdicts == (F, N)
    assert vote_on_first_error(given[:2]).verdicts == (T, F)
    assert vote_on_first_error(replies("?", "?")).invalid
