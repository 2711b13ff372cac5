"""A checkpoint in the format of LLaVA's original code is the model that was converted for transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.checkpoints import load_multimodal
from atomthink_plugin.inference.llava_checkpoints import IMAGE
from tests import tiny_models
from tests.llava_checkpoint import WORDS, original


@pytest.mark.parametrize("with_tower", [True, False])
@pytest.mark.parametrize("type_name", ["llava_llama", "llava"])
def test_it_computes_what_the_converted_model_computes(with_tower: bool, type_name: str, tmp_path: Path) -> None:
    twin = original(tmp_path / "model", tmp_path / "tower", with_tower, model_type=type_name)
    loaded = load_multimodal(str(tmp_path / "model"), device="cpu")
    assert loaded.processor is not None
    image = tiny_models.picture(size=(80, 40))
    inputs = loaded.processor(text=f"USER: {IMAGE}\nHow many?\nASSISTANT:", images=image, return_tensors="pt")
    token = loaded.model.config.image_token_id
    assert (inputs["input_ids"] == token).sum() == 16
    with torch.inference_mode():
        logits = loaded.model(**inputs).logits[..., : len(WORDS)]
        twin.resize_token_embeddings(len(WORDS) + 1, mean_resizing=False)
        expected = twin(**inputs).logits[..., : len(WORDS)]
    torch.testing.assert_close(logits, expected)
    # LLaVA pads an image to a square; cropping would lose its left and right quarter.
    assert inputs["pixel_values"][0, :, :10].std() < 0.1 < inputs["pixel_values"][0, :, 20:36].std()


def test_its_rotary_embeddings_are_those_of_its_config(tmp_path: Path) -> None:
    twin = original(tmp_path / "model", tmp_path / "tower", with_tower=True, rope_theta=500.0)
    loaded = load_multimodal(str(tmp_path / "model"), device="cpu")
    ids = torch.arange(3, 60)[None]
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(input_ids=ids).logits[..., : len(WORDS)], twin(input_ids=ids).logits)


def test_its_image_token_is_never_written(tmp_path: Path) -> None:
    original(tmp_path / "model", tmp_path / "tower", with_tower=True)
    loaded = load_multimodal(str(tmp_path / "model"), device="cpu")
    head = loaded.model.get_output_embeddings().weight
    hidden = torch.randn(1000, head.shape[1])
    assert not ((hidden @ head.T).argmax(dim=1) == len(WORDS)).any()


@pytest.mark.parametrize(
    "changes",
    [
        {"mm_projector_type": "linear"},
        {"image_aspect_ratio": "anyres"},
        {"mm_use_im_start_end": True},
        {"mm_vision_tower": None},
        {"mm_vision_tower": "no/such-tower"},
    ],
)
def test_other_llavas_of_that_format_are_refused_by_name(changes: dict[str, Any], tmp_path: Path) -> None:
    original(tmp_path / "model", tmp_path / "tower", with_tower=True, **changes)
    ((key, value),) = changes.items()
    with pytest.raises(AtomThinkError, match=f"{key}={value!r}"):
        load_multimodal(str(tmp_path / "model"), device="cpu")


def test_missing_weights_are_named(tmp_path: Path) -> None:
    original(tmp_path / "model", tmp_path / "tower", with_tower=True, num_hidden_layers=3)
    with pytest.raises(AtomThinkError, match=r"layers\.2\."):
        load_multimodal(str(tmp_path / "model"), device="cpu")
