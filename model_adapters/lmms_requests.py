"""Turns lmms-eval's requests into questions and results into its replies: pure functions, no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

from annotated_types import Ge, Gt, Le
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from atomthink_plugin.api import AtomThinkError, Failure, Limits, Message, Question, QuestionError, Result
from atomthink_plugin.formats.steps import split_steps
from atomthink_plugin.inference.image_input import MAX_PIXELS, read_image, upright
from atomthink_plugin.model_adapters.answer_options import answer_options
from atomthink_plugin.plugins.arguments import read_pairs, reject_unknown

Arguments = Mapping[str, Any]
"""Generation arguments by the harness's names: `max_new_tokens`, `temperature`, `until`, ..."""

_INJECTED: Final = "\n\n"

_FOR_ONE_REPLY: Final = frozenset({"max_new_tokens", "do_sample", "temperature", "top_p", "top_k"})


class _Numbers(TypedDict):
    max_new_tokens: Annotated[int, Ge(1)] | None
    temperature: Annotated[float, Ge(0)] | None
    top_p: Annotated[float, Gt(0), Le(1)] | None
    top_k: Annotated[int, Ge(0)] | None


_LIMITS: Final = tuple(_Numbers.__annotations__)
_LIMITS_ADAPTER: Final = TypeAdapter(_Numbers)
_GENERATION: Final = (*_LIMITS, "do_sample", "until", "max_agentic_steps")
"""What `--gen_kwargs` may name; lmms-eval itself reads the last one."""


def is_padding(request: Instance) -> bool:
    """Returns whether the request only pads the list of a process in a distributed run; its result is discarded."""
    return bool(request.metadata.get("__padding_only__"))


def repeats(requests: Sequence[Instance]) -> list[int]:
    """Returns for each request how many earlier ones, padding not counted, ask about the same document.

    With `--repeats` the harness puts the same request into the list several times.
    """
    seen: Counter[tuple[Any, ...]] = Counter()
    counts = []
    for request in requests:
        key = request.args[3:6]
        counts.append(seen[key])
        seen[key] += not is_padding(request)
    return counts


@dataclass(frozen=True, slots=True)
class Asked:
    """A chat request with everything that can be read from it without its document.

    Attributes:
        request: Its arguments are `(context, doc_to_messages, gen_kwargs, doc_id, task, split)`.
        repeat: Its number among the requests about the same document, see `repeats`.
        direct: Whether the task wants the question answered in one reply.
        limits: Generation limits.
    """

    request: Instance
    repeat: int
    direct: bool
    limits: Limits


def asked(request: Instance, repeat: int = 0, model_args: Arguments | None = None, stepwise: bool = False) -> Asked:
    """Reads a chat request.

    Args:
        request: A chat request, as it came from the harness.
        repeat: Its number among the requests about the same document, see `repeats`.
        model_args: What the user gave in `--model_args`, defaults left out.
        stepwise: Whether the run thinks in steps.

    Raises:
        AtomThinkError: A generation argument has a value that it cannot have.
    """
    direct = asks_directly(request)
    limits = to_limits(generation_arguments(request, model_args or {}, stepwise and not direct))
    if direct and limits.temperature is None:
        limits = replace(limits, temperature=0.0)  # the run's temperature is chosen for its search
    return Asked(request, repeat, direct, limits)


class Requested:
    """The questions of a run, each built when it is its turn: the images of a whole task may not fit in memory.

    Args:
        asked: The requests, padding left out.
        docs: Task to split to documents: the model's `task_dict`.
        max_pixels: Pixels of an image; a larger one is scaled down.
    """

    def __init__(self, asked: Sequence[Asked], docs: Mapping[str, Any], max_pixels: int = MAX_PIXELS) -> None:
        self._asked = asked
        self._docs = docs
        self._max_pixels = max_pixels

    def __len__(self) -> int:
        """Returns how many questions there are."""
        return len(self._asked)

    def __getitem__(self, index: int) -> Question:
        """Builds one question; see `to_question` for what it raises."""
        return to_question(self._asked[index], self._docs, self._max_pixels)


