"""The model that the harness calls, with the embedded weights and requests as the harness makes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lmms_eval.api.instance import Instance, unwrap_generation_output
from PIL import Image

from atomthink_plugin.api import AtomThinkError, QuestionError
from atomthink_plugin.model_adapters.lmms_models import (
    AtomThinkLlamaVision,
    AtomThinkLlava,
    AtomThinkModel,
    AtomThinkQwenVL,
    AtomThinkTiny,
)
from atomthink_plugin.runtime.records import decode
from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import held_out
from tests.tiny_models import folder, head_prm, llava, mllama, qwen

GOOD = held_out(2)
OPENED: list[int] = []


def messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
    OPENED.append(doc["id"])
    content = [{"type": "image", "url": doc["image"]}] if doc["image"] else []
    return [{"role": "user", "content": [*content, {"type": "text", "text": doc["text"]}]}]


def documents(folder: Path) -> list[dict[str, Any]]:
    broken = folder / "broken.png"
    broken.write_bytes(b"\x89PNG no picture")
    images: list[Image.Image | Path | None] = [draw(GOOD[0]), broken, None, draw(GOOD[1]), draw(GOOD[1])]
    texts = [GOOD[0].text, "What is broken?", " ", GOOD[1].text, GOOD[1].text]
    return [{"id": i, "image": image, "text": text} for i, (image, text) in enumerate(zip(images, texts, strict=True))]


def requests(gen_kwargs: dict[str, Any], padding: int = 3) -> list[Instance]:
    made = []
    for i in range(5):
        metadata = {"task": "sums", "doc_id": i, "repeats": 1, "__padding_only__": i == padding}
        arguments = ("context", messages, gen_kwargs, i, "sums", "test")
        made.append(Instance("generate_until", arguments, idx=0, metadata=metadata))
    return made


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., AtomThinkTiny]:
    def make(**arguments: Any) -> AtomThinkTiny:
        made = AtomThinkTiny(journal=str(tmp_path / "journal"), **arguments)
        made.task_dict = {"sums": {"test": documents(tmp_path)}}
        return made

    return make


def test_failed_questions_keep_their_places_and_their_reasons(
    model: Callable[..., AtomThinkTiny], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    logged: dict[str, Any] = {}
    monkeypatch.setattr("atomthink_plugin.model_adapters.lmms_models.log_metrics", lambda **kw: logged.update(kw))
    OPENED.clear()
    replies = model(thinking="quick").generate_until(requests({"max_new_tokens": 4, "temperature": 0}))
    texts, counts = zip(*(unwrap_generation_output(reply) for reply in replies), strict=True)
    states = [count.to_dict().get("status") if count else None for count in counts]
    assert states[:4] == ["answered", "failed", "failed", None]
    assert [bool(text) for text in texts] == [True, False, False, False, True]
    assert "broken.png" in counts[1].error
    assert "neither text nor images" in counts[2].error
    assert OPENED == [0, 1, 2, 4]
    counted = {"questions": 4, "failed_questions": 2, "unanswered_questions": 0}
    assert logged["additional_metrics"].items() >= counted.items()
    assert logged["additional_metrics"]["policy_most_rows"] >= 1
    assert 0 < logged["additional_metrics"]["policy_share_decode"] < 1
    spent = logged["total_gen_tokens"]
    assert spent > 0

    again = model(thinking="quick").generate_until(requests({}))
    assert [unwrap_generation_output(reply)[0] for reply in again] == list(texts)
    assert logged["total_gen_tokens"] == 0  # the journal answered
    assert logged["additional_metrics"]["policy_share_waiting"] == 1
    assert logged["additional_metrics"]["failed_questions"] == 2


def test_options_are_journaled_and_the_answer_is_in_the_tasks_form(tmp_path: Path) -> None:
    text = GOOD[0].text + "\nA. 3\nB. 4\nPut the answer in \\boxed{}."
    journal = tmp_path / "journal"
    made = AtomThinkTiny(journal=str(journal), thinking="quick")
    made.task_dict = {"sums": {"test": [{"id": 0, "image": draw(GOOD[0]), "text": text, "options": ["3", "4"]}]}}
    (reply,) = made.generate_until(requests({})[:1])
    (file,) = journal.glob("*/rank0.jsonl")
    record = decode(file.read_bytes())
    assert record["choices"] == ["3", "4"]
    assert record["outcome"]["text"] == unwrap_generation_output(reply)[0]
    assert (r"\boxed" in record["outcome"]["text"]) == (record["outcome"]["answer"] is not None)


def test_on_error_raise_names_the_question(model: Callable[..., AtomThinkTiny]) -> None:
    with pytest.raises(QuestionError, match=r"sums/test/1/0.*broken\.png"):
        model(thinking="quick", on_error="raise").generate_until(requests({}))


def test_a_bad_generation_argument_stops_before_any_question_is_built(model: Callable[..., AtomThinkTiny]) -> None:
    OPENED.clear()
    with pytest.raises(AtomThinkError, match=r"^`temperature=-1`"):
        model(thinking="direct").generate_until(requests({"temperature": -1}))
    assert OPENED == []


def test_typed_arguments_override_those_of_a_config_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("thinking: slow\nsearch: majority\nn: 3\n")
    thinking = AtomThinkTiny(config=str(file), n=2, journal="off")
    assert (thinking._plan.search_name, thinking._plan.identity["search"]["n"]) == ("majority", 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- slow", "is no mapping"),
        ("a: [", "cannot be read"),
        (None, "cannot be read"),
        ("colour: red", "`colour`"),
    ],
)
def test_a_config_file_that_cannot_be_used_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "run.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(AtomThinkError, match=message):
        AtomThinkTiny(config=str(file))


@pytest.mark.parametrize(
    ("family", "build"), [(AtomThinkLlava, llava), (AtomThinkLlamaVision, mllama), (AtomThinkQwenVL, qwen)]
)
def test_a_family_takes_a_local_checkpoint_and_is_otherwise_the_same(
    family: type[AtomThinkModel], build: Callable[[Path], Path]
) -> None:
    made = family(
        pretrained=str(folder(build)),
        prm=str(folder(head_prm)),
        scorer="prm_head",
        thinking="slow",
        device="cpu",
        attn_implementation="eager",
        journal="off",
    )
    assert made._loaded is not None
    assert made._loaded.scorer is not None
    assert made._loaded.policy.identity.startswith(str(folder(build)))
