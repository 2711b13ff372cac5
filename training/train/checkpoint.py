"""Loading of checkpoints for training, and saving of the trained ones."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from transformers import (
    AutoModelForImageTextToText,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.checkpoint_files import (
    CheckpointRequest,
    checked,
    config_of,
    model_and_missing,
    processor_of,
    require,
    set_chat_template,
    weights,
)
from atomthink_plugin.inference.checkpoints import Checkpoint, load_remote_multimodal, neutral
from atomthink_plugin.inference.encoding import MAX_PIXELS
from atomthink_plugin.training.train.recipe import Dtype, Recipe
from atomthink_plugin.training.train.weight_names import hub_names

_BIDIRECTIONAL: Final = ("paligemma",)
"""Models with bidirectional attention over the prompt: at inference, the begun reply would be part of the prompt."""


def checkpoint_request(recipe: Recipe) -> CheckpointRequest:
    """Returns the recipe's checkpoint, precision and attention, to be loaded on the CPU; the trainer moves it.

    Raises:
        AtomThinkError: The folder does not exist.
    """
    trusted = recipe.trust_remote_code
    request = checked(
        recipe.model_name_or_path, recipe.model_revision, recipe.weights_dtype, "cpu", trusted, "model_name_or_path"
    )
    return replace(request, attention=recipe.attn_implementation)


def load_trainable(recipe: Recipe) -> Checkpoint:
    """Loads a multimodal checkpoint to train it.

    Raises:
        AtomThinkError: It cannot be loaded or trained.
    """
    request = checkpoint_request(recipe)
    config = config_of(request)
    if brings_code(config):
        checkpoint = load_remote_multimodal(
            recipe.model_name_or_path,
            revision=recipe.model_revision,
            dtype=recipe.weights_dtype,
            device="cpu",
            trust_remote_code=recipe.trust_remote_code,
            attn_implementation=recipe.attn_implementation,
            argument=request.argument,
        )
        checkpoint.model.train().requires_grad_(True)
        prepare_for_sharding(checkpoint.model)
        set_max_pixels(recipe, checkpoint.model)
        return checkpoint
    require(request, config, "multimodal")
    if config.model_type in _BIDIRECTIONAL:
        raise AtomThinkError(
            f"`model_name_or_path: {recipe.model_name_or_path}` is of type {config.model_type!r}, whose attention over "
            "prompts is bidirectional, so that it cannot learn step by step: name another checkpoint"
        )
    processor = processor_of(request)
    set_chat_template(processor, recipe.chat_template_path, request)
    model = load_weights(AutoModelForImageTextToText, request)
    model.generation_config = neutral(model.generation_config)
    set_max_pixels(recipe, model)
    return Checkpoint(model, processor.tokenizer, processor, weights(request.pretrained, request.revision))


def load_weights(loader: Any, request: CheckpointRequest, new: tuple[str, ...] = (), **config: Any) -> PreTrainedModel:
    """Loads a model to train it.

    Args:
        loader: A class of transformers, such as `AutoModelForCausalLM`.
        request: The checkpoint.
        new: How the names of weights begin that the checkpoint need not have.
        **config: Changes of the model's configuration.

    Raises:
        AtomThinkError: The model cannot be loaded, or lacks weights.
    """
    model, lost = model_and_missing(loader, request, **config)
    if missing := sorted(name for name in lost if not name.startswith(new)):
        raise AtomThinkError(
            f"`{request.argument}: {request.pretrained}` has no weights for {', '.join(missing[:3])}: name a complete "
            "checkpoint"
        )
    prepare_for_sharding(model)
    return model


def set_max_pixels(recipe: Recipe, model: PreTrainedModel) -> None:
    """Writes the recipe's largest image size into the model's config, where inference reads it."""
    if recipe.max_pixels is not None:
        setattr(model.config, MAX_PIXELS, recipe.max_pixels)


def prepare_for_sharding(model: PreTrainedModel) -> None:
    """Corrects attributes of a loaded model that accelerate and `save_pretrained` rely on.

    `_no_split_modules` may name layers that the model does not have, which accelerate refuses (for a LLaVA, the text
    embeddings of CLIP). Under DeepSpeed, `_weight_conversions` holds renamings that loading did not use, and saving
    would undo them.
    """
    present = {type(module).__name__ for module in model.modules()}
    model._no_split_modules = sorted(present & set(model._no_split_modules or ()))
    loaded: Any = model
    if (known := getattr(loaded, "_weight_conversions", None)) is not None:
        loaded._weight_conversions = [one for one in known if one.was_used()]


def brings_code(config: PretrainedConfig) -> bool:
    """Returns whether the model is Python code that comes with the checkpoint, under `AutoModel`, as for EMOVA."""
    return (
        "AutoModel" in (getattr(config, "auto_map", None) or {})
        and config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    )


def freeze(model: torch.nn.Module, patterns: Sequence[str]) -> int:
    """Freezes parameters whose name contains a match of a pattern, and returns the number of trained weights.

    Raises:
        AtomThinkError: A pattern matches no name, or nothing is left to train.
    """
    check_patterns("freeze", patterns, model)
    for name, parameter in model.named_parameters():
        if any(re.search(pattern, name) for pattern in patterns):
            parameter.requires_grad_(False)
    # Under DeepSpeed, parameters are empty and only hold their size.
    sizes = (getattr(one, "ds_numel", one.numel()) for one in model.parameters() if one.requires_grad)
    trained = sum(sizes)
    if not trained:
        raise AtomThinkError(f"`freeze: {list(patterns)}` leaves nothing to train: take a pattern out")
    return trained


def check_patterns(argument: str, patterns: Iterable[str], model: torch.nn.Module) -> None:
    """Refuses patterns that are found in no parameter's name.

    Raises:
        AtomThinkError: There is one.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(re.search(pattern, name) for name in names):
            raise AtomThinkError(
                f"`{argument}: {pattern}` matches no parameter; two of their names: {names[0]}, {names[-1]}"
            )


