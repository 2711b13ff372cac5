"""Loads checkpoints to train them as process reward models, and writes into their config how scorers read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from transformers import (
    AutoModelForCausalLM,
    AutoModelForTokenClassification,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.formats.named import format_named
from atomthink_plugin.inference.checkpoint_files import (
    config_of,
    processor_of,
    require,
    set_chat_template,
    tokenizer_of,
    weights,
)
from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.scorers.batched import single_token
from atomthink_plugin.scorers.detect import SECTION, PrmSettings
from atomthink_plugin.scorers.prm_head import Conversation
from atomthink_plugin.scorers.prm_token import ChatLayout, Layout, TextLayout
from atomthink_plugin.training.train.checkpoint import (
    checkpoint_request,
    load_trainable,
    load_weights,
    set_max_pixels,
)
from atomthink_plugin.training.train.recipe import PrmRecipe
from atomthink_plugin.training.train.row_encoder import RowEncoder
from atomthink_plugin.training.train.tokens import LabelledRows

HEADS: Final = ("score", "classifier")
"""Names that transformers gives to the head of a token classifier."""


@dataclass(frozen=True, slots=True)
class TrainablePrm:
    """A model that is trained to be a PRM.

    Attributes:
        checkpoint: Model, tokenizer and, if it reads images, processor.
        rows: Makes its training rows, without needing the weights.
        classes: Ids of the bad and the good token; None for a classifier.
        new_tokens: Ids of tokens that were added to the tokenizer.
    """

    checkpoint: Checkpoint
    rows: LabelledRows
    classes: tuple[int, int] | None
    new_tokens: tuple[int, ...]

    @property
    def processing_class(self) -> PreTrainedTokenizerBase | ProcessorMixin:
        """The processor or tokenizer that is saved with the weights."""
        return self.checkpoint.processor or self.checkpoint.tokenizer


def load(recipe: PrmRecipe) -> TrainablePrm:
    """Loads a model in training precision, and adds the tokens for tag, good and bad that its tokenizer lacks.

    Raises:
        AtomThinkError: It cannot be loaded, or not used as this kind of PRM.
    """
    checkpoint = load_trainable(recipe) if recipe.kind == "token" and recipe.images else _load(recipe)
    known = len(checkpoint.tokenizer)
    tag_id, *classes = _tokens(checkpoint, [recipe.step_tag, *recipe.class_tokens])
    bad, good = recipe.class_tokens or (None, None)
    settings = PrmSettings(
        kind=recipe.kind, images=recipe.images, format=recipe.format, tag=recipe.step_tag, good=good, bad=bad
    )
    setattr(checkpoint.model.config, SECTION, settings.model_dump(exclude_none=True))
    encoder = RowEncoder(checkpoint) if checkpoint.processor is not None else None
    layout = _layout(recipe, checkpoint, encoder, tag_id)
    judge_chains = recipe.chain_loss_weight > 0
    rows = LabelledRows(layout, encoder, tag_id, recipe.max_pixels, recipe.label_threshold, judge_chains)
    new_tokens = tuple(range(known, len(checkpoint.tokenizer)))
    return TrainablePrm(checkpoint, rows, (classes[0], classes[1]) if classes else None, new_tokens)


def _layout(recipe: PrmRecipe, checkpoint: Checkpoint, encoder: RowEncoder | None, tag_id: int) -> Layout:
    if encoder is not None:
        return ChatLayout(encoder, format_named(recipe.format), tag_id)
    if recipe.kind == "token":
        return TextLayout(checkpoint.tokenizer, recipe.step_tag, tag_id)
    if checkpoint.tokenizer.chat_template is None:
        raise AtomThinkError(
            f"`model_name_or_path: {recipe.model_name_or_path}` has no chat template: name a file with "
            "`chat_template_path`"
        )
    return Conversation(checkpoint.tokenizer, tag_id)


def _load(recipe: PrmRecipe) -> Checkpoint:
    """Loads a text-only language model, or a classifier, whose head is new if the checkpoint has none."""
    request = checkpoint_request(recipe)
    config = config_of(request)
    if recipe.kind == "token":
        require(request, config, "causal")
        model = load_weights(AutoModelForCausalLM, request)
    else:
        require(request, config, "head")
        model = load_weights(AutoModelForTokenClassification, request, HEADS, num_labels=2)
    processor = processor_of(request) if recipe.images else None
    if processor is not None:
        set_max_pixels(recipe, model)
        set_chat_template(processor, recipe.chat_template_path, request)
    tokenizer = processor.tokenizer if processor is not None else tokenizer_of(request)
    return Checkpoint(model, tokenizer, processor, weights(request.pretrained, request.revision))


def _tokens(checkpoint: Checkpoint, texts: list[str]) -> list[int]:
    """Returns the ids of texts. A text of several tokens is added to the tokenizer as one new token."""
    tokenizer = checkpoint.tokenizer
    new = [text for text in texts if not _is_one(tokenizer, text)]
    if new:
        tokenizer.add_tokens(new, special_tokens=True)
        known: Any = checkpoint.model.get_input_embeddings().weight
        if len(tokenizer) > known.shape[0]:
            checkpoint.model.resize_token_embeddings(len(tokenizer))
    return [single_token(tokenizer, text, "tag, good or bad") for text in texts]


def _is_one(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    try:
        single_token(tokenizer, text, "tag")
    except AtomThinkError:
        return False
    return True
