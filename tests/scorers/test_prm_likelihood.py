"""A likelihood PRM gives the calibrated likelihood of the last step's tokens."""

from __future__ import annotations

import json
from pathlib import Path as FilePath
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText

from atomthink_plugin.api import AtomThinkError, Path
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.inference.encoding import Encoder
from atomthink_plugin.scorers.detect import detect_prm
from atomthink_plugin.scorers.prm_likelihood import prm_likelihood
from tests.scorers.shared import FINAL, PATHS, copy, logits_of, scores
from tests.tiny_models import folder, llava, loaded, qwen

CALIBRATION = {"scale": 0.02, "bias": 1.5}


def prm(build: Any = llava, **arguments: Any) -> Any:
    return prm_likelihood(str(folder(build)), device="cpu", **CALIBRATION | arguments)


@pytest.mark.parametrize("build", [llava, qwen])
def test_the_score_is_the_calibrated_likelihood_of_the_step_and_its_end(build: Any) -> None:
    model = AutoModelForImageTextToText.from_pretrained(folder(build)).eval()
    words, paths = loaded(build).tokenizer, [*PATHS, FINAL]
    for path, score in zip(paths, scores(prm(build), paths), strict=True):
        inputs = Encoder(loaded(build)).encode(Continue().render(Path(path.question)))
        before = "".join(step.text + "\n\n" for step in path.parent.steps)
        end = words.eos_token if path.final else "\n\n"
        ids = inputs.tokens["input_ids"][0].tolist() + words.encode(before, add_special_tokens=False)
        step = words.encode(path.step.text + end, add_special_tokens=False)
        more = {}
        if "mm_token_type_ids" in inputs.tokens:
            known = inputs.tokens["mm_token_type_ids"]
            more["mm_token_type_ids"] = torch.nn.functional.pad(known, (0, len(ids + step) - known.shape[1]))
        logprobs = torch.log_softmax(logits_of(model, ids + step, **inputs.media, **more), -1)
        total = sum(logprobs[len(ids) + at - 1, token].item() for at, token in enumerate(step))
        expected = torch.sigmoid(torch.tensor(CALIBRATION["scale"] * total + CALIBRATION["bias"])).item()
        assert score == pytest.approx(expected, abs=1e-4)


def test_scores_do_not_depend_on_the_batch() -> None:
    paths = [*PATHS, FINAL]
    assert scores(prm(batch_size=16), paths) == pytest.approx(scores(prm(batch_size=1), paths[::-1])[::-1], abs=1e-5)


def test_the_calibration_comes_with_the_checkpoint(tmp_path: FilePath) -> None:
    own = copy(folder(llava), tmp_path / "prm")
    config = json.loads((own / "config.json").read_text())
    section = {"kind": "likelihood", "format": "continue", **CALIBRATION}
    (own / "config.json").write_text(json.dumps(config | {"atomthink_prm": section}))
    assert detect_prm(str(own)).scorer == "prm_likelihood"
    configured = prm_likelihood(str(own), device="cpu")
    assert scores(configured, PATHS) == pytest.approx(scores(prm(), PATHS))
    hotter = prm_likelihood(str(own), device="cpu", bias=3.0)
    assert scores(hotter, PATHS[:1]) > scores(configured, PATHS[:1])


def test_an_unknown_calibration_is_an_error() -> None:
    with pytest.raises(AtomThinkError, match="prm_scale= and prm_bias="):
        prm_likelihood(str(folder(llava)), device="cpu")
