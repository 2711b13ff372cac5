"""What plain `generate` of transformers replies: nothing of the plugin decides these tokens."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from atomthink_plugin.api import Message, Prompt
from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.inference.encoding import Encoder, collate


@dataclass(frozen=True)
class Reply:
    """A greedy reply.

    Attributes:
        prompt: Ids of the prompt.
        ids: Ids of the reply.
        scores: Scores of all tokens at each position, `[tokens, vocabulary]`.
    """

    prompt: list[int]
    ids: list[int]
    scores: torch.Tensor

    def differs(self, ids: Sequence[int], end: int) -> str | None:
        """Says at which token other ids differ, None if they do not.

        A token that scores as high as the best one up to rounding is no difference. An end token may be missing.
        """
        own = [token for token in self.ids if token != end]
        for at, (token, expected) in enumerate(zip(ids, own, strict=False)):
            if token != expected:
                gap = float(self.scores[at].max() - self.scores[at, token])
                return f"token {at} is {token}, not {expected} (scores {gap:.2g} lower)" if gap > 1e-3 else None
        if len(ids) < len(own):
            return f"{len(ids)} of {len(own)} tokens"
        return None


class PlainModel:
    """A checkpoint as transformers loads and runs it.

    Args:
        folder: The checkpoint.
        tokens: Tokens of a reply.
    """

    def __init__(self, folder: Path, tokens: int) -> None:
        self._tokens = tokens
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
        self._model: Any = model.eval()
        self._processor: Any = AutoProcessor.from_pretrained(folder)
        if self._processor.chat_template is None:  # some processors do not load theirs
            self._processor.chat_template = self._processor.tokenizer.chat_template
        self.end: int = self._processor.tokenizer.eos_token_id

    def first(self, messages: Sequence[Message]) -> Reply:
        """Replies to a question, with the processor's own inputs."""
        chat = [{"role": turn.role, "content": [_part(part) for part in turn.parts]} for turn in messages]
        images = [part for turn in messages for part in turn.parts if not isinstance(part, str)]
        text = self._processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        inputs = self._inputs(text, images)
        inputs.pop("labels", None)
        return self._generate({name: _float(one) for name, one in inputs.items()})

    def _inputs(self, text: str, images: Sequence[Any]) -> dict[str, Any]:
        """Calls the processor; a few take no lists of images for each text."""
        options: dict[str, Any] = {"text": [text], "return_tensors": "pt"}
        if "mm_token_type_ids" in inspect.signature(self._model.forward).parameters:
            options["return_mm_token_type_ids"] = True  # some models need them, and their processors do not say so
        if not images:
            return dict(self._processor(**options))
        try:
            return dict(self._processor(images=[images], **options))
        except (ValueError, AttributeError):
            return dict(self._processor(images=images, **options))

    def later(self, prompt: Prompt) -> Reply:
        """Replies after given steps, with the ids that the plugin makes of them."""
        checkpoint = Checkpoint(self._model, self._processor.tokenizer, self._processor, "plain")
        return self._generate(collate([Encoder(checkpoint).encode(prompt)], checkpoint, "left"))

    def _generate(self, inputs: dict[str, Any]) -> Reply:
        # Processors of image encoders with a text decoder return no ids.
        prompt = inputs["input_ids"].clone() if "input_ids" in inputs else torch.zeros(1, 0, dtype=torch.long)
        with torch.inference_mode():
            output = self._model.generate(
                **inputs,
                max_new_tokens=self._tokens,
                do_sample=False,
                return_dict_in_generate=True,
                output_scores=True,
            )
        ids = output.sequences[0]
        given = prompt.shape[1]
        reply = ids[given:] if torch.equal(ids[:given], prompt[0]) else ids
        scores = torch.stack([score[0].float() for score in output.scores])
        return Reply(prompt[0].tolist(), reply.tolist(), scores)


def _float(value: Any) -> Any:
    """Returns an input in the model's precision: some processors make pixels of another one."""
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _part(part: Any) -> dict[str, str]:
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
