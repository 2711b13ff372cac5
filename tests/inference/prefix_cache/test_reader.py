"""What begins alike is read once, and a model that would read parts differently is found out before it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from atomthink_plugin.api import AtomThinkError, Path
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.inference.encoding import Encoder, Encoding, text_encoding
from atomthink_plugin.inference.model_calls import CannotForkError
from atomthink_plugin.inference.prefix_cache.reader import PrefixReader
from tests.tiny_models import gemma3, llava, loaded, mllama, paligemma, picture, question

ASKED = list(range(20, 60))


def last_logits(build: Any, prompts: Sequence[Encoding]) -> torch.Tensor:
    """Logits behind each prompt, read anew and alone."""
    model = loaded(build).model
    with torch.inference_mode():
        return torch.stack([model(**prompt.tokens, **prompt.media).logits[0, -1] for prompt in prompts])


def read(build: Any, prompts: Sequence[Encoding], known: Sequence[int], reader: PrefixReader | None = None) -> Any:
    with torch.inference_mode():
        return (reader or PrefixReader(loaded(build), 2**30)).read(prompts, known)


def test_siblings_share_the_reading_of_their_question() -> None:
    prompts = [text_encoding(ASKED).extend([70 + at, *range(80, 86)]) for at in range(6)]
    batch = read(llava, prompts, [prompt.length - 1 for prompt in prompts])
    assert sum(batch.read) == len(ASKED) + 6 * 7
    assert torch.allclose(batch.logits[:, -1], last_logits(llava, prompts), atol=1e-4)


def test_siblings_share_it_also_where_another_question_began_alike() -> None:
    reader = PrefixReader(loaded(llava), 2**30)
    other = text_encoding([*ASKED[:5], 99, 98, 97])
    read(llava, [other], [7], reader)
    prompts = [text_encoding(ASKED).extend([70 + at, *range(80, 86)]) for at in range(6)]
    batch = read(llava, prompts, [prompt.length - 1 for prompt in prompts], reader)
    assert sum(batch.read) == len(ASKED) - 5 + 6 * 7
    assert torch.allclose(batch.logits[:, -1], last_logits(llava, prompts), atol=1e-4)


def test_a_sliding_window_sees_no_gap_between_what_is_known_and_what_is_new() -> None:
    """Rows with less to read than others have empty places, which would count."""
    reader = PrefixReader(loaded(gemma3), 2**30)
    parts = [text_encoding(ASKED), text_encoding([*ASKED[::-1], *ASKED[:8]])]
    read(gemma3, parts, [part.length - 1 for part in parts], reader)
    prompts = [parts[0].extend(range(60, 75)), parts[1].extend([75])]
    batch = read(gemma3, prompts, [prompt.length - 1 for prompt in prompts], reader)
    assert torch.allclose(batch.logits[:, -1], last_logits(gemma3, prompts), atol=1e-4)


def test_a_model_whose_earlier_tokens_see_later_ones_is_found_out() -> None:
    asked = Encoder(loaded(paligemma)).encode(Continue().render(Path(question("How many?", picture(0)))))
    image = int((asked.tokens["input_ids"] == loaded(paligemma).model.config.image_token_id).sum())
    prompt = replace(asked, settled=image)  # as if nothing but the image had to be read at once
    with pytest.raises(CannotForkError):
        read(paligemma, [prompt], [prompt.length - 1])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (IndexError("index 9"), CannotForkError),
        (torch.OutOfMemoryError("full"), torch.OutOfMemoryError),
        (torch.AcceleratorError("device-side assert"), AtomThinkError),  # no device is left to read anew on
    ],
)
def test_a_model_that_fails_in_its_trial_prefills_in_full_unless_memory_ran_out(
    error: Exception, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = PrefixReader(loaded(llava), 2**30)
    forward = loaded(llava).model.forward

    def failing(*args: Any, **inputs: Any) -> Any:
        if inputs.get("position_ids") is not None:  # what is read behind a prefix
            raise error
        return forward(*args, **inputs)

    monkeypatch.setattr(loaded(llava).model, "forward", failing)
    with pytest.raises(expected):
        read(llava, [text_encoding(ASKED)], [len(ASKED) - 1], reader)


def test_mllama_is_not_rehearsed_where_that_would_end_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atomthink_plugin.inference.prefix_cache.reader._RELEASE", "5.17.0")
    with pytest.raises(CannotForkError, match=r"transformers 5\.17\.0"):
        PrefixReader(loaded(mllama), 2**30)
    PrefixReader(loaded(llava), 2**30)


def test_a_trial_leaves_no_states() -> None:
    reader = PrefixReader(loaded(llava), 2**30)
    prompt = text_encoding(ASKED)
    batch = read(llava, [prompt], [prompt.length - 1], reader)
    assert batch.read == [len(ASKED)]
    assert reader.tree.known("", prompt.ids) == len(ASKED)
    assert reader.tree.size == sum(states.nbytes for states, _ in reader.tree.find("", prompt.ids))
