"""Requests become questions and results become replies, with the harness's own types for both."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts, unwrap_generation_output
from PIL import Image

from atomthink_plugin.api import (
    AtomThinkError,
    Failure,
    Limits,
    Message,
    Outcome,
    Question,
    QuestionError,
    Usage,
)
from atomthink_plugin.model_adapters import lmms_requests as harness

IMAGE = Image.new("RGB", (2, 2), "red")
OTHER = Image.new("RGB", (3, 3), "blue")


class Task:
    """What a request's bound `doc_to_messages` reaches: the task, its config and the command line."""

    def __init__(self, content: Any, cli: str | None = None, delimiter: str = "\n\n") -> None:
        self.content = content
        self.args = Namespace(gen_kwargs=cli)
        self.config = Namespace(fewshot_delimiter=delimiter)

    def doc_to_messages(self, doc: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"role": "user", "content": [*self.content, {"type": "text", "text": doc["ask"]}]}]


def request(doc_to_messages: Callable[..., Any], gen_kwargs: dict[str, Any] | None = None, doc_id: int = 0) -> Instance:
    arguments = ("context", doc_to_messages, gen_kwargs or {}, doc_id, "sums", "test")
    metadata = {"task": "sums", "doc_id": doc_id, "repeats": 1}
    return Instance("generate_until", arguments, idx=0, metadata=metadata)


def arguments(req: Instance, model_args: dict[str, Any] | None = None, stepwise: bool = False) -> dict[str, Any]:
    return harness.generation_arguments(req, model_args or {}, stepwise)


DOCS = {"sums": {"test": [{"ask": "2 + 3?"}, {"ask": "4 + 4?"}]}}


def question(asked: Any, **given: Any) -> Question:
    req = request(asked if callable(asked) else Task(asked).doc_to_messages)
    return harness.to_question(harness.asked(req, model_args=given), DOCS)


@pytest.mark.parametrize(
    ("metadata", "direct"), [({"thinking": "direct"}, True), ({"version": 1.0}, False), (None, False), ([1], False)]
)
def test_a_task_may_want_direct_answers(metadata: Any, direct: bool) -> None:
    task = Task([])
    task.config.metadata = metadata
    assert question(task.doc_to_messages).direct is direct
    assert not question([]).direct


@pytest.mark.parametrize(
    ("stepwise", "direct", "typed", "expected"),
    [
        (True, True, {}, Limits(8, temperature=0.0)),  # the run's temperature is its search's
        (True, True, {"temperature": 0.7}, Limits(8, temperature=0.7)),
        (True, False, {}, Limits()),
        (False, False, {}, Limits(8)),
    ],
)
def test_a_direct_answer_has_the_tasks_own_limits(
    stepwise: bool, direct: bool, typed: dict[str, Any], expected: Limits
) -> None:
    task = Task([])
    task.config.metadata = {"thinking": "direct"} if direct else None
    req = request(task.doc_to_messages, {"max_new_tokens": 8})
    assert harness.asked(req, model_args=typed, stepwise=stepwise).limits == expected


def test_all_turns_arrive_whole_and_in_order() -> None:
    def messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
        system = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
        first = [{"type": "text", "text": "Compare"}, {"type": "image", "url": IMAGE}]
        second = [{"type": "text", "text": "with"}, {"type": "image", "url": OTHER}]
        return [system, {"role": "user", "content": [*first, *second, {"type": "text", "text": doc["ask"]}]}]

    got = question(messages)
    assert got.id == "sums/test/0/0"
    assert got.messages == (
        Message("system", ("Be brief.",)),
        Message("user", ("Compare", IMAGE, "with", OTHER, "2 + 3?")),
    )
    assert got.images[0] is IMAGE
    assert got.choices == ()


def test_what_the_assistants_turn_begins_with_are_given_steps() -> None:
    def messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
        begun = {"role": "assistant", "content": [{"type": "text", "text": "Step 1: Add.\n\nStep 2: 2 + 3 = 5."}]}
        return [{"role": "user", "content": [{"type": "text", "text": doc["ask"]}]}, begun]

    got = question(messages)
    assert got.messages == (Message("user", ("2 + 3?",)),)
    assert got.history == ("Step 1: Add.", "Step 2: 2 + 3 = 5.")


def test_an_image_given_by_path_is_opened(tmp_path: Path) -> None:
    OTHER.convert("L").save(tmp_path / "figure.png")
    (image,) = question([{"type": "image", "url": str(tmp_path / "figure.png")}]).images
    assert (image.mode, image.size) == ("RGB", (3, 3))


