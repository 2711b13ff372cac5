"""`atomthink train tiny`: the embedded model from scratch, one recipe file per stage, in order.

A recipe file is called `NN-KIND-NAME.yaml`. The kinds `policy` and `prm` are recipes of `atomthink train` with `muon`,
Muon's learning rate; `run` has the arguments of any command. The other kinds make the input of a training: a base
model, data, labelled chains.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.json_rows import json_rows
from atomthink_plugin.named_models import rollout_plan
from atomthink_plugin.plugins.arguments import hint
from atomthink_plugin.runtime.build import build
from atomthink_plugin.tasks.demo.questions import DemoQuestion
from atomthink_plugin.training.label.rollouts import sample_chains
from atomthink_plugin.training.records import AnsweredQuestion, read_records, relocated, write_records
from atomthink_plugin.training.tiny.figures import Figures
from atomthink_plugin.training.tiny.files import labelled_chain, write, write_held_out
from atomthink_plugin.training.tiny.model import make_base, make_extended, make_grown
from atomthink_plugin.training.tiny.muon import muon_with_adamw
from atomthink_plugin.training.tiny.requests import fixed_texts
from atomthink_plugin.training.tiny.tokenizer import FORMAT_TEXTS
from atomthink_plugin.training.train.policy import train_policy
from atomthink_plugin.training.train.prm import train_prm
from atomthink_plugin.training.train.recipe import PolicyRecipe, PrmRecipe, Recipe, checked_recipe
from atomthink_plugin.training.train.trainer import OptimizerFactory

R = TypeVar("R", bound=Recipe)

log = logging.getLogger(__name__)

RECIPES: Final = Path(__file__).parents[1] / "recipes" / "tiny"
SCALED: Final = ("max_steps", "num_decay_steps", "looking", "records", "size")
"""Fields that `scale` multiplies, at any depth of a recipe."""

DONE: Final = "stages.jsonl"

_CLI: Final = "atomthink_plugin.cli"


def run_stages(out: Path, only: Sequence[str] | None = None, scale: float = 1.0, recipes: Path = RECIPES) -> None:
    """Runs all stages that are not finished, each in a process of its own, in the folder `out`.

    Args:
        out: Folder for all outputs; paths in recipes are relative to it.
        only: Names or numbers of the stages to run; None for all but those whose number is 90 or more.
        scale: Multiplies the numbers of steps and records: 0.01 for a trial, 10 for a machine with a GPU.
        recipes: Folder of the recipe files.

    Raises:
        AtomThinkError: A stage fails, a name in `only` is unknown, or a stage was finished with another recipe.
    """
    stages = {file.stem: file for file in sorted(recipes.glob("*.yaml"), key=_number)}
    chosen = [name for name in stages if _is_chosen(name, only)]
    for wanted in only or ():
        if not any(_is_chosen(name, [wanted]) for name in stages):
            raise AtomThinkError(f"`--only {wanted}` is unknown{hint(wanted, stages)}; stages: {', '.join(stages)}")
    (out / "recipes").mkdir(parents=True, exist_ok=True)
    finished = _finished(out)
    for name in chosen:
        recipe = out / "recipes" / f"{name}.yaml"
        text = yaml.safe_dump(_scaled(yaml.safe_load(stages[name].read_text()), scale), sort_keys=False)
        if name not in finished:
            recipe.write_text(text)
            _run(name, recipe.absolute(), out)
        elif recipe.read_text() == text:
            log.info("%s: already finished", name)
        else:
            raise AtomThinkError(
                f"`--out {out}`: {name} was finished with another recipe or another `--scale`, see {recipe}. Name "
                f"another folder, or remove the stage's line from {out / DONE} to run it again"
            )


def _number(recipe: Path) -> int:
    return int(recipe.stem.partition("-")[0])


def _is_chosen(name: str, only: Sequence[str] | None) -> bool:
    number = name.partition("-")[0]
    return int(number) < 90 if only is None else name in only or number in only


def _run(name: str, recipe: Path, out: Path) -> None:
    kind = name.split("-")[1]
    command = _command(kind, recipe)
    log.info("%s", name)
    started, spent = time.perf_counter(), _cpu_seconds()
    code = subprocess.run([sys.executable, "-m", *command], cwd=out, check=False).returncode
    if code:
        raise AtomThinkError(f"the stage {name} failed with exit status {code}: see its output above")
    line = {
        "stage": name,
        "seconds": round(time.perf_counter() - started),
        "cpu_seconds": round(_cpu_seconds() - spent),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }
    with (out / DONE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _command(kind: str, recipe: Path) -> list[str]:
    """Returns the module that runs a stage, with its arguments."""
    if kind == "run":
        return [_CLI, *map(str, yaml.safe_load(recipe.read_text())["arguments"])]
    return ["atomthink_plugin.training.tiny", kind, str(recipe)]


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _finished(out: Path) -> set[str]:
    file = out / DONE
    return {json.loads(line)["stage"] for line in file.read_text().splitlines()} if file.exists() else set()


def _scaled(value: Any, scale: float) -> Any:
    if isinstance(value, dict):
        return {
            name: max(round(scale * one), 1) if name in SCALED and one is not None else _scaled(one, scale)
            for name, one in value.items()
        }
    return [_scaled(one, scale) for one in value] if isinstance(value, list) else value


def figures_of(recipe: dict[str, Any]) -> Figures:
    """Returns a recipe's figures, after drawing those that are missing."""
    fields = recipe["figures"]
    figures = Figures(Path(fields["folder"]), fields["size"], fields["seed"])
    if not (figures.folder / figures.file(len(figures.all) - 1)).exists():
        figures.draw()
    return figures


