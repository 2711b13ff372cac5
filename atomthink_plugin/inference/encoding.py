"""From a prompt to token ids and image tensors, and from several prompts to one padded batch.

Tokens have one identity: the question is tokenised once, each step of the assistant's prefix once and in
pieces, so the ids of a path are a prefix of the ids of every extension of it. That is what caches and
process reward models rely on, and what re-tokenising the whole text would not guarantee.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase, ProcessorMixin

from atomthink_plugin.api import AtomThinkError, Message, Prompt, QuestionError, Step
from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.inference.image_input import fitting
from atomthink_plugin.inference.memo import Memo
from atomthink_plugin.inference.piece_tokenizer import PieceTokenizer
from atomthink_plugin.inference.preprocessors import Preprocessor

if TYPE_CHECKING:
    from PIL.Image import Image

_CHATS: Final = 1024
"""Chats whose text is remembered; the steps of a question share one."""

_FIRST: Final = re.compile(r"\A\s*\S(?=\s*\S)")
"""The first character of a text that has more than one."""

_FILL: Final = {
    "attention_mask": 1,
    "token_type_ids": 0,
    "mm_token_type_ids": 0,
    "moe_mm_token_type_ids": 0,
    "image_embeds_position_mask": 0,
}
"""Inputs with one number per token beside its id, and what text after the question adds to each."""

_MODALITY: Final = "mm_token_type_ids"
"""One of them: the modality of each token. Some models need it whose processor returns it only if asked to."""

_TYPES: Final = frozenset(_FILL) - {"attention_mask"}
"""Those that are 0 for text and something else for the tokens of an image."""

_ID_BYTES: Final = 36
"""Size of an integer in a tuple."""

MAX_PIXELS: Final = "atomthink_max_pixels"
"""What a config.json calls the most pixels of an image that its model was trained with; larger ones are scaled down."""

CROSS: Final = "cross_attention_mask"
"""Mllama's `[1, tokens, images, tiles]`: text after the question sees what the question's last token sees."""

_SEEN: Final = (CROSS, "image_attention_mask")
"""Such inputs; the second one is that of Idefics, `[1, tokens, images]`."""

_SAID: Final = 16
"""Tokens before a reply from which its text is decoded: more than a character's bytes and a word's first space take."""

_IN_A_ROW: Final = "minicpm_ocr"
"""A type whose pixels are `[1, channels, patch height, width of all patches]`, the patches of all images in a row. The
towers of MiniCPM-V 4.6 and 4.7 take the same, but see another image when there is one before it."""

_TARGETS: Final = "labels"
"""What PaliGemma's processor adds for a trainer."""

_BESIDE: Final = {*_SEEN, *_FILL}
"""Inputs with one entry per token beside its id."""