def to_question(asked: Asked, docs: Mapping[str, Any], max_pixels: int = MAX_PIXELS) -> Question:
    """Returns the question that a chat request asks.

    Args:
        asked: The request.
        docs: Task to split to documents: the model's `task_dict`.
        max_pixels: Pixels of an image; a larger one is scaled down.

    Raises:
        QuestionError: The task cannot build its messages or they hold what cannot be asked.
    """
    _, doc_to_messages, _, doc_id, task, split = asked.request.args
    identity = f"{task}/{split}/{doc_id}/{asked.repeat}"
    try:
        document = docs[task][split][doc_id]
        messages, history = _messages(doc_to_messages, document, max_pixels)
    except QuestionError as error:
        raise QuestionError(f"question {identity}: {error}") from error
    except Exception as error:  # the task's own code and data: broken images, missing fields
        raise QuestionError(f"question {identity}: the task cannot build its messages: {error!r}") from error
    choices = answer_options(document, "\n".join(part for part in messages[-1].parts if isinstance(part, str)))
    return Question(identity, messages, choices, asked.limits, history, asked.direct)


def _messages(
    doc_to_messages: Callable[[Any], Any], doc: Any, max_pixels: int
) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """Returns the turns and the given steps: the text of a last turn that is the assistant's, split into steps."""
    turns = doc_to_messages(doc)
    messages = tuple(
        Message(turn["role"], tuple(_part(part, max_pixels) for part in turn["content"])) for turn in turns
    )
    history: tuple[str, ...] = ()
    if messages and messages[-1].role == "assistant":
        *_, begun = messages
        messages = messages[:-1]
        history = tuple(split_steps("".join(part for part in begun.parts if isinstance(part, str))))
    if not messages or messages[-1].role != "user":
        raise QuestionError("the last turn has to be the user's")
    if all(isinstance(part, str) and not part.strip() for turn in messages for part in turn.parts):
        raise QuestionError("it has neither text nor images")
    return messages, history


def _part(content: Mapping[str, Any], max_pixels: int) -> str | Image.Image:
    match content:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "image", "url": Image.Image() as image}:
            return upright(image, max_pixels)
        case {"type": "image", "url": str() | Path() as path}:
            return read_image(Path(path), max_pixels)
        case {"type": kind}:
            raise QuestionError(f"a part of type {kind!r} is not supported, only text and images are")
    raise QuestionError(f"a part without a type: {content!r}")


def generation_arguments(request: Instance, model_args: Arguments, stepwise: bool) -> dict[str, Any]:
    """Returns a request's generation arguments. `--gen_kwargs` override `--model_args`, which override the task's.

    Args:
        request: A chat request, as it came from the harness.
        model_args: What the user gave in `--model_args`, defaults left out.
        stepwise: Whether the reply is a chain of steps. The task's own temperature and length are then ignored: they
            are made for one greedy reply, often of a few tokens, and would make all samples of a search equal and
            cut every chain.
    """
    left_out = _FOR_ONE_REPLY if stepwise else frozenset()
    asked = {key: value for key, value in request.args[2].items() if value is not None and key not in left_out}
    if _strings(asked.get("until")) == (_delimiter(request),):
        del asked["until"]
    given = {**model_args, **overrides(request)}
    if "do_sample" not in given and given.get("temperature") is not None:
        asked.pop("do_sample", None)  # in a task's arguments it means temperature 0
    return {**asked, **given}


def asks_directly(request: Instance) -> bool:
    """Returns whether the task asks for direct answers: its metadata has `thinking: direct`."""
    metadata = getattr(getattr(task_of(request), "config", None), "metadata", None)
    return isinstance(metadata, Mapping) and metadata.get("thinking") == "direct"


def overrides(request: Instance) -> dict[str, Any]:
    """Returns the arguments of `--gen_kwargs`, which the request holds merged with the task's own.

    The parsed command line is an attribute of the task, which is found by the request's bound `doc_to_messages`. A call
    of `simple_evaluate` from Python has no command line; the result is then empty.
    """
    command_line = getattr(task_of(request), "args", None)
    return read_gen_kwargs(getattr(command_line, "gen_kwargs", None) or "")


def read_gen_kwargs(text: str) -> dict[str, Any]:
    """Returns the arguments in a command line's `--gen_kwargs`.

    Raises:
        AtomThinkError: One is unknown, is given twice, or has a value that it cannot have.
    """
    given = read_pairs("--gen_kwargs", text)
    try:
        reject_unknown(given, _GENERATION, {})
        to_limits(given)
    except AtomThinkError as error:
        raise AtomThinkError(f"`--gen_kwargs`: {error}") from None
    return given


def task_of(request: Instance) -> Any:
    """Returns the task that the request's bound `doc_to_messages` belongs to, None where it is a plain function."""
    return getattr(request.args[1], "__self__", None)


def _delimiter(request: Instance) -> str:
    """Returns the stop string that the harness adds for tasks without one: their few-shot delimiter.

    It cannot be distinguished from the same string that a task sets itself. That stop is dropped as well, as the
    harness's own Qwen models do: it would end a chain of thought at its first paragraph.
    """
    config = getattr(task_of(request), "config", None)
    delimiter: str | None = getattr(config, "fewshot_delimiter", None)
    return _INJECTED if delimiter is None else delimiter


