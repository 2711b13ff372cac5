"""Chains about the demo's figures, and recipes that train the embedded model on them for a few steps."""

from __future__ import annotations

import re
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import training_stream
from atomthink_plugin.training.records import Chain, write_records
from atomthink_plugin.training.tiny.muon import muon_with_adamw
from atomthink_plugin.training.train.recipe import PolicyRecipe

MODEL = str(WEIGHTS / "policy")


def demo_chains(folder: Path, count: int, name: str = "chains.jsonl") -> list[Chain]:
    """Writes gold chains with figures of 112 pixels and returns them."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    chains = []
    for at, question in enumerate(islice(training_stream(seed=3), count)):
        image = f"images/{at}.png"
        draw(question.figure).resize((112, 112)).save(folder / image)
        steps, answer = tuple(question.steps), str(question.answer)
        chains.append(Chain(id=str(at), question=question.text, images=(image,), steps=steps, answer=answer))
    write_records(folder / name, chains)
    return chains


MUON = partial(muon_with_adamw, muon=0.01, learning_rate=1e-3, betas=(0.9, 0.999))


def recipe(folder: Path, **given: Any) -> PolicyRecipe:
    """A recipe for chains.jsonl in `folder`, in float32 unless said otherwise."""
    told = {
        "model_name_or_path": MODEL,
        "data": str(folder / "chains.jsonl"),
        "output_dir": folder / "out",
        "per_device_train_batch_size": 4,
    }
    told |= {"bf16": False, "save_dtype": "float32", "max_steps": 2, "logging_steps": 1, "learning_rate": 1e-3}
    return PolicyRecipe.model_validate(told | given)


def counts(text: str) -> dict[str, int]:
    """The numbers of a training's line of counts, by the word after each."""
    (line,) = re.findall(r"(?:chains|pairs): \d+ read.*", text)
    return {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", line)}
