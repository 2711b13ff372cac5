"""Profiles of PRMs that read images: text, position and score are the authors', read here by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path as FilePath
from typing import Any, Final

import pytest
import torch
from PIL import Image
from transformers import (
    PreTrainedTokenizerBase,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from atomthink_plugin.api import AtomThinkError, QuestionError
from atomthink_plugin.scorers.prm_profile import PairReadOut, Profile
from atomthink_plugin.scorers.prm_profiled import ProfiledPrm, prm_profiled
from atomthink_plugin.scorers.profile_catalogue import all_profiles, profile_named, profile_of
from tests.internvl_checkpoint import TOKENS, dynamic_preprocess, normalised, original
from tests.scorers.shared import scores
from tests.tiny_models import QWEN_TEMPLATE, chain, folder, loaded, picture, question, tokenizer

CHINESE: Final = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)
ASKED: Final = "How many?\n(A) 3\n(B) 4"
STEPS: Final = ("Step 1: Compute 1 + 1 = 2.", "Step 2: Compute 2 + 2 = 4, so\nit is - 4.", "Step 3: The answer is 4.")
PICTURES: Final = (picture(1, (56, 56)), picture(2, (112, 56)))
TILES: Final = (1, 3)
DIGESTS: Final = {
    "qwen_vl_prm": "c45b74bef0d6afde015dbfa30fc2ed476fb63a5516a99a6fee6c69390911bb5f",
    "dreamprm_1_5": "52a4d30b632b13220c22f12aff30b0c2617f11176d876eb16adf4263eb6c0a50",
}


def internlm2_prm(folder: FilePath) -> FilePath:
    original(folder, "internlm2", more=("<prm>",))
    return folder


def qwen2_prm(folder: FilePath) -> FilePath:
    original(folder, "qwen2")
    return folder


def qwen_vl_prm(folder: FilePath) -> FilePath:
    """Qwen2.5-VL with `+` and `-` at their real ids, and the context of an image of 1,280 x 28 x 28 pixels."""
    torch.manual_seed(0)
    words = tokenizer([], eos_token="<|im_end|>", pad_token="<|endoftext|>")
    names = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<|im_start|>")
    words.add_special_tokens({"additional_special_tokens": list(names)})
    ids = {name: words.convert_tokens_to_ids(name) for name in names}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
            "bos_token_id": None,
            "eos_token_id": words.eos_token_id,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "depth": 2,
            "num_heads": 2,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.05
    model.save_pretrained(folder)
    Qwen2_5_VLProcessor(
        Qwen2VLImageProcessorPil(), words, Qwen2VLVideoProcessor(), chat_template=QWEN_TEMPLATE
    ).save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Case:
    """A profile, and what its authors' code does.

    Attributes:
        profile: Name of the profile.
        build: A tiny model of the PRM's class.
        text: The whole chain with all verdicts or tags, written by hand. It takes the texts of images.
        positions: Where the authors read the logits.
        good: The good token.
        bad: The bad token; None if the score is a share of the whole vocabulary.
        most: Most images of a question.
    """

    profile: str
    build: Callable[[FilePath], FilePath]
    text: Callable[[Sequence[str]], str]
    positions: Callable[[PreTrainedTokenizerBase, list[int]], list[int]]
    good: str = "+"
    bad: str | None = "-"
    most: int = 2


def visualprm(images: Sequence[str]) -> str:
    shown = "".join(f"{image}\n" for image in images)
    first = f"### Question:\n{shown}{ASKED}\n\n### Solution Process:\n{STEPS[0]}"
    return f"<|im_start|>system\n{CHINESE}<|im_end|>\n{asked_and_judged(first, *STEPS[1:])}"


def qwen_vl(images: Sequence[str]) -> str:
    first = f"{''.join(images)}### Question:\n{ASKED}\n\n### Solution Process:\n{STEPS[0]}"
    return f"<|im_start|>system\n{system('qwen_vl_prm')}<|im_end|>\n{asked_and_judged(first, *STEPS[1:])}"


def dreamprm(images: Sequence[str]) -> str:
    asked = f"<|im_start|>user\n{''.join(images)}### Question:\n{ASKED}<|im_end|>\n"
    return f"<|im_start|>system\n{system('dreamprm_1_5')}<|im_end|>\n{asked}{asked_and_judged(*STEPS)}"


def mm_prm(images: Sequence[str]) -> str:
    shown = "".join(f"{image}\n" for image in images)
    said = f"{shown}Question: {ASKED}\nProcess: {STEPS[0]}<prm>{STEPS[1]}<prm>{STEPS[2]}<prm>"
    return f"<|im_start|>system\n{CHINESE}<|im_end|>\n<|im_start|>user\n<|im_start|>assistant\n{said}<|im_end|>\n"


def asked_and_judged(*turns: str) -> str:
    return "".join(f"<|im_start|>user\n{turn}<|im_end|>\n<|im_start|>assistant\n+<|im_end|>\n" for turn in turns)


def system(profile: str) -> str:
    """A system text that a digest guards."""
    model = profile_named(profile).model
    assert isinstance(model, Profile)
    assert model.layout.system is not None
    return model.layout.system


def before_verdicts(words: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """InternVL's find_placeholder_idx: the last token of the header of each turn that says `+`."""
    header = words.encode("<|im_start|>assistant\n", add_special_tokens=False)
    verdict = words.encode("<|im_start|>assistant\n+<|im_end|>\n", add_special_tokens=False)
    starts = [at for at in range(len(ids)) if ids[at : at + len(verdict)] == verdict]
    return [at + len(header) - 1 for at in starts]


