"""The task `atomic_capability`. Each rollout is a document, so the task works with any model of lmms-eval."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from atomthink_plugin.answers import equivalent, final_answer
from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.tasks.capability.estimates import ALL, capabilities, step_rates
from atomthink_plugin.tasks.capability.records import StepRecord
from atomthink_plugin.tasks.capability.rollouts import PrefixResult
from atomthink_plugin.tasks.capability.taxonomy import load_taxonomy
from atomthink_plugin.tasks.demo.questions import DemoQuestion
from atomthink_plugin.tasks.demo.task import doc_to_visual

if TYPE_CHECKING:
    from datasets import Dataset

CHAINS: Final = 25
ROLLOUTS: Final = 4
METRICS: Final = ("quality", "data_extraction", "calculation", "decision_making")
ABILITY_OF: Final = {"read": "Data Extraction", "compute": "Calculation", "conclude": "Decision Making"}


def prefix_docs(dataset: Dataset) -> Dataset:
    """Returns one document per rollout, from the question and from each proper prefix of each gold chain."""
    from datasets import Dataset as Documents

    chains = list(dataset.select(range(min(CHAINS, len(dataset)))))
    return Documents.from_list([doc for index, chain in enumerate(chains) for doc in _docs(index, chain)])


def _docs(index: int, chain: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    abilities = [ABILITY_OF[action.verb] for action in DemoQuestion.from_json(dict(chain)).plan()]
    for given in range(len(chain["steps"])):
        for rollout in range(ROLLOUTS):
            yield {**chain, "chain": str(index), "given": given, "rollout": rollout, "abilities": abilities}


def doc_to_text(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Any = None) -> str:
    """Returns the question with the given steps, for models without chat turns."""
    text: str = doc["text"]
    if not doc["given"]:
        return text
    return f"{text}\n\nThese steps are right; go on from them:\n\n{_history(doc)}"


def doc_to_messages(doc: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the user's turn, and the given steps as the beginning of the assistant's turn."""
    (figure,) = doc_to_visual(doc)
    content = [{"type": "image", "url": figure}, {"type": "text", "text": doc["text"]}]
    turns = [{"role": "user", "content": content}]
    if doc["given"]:
        turns.append({"role": "assistant", "content": [{"type": "text", "text": _history(doc)}]})
    return turns


def _history(doc: Mapping[str, Any]) -> str:
    return SEPARATOR.join(doc["steps"][: doc["given"]])


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Scores one rollout. Every metric gets all fields, because abilities are estimated from all rollouts."""
    reply = results[0].strip()
    right = equivalent(final_answer(reply) or reply, doc["answer"])
    scored = {**{name: doc[name] for name in ("chain", "given", "abilities", "steps", "answer")}, "right": right}
    return dict.fromkeys(METRICS, scored)


def overall(results: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns the quality of all steps."""
    return _quality(results, ALL)


def data_extraction(results: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns the quality of data extraction."""
    return _quality(results, "Data Extraction")


def calculation(results: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns the quality of calculations."""
    return _quality(results, "Calculation")


def decision_making(results: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns the quality of decision making."""
    return _quality(results, "Decision Making")


def _quality(results: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Returns the quality of one ability. It is None, with a warning, if the rollouts are not sufficient."""
    rolled: defaultdict[tuple[str, int], list[bool]] = defaultdict(list)
    for result in results:
        rolled[result["chain"], result["given"]].append(result["right"])
    measured = {prefix: PrefixResult(sum(right) / len(right)) for prefix, right in rolled.items()}
    records: list[StepRecord] = []
    for result in {result["chain"]: result for result in results}.values():
        measured[result["chain"], len(result["steps"])] = PrefixResult(1.0, concluded=True)
        records += _records(result)
    known = [r for r in records if {(r.chain, n) for n in (0, len(r.history) - 1, len(r.history))} <= measured.keys()]
    rows = capabilities(step_rates(known, measured), load_taxonomy())
    row = next((row for row in rows if row.name == name), None)
    if row is not None and row.quality is not None:
        return row.quality.value
    if not known and name == ALL:
        logger.warning(
            f"atomic_capability: {len(results)} rollouts are not enough for an estimate. A step needs {ROLLOUTS} "
            "rollouts from the question, from before the step and from after it. Leave out --limit, or raise it"
        )
    elif known:
        logger.warning(f"atomic_capability: no estimate for `{name}`, because no rollout after such a step is right")
    return None


def _records(result: Mapping[str, Any]) -> Iterator[StepRecord]:
    for n, ability in enumerate(result["abilities"], 1):
        yield StepRecord(
            id=f"{result['chain']}/{n}",
            chain=result["chain"],
            question="as asked",
            answer=result["answer"],
            history=tuple(result["steps"][:n]),
            ability=ability,
        )