def base(recipe: dict[str, Any]) -> None:
    """Makes a base model."""
    make_base(Path(recipe["out"]), figures_of(recipe), recipe["looking"], recipe["seed"])


def data(recipe: dict[str, Any]) -> None:
    """Writes files of records, on all cores."""
    figures = figures_of(recipe)
    with ProcessPoolExecutor() as pool:
        wanted = [(file["name"], file["records"], file["seed"]) for file in recipe["files"]]
        for written in pool.map(write, repeat(figures), *zip(*wanted, strict=True)):
            log.info("%s", written)


def grow(recipe: dict[str, Any]) -> None:
    """Adds layers to a trained model."""
    eyes = recipe.get("eyes")
    make_grown(Path(recipe["out"]), Path(recipe["model"]), recipe["layers"], eyes and Path(eyes), recipe["images"])


def extend(recipe: dict[str, Any]) -> None:
    """Adds the texts of further prompt formats, or of the requests of searches, to a trained model's tokenizer."""
    texts = FORMAT_TEXTS if recipe["texts"] == "formats" else fixed_texts()
    make_extended(Path(recipe["out"]), Path(recipe["model"]), texts)


def chains(recipe: dict[str, Any]) -> None:
    """Samples a policy's chain for each question and writes those with an answer, with exact labels."""
    questions, out, temperature = Path(recipe["questions"]), Path(recipe["out"]), recipe["temperature"]
    demo = [record["demo"] for _, record in json_rows(questions)]
    asked = read_records(questions, AnsweredQuestion, required=("answer",), check_images=False)
    known = {question.id: DemoQuestion.from_json(one) for question, one in zip(asked.records, demo, strict=True)}
    plan = rollout_plan("atomthink_tiny", {"pretrained": recipe["policy"], "temperature": temperature})
    sampled = sample_chains(asked, replace(build(plan), journal=None), 1, temperature)
    answered = [chain for chain in sampled.chains if plan.format.answer(chain.steps[-1]) is not None]
    log.info("%d chains with an answer, of %d questions", len(answered), len(asked.records))
    records = []
    for chain in (relocated(chain, questions.parent, out) for chain in answered):
        question = known[chain.id.rpartition("/")[0]]
        records.append({"id": chain.id, **labelled_chain(question, chain.images[0], list(chain.steps))})
    write_records(out, records)


def held(recipe: dict[str, Any]) -> None:
    """Writes held-out questions."""
    write_held_out(Path(recipe["folder"]), recipe["records"], recipe["seed"])


def policy(fields: dict[str, Any]) -> None:
    """Fine-tunes a policy."""
    train_policy(*_with_muon(PolicyRecipe, fields))


def prm(fields: dict[str, Any]) -> None:
    """Trains a process reward model."""
    train_prm(*_with_muon(PrmRecipe, fields))


def _with_muon(kind: type[R], fields: dict[str, Any]) -> tuple[R, OptimizerFactory]:
    """Splits a recipe with `muon` into a recipe of `atomthink train` and an optimizer."""
    further = {name: value for name, value in fields.items() if name != "muon"}
    recipe = checked_recipe(kind, further, "the stage's recipe")
    betas = (recipe.adam_beta1, recipe.adam_beta2)
    return recipe, partial(muon_with_adamw, muon=fields["muon"], learning_rate=recipe.learning_rate, betas=betas)


KINDS: Final[dict[str, Callable[[dict[str, Any]], None]]] = {
    kind.__name__: kind for kind in (base, data, grow, extend, chains, held, policy, prm)
}
