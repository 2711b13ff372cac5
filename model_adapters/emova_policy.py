"""EMOVA as a policy: its processor takes whole conversations, its model comes as code with the checkpoint."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import torch
from PIL import Image as Pictures
from pydantic import NonNegativeFloat, PositiveInt

from atomthink_plugin.api import AtomThinkError, Message
from atomthink_plugin.checkpoints import Checkpoint, load_remote_multimodal, own_code
from atomthink_plugin.formats import Format, Prompt, joined
from atomthink_plugin.model_adapters.decoding import Decoder, PrefillDecoder, Row
from atomthink_plugin.model_adapters.forking import ForkingDecoder
from atomthink_plugin.model_adapters.sampling import Draw
from atomthink_plugin.model_adapters.transformers_policy import TransformersPolicy
from atomthink_plugin.prefixes.reader import CACHE_GIB, CannotForkError
from atomthink_plugin.prompting import Encoder, Encoding, turn_of

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

_TRIED: Final = ("What is shown?", "What is shown here, and what is it good for? Name one thing.")
_TRIED_IMAGE: Final = (112, 84)
_TRIED_TOKENS: Final = 8


class ConversationEncoder(Encoder):
    """Encodes prompts with a processor that is called with turns and images, as EMOVA's model card does.

    Of several images all are given at once, in reading order. A conversation without a system turn gets the config's
    own, as in all of the card's examples. Images are prepared anew for every conversation: `format=continue`, which
    keeps a question's conversation the same over all steps, prepares them once.

    Args:
        checkpoint: A checkpoint whose config names the token that stands for an image.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config: Any = checkpoint.model.config
        self._system: str = getattr(config, "default_system_prompt", None) or ""
        self._image_id: int = config.image_token_index
        image = re.escape(str(self._tokenizer.convert_ids_to_tokens(self._image_id)))
        self._control = re.compile(f"{image}|{self._control.pattern}")

    def chat(self, messages: Sequence[Message]) -> str:
        """Returns the turns as JSON: what tells one conversation from another."""
        if self._system and messages[0].role != "system":
            messages = (Message("system", (self._system,)), *messages)
        return json.dumps([turn_of(turn.role, [self._part(part) for part in joined(turn.parts)]) for turn in messages])

    def _question(self, text: str, images: list[Image]) -> Encoding:
        return self._head(text, images)

    def _process(self, text: str, images: list[Image]) -> Encoding:
        """As usual, except that text behind the last image is there already."""
        encoding = super()._process(text, images)
        places = (encoding.tokens["input_ids"][0] == self._image_id).nonzero()
        return replace(encoding, settled=int(places[-1]) + 1) if len(places) else encoding

    def _prepare(self, text: str, pictures: list[Image]) -> Mapping[str, torch.Tensor]:
        turns, media = json.loads(text), {"images": pictures[0] if len(pictures) == 1 else pictures}
        inputs = self._processor(text=turns, return_tensors="pt", **(media if pictures else {}))
        given = {name: value for name, value in inputs.items() if value is not None}
        odd = [name for name, value in given.items() if not isinstance(value, torch.Tensor)]
        if odd:
            raise AtomThinkError(f"the checkpoint's processor gives {', '.join(odd)} not as a tensor each")
        return given


def emova_policy(
    pretrained: str,
    *,
    format: Format,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    batch_size: PositiveInt = 8,
    cache_gib: NonNegativeFloat = CACHE_GIB,
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
) -> TransformersPolicy:
    """Loads EMOVA and makes it a policy; arguments as in `load_remote_multimodal`.

    What the checkpoint's own code can do is tried on two prompts: where rows come out otherwise in a batch, they go
    one by one; where a forked cache gives other tokens than reading anew, everything is read anew.

    Raises:
        AtomThinkError: The checkpoint cannot be loaded or used.
    """
    checkpoint = load_remote_multimodal(
        pretrained,
        revision=revision,
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
        attn_implementation=attn_implementation,
    )
    with own_code(checkpoint.model.config, f"pretrained={pretrained!r}"):
        encoder = ConversationEncoder(checkpoint)
        rows, alone = _trial(checkpoint, encoder)
        together = _tokens(PrefillDecoder(checkpoint), rows)
    if together != alone:
        log.warning("%s gives other tokens in a batch than alone: rows go one by one", checkpoint.identity)
        batch_size = 1
    if cache_gib > 0 and (fault := _fork_fault(checkpoint, rows, alone)):
        log.warning("the cache of %s cannot be forked (%s): every prompt is read anew", checkpoint.identity, fault)
        cache_gib = 0
    return TransformersPolicy(checkpoint, format, batch_size=batch_size, cache_gib=cache_gib, encoder=encoder)


def _trial(checkpoint: Checkpoint, encoder: ConversationEncoder) -> tuple[list[Row], list[tuple[int, ...]]]:
    """Returns prompts of two lengths and one that goes on from the first's reply, and what each gives from scratch."""
    image, draw = Pictures.new("RGB", _TRIED_IMAGE, "red"), Draw(seed=0, max_tokens=_TRIED_TOKENS)
    prompts = [encoder.encode(Prompt((Message("user", (image, text)),))) for text in _TRIED]
    scratch = PrefillDecoder(checkpoint)
    (reply,) = _tokens(scratch, [Row(prompts[0], draw)])
    rows = [Row(prompt, draw) for prompt in (*prompts, prompts[0].extend(reply))]
    return rows, [ids for row in rows for ids in _tokens(scratch, [row])]


def _fork_fault(checkpoint: Checkpoint, rows: Sequence[Row], expected: Sequence[tuple[int, ...]]) -> str | None:
    """Says why the model's cache cannot be forked, None if it can."""
    try:
        forking = ForkingDecoder(checkpoint, 2**30)
        forked = [ids for row in rows for ids in _tokens(forking, [row])]
    except CannotForkError as error:
        return str(error)
    except Exception as error:  # the checkpoint's own code
        return f"{type(error).__name__}: {error}"
    return None if forked == list(expected) else "it goes on with other tokens than without"


def _tokens(decoder: Decoder, rows: Sequence[Row]) -> list[tuple[int, ...]]:
    with torch.inference_mode():
        return [reply.completion.token_ids for reply in decoder.generate(rows)]
