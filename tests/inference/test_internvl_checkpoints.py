"""A checkpoint in the format of InternVL's original code is the model that was converted for transformers."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.checkpoints import load_multimodal
from atomthink_plugin.inference.internvl_checkpoints import internvl_config
from atomthink_plugin.inference.preprocessors import load_preprocessor
from tests import tiny_models
from tests.internvl_checkpoint import TOKENS, dynamic_preprocess, normalised, original, sentencepiece_model

KINDS = ("internlm2", "internlm2_bias", "llama", "qwen2", "qwen3")
CHINESE = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
ASKED: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "How many?"}]}
]


@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_the_converted_model_computes(kind: str, tmp_path: Path) -> None:
    twin = original(tmp_path / "model", kind)
    before = sorted(path.name for path in (tmp_path / "model").iterdir())
    loaded = load_multimodal(str(tmp_path / "model"), device="cpu")
    assert loaded.processor is not None
    images = [tiny_models.picture(1, (150, 60)), tiny_models.picture(2, (40, 40))]
    text = loaded.processor.apply_chat_template(ASKED, add_generation_prompt=True, tokenize=False)
    inputs = loaded.processor(text=text, images=[images], return_tensors="pt")
    tiles = inputs["pixel_values"].shape[0]
    assert tiles == 10 + 1 + 1  # 5 x 2 tiles and the whole; a square image is one tile
    assert (inputs["input_ids"] == twin.config.image_token_id).sum() == TOKENS * tiles
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(**inputs).logits, twin(**inputs).logits, rtol=0, atol=1e-5)
    mine, theirs = loaded.model.config.text_config, twin.config.text_config
    assert theirs.rope_parameters.items() <= mine.rope_parameters.items()
    assert not mine.tie_word_embeddings
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == before


@pytest.mark.parametrize("kind", ["internlm2", "qwen2"])
def test_it_is_asked_as_the_original_code_asks(kind: str, tmp_path: Path) -> None:
    original(tmp_path / "model", kind)
    loaded = load_multimodal(str(tmp_path / "model"), device="cpu")
    assert loaded.processor is not None
    text = loaded.processor.apply_chat_template(ASKED, add_generation_prompt=True, tokenize=False)
    images = [tiny_models.picture(1, (56, 56)), tiny_models.picture(2, (112, 56))]
    ids = loaded.processor(text=text, images=[images], return_tensors="pt")["input_ids"][0]
    one, three = (f"<img>{'<IMG_CONTEXT>' * TOKENS * tiles}</img>" for tiles in (1, 3))
    written = (
        f"<|im_start|>system\n{CHINESE}<|im_end|>\n"
        f"<|im_start|>user\n{one}\n{three}\nHow many?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert loaded.tokenizer.decode(ids).removeprefix("<s>") == written
    assert (loaded.tokenizer.bos_token_id, ids[0] == 1) == ((1, True) if kind == "internlm2" else (None, False))
    assert loaded.model.generation_config.eos_token_id == loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert internvl_config(loaded.processor, config | {"select_layer": -3}).vision_feature_layer == -3
    side = config["vision_config"]["image_size"]
    assert internvl_config(loaded.processor, config | {"force_image_size": 2 * side}).image_seq_length == 4 * TOKENS
    given = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    own = loaded.processor.apply_chat_template(given, add_generation_prompt=True, tokenize=False)
    assert own == ("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n")


def test_internlm2_tokens_are_those_of_its_sentencepiece_model(tmp_path: Path) -> None:
    original(tmp_path / "model", "internlm2")
    tokenizer = load_multimodal(str(tmp_path / "model"), device="cpu").tokenizer
    pieces = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model())
    size = pieces.get_piece_size()
    start, end = (pieces.piece_to_id(f"[UNUSED_TOKEN_{number}]") for number in (146, 145))
    first, second = "Step 1:  2 + 3 - 1 = 4.\n\n### 第一步", " The answer is 4."
    ids = [1, start, *pieces.encode(first), size, size + 2, size + 1, end, *pieces.encode(second)]
    text = f"<|im_start|>{first}<img><IMG_CONTEXT></img><|im_end|>{second}"
    assert tokenizer(text)["input_ids"] == ids
    assert tokenizer.encode(text, add_special_tokens=False) == ids[1:]
    assert tokenizer.decode(ids[2 : 2 + len(pieces.encode(first))]) == first
    assert tokenizer.convert_tokens_to_ids(["+", "-"]) == [pieces.piece_to_id("+"), pieces.piece_to_id("-")]


@pytest.mark.parametrize("kind", ["internlm2", "qwen2"])
def test_its_processor_loads_without_its_weights(kind: str, tmp_path: Path) -> None:
    original(tmp_path / "model", kind)
    loaded = load_multimodal(str(tmp_path / "model"), device="cpu")
    assert loaded.processor is not None
    for file in (tmp_path / "model").glob("*.safetensors"):
        file.unlink()
    alone = load_preprocessor(str(tmp_path / "model"), images=True)
    assert alone.processor is not None
    assert alone.context == loaded.context
    text = loaded.processor.apply_chat_template(ASKED[:1], tokenize=False)
    images = [tiny_models.picture(1, (150, 60)), tiny_models.picture(2, (40, 40))]
    first, second = (
        one(text=text, images=[images], return_tensors="pt") for one in (loaded.processor, alone.processor)
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("most", [12, 6])
def test_tiles_are_those_of_the_original_code(most: int, tmp_path: Path) -> None:
    original(tmp_path / "model", "qwen2", max_dynamic_patch=most)
    loaded = load_multimodal(str(tmp_path / "model"), device="cpu")
    assert loaded.processor is not None
    for seed, size in enumerate([(10, 10), (56, 56), (150, 150), (300, 60), (61, 247), (200, 150), (113, 57)]):
        image = tiny_models.picture(seed, size)
        pixels = loaded.processor.image_processor(image, crop_to_patches=True, return_tensors="pt")["pixel_values"]
        expected = torch.stack([normalised(tile) for tile in dynamic_preprocess(image, most)])
        torch.testing.assert_close(pixels, expected, rtol=0, atol=1e-5)


def test_the_number_of_tiles_of_any_size_is_the_original_codes(tmp_path: Path) -> None:
    original(tmp_path / "model", "qwen2")
    loaded = load_multimodal(str(tmp_path / "model"), device="cpu")
    assert loaded.processor is not None
    count = loaded.processor.image_processor.get_number_of_image_patches
    for width, height in product(range(7, 400, 31), repeat=2):
        assert count(height, width) == len(dynamic_preprocess(Image.new("RGB", (width, height)), 12)), (width, height)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("template", "internlm2-chat"),
        ("ps_version", "v1"),
        ("pad2square", True),
        ("use_thumbnail", False),
        ("vision_config", None),
    ],
)
def test_other_internvls_of_that_format_are_refused_by_name(key: str, value: Any, tmp_path: Path) -> None:
    original(tmp_path / "model", "qwen2", **{key: value})
    with pytest.raises(AtomThinkError, match=f"{key}={value!r}"):
        load_multimodal(str(tmp_path / "model"), device="cpu")


def test_another_language_model_is_refused_by_name(tmp_path: Path) -> None:
    original(tmp_path / "model", "qwen2", llm_config={"model_type": "phi3"})
    with pytest.raises(AtomThinkError, match="phi3"):
        load_multimodal(str(tmp_path / "model"), device="cpu")


@pytest.mark.parametrize("kind", ["internlm2", "qwen2"])
def test_missing_weights_are_named(kind: str, tmp_path: Path) -> None:
    original(tmp_path / "model", kind)
    change(
        tmp_path / "model",
        drop="language_model.model.layers.1." + ("attention.wqkv" if kind == "internlm2" else "self_attn.k_proj"),
    )
    with pytest.raises(AtomThinkError, match=r"no weights for .*layers\.1\.self_attn\.k_proj"):
        load_multimodal(str(tmp_path / "model"), device="cpu")


def test_unknown_weights_are_named(tmp_path: Path) -> None:
    original(tmp_path / "model", "internlm2")
    change(tmp_path / "model", add="reward_head.weight")
    with pytest.raises(AtomThinkError, match=r"unknown weights reward_head\.weight"):
        load_multimodal(str(tmp_path / "model"), device="cpu")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    original(tmp_path / "model", "qwen2")
    (tmp_path / "model" / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(AtomThinkError, match="model-00002-of-00002"):
        load_multimodal(str(tmp_path / "model"), device="cpu")


@pytest.mark.parametrize("kind", ["internlm2", "qwen2"])
def test_missing_tokens_are_named(kind: str, tmp_path: Path) -> None:
    original(tmp_path / "model", kind)
    settings = json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())
    settings |= {"added_tokens_decoder": {}, "additional_special_tokens": []}
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(AtomThinkError, match="<img>, <IMG_CONTEXT>, </img>"):
        load_multimodal(str(tmp_path / "model"), device="cpu")


def change(folder: Path, drop: str | None = None, add: str | None = None) -> None:
    """Takes the weights whose names begin with `drop` out of the shards, or puts one in."""
    for file in folder.glob("model-*.safetensors"):
        weights = load_file(file)
        kept = {name: value for name, value in weights.items() if drop is None or not name.startswith(drop)}
        if add is not None and file.name.startswith("model-00001"):
            kept[add] = torch.zeros(3)
        save_file(kept, file)