@dataclass(frozen=True)
class Encoding:
    """A prompt as the model takes it.

    Attributes:
        ids: Token ids, those of image tokens included.
        beside: Other inputs with one entry per token, `[1, tokens, ...]`; text tokens at the end may have no entry.
        media: All other inputs (pixel values, grids, sizes): first dimension images, tiles or patches.
        lists: Inputs that a processor leaves as lists with one entry per image.
        images: How many images `media` holds.
        root: A digest of the images; empty without any.
        settled: First tokens that can only be read together with the images.
        question: First tokens that all paths of the question share, as far as is known.
        said: Last tokens of a sampled text that the reply continues, maybe inside a word; empty if it starts a new one.
    """

    ids: tuple[int, ...]
    beside: Mapping[str, torch.Tensor]
    media: Mapping[str, torch.Tensor]
    images: int
    root: str = ""
    settled: int = 0
    question: int = 0
    said: tuple[int, ...] = ()
    lists: Mapping[str, list[Any]] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Number of tokens, image tokens included."""
        return len(self.ids)

    @cached_property
    def tokens(self) -> dict[str, torch.Tensor]:
        """Inputs with one entry per token, `[1, tokens, ...]`, the ids included."""
        beside = {name: _of_length(name, value, len(self.ids)) for name, value in self.beside.items()}
        return {"input_ids": torch.tensor([self.ids], dtype=torch.long), **beside}

    @property
    def size(self) -> int:
        """Bytes of its tensors and ids."""
        tensors = sum(value.nbytes for value in (*self.beside.values(), *self.media.values()))
        return tensors + _ID_BYTES * len(self.ids)

    @property
    def structure(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """What must agree for two encodings to share a batch: names of the media, and their shapes for one image."""
        shapes = [(name, tuple(value.shape[1:])) for name, value in self.media.items()]
        shapes += [(name, tuple(self.beside[name].shape[2:])) for name in _SEEN if name in self.beside]
        shapes += [(name, ()) for name in self.lists]
        return tuple(sorted(shapes))

    def first(self, count: int) -> Encoding:
        """Returns the encoding of the first `count` tokens, of which images are no part or all."""
        beside = {name: value[:, :count] for name, value in self.beside.items()}  # what follows may be other tokens
        return replace(self, ids=self.ids[:count], beside=beside)

    def extend(self, ids: Sequence[int]) -> Encoding:
        """Returns the encoding with the text tokens `ids` after it."""
        return replace(self, ids=(*self.ids, *ids))


def _of_length(name: str, value: torch.Tensor, length: int) -> torch.Tensor:
    """Returns an input with one entry per token, cut to `length` tokens or continued by what text has."""
    more = length - value.shape[1]
    if more <= 0:
        return value[:, :length]
    if name in _SEEN:
        return torch.cat([value, value[:, -1:].expand(-1, more, *value.shape[2:])], dim=1)
    return torch.cat([value, value.new_full((1, more), _FILL[name])], dim=1)


class ChatText:
    """The part of a prompt's encoding that needs no model: the chat's text and the ids of the steps.

    Args:
        processor: It has a chat template.
        tokenizer: Its tokenizer.
    """

    def __init__(self, processor: ProcessorMixin, tokenizer: PreTrainedTokenizerBase) -> None:
        self._processor = processor
        self._tokenizer = tokenizer
        self._control = control_tokens(tokenizer, processor)
        self._unwritten = unwritten_ids(tokenizer, processor)
        self._pieces = PieceTokenizer(tokenizer)
        self._written = Memo(partial(_write, processor), _CHATS)

    def chat(self, messages: Sequence[Message]) -> str:
        """Returns the turns as the chat template writes them, a placeholder for each image."""
        turns = tuple((turn.role, tuple(map(self._part, turn.parts))) for turn in messages)
        return self._written(turns)

    def continues(self) -> bool:
        """Returns whether the template renders a begun assistant turn so that servers can continue it."""
        asked: Any = [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}]
        begun = [*asked, {"role": "assistant", "content": [{"type": "text", "text": "So."}]}]
        render = self._processor.apply_chat_template
        as_turn = render(begun, continue_final_message=True, tokenize=False)
        return bool(as_turn == f"{render(asked, add_generation_prompt=True, tokenize=False)}So.")

    def has_bos(self, text: str) -> bool:
        """Returns whether the template already wrote the token that begins a text."""
        bos = self._tokenizer.bos_token
        return isinstance(bos, str) and text.startswith(bos)

    def pieces(self, begun: Sequence[str | Step]) -> list[int]:
        """Returns the ids of the reply's beginning, tokenised piece by piece."""
        return [token for piece in self.split(begun) for token in piece]

    def split(self, begun: Sequence[str | Step]) -> list[tuple[int, ...]]:
        """Returns the ids of each piece of the reply's beginning.

        A step with token ids keeps them: the end of a sample may be inside a word, where its text has other tokens.
        Left out are tokens that end a reply or stand for an image: a model may sample either anywhere.
        """
        return [self._ids(piece, index == 0) for index, piece in enumerate(begun)]

    def watched(self, texts: Sequence[str]) -> tuple[int, ...]:
        """Returns the ids of the tokens with which texts begin after other text.

        Raises:
            AtomThinkError: Two texts begin with the same token.
        """
        ids = tuple(self._first_id(text) for text in texts)
        if len(set(ids)) < len(ids):
            raise AtomThinkError(f"{' and '.join(map(repr, texts))} begin with the same token of the model's tokenizer")
        return ids

    def _first_id(self, text: str) -> int:
        ids = self._pieces.ids(text, False)
        # SentencePiece writes a word-boundary mark before a text that is itself a token.
        known = self._tokenizer.get_vocab().get(text) if len(ids) > 1 else None
        return int(ids[0] if known is None else known)

    def texts(self, begun: Sequence[str | Step]) -> list[str]:
        """Returns the text of each piece of the reply's beginning, without control tokens."""
        pieces = (piece.text if isinstance(piece, Step) else piece for piece in begun)
        return [neutralise(piece, self._control) for piece in pieces]

    def _ids(self, piece: str | Step, leads: bool) -> tuple[int, ...]:
        if isinstance(piece, Step) and _has_ids(piece):
            return tuple(token for token in piece.token_ids if token not in self._unwritten)
        (text,) = self.texts([piece])
        return self._pieces.ids(text, leads)

    def _part(self, part: str | Image) -> str | None:
        """Returns a text without control tokens, None for an image."""
        return neutralise(part, self._control) if isinstance(part, str) else None