def test_images_are_upright_and_bounded(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held sideways
    file = tmp_path / "photograph.jpg"
    Image.new("RGB", (60, 20)).save(file, exif=exif)
    content = [{"type": "image", "url": Image.open(file)}, {"type": "image", "url": str(file)}]
    asked = harness.asked(request(Task(content).doc_to_messages))
    assert [image.size for image in harness.to_question(asked, DOCS).images] == [(20, 60)] * 2
    bounded = harness.Requested([asked], DOCS, max_pixels=300)[0]
    assert [image.size for image in bounded.images] == [(10, 30)] * 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([{"type": "video", "url": "clip.mp4"}], "'video' is not supported"),
        ([{"type": "audio", "url": "clip.wav"}], "'audio' is not supported"),
        ([{"type": "image", "url": "/no/such/file.png"}], "FileNotFoundError"),
        ([{"text": "a part without a type"}], "without a type"),
    ],
)
def test_questions_that_cannot_be_asked_have_reason_and_place(content: Any, reason: str) -> None:
    with pytest.raises(QuestionError, match=f"^question sums/test/0/0: .*{reason}"):
        question(content)


@pytest.mark.parametrize(
    "messages",
    [
        lambda doc: doc["missing"],
        lambda doc: [],
        lambda doc: [{"role": "user", "content": [{"type": "text", "text": " "}]}],
        lambda doc: [{"role": "assistant", "content": [{"type": "text", "text": "It is"}]}],
    ],
)
def test_a_task_that_builds_no_question_fails_that_question_only(messages: Callable[..., Any]) -> None:
    with pytest.raises(QuestionError, match="sums/test/0/0"):
        question(messages)


def test_repeats_are_counted_per_document_and_padding_is_not() -> None:
    ask = Task([]).doc_to_messages
    first, second, padding = request(ask), request(ask, doc_id=1), request(ask, doc_id=1)
    padding.metadata["__padding_only__"] = True
    requests = [first, first, second, padding, second, first]
    assert harness.repeats(requests) == [0, 1, 0, 1, 1, 2]
    assert [harness.is_padding(r) for r in requests] == [False, False, False, True, False, False]
    assert harness.to_question(harness.asked(second, 1), DOCS).id == "sums/test/1/1"


def test_command_line_before_model_args_before_task() -> None:
    task = Task([], cli="max_new_tokens=64,top_p=0.9")
    merged = {"max_new_tokens": 64, "top_p": 0.9, "temperature": 0, "num_beams": 1}
    req = request(task.doc_to_messages, merged)
    assert harness.overrides(req) == {"max_new_tokens": 64, "top_p": 0.9}
    expected = {"max_new_tokens": 64, "top_p": 0.9, "temperature": 0.7, "num_beams": 1}
    assert arguments(req, {"max_new_tokens": 512, "temperature": 0.7}) == expected
    assert req.args[2] == merged


@pytest.mark.parametrize("cli", [None, ""])
def test_without_gen_kwargs_model_args_win(cli: str | None) -> None:
    req = request(Task([], cli).doc_to_messages, {"max_new_tokens": 16384})
    assert harness.overrides(req) == {}
    assert arguments(req, {"max_new_tokens": 512}) == {"max_new_tokens": 512}


def test_sampling_made_for_one_greedy_reply_does_not_reach_a_search() -> None:
    greedy = {"temperature": 0.0, "do_sample": False, "top_p": 1.0, "max_new_tokens": 64}
    req = request(Task([]).doc_to_messages, greedy)
    assert arguments(req, stepwise=True) == {}
    assert arguments(req, stepwise=False) == greedy
    assert arguments(req, {"temperature": 0.5}, stepwise=True)["temperature"] == 0.5


def test_sampling_asked_for_on_the_command_line_does_reach_a_search() -> None:
    req = request(Task([], cli="temperature=0.2").doc_to_messages, {"temperature": 0.2, "top_k": 5})
    assert arguments(req, stepwise=True) == {"temperature": 0.2}


def test_a_request_without_a_task_has_no_overrides() -> None:
    req = request(lambda doc: doc, {"max_new_tokens": 8, "until": ["\n\n"]})
    assert arguments(req) == {"max_new_tokens": 8}


@pytest.mark.parametrize(
    ("until", "delimiter", "kept"),
    [
        (["\n\n"], "\n\n", ()),
        (["\n"], "\n", ()),
        (["\n\n"], "\n", ("\n\n",)),
        (["\n\n", "Question:"], "\n\n", ("\n\n", "Question:")),
        ("###", "\n\n", ("###",)),
        (["", "###"], "\n\n", ("###",)),
        ([], "\n\n", ()),
        (None, "\n\n", ()),
    ],
)
def test_only_the_injected_stop_string_is_dropped(until: Any, delimiter: str, kept: tuple[str, ...]) -> None:
    req = request(Task([], delimiter=delimiter).doc_to_messages, {"until": until})
    assert harness.to_limits(arguments(req)).until == kept


