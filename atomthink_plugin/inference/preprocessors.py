"""Tokenizers and processors of models that run elsewhere, in vLLM or on a server."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PretrainedConfig, PreTrainedTokenizerBase, ProcessorMixin

from atomthink_plugin.inference.checkpoint_files import (
    checked,
    config_of,
    context_of,
    load_config,
    processor_of,
    require,
    set_chat_template,
    tokenizer_of,
    weights,
)
from atomthink_plugin.inference.internvl_checkpoints import in_internvl_format, internvl_config, internvl_processor


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """The tokenizer and the processor of a model that runs elsewhere, in vLLM or on a server.

    Attributes:
        tokenizer: Its tokenizer.
        processor: Its processor, with a chat template; None where images are not read.
        identity: Name and revision or, for a local folder, a digest of its files.
        config: The model's config.
    """

    tokenizer: PreTrainedTokenizerBase
    processor: ProcessorMixin | None
    identity: str
    config: PretrainedConfig

    @property
    def context(self) -> int | None:
        """Tokens of the longest sequence, None if the model's config states no limit."""
        return context_of(self.config)


def load_preprocessor(
    pretrained: str,
    *,
    images: bool,
    revision: str | None = None,
    trust_remote_code: bool = False,
    chat_template: str | None = None,
    argument: str = "pretrained",
) -> Preprocessor:
    """Loads a checkpoint's tokenizer and, for one that reads images, its processor; the weights stay where they are.

    Args:
        pretrained: A folder or the id of a repository on the model hub.
        images: Whether the model is to be shown images.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Whether to run Python code that comes with the checkpoint.
        chat_template: File with a Jinja chat template, for checkpoints that bring none.
        argument: Name of the user's argument that held `pretrained`, for messages.

    Raises:
        AtomThinkError: It cannot be loaded, or reads no images although it is to be shown some.
    """
    request = checked(pretrained, revision, "auto", "cpu", trust_remote_code, argument)
    written = load_config(pretrained, revision=revision, argument=argument)
    if in_internvl_format(written):
        processor = internvl_processor(request, written)
        set_chat_template(processor, chat_template, request)
        identity = weights(request.pretrained, written.get("_commit_hash") or revision)
        return Preprocessor(processor.tokenizer, processor, identity, internvl_config(processor, written))
    config = config_of(request)
    identity = weights(request.pretrained, getattr(config, "_commit_hash", None) or revision)
    if not images:
        return Preprocessor(tokenizer_of(request), None, identity, config)
    require(request, config, "multimodal")
    processor = processor_of(request)
    set_chat_template(processor, chat_template, request)
    return Preprocessor(processor.tokenizer, processor, identity, config)
