"""The profile of URSA-RM, on a stand-in of its own code: text, position and score are the authors'."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path as FilePath

import pytest
import torch
from transformers import AutoModel, AutoProcessor

from atomthink_plugin.api import AtomThinkError, QuestionError
from atomthink_plugin.scorers.prm_profiled import ProfiledPrm, prm_profiled
from tests.scorers.shared import scores
from tests.tiny_models import chain, folder, picture, question
from tests.ursa_standin import ursa_rm

ASKED = "How many?"
STEPS = ("Step 1: Compute 1 + 1 = 2.", "Step 2: Compute 2 + 2 = 4.", "The answer is 4.")
SAID = ("Step 1: Compute 1 + 1 = 2.", "Step 2: Compute 2 + 2 = 4.", "Step 3: The answer is 4.")
PICTURE = picture(1, (90, 40))
PATHS = [chain(question(ASKED, PICTURE), *STEPS[:depth]) for depth in (1, 2, 3)]
CHECK = "You are given a problem and a step-by-step solution. You need to check the correctness of each step."


@cache
def loaded_prm(cache_gib: float = 0.1) -> ProfiledPrm:
    where = str(folder(ursa_rm))
    return prm_profiled(
        where, profile="ursa_rm_8b", trust_remote_code=True, device="cpu", dtype="float32", cache_gib=cache_gib
    )


def published() -> tuple[list[int], list[float]]:
    """Ids and step scores as the authors' script computes them: ids are moved by the image's tokens but one."""
    where = folder(ursa_rm)
    processor = AutoProcessor.from_pretrained(where, trust_remote_code=True)
    model = AutoModel.from_pretrained(where, trust_remote_code=True, dtype=torch.float32).eval()
    said = "\n".join(f"{step} и" for step in SAID)
    text = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\n<|image|>{CHECK}\nQuestion:{ASKED}\n{said}\n†Answer: 4<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    inputs = processor(text, [PICTURE], return_tensors="pt")
    with torch.no_grad():
        reward = model(**inputs).logits.view(-1)
    ids = inputs["input_ids"].view(-1)
    moved = torch.cat((ids[:1], torch.full((15,), -1), ids[1:]))
    (tag,) = processor.tokenizer.encode(" и", add_special_tokens=False)
    return ids.tolist(), torch.sigmoid(reward[moved == tag]).tolist()


@pytest.mark.parametrize("cache_gib", [0.1, 0])
def test_ids_and_scores_are_the_authors(cache_gib: float) -> None:
    ids, wanted = published()
    prm = loaded_prm(cache_gib)
    assert len(wanted) == len(STEPS)
    for path in PATHS:
        read = prm.encode(path).encoding.tokens["input_ids"][0].tolist()
        assert read == ids[: len(read)]
    assert scores(prm, PATHS) == pytest.approx(wanted, abs=1e-5)
    assert [scores(prm, [path])[0] for path in PATHS] == pytest.approx(wanted, abs=1e-5)
    assert min(abs(a - b) for a, b in pairwise(wanted)) > 1e-4


def test_questions_with_and_without_an_image_can_share_a_batch() -> None:
    text_alone = [chain(question(ASKED, name="text"), *STEPS[:depth]) for depth in (1, 2)]
    prm = loaded_prm()
    mixed = [PATHS[0], text_alone[0], PATHS[1], text_alone[1]]
    assert scores(prm, mixed) == pytest.approx([scores(prm, [path])[0] for path in mixed], abs=1e-5)


def test_more_images_than_one_are_refused() -> None:
    with pytest.raises(QuestionError, match="allows 1"):
        scores(loaded_prm(), [chain(question(ASKED, PICTURE, PICTURE), STEPS[0])])


@pytest.mark.parametrize("text", ["One и two", "One <|image|> two"])
def test_a_step_writes_no_tag_and_no_image(text: str) -> None:
    prm = loaded_prm()
    path = chain(question(ASKED, PICTURE), text)
    if "и" in text:
        with pytest.raises(QuestionError, match="tag"):
            prm.encode(path)
        return
    images = prm.encode(path).encoding.tokens["input_ids"][0] == 3
    assert images.sum() == 1


def test_its_code_does_not_run_unless_told_to(tmp_path: FilePath) -> None:
    with pytest.raises(AtomThinkError, match="prm_trust_remote_code=True"):
        prm_profiled(str(folder(ursa_rm)), profile="ursa_rm_8b", device="cpu")
