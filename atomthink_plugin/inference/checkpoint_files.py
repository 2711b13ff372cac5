"""Checks a checkpoint that a user named: config, tokenizer and processor. Errors say how to correct the argument."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Final, Literal

import torch
from transformers import (
    AutoConfig,
    AutoProcessor,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
)

from atomthink_plugin.api import AtomThinkError

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


_HASHED: Final = 64 * 2**20
"""Bytes of the largest file that is identified by its content. Hashing gigabytes of weights and training states would
take minutes, and their size and modification time change with every export."""


Kind = Literal["multimodal", "causal", "head"]


@dataclass(frozen=True, slots=True)
class CheckpointRequest:
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


def load_config(pretrained: str, *, revision: str | None = None, argument: str = "pretrained") -> dict[str, Any]:
    """Returns a checkpoint's config.json, without loading or running any of its code.

    Raises:
        AtomThinkError: There is no such checkpoint.
    """
    request = CheckpointRequest(os.path.expanduser(pretrained), revision, "auto", torch.device("cpu"), False, argument)
    _require_folder(request)
    with explained(request):
        config, _ = PretrainedConfig.get_config_dict(request.pretrained, revision=revision)
    if not config:
        raise AtomThinkError(f"{argument}={pretrained!r} has no config.json: name a checkpoint's folder")
    return dict(config)


def context_of(config: PretrainedConfig) -> int | None:
    """Returns the tokens of the longest sequence, None if the config states no limit."""
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    return None if limit is None else int(limit)


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


def checked(
    pretrained: str,
    revision: str | None,
    dtype: str,
    device: str,
    trust_remote_code: bool,
    argument: str,
) -> CheckpointRequest:
    """Returns what the user asked for, as far as it can be checked without loading anything.

    Raises:
        AtomThinkError: The device, the precision or the folder is not there.
    """
    where = choose_device(device, _prefix(argument))
    if dtype != "auto" and dtype not in DTYPES:
        raise AtomThinkError(f"{_prefix(argument)}dtype={dtype!r} is unknown: use auto, {', '.join(DTYPES)}")
    precision: torch.dtype | Literal["auto"] = "auto" if dtype == "auto" else DTYPES[dtype]
    if precision == "auto" and where.type == "cpu":
        precision = torch.float32
    request = CheckpointRequest(os.path.expanduser(pretrained), revision, precision, where, trust_remote_code, argument)
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
            f"{prefix}device={name!r} cannot be used here ({first_line(error)}): use auto, cpu or cuda:0"
        ) from error
    return device


def _require_folder(request: CheckpointRequest) -> None:
    """Tells a mistyped path from a hub id, which transformers' own message does not."""
    name = request.pretrained
    folder = FilePath(name)
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") != 1
    if not name or (looks_like_path and not folder.is_dir() and "/" in name):
        raise AtomThinkError(f"{request.argument}={name!r}: there is no such folder")
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise AtomThinkError(f"{request.argument}={name!r}: the folder has no config.json, so it is no checkpoint")


def config_of(request: CheckpointRequest) -> PretrainedConfig:
    """Returns the checkpoint's config."""
    with explained(request):
        config: PretrainedConfig = AutoConfig.from_pretrained(request.pretrained, **request.source)
    return config


def tokenizer_of(request: CheckpointRequest) -> PreTrainedTokenizerBase:
    """Returns the checkpoint's tokenizer."""
    with explained(request):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(request.pretrained, **request.source)
    return tokenizer


def processor_of(request: CheckpointRequest) -> ProcessorMixin:
    """Returns the checkpoint's processor.

    Raises:
        AtomThinkError: It has none, or one without images.
    """
    missing = (
        f"{request.argument}={request.pretrained!r} has no processor, so images cannot be prepared: copy "
        "processor_config.json and preprocessor_config.json from the base model's repository"
    )
    with explained(request):
        try:
            processor = AutoProcessor.from_pretrained(request.pretrained, **request.source)  # type: ignore[no-untyped-call]
        except OSError as error:  # the config was found, so the name is right
            raise AtomThinkError(f"{missing} ({first_line(error)})") from error
    # Without any image processor transformers returns the tokenizer instead.
    if not isinstance(processor, ProcessorMixin):
        raise AtomThinkError(missing)
    return processor


def set_chat_template(processor: ProcessorMixin, file: str | None, request: CheckpointRequest) -> None:
    """Gives a processor its chat template: the user's file, its own, or its tokenizer's.

    Raises:
        AtomThinkError: There is no chat template.
    """
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


def require(request: CheckpointRequest, config: PretrainedConfig, kind: Kind) -> None:
    """Refuses a checkpoint of another kind.

    Raises:
        AtomThinkError: Neither transformers nor the checkpoint has a model of this kind, or it is an encoder-decoder.
    """
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
    if getattr(config, "is_encoder_decoder", False):
        raise AtomThinkError(
            f"{request.argument}={request.pretrained!r} is of type {config.model_type!r}, an encoder-decoder, whose "
            f"reply does not continue its prompt: {ways_out} that is decoder-only"
        )


def untrusted(request: CheckpointRequest) -> str:
    """Returns what to say where a checkpoint's own code would have to run and may not."""
    return (
        f"{request.argument}={request.pretrained!r} comes with its own Python code: read it, then pass "
        f"{_prefix(request.argument)}trust_remote_code=True to run it"
    )


@contextmanager
def explained(request: CheckpointRequest) -> Iterator[None]:
    """Turns transformers' loading errors into ours, which name the argument and say what to do."""
    name = f"{request.argument}={request.pretrained!r}"
    try:
        yield
    except ImportError as error:
        # Code that comes with a checkpoint may ask for what transformers no longer has.
        fault = "does not fit the installed packages" if "cannot import name" in str(error) else "needs a package"
        raise AtomThinkError(f"{name} {fault}: {first_line(error)}") from error
    except (OSError, ValueError, KeyError) as error:
        text = str(error)
        if "trust_remote_code" in text:
            raise AtomThinkError(untrusted(request)) from error
        if isinstance(error, OSError) and not FilePath(request.pretrained).is_dir():
            raise AtomThinkError(
                f"{name} is neither a folder nor a repository that can be fetched from the model hub now: check "
                f"the spelling, the revision ({request.revision or 'main'}), the network and HF_TOKEN, or name a "
                f"folder that has its files ({first_line(error)})"
            ) from error
        if "llava_llama" in text:
            raise AtomThinkError(
                f"{name} is in the format of LLaVA's original code, which only --model atomthink_llava and "
                "atomthink_hf load: use one of them, or name a checkpoint that was converted for transformers"
            ) from error
        raise AtomThinkError(f"{name} cannot be loaded: {first_line(error)}") from error


def model_and_missing(loader: Any, request: CheckpointRequest, **options: Any) -> tuple[PreTrainedModel, set[str]]:
    """Loads a model.

    Args:
        loader: A class of transformers, such as `AutoModelForCausalLM`.
        request: The checkpoint.
        **options: Further arguments of `from_pretrained`.

    Returns:
        The model, and the names of the weights that the checkpoint does not have. They are random: transformers only
        warns of them.
    """
    with explained(request):
        model, loading = loader.from_pretrained(
            request.pretrained,
            dtype=request.dtype,
            attn_implementation=request.attention,
            output_loading_info=True,
            **request.source,
            **options,
        )
    return model, set(loading["missing_keys"])


def first_line(error: BaseException) -> str:
    """Returns an error's first line, or its class name if it has no message."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
