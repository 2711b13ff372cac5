"""What this package itself offers, through the hooks that other packages use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomthink_plugin.api import SearchKind
from atomthink_plugin.formats.named import FORMATS
from atomthink_plugin.plugins.hookspecs import (
    ExamplesFactory,
    FormatFactory,
    Judge,
    NamedModel,
    PolicyFactory,
    ScorerFactory,
    hookimpl,
)
from atomthink_plugin.scorers.profile_catalogue import PROFILES
from atomthink_plugin.searches.adaptive_majority import adaptive_majority
from atomthink_plugin.searches.annealed_beam import annealed_beam
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.searches.best_of_n import best_of_n
from atomthink_plugin.searches.complex_vote import complex_vote
from atomthink_plugin.searches.dvts import dvts
from atomthink_plugin.searches.greedy import greedy
from atomthink_plugin.searches.judge_best_of_n import judge_best_of_n
from atomthink_plugin.searches.least_to_most import least_to_most
from atomthink_plugin.searches.lookahead import lookahead
from atomthink_plugin.searches.majority import majority
from atomthink_plugin.searches.mcts import mcts
from atomthink_plugin.searches.particle_filter import particle_filter
from atomthink_plugin.searches.reason_summarise import reason_summarise
from atomthink_plugin.searches.refined_best_of_n import refined_best_of_n
from atomthink_plugin.searches.self_refine import self_refine
from atomthink_plugin.searches.shuffle_vote import shuffle_vote
from atomthink_plugin.searches.stage_beam import stage_beam
from atomthink_plugin.searches.stepwise_bon import stepwise_bon
from atomthink_plugin.searches.swires import check_stages, swires
from atomthink_plugin.searches.two_stage import two_stage
from atomthink_plugin.searches.weighted import weighted
from atomthink_plugin.searches.workflow import workflow
from atomthink_plugin.searches.zero_shot_cot import zero_shot_cot

if TYPE_CHECKING:
    from atomthink_plugin.tasks.scoring.verdict import AnswerVerdict


@hookimpl
def atomthink_policies() -> Mapping[str, PolicyFactory]:
    """Returns the policies."""
    from atomthink_plugin.model_adapters.emova_policy import emova_policy
    from atomthink_plugin.model_adapters.openai_policy import openai_policy
    from atomthink_plugin.model_adapters.registered_policy import registered_policy
    from atomthink_plugin.model_adapters.text_policy import text_policy
    from atomthink_plugin.model_adapters.transformers_policy import transformers_policy
    from atomthink_plugin.model_adapters.vllm_policy import vllm_policy

    return {
        "transformers": transformers_policy,
        "transformers_text": text_policy,
        "openai": openai_policy,
        "vllm": vllm_policy,
        "lmms": registered_policy,
        "emova": emova_policy,
    }


@hookimpl
def atomthink_scorers() -> Mapping[str, ScorerFactory]:
    """Returns the scorers."""
    from atomthink_plugin.scorers.confidence import confidence
    from atomthink_plugin.scorers.prm_head import prm_head
    from atomthink_plugin.scorers.prm_judge import prm_judge
    from atomthink_plugin.scorers.prm_likelihood import prm_likelihood
    from atomthink_plugin.scorers.prm_profiled import prm_profiled
    from atomthink_plugin.scorers.prm_token import prm_token
    from atomthink_plugin.scorers.served_head import served_prm_head
    from atomthink_plugin.scorers.served_profiled import served_prm_profiled
    from atomthink_plugin.scorers.served_token import served_prm_token

    return {
        "prm_profiled": prm_profiled,
        "prm_token": prm_token,
        "prm_head": prm_head,
        "prm_likelihood": prm_likelihood,
        "served_prm_profiled": served_prm_profiled,
        "prm_judge": prm_judge,
        "served_prm_token": served_prm_token,
        "served_prm_head": served_prm_head,
        "confidence": confidence,
    }


@hookimpl
def atomthink_searches() -> Mapping[str, SearchKind]:
    """Returns the searches: path-wise ones sample at 1.0, step-wise ones from greedy upwards."""
    return {
        "majority": SearchKind(majority, scored=False),
        "adaptive_majority": SearchKind(adaptive_majority, scored=False),
        "complex_vote": SearchKind(complex_vote, scored=False),
        "shuffle_vote": SearchKind(shuffle_vote, scored=False),
        "weighted": SearchKind(weighted, scored=True, chains=True),
        "best_of_n": SearchKind(best_of_n, scored=True, chains=True),
        "refined_best_of_n": SearchKind(refined_best_of_n, scored=True, chains=True),
        "judge_best_of_n": SearchKind(judge_best_of_n, scored=False, optional_roles=("judge",)),
        "greedy": SearchKind(greedy, scored=True, temperature=0.0, rise=0.5),
        "stepwise_bon": SearchKind(stepwise_bon, scored=False, temperature=0.0, rise=0.5, optional_roles=("judge",)),
        "beam": SearchKind(beam, scored=True, temperature=0.0, rise=0.5),
        "annealed_beam": SearchKind(annealed_beam, scored=True, temperature=0.0, rise=0.5),
        "lookahead": SearchKind(lookahead, scored=True, temperature=0.0, rise=0.5),
        "dvts": SearchKind(dvts, scored=True),
        "particle_filter": SearchKind(particle_filter, scored=True),
        "mcts": SearchKind(mcts, scored=True, tops=5, scorer_optional=True),
        "stage_beam": SearchKind(stage_beam, scored=False, temperature=0.6, format="stages", optional_roles=("judge",)),
        "swires": SearchKind(swires, scored=True, temperature=0.6, format="stages", check_format=check_stages),
        "self_refine": SearchKind(self_refine, scored=False, temperature=0.0, optional_roles=("critic",)),
        "workflow": SearchKind(workflow, scored=False, temperature=0.0, optional_roles=("planner", "composer")),
        "zero_shot_cot": SearchKind(zero_shot_cot, scored=False, temperature=0.0),
        "least_to_most": SearchKind(least_to_most, scored=False, temperature=0.0),
        "two_stage": SearchKind(two_stage, scored=False, temperature=0.0, optional_roles=("answer",)),
        "reason_summarise": SearchKind(
            reason_summarise, scored=False, temperature=0.2, format="thoughts", optional_roles=("summary", "judge")
        ),
    }


@hookimpl
def atomthink_formats() -> Mapping[str, FormatFactory]:
    """Returns the formats in which steps are asked for."""
    from atomthink_plugin.examples.few_shot_format import few_shot_format

    return {**FORMATS, "few_shot": few_shot_format}


@hookimpl
def atomthink_examples() -> Mapping[str, ExamplesFactory]:
    """Returns the ways of choosing examples."""
    from atomthink_plugin.examples.fixed import FixedExamples
    from atomthink_plugin.examples.policy_embedding import EmbeddedExamples
    from atomthink_plugin.examples.tfidf import TfidfExamples

    return {"tfidf": TfidfExamples, "policy": EmbeddedExamples, "fixed": FixedExamples}


@hookimpl
def atomthink_prm_profiles() -> Mapping[str, Path]:
    """Returns the profiles of published process reward models."""
    return PROFILES


@hookimpl
def atomthink_models() -> Mapping[str, NamedModel]:
    """Returns the models."""
    from atomthink_plugin.model_adapters.models import MODELS

    return MODELS


@hookimpl
def atomthink_judges() -> Mapping[str, Judge]:
    """Returns the rules of the benchmarks that this package has tasks for."""
    from atomthink_plugin.tasks.scoring.judges import JUDGES

    return {name: partial(_is_right, judge) for name, judge in JUDGES.items()}


def _is_right(judge: Callable[[Mapping[str, Any], str], AnswerVerdict], record: Mapping[str, Any], reply: str) -> bool:
    return judge(record, reply).correct
