"""The commands that make data, train models and measure process reward models.

A function does what only the command line knows and calls the entry function of its step of the pipeline. Heavy
modules are imported in the functions, so that `--help` is instant.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import ArgumentCollection, Group, Parameter
from cyclopts.types import NonNegativeFloat, PositiveFloat
from cyclopts.validators import Number, mutually_exclusive

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.options import Count, CountFrom0, ModelArgs, Pairs, Whole, Words

TEACHER = Group("Teacher: a model of an OpenAI-compatible server (its key: OPENAI_API_KEY)", sort_key=1)
LOCAL = Group("Local model: its own rollouts are kept if their answer is right", sort_key=2)


def _one_annotator(arguments: ArgumentCollection) -> None:
    """Checks that one annotator is named, and no option of the other is given."""
    given = [argument for argument in arguments if argument.tokens]
    names = {argument.name for argument in given}
    if ("--teacher-model" in names) == ("--model" in names):
        raise AtomThinkError("name the annotator: either `--teacher-model`, or `--model` as for lmms-eval")
    chosen, other = ("--model", TEACHER) if "--model" in names else ("--teacher-model", LOCAL)
    for argument in given:
        if other in argument.parameter.group:  # type: ignore[operator]
            typed = f"{argument.name} {argument.tokens[0].value}"
            raise AtomThinkError(f"`{typed}` does not go with `{chosen}`: leave it out")


_ANNOTATOR = Group(validator=_one_annotator)
OfLocal = Parameter(group=(LOCAL, _ANNOTATOR))


@Parameter(name="*", group=(TEACHER, _ANNOTATOR))
@dataclass(frozen=True)
class TeacherOptions:
    """The teacher, and how it is asked.

    Attributes:
        teacher_model: Name of the teacher on its server.
        base_url: URL of the server, if not OpenAI's.
        method: dynamic: the teacher extends a chain step by step. augment: it writes out a reference solution.
            corrupt: it writes a wrong version of each step of a right chain.
        checks: How many opinions have to agree that a chain is right.
        tries: Attempts per question.
        max_steps: Maximum steps of a chain, by default 25.
        concurrency: Questions that are worked on at the same time.
        timeout: Seconds for one attempt of a request.
        max_retries: Retries of a request. Each may cost money.
        wait: Seconds to wait for a server that cannot be reached.
        prices: YAML with USD per million tokens: NAME: {prompt: .., completion: .., cached: ..}
        max_tokens_total: Stop before more tokens are spent, over all runs in the folder.
        max_usd: Stop before more money is spent, over all runs in the folder. Needs --prices.
    """

    teacher_model: str | None = None
    base_url: str | None = None
    method: Literal["dynamic", "augment", "corrupt"] = "dynamic"
    checks: Annotated[Whole, Parameter(validator=Number(gte=0, lte=2))] = 2
    tries: Count = 2
    max_steps: Annotated[Whole | None, Parameter(validator=Number(gte=2))] = None
    concurrency: Count = 16
    timeout: PositiveFloat = 300.0
    max_retries: CountFrom0 = 5
    wait: NonNegativeFloat = 600.0
    prices: Path | None = None
    max_tokens_total: Count | None = None
    max_usd: PositiveFloat | None = None


def annotate(
    input: str,
    /,
    *,
    out: Path,
    split: str | None = None,
    columns: Pairs = "",
    limit: Count | None = None,
    teacher: TeacherOptions = TeacherOptions(),
    model: Annotated[str | None, OfLocal] = None,
    model_args: Annotated[ModelArgs, OfLocal] = "",
    samples: Annotated[Count, OfLocal] = 8,
) -> None:
    r"""Write chains of atomic steps for questions with known answers.

    A teacher or a local model writes the chains. The folder gets chains.jsonl (chains that passed all filters),
    rejects.jsonl (the other questions with stage and reason) and summary.json (counts and costs). A stopped run is
    continued by the same command. The exit status is 3 if a spending limit is reached.

        atomthink annotate questions.jsonl --out own --model atomthink_tiny
        atomthink annotate ORG/QUESTIONS --split train --out chains \
          --teacher-model NAME --max-usd 20 --prices prices.yaml
        atomthink annotate chains/chains.jsonl --out wrong --method corrupt \
          --teacher-model NAME

    Args:
        input: Questions: JSONL, a folder or a dataset of the hub. With --method corrupt: JSONL of right chains.
        out: Folder for the output; a stopped run continues from it.
        split: Split of a dataset that has several.
        columns: Columns of id, question, images, answer, solution, options and source, as FIELD=NAME pairs, if they
            do not have the usual names.
        limit: Use only the first records.
        teacher: The teacher.
        model: The local model, named as for lmms-eval.
        model_args: Its arguments, as for lmms-eval.
        samples: Rollouts per question.
    """
    from atomthink_plugin.training.annotate.run import annotate_with_model, annotate_with_teacher

    source: dict[str, Any] = {"split": split, "columns": columns, "limit": limit}
    if model is not None:
        annotate_with_model(input, out, **source, model=model, model_args=model_args, samples=samples)
    else:
        annotate_with_teacher(input, out, **source, **vars(teacher))


def examples_build(
    input: str,
    /,
    *,
    out: Path,
    model: str = "atomthink_tiny",
    model_args: ModelArgs = "",
    samples: Count = 1,
    pick: Literal["all", "cluster", "complex"] = "all",
    k: Count | None = None,
    embedding: Literal["tfidf", "policy"] = "tfidf",
    split: str | None = None,
    columns: Pairs = "",
    limit: Count | None = None,
) -> None:
    """Let a model solve questions with known answers, as examples for `format=few_shot`.

    Keeps a chain of each question whose answer is right. Writes the examples to OUT, the other questions with the
    reason to OUT.rejects.jsonl, and counts to OUT.summary.json (without OUT's own ending). A stopped run is continued
    by the same command.

        atomthink examples build questions.jsonl --out examples.jsonl --pick cluster

    Args:
        input: Questions: JSONL, a folder or a dataset of the hub.
        out: The examples, as JSONL. Their images are copied into its folder.
        model: The model, named as for lmms-eval.
        model_args: Its arguments, as for lmms-eval.
        samples: Chains sampled of each question. A single one is greedy; of several right ones the shortest is kept.
        pick: all: every solved question. cluster: one simple question of each of K clusters of similar ones
            (Auto-CoT). complex: the K questions with the longest chains.
        k: Number of examples for --pick cluster and complex, by default 8.
        embedding: With --pick cluster: how similar questions are found, by their words or by the policy's hidden
            states.
        split: Split of a dataset that has several.
        columns: Columns of id, question, images, answer and options, as FIELD=NAME pairs, if they do not have the
            usual names.
        limit: Use only the first records.
    """
    from atomthink_plugin.plugins.arguments import read_pairs
    from atomthink_plugin.training.examples.build import Picking, build_examples
    from atomthink_plugin.training.sources import read_columns

    build_examples(
        input,
        out,
        model=model,
        model_args=read_pairs("--model-args", model_args),
        samples=samples,
        picking=Picking(pick, k, embedding),
        split=split,
        columns=read_columns(columns),
        limit=limit,
    )


def label(
    input: Path,
    /,
    *,
    out: Path,
    method: Literal["monte_carlo", "omega"] = "omega",
    model: str = "atomthink_tiny",
    model_args: ModelArgs = "",
    rollouts: Count = 8,
    soft: bool = False,
    sample: Count | None = None,
    temperature: NonNegativeFloat | None = None,
) -> None:
    """Label the steps of chains by rollouts, for training a process reward model.

    Writes the labelled chains to OUT, chains that cannot be labelled to OUT.rejects.jsonl, and counts and costs to
    OUT.summary.json (without OUT's own ending). A stopped run is continued by the same command.

        atomthink label questions.jsonl --sample 4 --out labels.jsonl

    Args:
        input: JSONL with id, question, images, steps and answer; steps are not needed with --sample.
        out: The labelled chains, as JSONL.
        method: monte_carlo: rollouts after every step (Math-Shepherd). omega: binary search for the first wrong step;
            later steps get no label (OmegaPRM).
        model: The model, named as for lmms-eval.
        model_args: Its arguments, as for lmms-eval.
        rollouts: Rollouts after a step; omega stops at the first right one.
        soft: With --method monte_carlo: labels are the share of right rollouts. By default a label is 1 after any right
            rollout, else 0.
        sample: First sample this many chains of each question.
        temperature: With --sample: temperature of the chains, by default that of the rollouts.
    """
    from atomthink_plugin.plugins.arguments import read_pairs
    from atomthink_plugin.training.label.run import label_file

    if soft and method == "omega":
        raise AtomThinkError("`--soft` needs `--method monte_carlo`: omega stops at the first right rollout")
    if temperature is not None and sample is None:
        raise AtomThinkError(f"`--temperature {temperature}` needs `--sample`; rollouts have `--model-args`")
    label_file(
        input,
        out,
        model,
        read_pairs("--model-args", model_args),
        method=method,
        rollouts=rollouts,
        soft=soft,
        sample=sample,
        temperature=temperature,
    )


def pairs(
    *sources: Path,
    out: Path,
    questions: Path | None = None,
    model: str | None = None,
    model_args: ModelArgs = "",
    margin: Annotated[float, Parameter(validator=Number(gt=0, lte=1))] = 0.2,
    per_prefix: CountFrom0 = 1,
    per_question: CountFrom0 = 4,
) -> None:
    r"""Make pairs of better and worse steps from searches, for `train dpo`.

    Pairs siblings of a search whose PRM scores differ, and ends of paths to a right and to a wrong answer. The
    sources are journals of runs, files of chains with known answers, or a new search with --model. What cannot be
    used goes to OUT.rejects.jsonl.

        atomthink pairs --model atomthink_tiny --model-args thinking=slow \
          --questions questions.jsonl --out pairs.jsonl

    Args:
        sources: Folders of journals, or JSONL files of chains.
        out: The pairs, as JSONL.
        questions: JSONL with id, question, images and answer: the questions of the journals, or those to search.
        model: Search the questions with this model, named as for lmms-eval.
        model_args: Its arguments, as for lmms-eval.
        margin: Smallest difference between the scores of two siblings that makes a pair.
        per_prefix: Maximum pairs after one prefix.
        per_question: Maximum pairs of whole paths of one question.
    """
    from atomthink_plugin.plugins.arguments import read_pairs
    from atomthink_plugin.training.pairs import PairLimits, make_pairs

    make_pairs(
        sources,
        out,
        PairLimits(margin, per_prefix, per_question),
        questions=questions,
        model=model,
        model_args=read_pairs("--model-args", model_args),
    )


def data_sft(chains: Path, /, *, out: Path) -> None:
    """Write one training record per step, in the form of AMATH-SFT.

    The folder gets parquet with images, JSON and a data card.

        atomthink data sft chains/chains.jsonl --out sft

    Args:
        chains: JSONL of chains.
        out: The folder to write.
    """
    from atomthink_plugin.training.export import export_chains

    export_chains(chains, out, "sft")


def data_prm(chains: Path, /, *, out: Path) -> None:
    """Write one training record per step label, in the form of AMATH-PRM.

    The folder gets parquet with images, JSON and a data card.

        atomthink data prm labels.jsonl --out prm

    Args:
        chains: JSONL of chains with labels.
        out: The folder to write.
    """
    from atomthink_plugin.training.export import export_chains

    export_chains(chains, out, "prm")


def data_stages(chains: Path, /, *, out: Path) -> None:
    """Write one training record per chain of stages, in the form of LLaVA-CoT-100k.

    The chains have `format: stages`. The folder gets parquet with images, JSONL and a data card.

        atomthink data stages chains.jsonl --out stages

    Args:
        chains: JSONL of chains.
        out: The folder to write.
    """
    from atomthink_plugin.training.export import export_chains

    export_chains(chains, out, "stages")


def data_read(source: str, /, *, out: Path, images: Path | None = None) -> None:
    """Turn published files of AMATH-SFT, AMATH-PRM or LLaVA-CoT-100k into chains.

    Joins the records of one problem of AMATH-SFT to chains. Each reply of LLaVA-CoT-100k is a chain with `format:
    stages`, without the turns before it. Records that cannot be used go to OUT.rejects.jsonl with their reason.

        atomthink data read AMATH-SFT.json --images images --out chains.jsonl

    Args:
        source: The published records: a file, a folder or a dataset of the hub.
        out: The chains, as JSONL.
        images: Folder of the images, by default the folder of the file.
    """
    from atomthink_plugin.training.published import import_published

    import_published(source, out, images)


def data_quality(
    chains: Path,
    /,
    *,
    tokenizer: str | None = None,
    judge_model: str | None = None,
    base_url: str | None = None,
    samples: Count = 500,
    max_tokens_total: Count | None = None,
    json: Path | None = None,
) -> None:
    """Print statistics of chains, and a judge's score from 0 to 100.

        atomthink data quality chains/chains.jsonl --json quality.json

    Args:
        chains: JSONL of chains.
        tokenizer: Also count tokens with the tokenizer of this checkpoint.
        judge_model: Name of the judge on its server; its key is OPENAI_API_KEY.
        base_url: URL of an OpenAI-compatible server, if not OpenAI's.
        samples: How many chains are judged.
        max_tokens_total: Stop before the judge spends more tokens.
        json: Also write the numbers and all scores to this file.
    """
    from atomthink_plugin.training.quality import report_quality

    report_quality(
        chains,
        tokenizer=tokenizer,
        judge_model=judge_model,
        base_url=base_url,
        samples=samples,
        max_tokens_total=max_tokens_total,
        json_file=json,
    )


def init(kind: Literal["prm", "policy"], folder: Path, /) -> None:
    """Start a small training project that runs on a CPU.

    Writes questions with images, a recipe and a README with the commands in order, and prints the commands. Every
    file can be replaced by one of yours. Existing files are never overwritten.

        atomthink init prm my-prm

    Args:
        kind: What the project trains.
        folder: Where it is written.
    """
    from atomthink_plugin.training.tiny.starter import write_project

    commands = write_project(kind, folder)
    print(f"{folder} is ready. Next:\n\ncd {shlex.quote(str(folder))}\n{commands}")


RecipeName = Annotated[
    str | None, Parameter(help="A recipe: a YAML file, or the name of one that comes with the package.")
]
PrintRecipe = Annotated[str | None, Parameter(help="Print the recipe of this name and exit.")]
Override = Annotated[str, Parameter(help="Keys of the recipe with values in YAML; they replace those of the recipe.")]


def train_policy(recipe: RecipeName = None, /, *, print_recipe: PrintRecipe = None, **overrides: Override) -> None:
    """Fine-tune a policy on chains of steps.

    Trains any image-text-to-text checkpoint on chains, rendered as inference renders them. For several processes use
    `accelerate launch -m atomthink_plugin.cli train policy RECIPE.yaml`.

        atomthink train policy --print-recipe llava1_5_7b > recipe.yaml
        atomthink train policy recipe.yaml --data chains.jsonl --learning_rate 1e-5
    """
    from atomthink_plugin.training.train.recipe import PolicyRecipe

    if loaded := _recipe(PolicyRecipe, recipe, print_recipe, overrides):
        from atomthink_plugin.training.train.policy import train_policy  # takes seconds: after the recipe is checked

        train_policy(loaded)


def train_dpo(recipe: RecipeName = None, /, *, print_recipe: PrintRecipe = None, **overrides: Override) -> None:
    """Tune a policy on pairs of better and worse steps (DPO).

    Trains on the pairs that `atomthink pairs` makes. The next round's recipe names the output of this round as its
    model.

        atomthink train dpo --print-recipe dpo > recipe.yaml
        atomthink train dpo recipe.yaml --data pairs.jsonl
    """
    from atomthink_plugin.training.train.recipe import DpoRecipe

    if loaded := _recipe(DpoRecipe, recipe, print_recipe, overrides):
        from atomthink_plugin.training.train.policy import train_dpo  # takes seconds: after the recipe is checked

        train_dpo(loaded)


def train_prm(recipe: RecipeName = None, /, *, print_recipe: PrintRecipe = None, **overrides: Override) -> None:
    """Train a process reward model on labelled chains.

    Trains a language model that is read at a tag (kind: token) or a token classifier (kind: head), with or without
    images. For several processes use `accelerate launch -m atomthink_plugin.cli train prm RECIPE.yaml`.

        atomthink train prm --print-recipe prm_llava1_5_7b > recipe.yaml
        atomthink train prm recipe.yaml --data labels.jsonl
    """
    from atomthink_plugin.training.train.recipe import PrmRecipe

    if loaded := _recipe(PrmRecipe, recipe, print_recipe, overrides):
        from atomthink_plugin.training.train.prm import train_prm  # takes seconds: after the recipe is checked

        train_prm(loaded)


def _recipe(kind: Any, recipe: str | None, printed: str | None, overrides: dict[str, str]) -> Any:
    """Returns the checked recipe, or None after printing one that was asked for."""
    from atomthink_plugin.training.train.recipe import load_recipe, recipe_text

    if printed is not None:
        print(recipe_text(printed), end="")
        return None
    if recipe is None:
        raise AtomThinkError("name a recipe file, or print one that comes with the package with `--print-recipe`")
    return load_recipe(kind, recipe, overrides)


def train_tiny(*, out: Path, only: Words = (), scale: PositiveFloat = 1.0) -> None:
    """Make the embedded model from scratch, stage by stage.

    Runs the recipes of training/recipes/tiny in order: data, policy, process reward model. Finished stages are not
    repeated. Stages from 90 on are comparisons and run only if they are named.

        atomthink train tiny --out tiny --scale 0.01 --only 01 02 03

    Args:
        out: Folder for all outputs.
        only: Names or numbers of the stages to run.
        scale: Multiplies the numbers of steps and records.
    """
    from atomthink_plugin.training.tiny.stages import run_stages

    run_stages(out, only or None, scale)


@Parameter(name="*")
@dataclass(frozen=True)
class ScoringOptions:
    """The process reward model that is measured.

    Attributes:
        prm: The checkpoint, as `prm=` of a run; by default the embedded PRM.
        scorer: Its kind, if its config does not say it.
        prm_args: Arguments of the scorer, such as prm_dtype=float32.
        scores: Keep scores in this file; a stopped run continues from it.
    """

    prm: str | None = None
    scorer: str | None = None
    prm_args: Pairs = ""
    scores: Path | None = None

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of the scorer, as a run takes them."""
        from atomthink_plugin.model_adapters.tiny import TINY_ARGUMENTS
        from atomthink_plugin.plugins.arguments import read_pairs

        prm = TINY_ARGUMENTS["prm"] if self.prm is None and self.scorer is None else self.prm
        named = {"prm": prm, "scorer": self.scorer}
        return {**read_pairs("--prm-args", self.prm_args), **{k: v for k, v in named.items() if v is not None}}


SetFormat = Literal["chains", "processbench", "visualprocessbench", "prmbench", "bigbench_mistake"]
ThresholdGoal = Literal["first_error_f1", "macro_f1"]
_THRESHOLD = Group("Threshold", validator=mutually_exclusive)


def prm_eval(
    set: str,
    /,
    *,
    scoring: ScoringOptions = ScoringOptions(),
    format: SetFormat | None = None,
    limit: Count | None = None,
    threshold: Annotated[float | None, Parameter(group=_THRESHOLD, validator=Number(gte=0, lte=1))] = None,
    threshold_from: Annotated[str | None, Parameter(group=_THRESHOLD)] = None,
    threshold_by: ThresholdGoal = "first_error_f1",
    strict: bool = False,
    rejects: Path | None = None,
    json: Path | None = None,
) -> None:
    """Measure a process reward model on labelled steps.

    Scores every step of a labelled set as a search would and prints how well the scores separate right steps from
    wrong ones: first-error F1, macro-F1, AUC, calibration and best-of-N gain.

        atomthink prm eval labels.jsonl --scores scores.jsonl --json report.json
        atomthink prm eval Qwen/ProcessBench --prm ORG/PRM --limit 100

    Args:
        set: JSONL, JSON, parquet, a folder with such files, or a dataset of the hub.
        scoring: The model.
        format: Format of the set, if its fields do not show it.
        limit: Use only the first records.
        threshold: Steps with a lower score count as judged wrong. By default as the model was published, else 0.5.
        threshold_from: Use the threshold with the highest F1 on this other set.
        threshold_by: The F1 that `--threshold-from` looks at: of first errors, or of right and wrong steps.
        strict: Steps with a score at the threshold count as judged wrong too. By default as the model was published.
        rejects: Write records that cannot be used to this file.
        json: Also write the numbers to this file.
    """
    from atomthink_plugin.report.output_files import writable
    from atomthink_plugin.training.evaluate.run import evaluate_prm

    for option, file in (("scores", scoring.scores), ("rejects", rejects), ("json", json)):
        writable(f"--{option}", file)
    evaluate_prm(
        set,
        scoring.arguments(),
        format=format,
        limit=limit,
        threshold=threshold,
        threshold_from=threshold_from,
        threshold_by=threshold_by,
        strict=strict,
        scores=scoring.scores,
        rejects=rejects,
        json=json,
    )


def prm_mine(chains: Path, /, *, out: Path, scoring: ScoringOptions = ScoringOptions()) -> None:
    """Find labelled chains that a process reward model misjudges.

    Scores all steps of labelled chains and writes the chains with a step whose score is further than 0.5 from its
    label, the worst first. They are the data of the next round of `train prm`.

        atomthink prm mine labels.jsonl --out hard.jsonl

    Args:
        chains: Labelled chains, as `atomthink label` writes them.
        out: The misjudged chains, as JSONL.
        scoring: The model.
    """
    from atomthink_plugin.report.output_files import writable
    from atomthink_plugin.training.evaluate.run import mine

    writable("--scores", scoring.scores)
    writable("--out", out)
    mine(chains, out, scoring.arguments(), scoring.scores)


def prm_profiles(name: str | None = None, /) -> None:
    """List the published process reward models that `prm=` knows by their hub id.

        atomthink prm profiles
        atomthink prm profiles math_shepherd > own.yaml

    Args:
        name: Print the profile of this name or hub id as YAML instead, for example as a start for one of your own, and
            the command that serves the PRM with vLLM.
    """
    from atomthink_plugin.plugins.registry import add_profiles
    from atomthink_plugin.scorers.profile_catalogue import all_profiles, profile_named, profile_of, profile_text
    from atomthink_plugin.scorers.profile_listing import profile_grid, served_with
    from atomthink_plugin.tables import print_grid

    add_profiles()
    if name is None:
        print_grid(profile_grid(all_profiles()))
    else:
        by_id = profile_of(name)
        known = by_id.name if by_id is not None else name
        command = served_with(profile_named(known).model)
        print(f"# Served with vLLM by: {command}\n" if command else "", profile_text(known), sep="", end="")
