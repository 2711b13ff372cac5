"""Checkpoints that are trained, and the folders they are written to."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
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
    checked,
    config_of,
    explained,
    processor_of,
    require,
    set_chat_template,
    weights,
)
from atomthink_plugin.inference.checkpoints import Checkpoint, load_remote_multimodal, neutral
from atomthink_plugin.inference.encoding import MAX_PIXELS
from atomthink_plugin.training.train.recipe import Lora, Precision, Recipe
from atomthink_plugin.training.train.weight_names import hub_names

KINDS: Final[Mapping[Precision, torch.dtype]] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}

_BOTH_WAYS: Final = ("paligemma",)
"""Models that read a prompt in both directions: behind a begun reply, inference would read it as part of the prompt."""


def held_in(recipe: Recipe) -> torch.dtype:
    """Returns the precision weights are held in while they are trained: frozen ones need no more than they have."""
    return KINDS["fp32" if recipe.lora is None else recipe.precision]


def load_trainable(recipe: Recipe) -> Checkpoint:
    """Loads a multimodal checkpoint to train it, on the CPU; the trainer moves it.

    Raises:
        AtomThinkError: It cannot be loaded or trained; names the argument and the way out.
    """
    request = checked(recipe.model, recipe.revision, "float32", "cpu", recipe.trust_remote_code, "model")
    request = replace(request, dtype=held_in(recipe), attention=recipe.attention)
    config = config_of(request)
    if brings_code(config):
        checkpoint = load_remote_multimodal(
            recipe.model,
            revision=recipe.revision,
            dtype=str(held_in(recipe)).removeprefix("torch."),
            device="cpu",
            trust_remote_code=recipe.trust_remote_code,
            attn_implementation=recipe.attention,
            argument="model",
        )
        checkpoint.model.train().requires_grad_(True)
        note_pixels(recipe, checkpoint.model)
        correct(checkpoint.model)
        return checkpoint
    require(request, config, "multimodal")
    if config.model_type in _BOTH_WAYS:
        raise AtomThinkError(
            f"`model: {recipe.model}` is of type {config.model_type!r}, which reads prompts in both directions: steps "
            "cannot be learned behind one another; name another checkpoint"
        )
    processor = processor_of(request)
    set_chat_template(processor, recipe.chat_template, request)
    with explained(request):
        loader: Any = AutoModelForImageTextToText
        model, loading = loader.from_pretrained(
            request.pretrained,
            dtype=request.dtype,
            attn_implementation=request.attention,
            output_loading_info=True,
            **request.source,
        )
    if loading["missing_keys"]:
        missing = ", ".join(sorted(loading["missing_keys"])[:3])
        raise AtomThinkError(f"`model: {recipe.model}` has no weights for {missing}: name a complete checkpoint")
    model.generation_config = neutral(model.generation_config)
    note_pixels(recipe, model)
    correct(model)
    return Checkpoint(model, processor.tokenizer, processor, weights(request.pretrained, request.revision))


def note_pixels(recipe: Recipe, model: PreTrainedModel) -> None:
    """Writes into a model's config how large its images may be, for those who ask it later."""
    if recipe.max_pixels is not None:
        setattr(model.config, MAX_PIXELS, recipe.max_pixels)


def correct(model: PreTrainedModel) -> None:
    """Corrects what a loaded model says of itself to those who share it out over processes and to those who save it.

    Of the layers that FSDP gathers one at a time it may name some that it does not have, which accelerate refuses (a
    LLaVA the text embeddings of CLIP); and under DeepSpeed it remembers renamings of weights that it did not need,
    which would be undone in what is saved.
    """
    present = {type(module).__name__ for module in model.modules()}
    model._no_split_modules = sorted(present & set(model._no_split_modules or ()))
    loaded: Any = model
    if (known := getattr(loaded, "_weight_conversions", None)) is not None:
        loaded._weight_conversions = [one for one in known if one.was_used()]


def brings_code(config: PretrainedConfig) -> bool:
    """Returns whether a checkpoint's model is Python code of its own, under `AutoModel`, as EMOVA's is."""
    return (
        "AutoModel" in (getattr(config, "auto_map", None) or {})
        and config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    )