def _has_ids(piece: str | Step) -> bool:
    """Returns whether a piece of a reply's beginning is a step with real token ids."""
    return isinstance(piece, Step) and bool(piece.token_ids) and min(piece.token_ids) >= 0


def _write(processor: ProcessorMixin, turns: Sequence[tuple[str, Sequence[str | None]]]) -> str:
    """Returns turns of texts, and None for each image, as the chat template writes them."""
    chat: Any = [turn_of(role, parts) for role, parts in turns]
    text: str = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    return text


def turn_of(role: str, parts: Sequence[str | None]) -> dict[str, Any]:
    """Returns a turn of texts, and None for each image, as processors take it."""
    content = [{"type": "image"} if part is None else {"type": "text", "text": part} for part in parts]
    return {"role": role, "content": content}


class Encoder(ChatText):
    """Encodes prompts for one checkpoint; a question is prepared once.

    Args:
        checkpoint: A checkpoint with a processor, or that of a model that runs elsewhere.
        remember: Bytes of questions, with their images and what the processor made of them, to keep for later steps.
        placeholder: Text that stands for an image in a prompt; None for the processor's own.
    """

    def __init__(
        self, checkpoint: Checkpoint | Preprocessor, remember: int = 2**30, placeholder: str | None = None
    ) -> None:
        if checkpoint.processor is None:
            raise AtomThinkError(f"{checkpoint.identity} has no processor, so it cannot take a multimodal prompt")
        super().__init__(checkpoint.processor, checkpoint.tokenizer)
        self._context = checkpoint.context
        self._image_ids = image_ids(checkpoint.processor, checkpoint.config)
        takes = inspect.signature(checkpoint.model.forward).parameters if isinstance(checkpoint, Checkpoint) else {}
        self._needs_types = _MODALITY in takes
        self._special = {at for at, token in checkpoint.tokenizer.added_tokens_decoder.items() if token.special}
        self._most_pixels: int | None = getattr(checkpoint.config, MAX_PIXELS, None)
        self._placeholder = placeholder or _placeholder(checkpoint.processor, "image")
        parameters = inspect.signature(checkpoint.processor.__call__).parameters
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        self._taken = None if takes_any else frozenset(parameters)
        self._splits: bool | None = None  # not known before the first prompt with an image
        self._remember = remember
        self._kept = 0
        # The images themselves are kept in the value: while they live, their ids name them.
        self._heads: OrderedDict[tuple[str, tuple[int, ...]], tuple[Encoding, list[Image]]] = OrderedDict()

    def encode(self, prompt: Prompt) -> Encoding:
        """Returns the prompt's inputs, the reply's beginning included.

        Raises:
            QuestionError: An image cannot be read, or the processor refuses it.
        """
        asked = self.question(prompt.messages)
        pieces = self.split(prompt.begun)
        begun = [token for piece in pieces for token in piece]
        sampled = list(takewhile(_has_ids, reversed(prompt.begun)))
        said = [token for piece in pieces[len(pieces) - len(sampled) :] for token in piece]
        return replace(asked, ids=(*asked.ids, *begun), said=tuple(said[-_SAID:]))

    def question(self, messages: Sequence[Message]) -> Encoding:
        """Returns the inputs of turns up to the beginning of the reply.

        Raises:
            QuestionError: An image cannot be read, or the processor refuses it.
        """
        images = [part for turn in messages for part in turn.parts if not isinstance(part, str)]
        asked = self._question(self.chat(messages), images)
        return replace(asked, question=asked.length)

    @property
    def processor(self) -> ProcessorMixin:
        """The checkpoint's processor."""
        return self._processor

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The checkpoint's tokenizer."""
        return self._tokenizer

    @property
    def placeholder(self) -> str:
        """The text that stands for an image; empty if the processor names none."""
        return self._placeholder or ""

    def encode_text(self, text: str, images: Sequence[Image]) -> Encoding:
        """Returns the inputs of a whole prompt as text, with a placeholder for each image.

        Raises:
            QuestionError: An image cannot be read, or the processor refuses it.
        """
        return self._question(text, list(images))

    def text(self, text: str) -> Encoding:
        """Returns a text by itself, without a chat template, cut to the model's context."""
        ids = self._tokenizer(neutralise(text, self._control))["input_ids"][: self._context]
        return text_encoding(ids)

    def fit(self, encoding: Encoding, wanted: int) -> int:
        """Returns how many tokens may follow, `wanted` at most; 0 or less if the context is full."""
        return wanted if self._context is None else min(wanted, self._context - encoding.length)

    def too_long(self, encoding: Encoding, room: int) -> QuestionError:
        """Returns the error for a question that leaves no room for a step."""
        return QuestionError(
            f"question has {encoding.length} tokens, context is {self._context}; a step needs {room} more: shorten "
            "the question, use a smaller image, or name a checkpoint with a longer context"
        )

    def _question(self, text: str, images: list[Image]) -> Encoding:
        """Encodes up to the last image with the processor, once, and the text after it alone."""
        at = text.rfind(self._placeholder) if images and self._placeholder else -1
        if at < 0 or self._placeholder is None or self._splits is False:
            return self._head(text, images)
        try:
            head = self._head(text[: at + len(self._placeholder)], images)
        except QuestionError:  # HunYuan-VL's processor wants the token that ends an image as well
            if self._splits:
                raise
            whole = self._head(text, images)
            self._splits = False
            return whole
        # A tokenizer splits at special tokens, so the text after the placeholder has the ids that it has in the whole.
        ids = head.ids + self._pieces.ids(text[at:], True)[1:]
        parts = replace(head, ids=ids, settled=self._settled(ids, head.beside))
        # But a processor may write something after the text (PaliGemma), or count the token after an image to the image
        # (ERNIE 4.5 VL).
        if self._splits is None:
            whole = self._process(text, images)
            self._splits = all(_same(value, parts.tokens[name]) for name, value in whole.tokens.items())
            return parts if self._splits else whole
        return parts

    def _head(self, text: str, images: list[Image]) -> Encoding:
        key = (text, tuple(id(image) for image in images))
        if key not in self._heads:
            self._heads[key] = (self._process(text, images), images)
            self._kept += _held(*self._heads[key])
        self._heads.move_to_end(key)
        while self._kept > self._remember and len(self._heads) > 1:
            self._kept -= _held(*self._heads.popitem(last=False)[1])
        return self._heads[key][0]

    def _process(self, text: str, images: list[Image]) -> Encoding:
        pictures = [fitted(to_rgb(image), self._most_pixels) for image in images]
        inputs = self._inputs(text, pictures)
        if len(pictures) > 1 and self._writes_one(text, pictures, inputs):
            raise QuestionError(
                f"{type(self._processor).__name__} writes the tokens of one image for {len(pictures)} images: ask "
                "about one image, or name a checkpoint of another architecture"
            )
        ids = tuple(inputs["input_ids"][0].tolist())
        beside = {name: value for name, value in inputs.items() if name in _BESIDE}
        lists = {name: value for name, value in inputs.items() if isinstance(value, list)}
        others = {"input_ids", *beside, *lists}
        media = {name: value for name, value in inputs.items() if name not in others}
        settled, root = (self._settled(ids, beside), _digest(media, lists)) if pictures else (0, "")
        return Encoding(ids, beside, media, len(pictures), root, settled, lists=lists)

    def _writes_one(self, text: str, pictures: list[Image], inputs: Mapping[str, Any]) -> bool:
        """Returns whether a processor that writes the images' tokens itself writes those of the first image only."""
        if self._placeholder and self._placeholder in text:
            return False
        try:
            return _same(inputs["input_ids"], self._inputs(text, pictures[:1])["input_ids"])
        except QuestionError:  # it counts the images
            return False

    def _inputs(self, text: str, pictures: list[Image]) -> dict[str, Any]:
        """Returns what the model takes: tensors, and lists of one entry per image."""
        try:
            made = self._prepare(text, pictures)
        except (ValueError, IndexError, KeyError, TypeError, StopIteration, ZeroDivisionError) as error:
            sizes = ", ".join(f"{width}x{height}" for width, height in (image.size for image in pictures))
            raise QuestionError(
                f"the processor refuses {len(pictures)} images ({sizes}) with this text: {error}"
            ) from error
        inputs: dict[str, Any] = {name: value for name, value in made.items() if value is not None and name != _TARGETS}
        if pictures and self._needs_types and _MODALITY not in inputs:
            kinds = self._processor.create_mm_token_type_ids(inputs["input_ids"].tolist())
            inputs[_MODALITY] = torch.tensor(kinds)
        odd = sorted(name for name, value in inputs.items() if not _usable(value, len(pictures)))
        if odd or "input_ids" not in inputs:
            found = f"{', '.join(odd)} as lists, not tensors" if odd else "no input_ids"
            raise AtomThinkError(
                f"{type(self._processor).__name__} returns {found}, so its model cannot continue a text: name a "
                "checkpoint of another architecture"
            )
        return inputs

    def _settled(self, ids: Sequence[int], beside: Mapping[str, torch.Tensor]) -> int:
        """Returns the first tokens up to the last one of an image; all tokens if none is known to be an image's."""
        after = next((at for at in range(len(ids), 0, -1) if ids[at - 1] in self._image_ids), 0)
        for name in _TYPES & beside.keys():
            after = max([after, *(beside[name][0].nonzero()[-1:, 0] + 1).tolist()])
        if not after:
            return len(ids)
        # The positions of Qwen-Omni's image are known with the token that ends it only.
        return after + (after < len(ids) and ids[after] in self._special)

    def _prepare(self, text: str, pictures: list[Image]) -> Mapping[str, torch.Tensor]:
        """Calls the processor."""
        wanted: dict[str, Any] = {"return_tensors": "pt"}
        if self.has_bos(text):  # the default is the processor's: Idefics' writes the first token itself
            wanted["add_special_tokens"] = False
        given = {name: value for name, value in wanted.items() if self._taken is None or name in self._taken}
        try:
            return self._call(text, [pictures] if pictures else None, given)
        except (ValueError, AttributeError) as error:  # GOT-OCR and remote code may take a flat list only
            if "nested" not in str(error).lower() and "'list' object" not in str(error):
                raise
            return self._call(text, pictures, given)

    def _call(self, text: str, images: Sequence[Any] | None, given: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
        inputs: Mapping[str, torch.Tensor] = self._processor(text=[text], images=images, **given)
        return inputs


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def _held(encoding: Encoding, images: Sequence[Image]) -> int:
    """Bytes that remembering takes: photographs are often larger than what a processor makes of them."""
    return encoding.size + sum(image.width * image.height * len(image.getbands()) for image in images)


def _usable(value: Any, images: int) -> bool:
    """Returns whether an input is a tensor, or a list of one entry per image, which the model takes as it is."""
    return isinstance(value, torch.Tensor) or (isinstance(value, list) and bool(images) and len(value) == images)


def _digest(media: Mapping[str, torch.Tensor], lists: Mapping[str, list[Any]]) -> str:
    digest = hashlib.blake2b(repr(sorted(lists.items())).encode() if lists else b"", digest_size=16)
    for name, value in sorted(media.items()):
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def text_encoding(ids: Sequence[int]) -> Encoding:
    """Returns the encoding of a question that is text alone."""
    mask = torch.ones(1, 0, dtype=torch.long)
    return Encoding(tuple(ids), {"attention_mask": mask}, {}, 0, question=len(ids))


def control_tokens(tokenizer: PreTrainedTokenizerBase, processor: ProcessorMixin | None, *more: str) -> re.Pattern[str]:
    """Returns what user text must not contain: special tokens, media placeholders and `more`."""
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    media = {_placeholder(processor, kind) for kind in ("image", "video", "audio")}
    names = sorted({name for name in {*special, *media, *more} if name and not name.isspace()}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names)) or r"(?!)")


