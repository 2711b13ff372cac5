"""Loads policies and process reward models, with errors the user can act on before any question."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any, Final, Literal, TypedDict

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForTokenClassification,
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers import __version__ as transformers_version
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.models.auto.auto_factory import add_generation_mixin_to_remote_model
from transformers.models.auto.image_processing_auto import get_image_processor_config
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
)

from atomthink_plugin.api import AtomThinkError

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_HASHED: Final = 64 * 2**20
"""Bytes of the largest file that is told by its content: hashing the gigabytes of weights and of what a trainer leaves
beside them would cost minutes, and their size and time change with every export."""

Kind = Literal["multimodal", "causal", "head"]


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model, ready for inference.

    Attributes:
        model: In eval mode, without gradients; if it generates, with a `neutral` generation config.
        tokenizer: Its tokenizer.
        processor: Its processor; None for text-only models.
        identity: Name, revision or, for a local folder, a digest of its files, and the precision it runs in: part of
            the journal's key.
        lock: Held during a forward pass: some architectures keep state (Qwen2.5-VL's rope deltas) between calls.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    processor: ProcessorMixin | None
    identity: str
    lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return self.model.device

    @property
    def context(self) -> int | None:
        """Tokens of the longest sequence, None if the model's config states no limit."""
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return None if limit is None else int(limit)

    @property
    def pad_id(self) -> int:
        """Id that fills short rows; masked everywhere, so any id does where the tokenizer names none."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if isinstance(pad, int) else 0


class Source(TypedDict):
    """Arguments that all loaders share, as their users typed them."""

    revision: str | None
    dtype: str
    device: str
    trust_remote_code: bool
    argument: str


@dataclass(frozen=True, slots=True)
class _Request:
    """What the user asked for, validated: the arguments every loader shares."""

    pretrained: str
    revision: str | None
    dtype: torch.dtype | Literal["auto"]
    device: torch.device
    trust_remote_code: bool
    argument: str
    attention: str | None = None

    @property
    def source(self) -> dict[str, Any]:
        """Keyword arguments of every `from_pretrained`."""
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}


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
    request = _request(pretrained, revision, dtype, device, trust_remote_code, argument)
    request = replace(request, attention=attn_implementation)
    config = _config(request)
    _require(request, config, "multimodal")
    processor = _processor(request)
    model = _load(AutoModelForImageTextToText, "multimodal", request)
    model.generation_config = neutral(model.generation_config)
    _set_chat_template(processor, chat_template, request)
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
    request = _request(pretrained, revision, dtype, device, trust_remote_code, argument)
    request = replace(request, attention=attn_implementation)
    config = _config(request)
    if "AutoModel" not in (getattr(config, "auto_map", None) or {}):
        raise AtomThinkError(
            f"{argument}={pretrained!r} is of type {config.model_type!r} and brings no Python code of its own: use "
            "--model atomthink_hf"
        )
    if not trust_remote_code:  # transformers itself asks only where it does not know the type
        raise AtomThinkError(_untrusted(request))
    with own_code(config, f"{argument}={pretrained!r}"):
        processor = _processor(request)
        model = _load(_remote_class(config.auto_map["AutoModel"], request), "multimodal", request)
        model.generation_config = neutral(model.generation_config)
        return _ready(model, processor.tokenizer, processor, request)


def _remote_class(reference: str, request: _Request) -> type[PreTrainedModel]:
    """The model's class, able to generate; AutoModel gives that only the first time in a process."""
    with _explained(request):
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
            f"{_first_line(error)}); its config.json names {config.transformers_version}: pass a revision= with newer "
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
    request = _request(pretrained, revision, dtype, device, trust_remote_code, argument)
    _require(request, _config(request), "causal")
    tokenizer = _tokenizer(request)
    return _ready(_load(AutoModelForCausalLM, "causal", request), tokenizer, None, request)


def load_head_prm(
    pretrained: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    argument: str = "prm",
) -> Checkpoint:
    """Loads a classifier of tokens; it has a processor if it reads images.

    Args:
        pretrained: A folder or the id of a repository on the model hub.
        revision: Branch, tag or commit on the hub.
        dtype: As in `load_multimodal`.
        device: As in `load_multimodal`.
        trust_remote_code: Whether to run Python code that comes with the checkpoint.
        argument: Name of the user's argument that held `pretrained`, for messages.

    Raises:
        AtomThinkError: It cannot be loaded, or is no token classifier.
    """
    request = _request(pretrained, revision, dtype, device, trust_remote_code, argument)
    config = _config(request)
    _require(request, config, "head")
    # Qwen2.5-Math-PRM brings its class as remote code under AutoModel.
    remote = "AutoModel" in (getattr(config, "auto_map", None) or {})
    if remote and not trust_remote_code:  # the bare model of the same type would load silently
        raise AtomThinkError(_untrusted(request))
    model = _load(AutoModel if remote else AutoModelForTokenClassification, "head", request)
    if not _reads_images(model, request):
        return _ready(model, _tokenizer(request), None, request)
    processor = _processor(request)
    _set_chat_template(processor, None, request)
    return _ready(model, processor.tokenizer, processor, request)


