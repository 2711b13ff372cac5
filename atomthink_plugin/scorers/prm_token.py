"""A language model read at a step tag: softmax over its "good" and "bad" tokens there.

Sources: Math-Shepherd (arXiv 2312.08935) for the read-out; AtomThink (arXiv 2411.11930) and OpenR
(arXiv 2410.09671) for the published text-only layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final, Protocol

import torch
from pydantic import NonNegativeFloat
from transformers import PreTrainedTokenizerBase

from atomthink_plugin.api import AtomThinkError, Format, Path, QuestionError
from atomthink_plugin.formats.named import format_named
from atomthink_plugin.inference.batch_size import BatchSize
from atomthink_plugin.inference.checkpoint_files import load_config
from atomthink_plugin.inference.checkpoints import Checkpoint, LoadingArguments, load_multimodal, load_text_prm
from atomthink_plugin.inference.encoding import (
    Encoder,
    Encoding,
    control_tokens,
    neutralise,
    text_encoding,
)
from atomthink_plugin.inference.gpu_memory import GpuMemory, with_share
from atomthink_plugin.inference.piece_tokenizer import PieceTokenizer
from atomthink_plugin.inference.prefix_cache.reader import CACHE_GIB
from atomthink_plugin.inference.prefix_cache.tree import common
from atomthink_plugin.scorers.batched import BatchedScorer, Reading, single_token
from atomthink_plugin.scorers.chat_layout import prompt_and_reply
from atomthink_plugin.scorers.detect import PUBLISHED, PrmSettings, prm_settings
from atomthink_plugin.scorers.scored_step import TextAlone

_BLANK_LINE: Final = "\n\n"


class Layout(Protocol):
    """Where the question, the steps and the tags stand; the last token is the last step's tag."""

    def encode(self, path: Path) -> Encoding:
        """Returns the input that ends at the tag of the last step."""
        ...


class TextLayout:
    """Published text-only layout: `question step tag step tag`, without a chat template.

    Images are not read; a warning says so once.

    Args:
        tokenizer: The PRM's.
        tag: Written after each step.
        tag_id: Its id.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, tag: str, tag_id: int) -> None:
        self._pieces = PieceTokenizer(tokenizer)
        self._tag = tag.strip(" ")
        # What replaces a tag in a text must not contain one.
        self._gap = _BLANK_LINE if self._tag.isspace() and self._tag not in _BLANK_LINE else " "
        self._tag_id = tag_id
        self._control = control_tokens(tokenizer, None)
        self._asked = TextAlone()

    def encode(self, path: Path) -> Encoding:
        """Returns the question's text and all steps, a tag after each."""
        asked = self._asked.text(path.question)
        question, *steps = (self._clean(text) for text in (asked, *(s.text for s in path.steps)))
        ids = _tagged(self._pieces.split([f"{question} {steps[0]}", *steps[1:]]), self._tag_id)
        # The first step may change how the question's last word is tokenised.
        shared = common(self._pieces.ids(question, True), ids)
        return text_encoding(ids[:shared]).extend(ids[shared:])

    def _clean(self, text: str) -> str:
        """Takes out what would be read as a tag or another control token."""
        text = neutralise(text, self._control)
        while self._tag in text:
            text = text.replace(self._tag, self._gap)
        return text.strip()


@dataclass(frozen=True)
class ChatLayout:
    """The rendering of the format that the PRM was trained with, images included, and a tag after each step.

    Args:
        encoder: The PRM's.
        format: It also defines what joins two steps; the tag follows that.
        tag_id: Id of the tag.
    """

    encoder: Encoder
    format: Format
    tag_id: int

    def encode(self, path: Path) -> Encoding:
        """Returns the prompt that asked for the last step, the steps and their tags."""
        prompt, reply = prompt_and_reply(self.format, path)
        pieces = self.encoder.split([piece.text for piece in reply])
        ids = _tagged(pieces, self.tag_id, [piece.ends for piece in reply])
        return self.encoder.question(prompt.messages).extend(ids)