def unwritten_ids(tokenizer: PreTrainedTokenizerBase, processor: ProcessorMixin | None) -> frozenset[int]:
    """Returns the ids that the beginning of a reply must not have: end of sequence and image placeholders."""
    media = {_placeholder(processor, kind) for kind in ("image", "video", "audio")}
    ids = {number for number, token in tokenizer.added_tokens_decoder.items() if token.content in media}
    end: Any = tokenizer.eos_token_id
    return frozenset(ids if end is None else {*ids, end})


def image_ids(processor: ProcessorMixin | None, config: PretrainedConfig) -> list[int]:
    """Returns the ids of the tokens that stand for an image, by all names that processors and configs have for them."""
    named: list[Any] = list(getattr(processor, "image_token_ids", None) or ())
    named.append(getattr(processor, "image_token_id", None))
    named += (getattr(config, name, None) for name in ("image_token_id", "image_token_index"))
    named += (
        getattr(config, "visual_indicator_token_ids", None) or ()
    )  # Ovis 2: tokens around an image, embedded with it
    return sorted({number for number in named if isinstance(number, int)})


def _placeholder(processor: ProcessorMixin | None, kind: str) -> str | None:
    """The text that stands for an image, a video or a sound in a chat. BLIP-2 names a token where others name its text.

    Where a processor has two texts, the first of these names is the chat's and the other one the model's.
    """
    token = getattr(processor, f"{kind}_placeholder_token", None) or getattr(processor, f"{kind}_token", None)
    text: str | None = getattr(token, "content", token)
    return text


