"""From a path to the model input in the layout of a profile; it ends at the reading position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from transformers import PreTrainedTokenizerBase

from atomthink_plugin.api import Path, QuestionError
from atomthink_plugin.inference.encoding import Encoder, Encoding, control_tokens, neutralise, text_encoding
from atomthink_plugin.inference.prefix_cache.tree import common
from atomthink_plugin.scorers.layouts.arranged import arranged
from atomthink_plugin.scorers.layouts.arrangement import AskedText
from atomthink_plugin.scorers.layouts.chat_writer import ChatWriter
from atomthink_plugin.scorers.layouts.image_rules import AskedImages
from atomthink_plugin.scorers.layouts.tagged import tagged_pieces
from atomthink_plugin.scorers.prm_profile import ChatMarkup, Profile, TaggedLayout
from atomthink_plugin.scorers.scored_step import last_step

if TYPE_CHECKING:
    from PIL.Image import Image

_FIRST_STEP: Final = "\ue0a8"
"""Stands for the first step, to find what stands before it. It is for private use in Unicode."""


class LayoutEncoder:
    """Encodes paths in the layout of one profile.

    User text never becomes a control token, and a tag inside a step is refused. The PRM is read at the last token of an
    encoding.

    Args:
        name: The profile's name.
        profile: The profile.
        tokenizer: The PRM's tokenizer.
        encoder: Prepares the images; None for a PRM that reads text alone.
        tag_id: Id of the tag; None for a layout without tag.
    """

    def __init__(
        self,
        name: str,
        profile: Profile,
        tokenizer: PreTrainedTokenizerBase,
        encoder: Encoder | None,
        tag_id: int | None,
    ) -> None:
        self._profile = profile
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._tag_id = tag_id
        processor = None if encoder is None else encoder.processor
        placeholder = "" if encoder is None else encoder.placeholder
        self._control = control_tokens(tokenizer, processor, placeholder)
        self._writer = ChatWriter(profile.layout.chat, tokenizer, processor, placeholder)
        self._images = AskedImages(name, profile.images)
        self._bos = tokenizer.bos_token if isinstance(tokenizer.bos_token, str) else ""
        layout = profile.layout
        self._tag = layout.tag if isinstance(layout, TaggedLayout) else ""
        self._tag_is_added = self._tag in {token.content for token in tokenizer.added_tokens_decoder.values()}
        self._cuts = isinstance(layout, TaggedLayout) and layout.inside == "steps"

    def text(self, path: Path) -> str:
        """Returns the text that the PRM reads, with the processor's placeholder for each image.

        Raises:
            QuestionError: A step contains the tag, or the question has too many images.
        """
        asked, steps, _ = self._asked(path)
        return self._writer.write(arranged(self._profile, asked, steps))

    def images(self, path: Path) -> list[Image]:
        """Returns the images that the PRM reads, in their order in the text.

        Raises:
            QuestionError: The question has too many images.
        """
        return self._images.of(path.question)

    def encode(self, path: Path) -> Encoding:
        """Returns the input up to the reading position.

        Raises:
            QuestionError: A step contains the tag, the question has too many images, or an image cannot be read.
        """
        asked, steps, images = self._asked(path)
        layout = self._profile.layout
        if isinstance(layout, TaggedLayout) and layout.pieces:
            encoding = text_encoding(self._pieces(layout, asked, steps))
            opening = tuple(self._pieces(layout, asked, ()))
        else:
            text = self._writer.write(arranged(self._profile, asked, steps))
            encoding = self._tokenised(text, images)
            opening = self._before_steps(asked, images)
        ids = encoding.ids
        self._check_tags(ids, opening, len(steps))
        # The first step may change how the last word before it is tokenised.
        shared = min(common(opening, ids), len(opening) - 1)
        return replace(encoding, question=max(shared, encoding.settled))

    def _asked(self, path: Path) -> tuple[AskedText, list[str], list[Image]]:
        last_step(path)
        images = self._images.of(path.question)
        steps = [part for step in path.steps for part in self._step(step.text)]
        return AskedText(self._clean(path.question.text), len(images), self._bos), steps, images

    def _step(self, text: str) -> list[str]:
        """Returns the text of a step, or of the steps that it is to the PRM if its tag may stand inside."""
        if self._tag_is_added and self._tag in text:
            raise self._tag_inside()
        clean = self._clean(text)
        return clean.split(self._tag) if self._cuts else [clean]

    def _clean(self, text: str) -> str:
        """Returns a user's text without what would be read as a control token."""
        return neutralise(text, self._control).strip()

    def _before_steps(self, asked: AskedText, images: list[Image]) -> tuple[int, ...]:
        """Returns the ids of what stands before the first step, nothing if an image stands after it."""
        whole = self._writer.write(arranged(self._profile, asked, [_FIRST_STEP]))
        text, _, rest = whole.partition(_FIRST_STEP)
        if images and self._encoder is not None and self._encoder.placeholder in rest:
            return ()
        return self._tokenised(text, images).ids if text else ()

    def _tokenised(self, text: str, images: list[Image]) -> Encoding:
        if self._encoder is not None:
            return self._encoder.encode_text(text, images)
        return text_encoding(self._tokenizer.encode(text, add_special_tokens=self._adds_specials(text)))

    def _adds_specials(self, text: str) -> bool:
        """Whether the tokenizer adds its beginning of a sequence; a chat template writes it itself."""
        layout = self._profile.layout
        bare = isinstance(layout, TaggedLayout) and layout.role == "none"
        return (bare or isinstance(layout.chat, ChatMarkup)) and not (self._bos and text.startswith(self._bos))

    def _pieces(self, layout: TaggedLayout, asked: AskedText, steps: Sequence[str]) -> list[int]:
        before, *pieces = tagged_pieces(layout, asked, steps)
        start = self._writer.flat(before)
        ids: list[int] = self._tokenizer.encode(start, add_special_tokens=self._adds_specials(start))
        for text, _ in pieces:
            ids += self._tokenizer.encode(text, add_special_tokens=False)
            ids += [] if self._tag_id is None else [self._tag_id]
        return ids

    def _tag_inside(self) -> QuestionError:
        return QuestionError(
            f"a step contains the PRM's tag {self._tag!r}, so the PRM would take a part of it for a whole step: remove "
            "the tag from the text, or score the step with another PRM"
        )

    def _check_tags(self, ids: Sequence[int], opening: Sequence[int], steps: int) -> None:
        """Refuses an input in which the tags are not those after the steps.

        Raises:
            QuestionError: A step contains a tag, or a tag became another token together with the text around it.
        """
        layout = self._profile.layout
        if self._tag_id is None or (isinstance(layout, TaggedLayout) and layout.inside == "text"):
            return
        tags = ids[common(opening, ids) :].count(self._tag_id)
        if tags > steps:
            raise self._tag_inside()
        if tags < steps or ids[-1] != self._tag_id:
            raise QuestionError(
                f"{steps} steps have {tags} of the PRM's tags {self._tag!r}: a tag became another token together with "
                "the text around it"
            )