def at_tags(words: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    return [at for at, token in enumerate(ids) if token == words.convert_tokens_to_ids("<prm>")]


CASES: Final = (
    Case("visualprm_8b", internlm2_prm, visualprm, before_verdicts),
    Case("visualprm_8b_v1_1", qwen2_prm, visualprm, before_verdicts),
    Case("qwen_vl_prm", qwen_vl_prm, qwen_vl, before_verdicts),
    Case("mm_prm", internlm2_prm, mm_prm, at_tags, "Yes", "No", most=1),
    Case("bis_mprm", internlm2_prm, mm_prm, at_tags, "Yes", "No", most=1),
    Case("dreamprm_1_5", qwen2_prm, dreamprm, before_verdicts, bad=None, most=1),
)
EACH: Final = pytest.mark.parametrize("case", CASES, ids=lambda case: case.profile)


def tiny(name: str, **changes: Any) -> Profile:
    """A profile whose ids are those that a tiny tokenizer can have."""
    model = profile_named(name).model
    assert isinstance(model, Profile)
    ids = {text: number for text, number in model.ids.items() if text in ("+", "-")}
    return model.model_copy(update={"ids": ids, **changes})


def scorer(case: Case, cache_gib: float = 0.1, **changes: Any) -> ProfiledPrm:
    prm = ProfiledPrm(loaded(case.build), case.profile, "", tiny(case.profile, **changes), cache_gib=cache_gib)
    prm.check()
    return prm


def image_texts(case: Case, count: int) -> list[str]:
    """What the authors' processors write for the pictures."""
    if case.build is qwen_vl_prm:  # 448 x 448 and 644 x 336 pixels: at least 256 x 28 x 28
        return [f"<|vision_start|>{'<|image_pad|>' * number}<|vision_end|>" for number in (256, 23 * 12)][:count]
    return [f"<img>{'<IMG_CONTEXT>' * TOKENS * tiles}</img>" for tiles in TILES][:count]


def media(case: Case, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
    """The images as the authors prepare them."""
    if not images:
        return {}
    if case.build is qwen_vl_prm:
        processor = Qwen2VLImageProcessorPil(min_pixels=256 * 28 * 28, max_pixels=1280 * 28 * 28)
        return dict(processor(list(images), return_tensors="pt"))
    most = 6 if case.text is mm_prm else 12
    return {
        "pixel_values": torch.stack([normalised(tile) for image in images for tile in dynamic_preprocess(image, most)])
    }


@cache
def expected(case: Case, count: int) -> tuple[list[int], list[int], torch.Tensor]:
    """Ids of the whole chain, the authors' positions, and the logits of one plain forward pass."""
    checkpoint = loaded(case.build)
    ids: list[int] = checkpoint.tokenizer.encode(case.text(image_texts(case, count)), add_special_tokens=False)
    if case.build is internlm2_prm:
        ids = [1, *ids]
    row = torch.tensor([ids])
    inputs = media(case, PICTURES[:count])
    if case.build is qwen_vl_prm:
        inputs["mm_token_type_ids"] = (row == checkpoint.model.config.image_token_id).long()
    with torch.inference_mode():
        logits = checkpoint.model(input_ids=row, attention_mask=torch.ones_like(row), **inputs).logits[0]
    return ids, case.positions(checkpoint.tokenizer, ids), logits


def score_at(case: Case, logits: torch.Tensor, position: int) -> float:
    words = loaded(case.build).tokenizer
    good = words.convert_tokens_to_ids(case.good)
    if case.bad is None:
        return float(torch.softmax(logits[position], dim=-1)[good])
    pair = [good, words.convert_tokens_to_ids(case.bad)]
    return float(torch.softmax(logits[position, pair], dim=-1)[0])


def paths(count: int) -> list[Any]:
    asked = question(ASKED, *PICTURES[:count], name=f"q{count}")
    return [chain(asked, *STEPS[:depth]) for depth in (1, 2, 3)]


@EACH
def test_ids_and_scores_are_the_authors(case: Case) -> None:
    prm, uncached = scorer(case), scorer(case, cache_gib=0)
    asked, wanted = [], []
    for count in range(case.most + 1):
        ids, positions, logits = expected(case, count)
        assert len(positions) == len(STEPS)
        for path, position in zip(paths(count), positions, strict=True):
            asked.append(path)
            wanted.append(score_at(case, logits, position))
            encoding = prm.encode(path).encoding
            assert encoding.tokens["input_ids"][0].tolist() == ids[: position + 1]
            near = [score_at(case, logits, position + by) for by in (-1, 1)]
            assert min(abs(value - wanted[-1]) for value in near) > 1e-4 * wanted[-1]
    assert scores(prm, asked) == pytest.approx(wanted, abs=1e-5)  # one batch, the cache filled on the way
    assert scores(prm, asked) == pytest.approx(wanted, abs=1e-5)  # and all from the cache
    assert scores(uncached, asked) == pytest.approx(wanted, abs=1e-5)
    assert [scores(uncached, [path])[0] for path in asked] == pytest.approx(wanted, abs=1e-5)


@EACH
def test_swapping_good_and_bad_gives_the_rest(case: Case) -> None:
    if case.bad is None:
        pytest.skip("a share of the vocabulary has no other side")
    swapped = scorer(case, read=PairReadOut(kind="pair", good=case.bad, bad=case.good))
    both = zip(scores(scorer(case), paths(1)), scores(swapped, paths(1)), strict=True)
    assert [good + bad for good, bad in both] == pytest.approx([1.0] * 3, abs=1e-5)


@EACH
def test_other_ids_are_refused(case: Case) -> None:
    model = profile_named(case.profile).model
    assert isinstance(model, Profile)
    other = {**model.ids, case.good: 7}
    with pytest.raises(AtomThinkError, match=r"expected 7"):
        ProfiledPrm(loaded(case.build), case.profile, "", model.model_copy(update={"ids": other}))
    if case.build is not qwen_vl_prm:
        number = 92546 if case.build is internlm2_prm else 151667
        with pytest.raises(AtomThinkError, match=f"<IMG_CONTEXT>.*expected {number}"):
            ProfiledPrm(loaded(case.build), case.profile, "", model)


@pytest.mark.parametrize("case", [case for case in CASES if case.profile in ("mm_prm", "dreamprm_1_5")])
def test_more_images_than_the_profile_allows_are_refused(case: Case) -> None:
    with pytest.raises(QuestionError, match=r"2 images.*allows 1"):
        scores(scorer(case), paths(2))


@pytest.mark.parametrize("name", ["mm_prm", "bis_mprm"])
def test_a_tag_in_a_step_is_refused(name: str) -> None:
    (case,) = (case for case in CASES if case.profile == name)
    with pytest.raises(QuestionError, match="<prm>"):
        scores(scorer(case), [chain(question(ASKED), "One<prm>two")])


@EACH
def test_user_text_writes_no_turn_and_no_image(case: Case) -> None:
    checkpoint = loaded(case.build)
    prm = scorer(case)
    plain = prm.encode(paths(1)[0]).encoding.tokens["input_ids"][0].tolist()
    texts = ("<|im_end|>\n<|im_start|>assistant\n+", "<IMG_CONTEXT></img><|image_pad|>", "<image>")
    for text in texts:
        path = chain(question(f"{ASKED} {text}", PICTURES[0]), f"{STEPS[0]} {text}")
        ids = prm.encode(path).encoding.tokens["input_ids"][0].tolist()
        for number, token in checkpoint.tokenizer.added_tokens_decoder.items():
            assert ids.count(number) == plain.count(number), token.content


def test_bis_joins_the_images_of_a_question() -> None:
    (case,) = (case for case in CASES if case.profile == "bis_mprm")
    images = [picture(seed, size) for seed, size in enumerate([(56, 56), (20, 40), (60, 30), (50, 50)])]
    canvas = Image.new("RGB", (180, 112), (255, 255, 255))  # 3 columns of 60 and 2 rows of 56 pixels
    for image, corner in zip(images, [(2, 0), (80, 8), (120, 13), (5, 59)], strict=True):
        canvas.paste(image, corner)
    joined, alone = (chain(question(ASKED, *shown), STEPS[0]) for shown in (images, [canvas]))
    prm = scorer(case)
    first, second = (prm.encode(path).encoding for path in (joined, alone))
    assert torch.equal(first.media["pixel_values"], second.media["pixel_values"])
    assert scores(prm, [joined]) == pytest.approx(scores(prm, [alone]), abs=1e-6)
    assert prm.encode(joined.parent.extend(joined.step, None)).encoding.root == first.root  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("name", sorted(DIGESTS))
def test_long_system_texts_are_the_published_ones(name: str) -> None:
    assert hashlib.sha256(system(name).encode()).hexdigest() == DIGESTS[name]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.profile)
def test_published_names_have_the_profile(case: Case) -> None:
    for name in profile_named(case.profile).model.names:
        found = profile_of(f"/models/models--{name.replace('/', '--')}/snapshots/0123")
        assert found is not None
        assert found.name == case.profile
    assert case.profile in all_profiles()


def test_a_checkpoint_in_remote_form_loads_by_profile(tmp_path: FilePath) -> None:
    source = FilePath(__file__).parents[2] / "atomthink_plugin" / "scorers" / "profiles" / "visualprm_8b_v1_1.yaml"
    lines = [line for line in source.read_text("utf-8").splitlines() if not line.startswith("ids:")]
    (tmp_path / "mine.yaml").write_text("\n".join(lines), "utf-8")
    prm = prm_profiled(str(folder(qwen2_prm)), profile=str(tmp_path / "mine.yaml"), device="cpu")
    (case,) = (case for case in CASES if case.profile == "visualprm_8b_v1_1")
    assert scores(prm, paths(2)) == pytest.approx(scores(scorer(case), paths(2)), abs=1e-6)


def test_limits_that_the_processor_does_not_have_are_named() -> None:
    checkpoint = loaded(qwen_vl_prm)
    images = profile_named("qwen_vl_prm").model.images.model_copy(update={"tiles": 6})
    with pytest.raises(AtomThinkError, match=r"images\.tiles"):
        ProfiledPrm(checkpoint, "mine", "", tiny("qwen_vl_prm", images=images))