def to_limits(arguments: Arguments) -> Limits:
    """Returns the limits in generation arguments; `do_sample=False` means temperature 0.

    Raises:
        AtomThinkError: One of them has a value it cannot have.
    """
    given = {name: None if (value := arguments.get(name)) == "None" else value for name in _LIMITS}
    if arguments.get("do_sample") is False or given["temperature"] == 0:
        # Tasks that decode greedily may hold invalid values of the other two, such as `top_p: 0`.
        given |= {"temperature": 0.0, "top_p": None, "top_k": None}
    elif given["top_p"] == 0:
        given |= {"temperature": 0.0, "top_p": None}
    try:
        numbers = _LIMITS_ADAPTER.validate_python(given)
    except ValidationError as error:
        fault = error.errors()[0]
        raise AtomThinkError(f"`{fault['loc'][0]}={fault['input']}`: {fault['msg']}") from None
    return Limits(until=_strings(arguments.get("until")), **numbers)


def _strings(value: str | Sequence[str] | None) -> tuple[str, ...]:
    given = (value,) if isinstance(value, str) else tuple(value or ())
    return tuple(string for string in given if string)


@dataclass
class ThoughtCounts(TokenCounts):  # type: ignore[misc]  # lmms_eval is untyped
    """The harness's token counts with further columns of its samples file, into which it writes `to_dict`.

    Attributes:
        policy_calls: Candidate steps sampled.
        score_calls: Paths scored.
        judged_tokens: Tokens that a generative scorer sampled; a column only if there are any.
        steps: Steps of the chosen path.
        value: What the chosen path won by.
        stopped: Why the search ended.
        status: `answered`, `unanswered` if no path concluded, or `failed`.
        step_scores: Scores of the chosen path's steps; empty where none was scored.
        error: Why it failed.
        journal: Name of the journal's folder, which has the tree; empty without a journal.
    """

    policy_calls: int = 0
    score_calls: int = 0
    judged_tokens: int = 0
    steps: int = 0
    value: float = 0.0
    stopped: str = ""
    status: str = "answered"
    step_scores: tuple[float | None, ...] = ()
    error: str = ""
    journal: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the columns of the samples file; a failed question has the reason and its cost only."""
        spent = {**super().to_dict(), "policy_calls": self.policy_calls, "score_calls": self.score_calls}
        spent |= {"judged_tokens": self.judged_tokens} if self.judged_tokens else {}
        kept = {"journal": self.journal} if self.journal else {}
        if self.error:
            return {"status": self.status, "error": self.error, **spent, **kept}
        return {
            **spent,
            "steps": self.steps,
            "value": self.value,
            "stopped": self.stopped,
            "status": self.status,
            "step_scores": list(self.step_scores),
            **kept,
        }


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of replies.

    Attributes:
        replies: How many there are.
        failed: How many of them failed.
        reason: Why the first one failed; empty if none did.
    """

    replies: int = 0
    failed: int = 0
    reason: str = ""

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.replies + other.replies, self.failed + other.failed, self.reason or other.reason)


def tally(requests: Iterable[Instance]) -> Tally:
    """Counts the replies in requests. Replies from the harness's response cache have no counts and did not fail."""
    counts = [count for request in requests for count in request.token_counts]
    errors = [count.error for count in counts if isinstance(count, ThoughtCounts) and count.status == "failed"]
    return Tally(len(counts), len(errors), errors[0] if errors else "")


def to_result(result: Result, journal: str = "") -> GenerationResult:
    """Returns the reply of `generate_until` for one question; a failed one has no text, but its reason.

    Args:
        result: The result.
        journal: Name of the journal's folder, written into the samples file so that the trees can be found.
    """
    usage = result.usage
    counts = ThoughtCounts(
        input_tokens=usage.prefilled + usage.cached,
        output_tokens=usage.generated,
        policy_calls=usage.policy_calls,
        score_calls=usage.score_calls,
        judged_tokens=usage.judged,
        journal=journal,
    )
    if isinstance(result, Failure):
        return GenerationResult("", replace(counts, status="failed", error=result.reason))
    counts = replace(
        counts,
        steps=len(result.steps),
        value=result.value,
        stopped=result.stopped,
        status="unanswered" if result.answer is None else "answered",
        step_scores=result.scores if any(score is not None for score in result.scores) else (),
    )
    return GenerationResult(result.text, counts)