def load_config(pretrained: str, *, revision: str | None = None, argument: str = "pretrained") -> dict[str, Any]:
    """Returns a checkpoint's config.json, without loading or running any of its code.

    Raises:
        AtomThinkError: There is no such checkpoint.
    """
    request = _Request(os.path.expanduser(pretrained), revision, "auto", torch.device("cpu"), False, argument)
    _require_folder(request)
    with _explained(request):
        config, _ = PretrainedConfig.get_config_dict(request.pretrained, revision=revision)
    if not config:
        raise AtomThinkError(f"{argument}={pretrained!r} has no config.json: name a checkpoint's folder")
    return dict(config)


@dataclass(frozen=True, slots=True)
class Words:
    """What is needed here of a model that runs elsewhere.

    Attributes:
        tokenizer: Its tokenizer.
        processor: Its processor, with a chat template; None where images are not read.
        identity: Name and revision or, for a local folder, a digest of its files.
    """

    tokenizer: PreTrainedTokenizerBase
    processor: ProcessorMixin | None
    identity: str


def load_words(
    pretrained: str,
    *,
    images: bool,
    revision: str | None = None,
    trust_remote_code: bool = False,
    chat_template: str | None = None,
    argument: str = "pretrained",
) -> Words:
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
    request = _request(pretrained, revision, "auto", "cpu", trust_remote_code, argument)
    config = _config(request)
    identity = weights(request.pretrained, getattr(config, "_commit_hash", None) or revision)
    if not images:
        return Words(_tokenizer(request), None, identity)
    _require(request, config, "multimodal")
    processor = _processor(request)
    _set_chat_template(processor, chat_template, request)
    return Words(processor.tokenizer, processor, identity)


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


def weights(pretrained: str, revision: str | None = None) -> str:
    """Returns name and revision of a checkpoint; a local folder's revision is a digest of its files."""
    folder = FilePath(pretrained)
    if not folder.is_dir():
        return f"{pretrained}@{revision or 'main'}"
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        status = file.stat()
        digest.update(f"{file.name}\0{status.st_size}\0".encode())
        digest.update(file.read_bytes() if status.st_size <= _HASHED else f"{status.st_mtime_ns}\0".encode())
    return f"{pretrained}@{digest.hexdigest()}"


def _request(
    pretrained: str,
    revision: str | None,
    dtype: str,
    device: str,
    trust_remote_code: bool,
    argument: str,
) -> _Request:
    where = choose_device(device, _prefix(argument))
    if dtype != "auto" and dtype not in DTYPES:
        raise AtomThinkError(f"{_prefix(argument)}dtype={dtype!r} is unknown: use auto, {', '.join(DTYPES)}")
    precision: torch.dtype | Literal["auto"] = "auto" if dtype == "auto" else DTYPES[dtype]
    if precision == "auto" and where.type == "cpu":
        precision = torch.float32
    request = _Request(os.path.expanduser(pretrained), revision, precision, where, trust_remote_code, argument)
    _require_folder(request)
    return request


def _prefix(argument: str) -> str:
    """A PRM's own arguments are typed with this before them."""
    return "prm_" if argument == "prm" else ""


def choose_device(name: str = "auto", prefix: str = "") -> torch.device:
    """Returns the named device; `auto` is this process's own GPU under torchrun, else MPS, else the CPU.

    Args:
        name: `auto` or anything `torch.device` reads.
        prefix: Put before the argument's name in messages.

    Raises:
        AtomThinkError: The device is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        raise AtomThinkError(
            f"{prefix}device={name!r} cannot be used here ({_first_line(error)}): use auto, cpu or cuda:0"
        ) from error
    return device


def _require_folder(request: _Request) -> None:
    """Tells a mistyped path from a hub id, which transformers' own message does not."""
    name = request.pretrained
    folder = FilePath(name)
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") != 1
    if not name or (looks_like_path and not folder.is_dir() and "/" in name):
        raise AtomThinkError(f"{request.argument}={name!r}: there is no such folder")
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise AtomThinkError(f"{request.argument}={name!r}: the folder has no config.json, so it is no checkpoint")


def _config(request: _Request) -> PretrainedConfig:
    with _explained(request):
        config: PretrainedConfig = AutoConfig.from_pretrained(request.pretrained, **request.source)
    return config