def test_a_stop_string_from_the_command_line_is_kept() -> None:
    req = request(Task([], cli="until=###", delimiter="###").doc_to_messages, {"until": "###"})
    assert harness.to_limits(arguments(req)) == Limits(None, ("###",))


def test_limits_reach_the_question() -> None:
    given = {"max_new_tokens": 64.0, "until": ["###"], "temperature": 1, "top_k": 5, "num_beams": 1}
    assert question([], **given).limits == Limits(64, ("###",), temperature=1.0, top_k=5)


def test_not_to_sample_is_temperature_zero() -> None:
    assert harness.to_limits({"do_sample": False, "temperature": 0.7}) == Limits(temperature=0.0)
    assert harness.to_limits({"do_sample": True}) == Limits()


@pytest.mark.parametrize("value", [0, -1, 1.5, "many", float("nan"), float("inf"), []])
def test_a_limit_that_is_no_positive_integer_is_refused(value: Any) -> None:
    with pytest.raises(AtomThinkError, match=r"^`max_new_tokens="):
        harness.to_limits({"max_new_tokens": value})


CHAIN = "Step 1: 2 + 3 = 5.\n\nStep 2: To sum up, the final answer is: "


def test_a_result_is_what_the_harness_unwraps() -> None:
    usage = Usage(policy_calls=6, score_calls=4, generated=30, prefilled=100, cached=20)
    outcome = Outcome(CHAIN + "5.", "5", ("one", "two"), (0.9, 0.8), 0.8, "final", usage)
    text, counts = unwrap_generation_output(harness.to_result(outcome))
    assert text == CHAIN + "5."
    assert isinstance(counts, TokenCounts)
    assert counts.to_dict() == {
        "input_tokens": 120,
        "output_tokens": 30,
        "policy_calls": 6,
        "score_calls": 4,
        "steps": 2,
        "value": 0.8,
        "stopped": "final",
        "status": "answered",
        "step_scores": [0.9, 0.8],
    }


def test_an_outcome_without_an_answer_is_marked() -> None:
    outcome = Outcome("Step 1: Hm.", None, ("Step 1: Hm.",), (None,), 0.0, "depth", Usage())
    counts = harness.to_result(outcome).token_counts.to_dict()
    assert counts["status"] == "unanswered"
    assert counts["step_scores"] == []


def test_a_failed_question_is_never_a_silent_empty_answer() -> None:
    spent = Usage(policy_calls=2, score_calls=1, generated=9, prefilled=7)
    result = harness.to_result(Failure("question sums/test/0/0: too long", spent), "folder")
    assert isinstance(result, GenerationResult)
    assert result.text == ""
    assert result.token_counts.to_dict() == {
        "status": "failed",
        "error": "question sums/test/0/0: too long",
        "input_tokens": 7,
        "output_tokens": 9,
        "policy_calls": 2,
        "score_calls": 1,
        "journal": "folder",
    }


def test_replies_are_counted_whatever_gave_them() -> None:
    about = {"task": "sums", "doc_id": 0, "repeats": 1}
    requests = [Instance("generate_until", (), idx=0, metadata=about) for _ in range(3)]
    failed = harness.to_result(Failure("no server")).token_counts
    for request, counts in zip(requests, (failed, None, TokenCounts(output_tokens=3)), strict=True):
        request.token_counts.append(counts)  # None: the harness's response cache had the reply
    assert harness.tally(requests) == harness.Tally(3, 1, "no server")
    assert harness.tally(requests[1:]) + harness.tally(requests[:1]) == harness.Tally(3, 1, "no server")


def test_a_question_has_the_options_of_its_document_and_last_turn() -> None:
    def messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
        example = [{"type": "text", "text": "Which?\nA. red\nB. blue"}]
        parts = [{"type": "text", "text": "Which?"}, {"type": "image", "url": IMAGE}]
        parts.append({"type": "text", "text": f"A. {doc['options'][0]}\nB. {doc['options'][1]}"})
        reply = [{"type": "text", "text": "A"}]
        turns = (("user", example), ("assistant", reply), ("user", parts))
        return [{"role": role, "content": content} for role, content in turns]

    docs = {"sums": {"test": [{"options": ["one", "two"]}]}}
    assert harness.to_question(harness.asked(request(messages)), docs).choices == ("one", "two")