def freeze(model: torch.nn.Module, patterns: Sequence[str]) -> int:
    """Freezes parameters in whose names a pattern is found, and returns how many numbers are trained.

    Raises:
        AtomThinkError: A pattern fits no name, or nothing is left to train.
    """
    for pattern in patterns:
        found = [parameter for name, parameter in model.named_parameters() if re.search(pattern, name)]
        if not found:
            raise AtomThinkError(unfit("freeze", pattern, model))
        for parameter in found:
            parameter.requires_grad_(False)
    # Of what DeepSpeed has put elsewhere a parameter only remembers how much it is.
    sizes = (getattr(one, "ds_numel", one.numel()) for one in model.parameters() if one.requires_grad)
    trained = sum(sizes)
    if not trained:
        raise AtomThinkError(f"`freeze: {list(patterns)}` leaves nothing to train: take a pattern out")
    return trained


def unfit(argument: str, pattern: str, model: torch.nn.Module) -> str:
    """Returns what to say of a pattern that is found in no parameter's name."""
    names = [name for name, _ in model.named_parameters()]
    return f"`{argument}: {pattern}` fits no parameter; two of their names: {names[0]}, {names[-1]}"


def adapters(lora: Lora, model: PreTrainedModel, whole: Sequence[str] = (), tokens: Sequence[int] = ()) -> Any:
    """Returns the adapters' configuration for peft.

    Args:
        lora: Their size and places.
        model: What they are for.
        whole: Names of modules that are trained as they are, such as a new head.
        tokens: Ids whose embeddings are trained as they are: those of new tokens.

    Raises:
        AtomThinkError: peft is not installed, or no layer has a name that fits.
    """
    try:
        from peft import LoraConfig
    except ImportError:
        raise AtomThinkError("`lora` needs peft: pip install 'atomthink-plugin[train]'") from None
    layers = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    if not any(re.fullmatch(lora.targets, name) for name in layers):
        raise AtomThinkError(
            f"`lora.targets: {lora.targets}` is the whole name of no linear layer; two of their names: "
            f"{', '.join(layers[:1] + layers[-1:])}"
        )
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft divides it, so that it may well be a fraction
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        modules_to_save=list(whole) or None,
        trainable_token_indices=list(tokens) or None,
        task_type=None if whole else "CAUSAL_LM",  # peft's class for language models refuses classifiers
    )


def save(trainer: Any, recipe: Recipe, processor: ProcessorMixin | PreTrainedTokenizerBase) -> None:
    """Writes a trained model to `out`: weights, configuration, processor, tokenizer, chat template.

    Called on every process: sharded weights are gathered. Adapters are merged into the weights they were trained on.
    """
    if recipe.lora is None:
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if trainer.is_world_process_zero():
            write(trainer.accelerator.unwrap_model(trainer.model_wrapped), state, recipe.saved, processor, recipe.out)
    else:
        folder = recipe.out / "adapters" if recipe.lora.merge else recipe.out
        trainer.save_model(str(folder))
        if trainer.is_world_process_zero():
            processor.save_pretrained(recipe.out)
            if recipe.lora.merge:
                model = _merged(recipe, folder)
                write(model, model.state_dict(), recipe.saved, processor, recipe.out)
    if trainer.is_world_process_zero() and recipe.trust_remote_code:
        # What a hub's checkpoint brings is named in the configuration; a folder's has to come along.
        for file in Path(recipe.model).expanduser().glob("*.py"):
            shutil.copy(file, recipe.out)
    trainer.accelerator.wait_for_everyone()


def write(
    model: PreTrainedModel,
    state: Mapping[str, torch.Tensor],
    precision: Precision,
    processor: ProcessorMixin | PreTrainedTokenizerBase,
    folder: Path,
) -> None:
    """Writes a complete checkpoint.

    Args:
        model: Whose architecture and configuration it has.
        state: Its weights, in any precision.
        precision: That of the written ones.
        processor: Its processor.
        folder: Where to.
    """
    kind = KINDS[precision]
    kept = {
        name: state[own].to("cpu", kind if state[own].is_floating_point() else state[own].dtype)
        for own, name in hub_names(model, state).items()
    }
    model.save_pretrained(folder, state_dict=kept)
    # Saving states the precision the model was trained in, and the trainer turned its cache off.
    model.config.use_cache = True
    for config in (model.config, *(getattr(model.config, name) for name in model.config.sub_configs)):
        if config is not None:
            config.dtype = kind
    model.config.save_pretrained(folder)
    processor.save_pretrained(folder)


def _merged(recipe: Recipe, folder: Path) -> PreTrainedModel:
    from peft import PeftModel

    base = load_trainable(recipe).model
    merged: PreTrainedModel = PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
    return merged