def neutralise(text: str, control: re.Pattern[str]) -> str:
    """Returns `text` with a space inside every control token, so that it is read as ordinary characters.

    A token of one character has no inside and stays: it may well be a sign of the text, such as `+`.
    """
    while (spaced := control.sub(lambda match: _FIRST.sub(r"\g<0> ", match[0]), text)) != text:
        text = spaced
    return text


def to_rgb(image: Image) -> Image:
    """Returns `image` in RGB, converted as the models' own evaluation code does.

    Raises:
        QuestionError: It is no image, has no pixels, or its file is broken.
    """
    from PIL import Image as Pictures

    if not isinstance(image, Pictures.Image):
        raise QuestionError(f"an image is {type(image).__name__}, not a PIL image: check the task's doc_to_visual")
    if 0 in image.size:
        raise QuestionError(f"an image has no pixels ({image.size[0]}x{image.size[1]})")
    try:
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:  # PIL reports broken PNG chunks as SyntaxError
        raise QuestionError(f"an image cannot be read: {error}") from error


def fitted(image: Image, most: int | None) -> Image:
    """Returns `image`, scaled down if it has more pixels than `most`."""
    from PIL import Image as Pictures

    size = fitting(image.size, most)
    return image if image.size == size else image.resize(size, Pictures.Resampling.BICUBIC)