def lora_config(recipe: Recipe, model: PreTrainedModel, modules: Sequence[str] = (), tokens: Sequence[int] = ()) -> Any:
    """Returns the configuration of the adapters for peft.

    Args:
        recipe: Their size and places.
        model: The model that gets them.
        modules: Names of modules that are trained without adapters, such as a new head.
        tokens: Ids of new tokens, whose embeddings are trained.

    Raises:
        AtomThinkError: peft is not installed, or no layer has a name that matches.
    """
    try:
        from peft import LoraConfig
    except ImportError:
        raise AtomThinkError("`use_peft` needs peft: pip install 'atomthink-plugin[train]'") from None
    layers = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    if not any(_is_target(name, recipe.lora_target_modules) for name in layers):
        raise AtomThinkError(
            f"`lora_target_modules: {recipe.lora_target_modules}` matches no linear layer; two of their names: "
            f"{', '.join(layers[:1] + layers[-1:])}"
        )
    targets = recipe.lora_target_modules
    return LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,  # type: ignore[arg-type]  # peft divides it, a fraction works
        lora_dropout=recipe.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        modules_to_save=list(modules) or None,
        trainable_token_indices=list(tokens) or None,
        task_type=None if modules else "CAUSAL_LM",  # peft's class for language models refuses classifiers
    )


def _is_target(name: str, targets: str | Sequence[str]) -> bool:
    """Returns whether peft would add adapters to a layer of this name."""
    if isinstance(targets, str):
        return targets == "all-linear" or re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def save_checkpoint(trainer: Any, recipe: Recipe, processor: ProcessorMixin | PreTrainedTokenizerBase) -> None:
    """Writes a trained model to `output_dir`: weights, configuration, processor, tokenizer, chat template.

    Called on every process: sharded weights are gathered. Adapters are merged into the weights they were trained on.
    """
    main, out = trainer.is_world_process_zero(), recipe.output_dir
    if not recipe.use_peft:
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if main:
            model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
            write_checkpoint(model, state, recipe.save_dtype, processor, out)
    else:
        adapters = out / "adapters" if recipe.merge_lora else out
        trainer.save_model(str(adapters))
        if main and recipe.merge_lora:
            model = _merged(recipe, adapters)
            write_checkpoint(model, model.state_dict(), recipe.save_dtype, processor, out)
        elif main:
            processor.save_pretrained(out)
    if main and recipe.trust_remote_code:
        # Code on the hub is named in the configuration; code in a folder is copied.
        for file in Path(recipe.model_name_or_path).expanduser().glob("*.py"):
            shutil.copy(file, out)
    trainer.accelerator.wait_for_everyone()


def write_checkpoint(
    model: PreTrainedModel,
    state: Mapping[str, torch.Tensor],
    save_dtype: Dtype,
    processor: ProcessorMixin | PreTrainedTokenizerBase,
    folder: Path,
) -> None:
    """Writes a complete checkpoint.

    Args:
        model: The model, for its configuration and the names of its weights.
        state: Its weights, in any precision.
        save_dtype: Precision of the written weights.
        processor: Its processor.
        folder: The checkpoint's folder.
    """
    dtype: torch.dtype = getattr(torch, save_dtype)
    kept = {
        name: state[own].to("cpu", dtype if state[own].is_floating_point() else state[own].dtype)
        for own, name in hub_names(model, state).items()
    }
    model.save_pretrained(folder, state_dict=kept)
    # `save_pretrained` writes the precision of training, and the trainer has turned the cache off.
    model.config.use_cache = True
    for config in (model.config, *(getattr(model.config, name) for name in model.config.sub_configs)):
        if config is not None:
            config.dtype = dtype
    model.config.save_pretrained(folder)
    processor.save_pretrained(folder)


def _merged(recipe: Recipe, adapters: Path) -> PreTrainedModel:
    from peft import PeftModel

    base = load_trainable(recipe).model
    merged: PreTrainedModel = PeftModel.from_pretrained(base, str(adapters)).merge_and_unload()
    return merged
