"""Models of lmms-eval's two kinds with the habits of its real ones; registered in its registry by `register`."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models import MODEL_REGISTRY_V2
from lmms_eval.models.model_utils.gen_metrics import log_metrics
from lmms_eval.models.registry_v2 import ModelManifest
from tqdm import tqdm


@dataclass
class Call:
    """One call of `generate_until`: the prompts with images as `None`, all images, and the first one's arguments."""

    prompts: list[Any]
    images: list[Any]
    arguments: dict[str, Any]
    places: list[tuple[Any, ...]]


class ScriptedSimple(lmms):  # type: ignore[misc]  # lmms_eval is untyped
    """Replies with numbers drawn from all three generators; asks the first request for everything they share."""

    made: ClassVar[list[ScriptedSimple]] = []

    def __init__(
        self,
        batch_size: int = 1,
        device: str = "cuda",
        pretrained: str | None = None,
        reply: str | None = None,
        poison: str = "poison",
        counts: int | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.made.append(self)
        self.given = {"batch_size": batch_size, "device": device, "pretrained": pretrained, "settings": settings}
        self.reply, self.poison, self.counts = reply, poison, counts
        self.calls: list[Call] = []
        self.replies: dict[tuple[Any, ...], str] = {}
        self.cleaned = False

    def generate_until(self, requests: list[Instance]) -> list[Any]:
        bar = tqdm(total=len(requests), disable=(self.rank != 0), desc="Model Responding")
        call = Call([], [], dict(self.arguments(requests[0])), [])
        self.calls.append(call)
        for request in requests:
            assert self.arguments(request) == call.arguments
            prompt, images = self.read(request, requests[0])
            call.prompts.append(prompt)
            call.images.append(images)
            call.places.append(request.args[3:])
            assert request.doc_id == request.args[3]
        if any(self.poison in str(prompt) for prompt in call.prompts):
            raise RuntimeError("a prompt is poisoned")
        texts = [self.replies.setdefault(place, self.drawn()) for place in call.places]
        for request in requests:
            self.arguments(request)["image_sizes"] = "changed"
        bar.update(len(texts))
        bar.close()
        log_metrics(total_elapsed_time=1.0, total_gen_tokens=10**6, avg_speed=1.0)
        if self.counts is None:
            return texts
        return [GenerationResult(text, TokenCounts(7, self.counts)) for text in texts]

    def drawn(self) -> str:
        if self.reply is not None:
            return self.reply
        numbers = (random.random(), np.random.rand(), torch.rand(1).item())
        return "\n\n" + " ".join(f"{number:.6f}" for number in numbers) + "\n\nStep 2: more"

    def arguments(self, request: Instance) -> Any:
        return request.args[1]

    def read(self, request: Instance, first: Instance) -> tuple[Any, list[Any]]:
        text, _, _, doc_id, task, split = request.args
        return text, first.args[2](self.task_dict[task][split][doc_id])

    def clean(self) -> None:
        self.cleaned = True

    def loglikelihood(self, requests: Any) -> Any:
        raise NotImplementedError

    def generate_until_multi_round(self, requests: Any) -> Any:
        raise NotImplementedError


class ScriptedChat(ScriptedSimple):
    """The same as a chat model."""

    is_simple = False

    def arguments(self, request: Instance) -> Any:
        return request.args[2]

    def read(self, request: Instance, first: Instance) -> tuple[Any, list[Any]]:
        doc_id, task, split = request.args[3:]
        messages = first.args[1](self.task_dict[task][split][doc_id])
        images = [part["url"] for turn in messages for part in turn["content"] if part["type"] == "image"]
        prompt = [(turn["role"], [part.get("text") for part in turn["content"]]) for turn in messages]
        messages.insert(0, "as models do that add a system turn")
        return prompt, images


def register() -> None:
    """Makes `scripted_simple` and `scripted_chat` known to the harness."""
    for name in ("simple", "chat"):
        path = f"{__name__}.Scripted{name.title()}"
        manifest = ModelManifest(f"scripted_{name}", **{f"{name}_class_path": path})
        MODEL_REGISTRY_V2.register_manifest(manifest, overwrite=True)
