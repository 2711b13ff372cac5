"""Loads policies and process reward models, with errors the user can act on before any question."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, TypedDict

import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForTokenClassification,
    GenerationConfig,
    GenerationMixin,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers import __version__ as transformers_version
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.models.auto.auto_factory import add_generation_mixin_to_remote_model
from transformers.models.auto.image_processing_auto import get_image_processor_config

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.checkpoint_files import (
    CheckpointRequest,
    Kind,
    checked,
    config_of,
    context_of,
    explained,
    first_line,
    load_config,
    model_and_missing,
    processor_of,
    require,
    set_chat_template,
    tokenizer_of,
    untrusted,
    weights,
)
from atomthink_plugin.inference.internvl_checkpoints import in_internvl_format, load_internvl_format
from atomthink_plugin.inference.llava_checkpoints import in_llava_format, load_llava_format
from atomthink_plugin.inference.text_processor import TextProcessor

_HEAD_BIAS: Final = "score.bias"
"""The one weight of a head that checkpoints of other classes may do without."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model, ready for inference.

    Attributes:
        model: In eval mode, without gradients; if it generates, with a `neutral` generation config.
        tokenizer: Its tokenizer.
        processor: Its processor; None for text-only models.
        identity: Name, revision or, for a local folder, a digest of its files, and the precision it runs in: part of
            the journal's key.
        gpu_memory: Share of its GPU's memory that it may use; None for what is free when it is first used.
        lock: Held during a forward pass: some architectures keep state (Qwen2.5-VL's rope deltas) between calls.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    processor: ProcessorMixin | None
    identity: str
    gpu_memory: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return self.model.device

    @cached_property
    def stream(self) -> torch.cuda.Stream | None:
        """Where its work is queued on CUDA; None on other devices."""
        if self.device.type != "cuda":
            return None
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.default_stream(self.device))  # there the weights were written
        return stream

    @property
    def config(self) -> PretrainedConfig:
        """The model's config."""
        return self.model.config

    @cached_property
    def context(self) -> int | None:
        """Tokens of the longest sequence, None if the model's config states no limit."""
        return context_of(self.config)

    @property
    def pad_id(self) -> int:
        """Id that fills short rows; masked everywhere, so any id does where the tokenizer names none."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if isinstance(pad, int) else 0


class LoadingArguments(TypedDict):
    """Arguments that all loaders share, as typed by the user."""

    revision: str | None
    dtype: str
    device: str
    trust_remote_code: bool
    argument: str


def load_multimodal(
    pretrained: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    chat_template: str | None = None,
    attn_implementation: str | None = None,
    argument: str = "pretrained",
) -> Checkpoint:
    """Loads a checkpoint that reads images and writes text.

    Args:
        pretrained: A folder or the id of a repository on the model hub.
        revision: Branch, tag or commit on the hub.
        dtype: `auto` (the checkpoint's own on an accelerator, float32 on the CPU) or a name in `DTYPES`.
        device: `auto` (CUDA, else MPS, else CPU) or anything `torch.device` reads.
        trust_remote_code: Whether to run Python code that comes with the checkpoint.
        chat_template: File with a Jinja chat template, for checkpoints that bring none.
        attn_implementation: `sdpa`, `flash_attention_2`, `eager`, ...; transformers chooses if not given.
        argument: Name of the user's argument that held `pretrained`, for messages.

    Raises:
        AtomThinkError: It cannot be loaded, or not used as a multimodal model.
    """
    request = checked(pretrained, revision, dtype, device, trust_remote_code, argument)
    request = replace(request, attention=attn_implementation)
    written = load_config(pretrained, revision=revision, argument=argument)
    if in_llava_format(written):
        model, processor = load_llava_format(request, written)
    elif in_internvl_format(written):
        model, processor = load_internvl_format(request, written)
    else:
        require(request, config_of(request), "multimodal")
        processor = processor_of(request)
        model = _load(AutoModelForImageTextToText, "multimodal", request)
    if not isinstance(model, GenerationMixin):
        raise AtomThinkError(
            f"{argument}={pretrained!r} is of type {model.config.model_type!r}, whose class {type(model).__name__} "
            "does not generate text token by token: name a checkpoint of another architecture"
        )
    model.generation_config = neutral(model.generation_config)
    set_chat_template(processor, chat_template, request)
    return _ready(model, processor.tokenizer, processor, request)


def load_remote_multimodal(
    pretrained: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    attn_implementation: str | None = None,
    argument: str = "pretrained",
) -> Checkpoint:
    """Loads a checkpoint that reads images with Python code of its own, under `AutoModel`, and writes text.

    Args:
        pretrained: A folder or the id of a repository on the model hub.
        revision: Branch, tag or commit on the hub.
        dtype: As in `load_multimodal`.
        device: As in `load_multimodal`.
        trust_remote_code: Whether to run that code; without it there is nothing to load.
        attn_implementation: As in `load_multimodal`.
        argument: Name of the user's argument that held `pretrained`, for messages.

    Raises:
        AtomThinkError: The code may not or cannot run, or the checkpoint cannot be loaded.
    """
    request = checked(pretrained, revision, dtype, device, trust_remote_code, argument)
    request = replace(request, attention=attn_implementation)
    config = config_of(request)
    if "AutoModel" not in (getattr(config, "auto_map", None) or {}):
        raise AtomThinkError(
            f"{argument}={pretrained!r} is of type {config.model_type!r} and brings no Python code of its own: use "
            "--model atomthink_hf"
        )
    if not trust_remote_code:  # transformers itself asks only where it does not know the type
        raise AtomThinkError(untrusted(request))
    with own_code(config, f"{argument}={pretrained!r}"):
        processor = processor_of(request)
        model = _load(_remote_class(config.auto_map["AutoModel"], request), "multimodal", request)
        model.generation_config = neutral(model.generation_config)
        if "past_key_values" in inspect.signature(model.forward).parameters:
            model.register_forward_pre_hook(_by_its_old_name, with_kwargs=True)
        return _ready(model, processor.tokenizer, processor, request)


def _by_its_old_name(model: Any, given: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Gives a model's own code its cache as it knows it: transformers calls it `cache` from 5.24 on."""
    if "cache" in named:
        named["past_key_values"] = named.pop("cache")
    return given, named


def _remote_class(reference: str, request: CheckpointRequest) -> type[PreTrainedModel]:
    """The model's class, able to generate; AutoModel gives that only the first time in a process."""
    with explained(request):
        found = get_class_from_dynamic_module(reference, request.pretrained, revision=request.revision)
    able: type[PreTrainedModel] = add_generation_mixin_to_remote_model(found)  # type: ignore[no-untyped-call]
    return able


@contextmanager
def own_code(config: PretrainedConfig, name: str) -> Iterator[None]:
    """Says of what goes wrong inside that it is a checkpoint's own code, and which release that was written for.

    Args:
        config: The checkpoint's.
        name: What the user called it, for the message.
    """
    try:
        yield
    except AtomThinkError:
        raise
    except Exception as error:
        raise AtomThinkError(
            f"{name}: its own Python code fails with transformers {transformers_version} ({type(error).__name__}: "
            f"{first_line(error)}); its config.json names {config.transformers_version}: pass a revision= with newer "
            "code, or mend the .py files in a local copy and name that folder"
        ) from error


def load_text_prm(
    pretrained: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    argument: str = "prm",
) -> Checkpoint:
    """Loads a text-only language model that is read as a process reward model.

    Args:
        pretrained: A folder or the id of a repository on the model hub.
        revision: Branch, tag or commit on the hub.
        dtype: As in `load_multimodal`.
        device: As in `load_multimodal`.
        trust_remote_code: Whether to run Python code that comes with the checkpoint.
        argument: Name of the user's argument that held `pretrained`, for messages.

    Raises:
        AtomThinkError: It cannot be loaded, or is no causal language model.
    """
    request = checked(pretrained, revision, dtype, device, trust_remote_code, argument)
    require(request, config_of(request), "causal")
    tokenizer = tokenizer_of(request)
    return _ready(_load(AutoModelForCausalLM, "causal", request), tokenizer, None, request)


def load_head_prm(
    pretrained: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    argument: str = "prm",
    head: str | None = None,
    classes: int | None = None,
) -> Checkpoint:
    """Loads a classifier of tokens; it has a processor if it reads images.

    A language model with a value head (one linear layer on its last hidden states) is a classifier with one class whose
    head has another name.

    Args:
        pretrained: A folder or the id of a repository on the model hub.
        revision: Branch, tag or commit on the hub.
        dtype: As in `load_multimodal`.
        device: As in `load_multimodal`.
        trust_remote_code: Whether to run Python code that comes with the checkpoint.
        argument: Name of the user's argument that held `pretrained`, for messages.
        head: Beginning of the names of the head's weights in the checkpoint, if transformers' own class calls it
            something else; that class is used then, and no code of the checkpoint.
        classes: Number of classes of such a head, which the checkpoint's config may not state.

    Raises:
        AtomThinkError: It cannot be loaded, or is no token classifier.
    """
    request = checked(pretrained, revision, dtype, device, trust_remote_code, argument)
    config = config_of(request)
    require(request, config, "head")
    # Qwen2.5-Math-PRM brings its class as remote code under AutoModel.
    remote = "AutoModel" in (getattr(config, "auto_map", None) or {}) and head is None
    if remote and not trust_remote_code:  # the bare model of the same type would load silently
        raise AtomThinkError(untrusted(request))
    if head is not None:
        renamed = {"key_mapping": {rf"^{re.escape(head)}\.": "score."}, "num_labels": classes}
        model = _load(AutoModelForTokenClassification, "head", request, may_miss=_HEAD_BIAS, **renamed)
    else:
        model = _load(AutoModel if remote else AutoModelForTokenClassification, "head", request)
    if not _reads_images(model, request):
        return _ready(model, tokenizer_of(request), None, request)
    processor = processor_of(request)
    set_chat_template(processor, None, request)
    return _ready(model, processor.tokenizer, processor, request)


def load_remote_prm(
    pretrained: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    argument: str = "prm",
) -> Checkpoint:
    """Loads a PRM with Python code of its own, under `AutoModel`; its first output has one row of outputs per token.

    Args:
        pretrained: A folder or the id of a repository on the model hub.
        revision: Branch, tag or commit on the hub.
        dtype: As in `load_multimodal`.
        device: As in `load_multimodal`.
        trust_remote_code: Whether to run that code; without it there is nothing to load.
        argument: Name of the user's argument that held `pretrained`, for messages.

    Raises:
        AtomThinkError: The code may not or cannot run, or the checkpoint cannot be loaded.
    """
    request = checked(pretrained, revision, dtype, device, trust_remote_code, argument)
    auto_map = load_config(pretrained, revision=revision, argument=argument).get("auto_map") or {}
    if "AutoModel" not in auto_map:
        raise AtomThinkError(
            f"{argument}={pretrained!r} is read by Python code of its own, and its config.json names none under "
            "auto_map.AutoModel: name a checkpoint that comes with its code"
        )
    if not trust_remote_code:
        raise AtomThinkError(untrusted(request))
    config = config_of(request)
    with own_code(config, f"{argument}={pretrained!r}"):
        model = _load(AutoModel, "head", request)
        if not _reads_images(model, request):
            return _ready(model, tokenizer_of(request), None, request)
        processor = processor_of(request)
        return _ready(model, processor.tokenizer, processor, request)


def load_text_policy(
    pretrained: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    chat_template: str | None = None,
    argument: str = "pretrained",
) -> Checkpoint:
    """Loads a language model that reads no images and writes text.

    Args:
        pretrained: A folder or the id of a repository on the model hub.
        revision: Branch, tag or commit on the hub.
        dtype: As in `load_multimodal`.
        device: As in `load_multimodal`.
        trust_remote_code: Whether to run Python code that comes with the checkpoint.
        chat_template: File with a Jinja chat template, for checkpoints that bring none.
        argument: Name of the user's argument that held `pretrained`, for messages.

    Raises:
        AtomThinkError: It cannot be loaded, or is no causal language model.
    """
    request = checked(pretrained, revision, dtype, device, trust_remote_code, argument)
    require(request, config_of(request), "causal")
    tokenizer = tokenizer_of(request)
    processor: Any = TextProcessor(tokenizer)
    set_chat_template(processor, chat_template, request)
    model = _load(AutoModelForCausalLM, "causal", request)
    model.generation_config = neutral(model.generation_config)
    return _ready(model, tokenizer, processor, request)


def neutral(config: GenerationConfig) -> GenerationConfig:
    """Returns greedy decoding with `config`'s special tokens and none of its other habits.

    Checkpoints ship repetition penalties, temperatures and the like, and `generate` falls back on them
    for whatever a call leaves unset; they would bias samples and log-probabilities.
    """
    return GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        num_beams=1,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )


