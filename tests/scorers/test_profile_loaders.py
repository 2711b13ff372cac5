"""Checkpoints with Python code of their own run it only when allowed, and are read like all others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.scorers.prm_profiled import prm_profiled
from tests.scorers.profile_models import classifier, qwen_value_head
from tests.scorers.shared import copy, logits_of, scores
from tests.tiny_models import chain, folder, question

CODE = """
import torch
from transformers import Qwen2Model, Qwen2PreTrainedModel
from transformers.modeling_outputs import TokenClassifierOutput


class StepValues(Qwen2PreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = Qwen2Model(config)
        self.values = torch.nn.Linear(config.hidden_size, 1)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, use_cache=None):
        states = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
        )
        return TokenClassifierOutput(logits=self.values(states[0]))
"""

PROFILE = """
names: [me/step-values]
layout:
  kind: tagged
  before: "Problem: {question}\\nSteps:\\n"
  step: "Step {k}: {step}\\n{tag}"
  between: "\\n"
  tag: "<extra_0>"
read: {kind: scalar}
loader: remote
licence: MIT
source: this test
"""

ASKED = question("What is 1 + 1?", name="loaders")


@pytest.fixture
def own_code(tmp_path: Path) -> Path:
    """A checkpoint whose class is in its folder."""
    prm = copy(folder(qwen_value_head), tmp_path / "prm")
    file = prm / "model.safetensors"
    weights = {name.replace("v_head.summary.", "values."): value for name, value in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})
    (prm / "step_values.py").write_text(CODE)
    config = json.loads((prm / "config.json").read_text())
    config |= {"architectures": ["StepValues"], "auto_map": {"AutoModel": "step_values.StepValues"}}
    (prm / "config.json").write_text(json.dumps(config))
    (tmp_path / "profile.yaml").write_text(PROFILE)
    return prm


def test_own_code_is_run_only_when_allowed(own_code: Path) -> None:
    profile = str(own_code.parent / "profile.yaml")
    with pytest.raises(AtomThinkError, match="prm_trust_remote_code=True"):
        prm_profiled(str(own_code), profile=profile, device="cpu")
    scorer = prm_profiled(str(own_code), profile=profile, device="cpu", trust_remote_code=True)
    steps = ["Add them.", "So it is 2."]
    text = "Problem: What is 1 + 1?\nSteps:\nStep 1: Add them.\n<extra_0>\nStep 2: So it is 2.\n<extra_0>"
    words = scorer._checkpoint.tokenizer
    logits = logits_of(classifier(folder(qwen_value_head), "v_head.summary", 1), words.encode(text))
    expected = torch.sigmoid(logits[[len(words.encode(text[: text.index("Step 2") - 1])) - 1, -1], 0]).tolist()
    found = scores(scorer, [chain(ASKED, *steps[:depth]) for depth in (1, 2)])
    assert found == pytest.approx(expected, abs=1e-5)
    assert "profile.yaml" in scorer.identity


def test_a_checkpoint_without_the_code_that_its_profile_needs_is_refused(own_code: Path) -> None:
    config = json.loads((own_code / "config.json").read_text())
    config.pop("auto_map")
    (own_code / "config.json").write_text(json.dumps(config))
    with pytest.raises(AtomThinkError, match="auto_map"):
        prm_profiled(str(own_code), profile=str(own_code.parent / "profile.yaml"), device="cpu", trust_remote_code=True)


def test_missing_weights_of_a_head_are_refused() -> None:
    """Random weights would give scores."""
    with pytest.raises(AtomThinkError, match=r"score\.weight"):
        prm_profiled(str(folder(qwen_value_head)), profile="pure_prm", device="cpu")