@contextmanager
def _explained(request: _Request) -> Iterator[None]:
    """Turns transformers' loading errors into ours, with the argument's name and the way out."""
    name = f"{request.argument}={request.pretrained!r}"
    try:
        yield
    except ImportError as error:
        # Code that comes with a checkpoint may ask for what transformers no longer has.
        fault = "does not fit the installed packages" if "cannot import name" in str(error) else "needs a package"
        raise AtomThinkError(f"{name} {fault}: {_first_line(error)}") from error
    except (OSError, ValueError, KeyError) as error:
        text = str(error)
        if "trust_remote_code" in text:
            raise AtomThinkError(_untrusted(request)) from error
        if isinstance(error, OSError) and not FilePath(request.pretrained).is_dir():
            raise AtomThinkError(
                f"{name} is neither a folder nor a repository that can be fetched from the model hub now: check "
                f"the spelling, the revision ({request.revision or 'main'}), the network and HF_TOKEN, or name a "
                f"folder that has its files ({_first_line(error)})"
            ) from error
        if "llava_llama" in text:
            raise AtomThinkError(
                f"{name} is in the format of LLaVA's original code: convert it with transformers 4's "
                "convert_llava_weights_to_hf.py and name the new folder, or serve it and use policy=openai"
            ) from error
        raise AtomThinkError(f"{name} cannot be loaded: {_first_line(error)}") from error


def _untrusted(request: _Request) -> str:
    return (
        f"{request.argument}={request.pretrained!r} comes with its own Python code: read it, then pass "
        f"{_prefix(request.argument)}trust_remote_code=True to run it"
    )


def _require(request: _Request, config: PretrainedConfig, kind: Kind) -> None:
    remote: dict[str, str] = getattr(config, "auto_map", None) or {}
    known, auto, ways_out = {
        "multimodal": (
            MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
            "AutoModelForImageTextToText",
            "name a multimodal checkpoint",
        ),
        "causal": (
            MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
            "AutoModelForCausalLM",
            "name a causal language model or choose another scorer",
        ),
        "head": (
            MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
            "AutoModel",
            "name a token classifier or choose another scorer",
        ),
    }[kind]
    if config.model_type not in known and auto not in remote:
        raise AtomThinkError(
            f"{request.argument}={request.pretrained!r} is of type {config.model_type!r}, which is no {kind} model "
            f"in transformers: {ways_out}"
        )


def _tokenizer(request: _Request) -> PreTrainedTokenizerBase:
    with _explained(request):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(request.pretrained, **request.source)
    return tokenizer


def _reads_images(model: PreTrainedModel, request: _Request) -> bool:
    """Whether the model takes images and its repository says how to prepare them.

    A multimodal architecture that was trained on text alone comes with a tokenizer only.
    """
    # What the class itself says of its inputs depends on the version of transformers, and remote code need not say it.
    if model.config.get_text_config() is model.config:
        return False
    with _explained(request):
        return bool(get_image_processor_config(request.pretrained, revision=request.revision))


def _processor(request: _Request) -> ProcessorMixin:
    missing = (
        f"{request.argument}={request.pretrained!r} has no processor, so images cannot be prepared: copy "
        "processor_config.json and preprocessor_config.json from the base model's repository"
    )
    with _explained(request):
        try:
            processor = AutoProcessor.from_pretrained(request.pretrained, **request.source)  # type: ignore[no-untyped-call]
        except OSError as error:  # the config was found, so the name is right
            raise AtomThinkError(f"{missing} ({_first_line(error)})") from error
    # Without any image processor transformers returns the tokenizer instead.
    if not isinstance(processor, ProcessorMixin):
        raise AtomThinkError(missing)
    return processor


def _set_chat_template(processor: ProcessorMixin, file: str | None, request: _Request) -> None:
    if file is not None:
        try:
            processor.chat_template = FilePath(os.path.expanduser(file)).read_text(encoding="utf-8")
        except OSError as error:
            raise AtomThinkError(f"chat_template={file!r} cannot be read: {error.strerror}") from error
    elif processor.chat_template is None:
        # Some repositories keep the template with the tokenizer.
        processor.chat_template = processor.tokenizer.chat_template
    if processor.chat_template is None:
        raise AtomThinkError(
            f"{request.argument}={request.pretrained!r} has no chat template: pass chat_template=FILE with a Jinja "
            "template (the base model's repository often has one)"
        )


def _load(loader: Any, kind: Kind, request: _Request) -> PreTrainedModel:
    """Loads all weights; transformers only warns of missing ones, and random weights would answer at random."""
    with _explained(request):
        model, loading = loader.from_pretrained(
            request.pretrained,
            dtype=request.dtype,
            attn_implementation=request.attention,
            output_loading_info=True,
            **request.source,
        )
    if loading["missing_keys"]:
        missing = ", ".join(sorted(loading["missing_keys"])[:3])
        raise AtomThinkError(
            f"{request.argument}={request.pretrained!r} has no weights for {missing}: it is no {kind} model; "
            "name another checkpoint or scorer"
        )
    loaded: PreTrainedModel = model
    return loaded


def _ready(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    processor: ProcessorMixin | None,
    request: _Request,
) -> Checkpoint:
    model.to(request.device)  # type: ignore[arg-type]
    model.train(False).requires_grad_(False)
    commit: str | None = getattr(model.config, "_commit_hash", None)
    # `dtype=auto` is another precision on another device, and a result of one is none of the other.
    identity = f"{weights(request.pretrained, commit or request.revision)} in {str(model.dtype).removeprefix('torch.')}"
    return Checkpoint(model, tokenizer, processor, identity)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