def end_ids(checkpoint: Checkpoint) -> tuple[int, ...]:
    """Returns the ids that end a reply: all that a generating checkpoint's config names, else its tokenizer's."""
    ids = checkpoint.model.generation_config.eos_token_id
    if ids is None:
        ids = checkpoint.tokenizer.eos_token_id
    if ids is None:
        return ()
    return tuple(ids) if isinstance(ids, list) else (int(ids),)


def _reads_images(model: PreTrainedModel, request: CheckpointRequest) -> bool:
    """Whether the model takes images and its repository has a processor for them.

    A multimodal architecture that was trained on text alone comes with a tokenizer only.
    """
    # The inputs that a class declares depend on the version of transformers, and remote code need not declare any.
    if model.config.get_text_config() is model.config:
        return False
    with explained(request):
        return bool(get_image_processor_config(request.pretrained, revision=request.revision))


def _load(
    loader: Any, kind: Kind, request: CheckpointRequest, may_miss: str | None = None, **options: Any
) -> PreTrainedModel:
    """Loads a model with all its weights. The parameter `may_miss` is zero if the checkpoint does not have it."""
    model, lost = model_and_missing(loader, request, **options)
    if may_miss is not None and may_miss in lost:
        model.get_parameter(may_miss).data.zero_()
    if absent := lost - {may_miss}:
        missing = ", ".join(sorted(absent)[:3])
        raise AtomThinkError(
            f"{request.argument}={request.pretrained!r} has no weights for {missing}: it is no {kind} model; "
            "name another checkpoint or scorer"
        )
    return model


def _ready(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    processor: ProcessorMixin | None,
    request: CheckpointRequest,
) -> Checkpoint:
    model.to(request.device)  # type: ignore[arg-type]
    model.train(False).requires_grad_(False)
    _fix_frequencies(model)
    commit: str | None = getattr(model.config, "_commit_hash", None)
    # `dtype=auto` depends on the device, and results in one precision are not results in another.
    identity = f"{weights(request.pretrained, commit or request.revision)} in {str(model.dtype).removeprefix('torch.')}"
    return Checkpoint(model, tokenizer, processor, identity)


def _fix_frequencies(model: PreTrainedModel) -> None:
    """Stops rotary embeddings of type `dynamic` from comparing the largest position with the context in each pass.

    Their frequencies change beyond the context only, where no sequence gets. The comparison makes the host wait for the
    device, so that no forward pass could be captured as a CUDA graph.
    """
    context = context_of(model.config)
    modules: Iterable[Any] = model.modules()
    for module in modules:
        if getattr(module, "rope_type", None) == "dynamic" and context == getattr(module, "original_max_seq_len", None):
            module.rope_type = "default"