class TokenPrm(BatchedScorer):
    """Scores a step by the probability of "good" against "bad" at its tag.

    Args:
        checkpoint: The loaded PRM.
        layout: Where its input has what.
        good_id: Id of the token for a right step.
        bad_id: Id of the token for a wrong one.
        batch_size: Paths in one batch at most.
        cache_gib: GiB of keys and values kept between batches.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        layout: Layout,
        good_id: int,
        bad_id: int,
        *,
        batch_size: BatchSize = "auto",
        cache_gib: float = CACHE_GIB,
    ) -> None:
        super().__init__(checkpoint, batch_size, cache_gib)
        self._layout = layout
        self._ids = [good_id, bad_id]

    def encode(self, path: Path) -> Reading:
        """Returns the input up to the last step's tag, where it is read."""
        encoding = self._layout.encode(path)
        return Reading(encoding, encoding.length - 1, encoding.length - 1)

    def probability(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Returns softmax over the two tokens, of the good one."""
        return torch.softmax(logits[0, self._ids], dim=-1)[0]


def prm_token(
    prm: str,
    *,
    format: str | None = None,
    tag: str | None = None,
    good: str | None = None,
    bad: str | None = None,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    batch_size: BatchSize = "auto",
    cache_gib: NonNegativeFloat = CACHE_GIB,
    gpu_memory: GpuMemory = None,
    trust_remote_code: bool = False,
) -> TokenPrm:
    """Loads a language model that is read at a tag after each step, such as AtomThinkPRM.

    The config.json of a PRM that was trained here says in `atomthink_prm` how it is read. For other PRMs `format`,
    `tag`, `good` and `bad` say it. A text-only PRM gets the input layout in which AtomThinkPRM and Math-psa were
    published.

    Args:
        prm: A local folder, or the id of a repository on the model hub.
        format: Prompt format that a PRM with images was trained with: `continue`, `atomic`, `stages` or a plugin's. By
            default that of its config.json. If its config.json says nothing, a PRM without `format` is read as text
            alone.
        tag: Text after each step, where the PRM is read; a single token. By default that of its config.json, else
            AtomThinkPRM's.
        good: Token that says that the step is right. By default that of its config.json, else AtomThinkPRM's ` +`.
        bad: Token that says that the step is wrong. By default that of its config.json, else AtomThinkPRM's ` -`.
        revision: Branch, tag or commit of the repository on the hub.
        dtype: `auto` (the checkpoint's own precision on an accelerator, float32 on a CPU), `float32`, `bfloat16` or
            `float16`.
        device: `auto` (CUDA, else MPS, else CPU) or a device of torch, such as `cuda:1`.
        batch_size: Maximum rows of one forward pass. `auto`: what the GPU's free memory is expected to hold, 128 at
            most. On a CPU 8 to 256, more for a smaller model. A batch that runs out of memory is halved.
        cache_gib: Memory for the KV cache in GiB, which keeps the question and earlier steps between batches. 0
            disables it.
        gpu_memory: Share of the GPU's memory for this model's weights, keys and values and working memory, above 0 and
            at most 1. By default most of what is free once policy and PRM are loaded. On a CPU there is no limit. On a
            GPU it replaces the limit of `cache_gib`.
        trust_remote_code: Whether to run Python code that comes with the checkpoint.

    Raises:
        AtomThinkError: It cannot be loaded, or tag, good or bad is not one token.
    """
    section = prm_settings(load_config(prm, revision=revision, argument="prm"), prm)
    chat = (section is not None and section.images) or format is not None
    given = {"format": format, "tag": tag, "good": good, "bad": bad}
    settings = (section or PUBLISHED).model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    tag, good, bad = markers(prm, settings)
    loading: LoadingArguments = {
        "revision": revision,
        "dtype": dtype,
        "device": device,
        "trust_remote_code": trust_remote_code,
        "argument": "prm",
    }
    checkpoint = load_multimodal(prm, **loading) if chat else load_text_prm(prm, **loading)
    tag_id, good_id, bad_id = (
        single_token(checkpoint.tokenizer, text, argument)
        for text, argument in ((tag, "prm_tag"), (good, "prm_good"), (bad, "prm_bad"))
    )
    layout: Layout = TextLayout(checkpoint.tokenizer, tag, tag_id)
    if chat:
        layout = ChatLayout(Encoder(checkpoint), format_named(settings.format), tag_id)
    checkpoint = with_share(checkpoint, gpu_memory, "prm_gpu_memory")
    scorer = TokenPrm(checkpoint, layout, good_id, bad_id, batch_size=batch_size, cache_gib=cache_gib)
    scorer.check()
    return scorer


def markers(prm: str, settings: PrmSettings) -> tuple[str, str, str]:
    """Returns the texts of the tag, the good and the bad token.

    Raises:
        AtomThinkError: One of them is not named, or has no visible character.
    """
    tag, good, bad = settings.tag, settings.good, settings.bad
    if tag is None or good is None or bad is None:
        raise AtomThinkError(
            f"prm={prm!r}: its config.json names no tag, good or bad token: pass prm_tag=, prm_good= and "
            "prm_bad=, or another scorer"
        )
    for argument, text in (("prm_tag", tag), ("prm_good", good), ("prm_bad", bad)):
        if not text.strip(" "):
            raise AtomThinkError(
                f"{argument}={text!r} is empty: name the token the PRM was trained with, or leave it out"
            )
    return tag, good, bad


def _tagged(pieces: Sequence[Sequence[int]], tag_id: int, ends: Iterable[bool] = repeat(True)) -> list[int]:
    """Returns the ids of all pieces, with the tag after each piece that ends a step.

    Raises:
        QuestionError: A piece's own text is read as a tag.
    """
    if any(tag_id in piece for piece in pieces):
        raise QuestionError("a step contains the PRM's tag, so the PRM would take a part of it for a whole step")
    ids: list[int] = []
    for piece, end in zip(pieces, ends, strict=False):
        ids += [*piece, tag_id] if end else piece
    return ids