def collate(encodings: Sequence[Encoding], checkpoint: Checkpoint, side: Literal["left", "right"]) -> dict[str, Any]:
    """Pads encodings of one structure into a batch on the checkpoint's device.

    Args:
        encodings: Rows of one structure.
        checkpoint: Whose padding id, device and precision to use.
        side: Where short rows are padded: `left` to generate, `right` to score.

    Returns:
        Tokens `[rows, longest, ...]`; media and lists joined along their first dimension.
    """
    longest = max(encoding.length for encoding in encodings)
    batch: dict[str, torch.Tensor] = {}
    for name in encodings[0].tokens:
        fill = checkpoint.pad_id if name == "input_ids" else 0
        batch[name] = torch.cat([_pad(encoding.tokens[name], longest, fill, side) for encoding in encodings])
    for name in encodings[0].media:
        parts = [encoding.media[name] for encoding in encodings]
        in_a_row = name == "pixel_values" and checkpoint.config.model_type == _IN_A_ROW
        media = torch.cat(parts, dim=-1 if in_a_row else 0)
        batch[name] = media.to(checkpoint.model.dtype) if media.is_floating_point() else media
    lists = {name: [entry for encoding in encodings for entry in encoding.lists[name]] for name in encodings[0].lists}
    return {name: value.to(checkpoint.device) for name, value in batch.items()} | lists


def _pad(value: torch.Tensor, longest: int, fill: int, side: Literal["left", "right"]) -> torch.Tensor:
    padding = value.new_full((1, longest - value.shape[1], *value.shape[2:]), fill)
    return torch.cat([padding, value] if side == "left" else [value, padding], dim=1)


def group(encodings: Sequence[Encoding], waste: float = 0.5, slack: int = 64) -> list[list[int]]:
    """Splits encodings into batches that can share a forward pass, by index.

    A batch has one structure, and its longest row is at most `1 + waste` times its shortest plus
    `slack` tokens, so that short rows do not pay for one long one.
    """
    order = sorted(range(len(encodings)), key=lambda at: (encodings[at].structure, encodings[at].length))
    groups: list[list[int]] = []
    for at in order:
        first = encodings[groups[-1][0]] if groups else None
        if (
            first is None
            or first.structure != encodings[at].structure
            or encodings[at].length > first.length * (1 + waste) + slack
        ):
            groups.append([])
        groups[-1].append(at)
    return groups
