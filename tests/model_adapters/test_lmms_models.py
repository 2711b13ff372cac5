"""The model that the harness calls, with the embedded weights and requests as the harness makes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lmms_eval.api.instance import Instance, unwrap_generation_output
from PIL import Image

from atomthink_plugin.api import AtomThinkError, QuestionError
from atomthink_plugin.model_adapters.lmms_models import AtomThinkTiny
from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import held_out

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
    assert logged["additional_metrics"] | {"policy_calls": 0, "score_calls": 0} == {
        "questions": 4,
        "failed_questions": 2,
        "unanswered_questions": 0,
        "policy_calls": 0,
        "score_calls": 0,
    }
    spent = logged["total_gen_tokens"]
    assert spent > 0

    again = model(thinking="quick").generate_until(requests({}))
    assert [unwrap_generation_output(reply)[0] for reply in again] == list(texts)
    assert logged["total_gen_tokens"] == 0  # the journal answered
    assert logged["additional_metrics"]["failed_questions"] == 2


def test_on_error_raise_names_the_question(model: Callable[..., AtomThinkTiny]) -> None:
    with pytest.raises(QuestionError, match=r"sums/test/1/0.*broken\.png"):
        model(thinking="quick", on_error="raise").generate_until(requests({}))


def test_a_bad_generation_argument_stops_before_any_question_is_built(model: Callable[..., AtomThinkTiny]) -> None:
    OPENED.clear()
    with pytest.raises(AtomThinkError, match=r"^`temperature=-1`"):
        model(thinking="direct").generate_until(requests({"temperature": -1}))
    assert OPENED == []
