"""vLLM's routes for process reward models, over a tiny model in this process."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import torch
from PIL import Image

from tests.openai_server import Body
from tests.scorers.shared import logits_of

Reply = tuple[int, Any]


class VllmRoutes:
    """Replies as a vLLM server of a model does.

    Args:
        model: A model of transformers.
        processor: Its processor, if it reads images; it expands what stands for an image.
    """

    def __init__(self, model: Any, processor: Any = None) -> None:
        self.model = model
        self.processor = processor
        self.kept: dict[str, str] = {}  # pictures by their names

    def routes(self) -> Mapping[str, Callable[[Body], Reply]]:
        """The routes by their paths."""
        return {
            "/v1/completions": self.completions,
            "/inference/v1/generate": self.generate,
            "/classify": self.classify,
        }

    def completions(self, body: Body) -> Reply:
        assert (body["max_tokens"], body["return_tokens_as_token_ids"]) == (1, True)
        listed = self.listed(logits_of(self.model, body["prompt"])[-1], body)
        named = {f"token_id:{token}": logprob for token, logprob in listed[: body["logprobs"] + 1]}
        return 200, {"choices": [{"logprobs": {"top_logprobs": [named]}}], **self.usage(body["prompt"])}

    def generate(self, body: Body) -> Reply:
        asked = body["sampling_params"]
        assert asked["max_tokens"] == 1
        if asked["logprobs"] != len(asked["logprob_token_ids"]):
            return 400, {"error": {"message": "logprobs must equal len(logprob_token_ids)"}}
        parts = body["content_parts"] or []
        if any(part["url"] is None and part["uuid"] not in self.kept for part in parts):
            return 400, {"error": {"message": "Cache miss for image at index 0 but data is not provided."}}
        self.kept |= {part["uuid"]: part["url"] for part in parts if part["url"] is not None and "uuid" in part}
        urls = [part["url"] or self.kept[part["uuid"]] for part in parts]
        prompt, inputs = self.expanded(body["token_ids"], urls)
        listed = self.listed(logits_of(self.model, prompt, **inputs)[-1], asked)
        tops = [{"token_id": token, "logprob": logprob} for token, logprob in listed[: asked["logprobs"]]]
        reply = {"choices": [{"logprobs": {"content": [{"top_logprobs": tops}]}}], **self.usage(prompt)}
        return 200, {**reply, "prompt_token_ids": prompt if body.get("return_token_ids") else None}

    def classify(self, body: Body) -> Reply:
        assert body["use_activation"] is False
        outputs = logits_of(self.model, body["input"])[-1]
        return 200, {"data": [{"probs": outputs.tolist()}], **self.usage(body["input"])}

    def listed(self, logits: torch.Tensor, asked: Body) -> list[tuple[int, float]]:
        """The generated token, then the requested ones."""
        logprobs = logits.log_softmax(-1)
        ids = dict.fromkeys([int(logprobs.argmax()), *asked["logprob_token_ids"]])
        return [(token, float(logprobs[token])) for token in ids]

    def expanded(self, ids: list[int], urls: list[str]) -> tuple[list[int], dict[str, Any]]:
        if not urls:
            return ids, {}
        images = [Image.open(BytesIO(base64.b64decode(url.split(",")[1]))) for url in urls]
        text = self.processor.tokenizer.decode(ids)
        inputs = dict(self.processor(text=[text], images=images, return_tensors="pt", add_special_tokens=False))
        del inputs["attention_mask"]
        return inputs.pop("input_ids")[0].tolist(), inputs

    def usage(self, prompt: list[int]) -> Body:
        counted = {"prompt_tokens": len(prompt), "prompt_tokens_details": {"cached_tokens": len(prompt) // 2}}
        return {"model": "scripted", "usage": counted}
