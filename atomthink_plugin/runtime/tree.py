"""The search tree of one question: samples, checks, merges and scores steps within a budget."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from atomthink_plugin.api import (
    WHOLE,
    Aggregate,
    AtomThinkError,
    Choice,
    Format,
    Limits,
    Node,
    Outcome,
    Path,
    Policy,
    Prompt,
    Question,
    QuestionError,
    Rollout,
    Sampling,
    Scorer,
    Step,
    Stopped,
    Unit,
    Usage,
)
from atomthink_plugin.formats.steps import stepwise
from atomthink_plugin.formats.task_form import in_task_form
from atomthink_plugin.runtime.budget import Budget
from atomthink_plugin.runtime.event_loop import together
from atomthink_plugin.runtime.format_calls import answer_of, check_prompt, prompt_after, unit_after
from atomthink_plugin.runtime.nodes import NodeTable
from atomthink_plugin.runtime.policy_calls import PolicyCalls
from atomthink_plugin.runtime.requests import Request, merged, prompt_digest
from atomthink_plugin.runtime.settings import RETRY_HEAT, Settings
from atomthink_plugin.runtime.step_scores import StepScores


@dataclass(frozen=True, slots=True)
class _Expansion:
    """Parameters of an expansion."""

    format: Format
    role: str
    sampling: Sampling
    budget: Budget


class QuestionTree:
    """The search tree of one question. Implements `atomthink_plugin.api.SearchTree`.

    The tree does not depend on timing or on other questions: samples have their own seeds, and budgets are granted in
    the order of the search's calls. There is one exception, a search that makes concurrent calls and runs out of its
    budget: the number of retries and the depth of rollouts then depend on what the other calls have returned so far.

    Attributes:
        question: The question of the task.
        root: The path of the question's history, where the search starts.
        format: Renders prompts and reads answers.

    Args:
        question: The question.
        policies: The policies, by role. `policy` is the run's.
        scorer: Scores steps, None for searches without a scorer.
        format: Renders prompts and reads answers.
        settings: Limits and sampling.
        clock: Returns the time in seconds.
        on_node: Called with each new node, and again when it is scored.

    Raises:
        QuestionError: The question has a history and the format asks for whole replies.
    """

    def __init__(
        self,
        question: Question,
        policies: Mapping[str, Policy],
        scorer: Scorer | None,
        format: Format,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        on_node: Callable[[Node], None] | None = None,
    ) -> None:
        self.question = question
        self.format, self._settings, self._clock = format, settings, clock
        self._calls = PolicyCalls(policies)
        self._nodes = NodeTable(on_node)
        self.root = self._start(Path(question))
        self._sampling = _sampling(settings.sampling, question.limits)
        self._started = clock()
        deadline = None if settings.budget_seconds is None else self._started + settings.budget_seconds
        self._budget = Budget(settings.budget_calls, settings.budget_tokens, deadline, clock=clock)
        self._scores = StepScores(scorer, self._nodes, self.root.depth, self._budget)
        self._chain_limit = question.limits.max_new_tokens or settings.max_new_tokens
        self._why: dict[str, Stopped] = {}
        self._rollouts: dict[int, Rollout] = {}

    @property
    def usage(self) -> Usage:
        """The cost so far."""
        return self._calls.usage + self._scores.usage

    @property
    def scored(self) -> bool:
        """Whether the run has a scorer."""
        return self._scores.available

    # --- steps of a chain ----------------------------------------------------------------------

    async def expand(
        self,
        paths: Sequence[Path],
        n: int,
        *,
        first: int | Sequence[int] = 0,
        format: Format | None = None,
        role: str = "policy",
    ) -> list[list[Path]]:
        """Returns the valid, distinct children of each path from its samples `first` to `first + n - 1`."""
        firsts = [first] * len(paths) if isinstance(first, int) else first
        if len(firsts) != len(paths):
            raise AtomThinkError(f"`first` has {len(firsts)} indices for {len(paths)} paths. Give one for each")
        _check_range(n, *firsts)
        if not paths:
            return []
        expansion = _Expansion(format or self.format, role, self._sampling, self._budget)
        return await self._expand(paths, n, expansion, firsts)

    async def rollouts(self, n: int, *, start: Path | None = None, first: int = 0) -> list[Path]:
        """Returns `n` QuickThink paths, of which as many run concurrently as the budget certainly pays for."""
        _check_range(n, first)
        root = self.root if start is None else start
        paths: list[Path] = []
        while len(paths) < n:
            indices = range(first + len(paths), first + n)
            async with self._budget.lent(len(indices), self._settings.max_steps, self._chain_limit) as budgets:
                pairs = zip(indices, budgets, strict=False)
                done = await together(*(self._rollout(root, index, budget) for index, budget in pairs))
            paths += [path for path, _ in done]
            if root.key == self.root.key:
                for index, (_, record) in zip(indices, done, strict=False):
                    self._rollouts.setdefault(index, record)
        return paths

    async def _rollout(self, path: Path, index: int, budget: Budget) -> tuple[Path, Rollout]:
        # The rollout's index is its sample index at every node, so two rollouts that meet take different samples.
        expansion = _Expansion(self.format, "policy", replace(self._sampling, rise=0.0), budget)
        while not path.final:
            children = (await self._expand([path], 1, expansion, [index]))[0]
            if not children:
                break
            path = children[0]
        known = path.logprob if math.isfinite(path.logprob) else None
        return path, Rollout(path.key, known, budget.generated, self._clock() - self._started)

    async def _expand(
        self, paths: Sequence[Path], n: int, expansion: _Expansion, firsts: Sequence[int]
    ) -> list[list[Path]]:
        children: list[list[Path]] = [[] for _ in paths]
        open_slots = list(range(len(paths)))
        read = partial(answer_of, expansion.format)
        for _ in range(self._settings.retries + 1):
            wanted = [self._request(paths[slot], n, firsts[slot], expansion) for slot in open_slots]
            requests = await self._granted(wanted, expansion.budget)
            asked = [(slot, request) for slot, request in zip(open_slots, requests, strict=True) if request is not None]
            proposals = await self._calls.propose([request for _, request in asked], expansion.budget)
            open_slots = []
            for (slot, request), proposal in zip(asked, proposals, strict=True):
                steps = merged([request.shaped(step) for step in proposal.steps])
                children[slot] = self._enter(request, steps, read)
                if not children[slot] and not self._ended(request, proposal.steps):
                    open_slots.append(slot)
            if not open_slots:
                break
            expansion = replace(expansion, sampling=expansion.sampling.hotter(RETRY_HEAT))
        for slot in open_slots:
            self._why[paths[slot].key] = "invalid"
        return children

    async def _granted(self, wanted: Sequence[Request | None], budget: Budget) -> list[Request | None]:
        """Returns what the budget pays for of each request, None for those without a sample."""
        async with budget.turn:
            parts = budget.split(len(wanted))
            granted = [request and request.paid(part) for request, part in zip(wanted, parts, strict=True)]
            budget.join(parts)
        for request, paid in zip(wanted, granted, strict=True):
            if request is not None and paid is None:
                self._why[request.path.key] = "budget"
        return granted

    def _request(self, path: Path, n: int, first: int, expansion: _Expansion) -> Request | None:
        """Returns the request for a path, or records why it cannot be extended."""
        left = self._chain_limit - sum(len(step.token_ids) for step in path.steps)
        if path.depth >= self._settings.max_steps:
            self._why[path.key] = "depth"
            return None
        if left <= 0:
            self._why[path.key] = "length"
            return None
        unit = unit_after(expansion.format, path)
        limit = left if unit is None else unit.tokens or expansion.sampling.max_tokens
        prompt = self._calls.prompt(path, prompt_after(expansion.format, path), expansion.role, path.depth)
        key = _key(path, expansion.role)
        sampling = replace(expansion.sampling, first=first, max_tokens=min(left, limit), key=key)
        return Request(path, prompt, unit or WHOLE, expansion.role, n, sampling, "length" if left < limit else None)

    def _ended(self, request: Request, steps: Sequence[Step]) -> bool:
        """Returns whether a retry cannot help a path without a valid child, and records why."""
        why = request.ended(steps)
        if why is not None:
            self._why[request.path.key] = why
        return why is not None

    def _enter(self, request: Request, steps: Sequence[Step], read: Callable[[Path], str | None]) -> list[Path]:
        """Adds all steps to the tree and returns the valid ones."""
        children = []
        for step in steps:
            child, rejected = request.path.extend(step), request.rejected(step)
            child = replace(child, answer=read(child))
            self._nodes.enter(child, request.unit, rejected)
            if rejected is None:
                children.append(child)
        return children

    def why(self, path: Path) -> Stopped:
        """Returns why `path` ends, "depth" for a path that was never extended."""
        return "final" if path.final else self._why.get(path.key, "depth")

    # --- everything else -----------------------------------------------------------------------

    async def ask(
        self,
        at: Path,
        prompt: Prompt,
        n: int = 1,
        *,
        use: str,
        role: str = "policy",
        unit: Unit = WHOLE,
        read: Callable[[str], str | None] = lambda text: None,
        temperature: float | None = None,
        first: int = 0,
    ) -> list[Path]:
        """Returns the valid replies to `prompt` as children of `at`, none if the budget is spent."""
        _check_range(n, first)
        if not use:
            raise AtomThinkError("`use` is empty. Name the purpose, `judge` for example")
        if temperature is not None and not temperature >= 0:
            raise AtomThinkError(f"`temperature={temperature}` must be at least 0")
        check_prompt(prompt, "the search")
        left = self._chain_limit
        if prompt.begun:  # the reply continues the chain
            left = max(1, left - sum(len(step.token_ids) for step in at.steps))
        sampling = replace(
            self._sampling,
            temperature=self._sampling.temperature if temperature is None else temperature,
            rise=0.0,
            max_tokens=unit.tokens or left,
            first=first,
            key=_key(at, role),
            use=f"{use}#{prompt_digest(prompt, self.question.images)}",
        )
        # Calls outside the chain never fail the question because the context is full.
        wanted = Request(at, self._calls.prompt(at, prompt, role, at.depth + 1), unit, role, n, sampling)
        async with self._budget.turn:
            request = wanted.paid(self._budget)
        if request is None:
            self._why.setdefault(at.key, "budget")
            return []
        (proposal,) = await self._calls.propose([request], self._budget)
        steps = [request.shaped(step) for step in proposal.steps]
        replies = self._enter(request, steps, lambda reply: read(reply.step.text if reply.step is not None else ""))
        if not replies:
            self._why.setdefault(at.key, request.ended(proposal.steps) or "invalid")
        return replies

    def write(self, path: Path, text: str, unit: Unit = WHOLE, answer: str | None = None) -> Path:
        """Returns the child of `path` with a text that was not sampled."""
        child = path.extend(Step(text, logprob=0.0, unit=unit.name, role=""), answer)
        self._nodes.enter(child, unit)
        return child

    def begin(self, question: Question) -> Path:
        """Returns a root for another question, a variant of this one for example."""
        if question.key == self.question.key:
            return self.root
        digest = hashlib.blake2b(question.key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        return self._start(Path(question, name=f"root-{digest}"))

    def _start(self, path: Path) -> Path:
        """Returns the path of the question's history. Its last step may state the answer."""
        for text in path.question.history:
            unit = unit_after(self.format, path)
            if unit is None:
                raise QuestionError(
                    "the question has a history of steps, which `thinking=direct` and `thinking=cot` cannot use"
                )
            path = path.extend(Step(text, unit=unit.name, role=""))
            path = replace(path, answer=answer_of(self.format, path))
            self._nodes.give(path, unit)
        return path

    def note(self, path: Path, text: str) -> None:
        """Records the search's note about a node."""
        self._nodes.note(path, text)

    # --- scoring -------------------------------------------------------------------------------

    async def score(self, path: Path) -> float:
        """Returns the score of the last step. Concurrent calls for one node share one request."""
        return await self._scores.score(path)

    async def value(self, path: Path, aggregate: Aggregate) -> float:
        """Returns the aggregate of all step scores of `path`, 0.0 for the root."""
        return await self._scores.value(path, aggregate)

    # --- the end -------------------------------------------------------------------------------

    def outcome(self, choice: Choice) -> Outcome:
        """Returns the outcome of the search, with the whole tree and its cost.

        Raises:
            AtomThinkError: The search returned no choice of this tree.
            QuestionError: The scorer could read none of the steps that it was asked for.
        """
        self._scores.require_one()
        if not isinstance(choice, Choice):
            raise AtomThinkError(f"the search returned {choice!r:.200}. Return a `Choice`")
        path, scores = choice.path, self._scores.known()
        answer = path.answer if choice.answer is None else choice.answer
        return Outcome(
            text=self._reply(choice, answer),
            answer=answer,
            steps=tuple(step.text for step in path.steps),
            scores=tuple(scores.get(node.key) for node in path.lineage),
            value=choice.value,
            stopped=choice.stopped,
            usage=replace(self.usage, seconds=self._clock() - self._started),
            nodes=self._nodes.finished(),
            rollouts=tuple(self._rollouts[index] for index in sorted(self._rollouts)),
        )

    def _reply(self, choice: Choice, answer: str | None) -> str:
        """Returns the chain in the task's answer form. Replies to the task's own prompt are not changed."""
        text = self._nodes.text(choice.path)
        if choice.answer is not None and choice.answer != choice.path.answer:
            text = f"{text}\n\nThe final answer is: {choice.answer}."
        if not stepwise(self.format):
            return text
        asked = (part for turn in self.question.messages for part in turn.parts if isinstance(part, str))
        return in_task_form(text, answer, "\n".join(asked))

    async def close(self) -> None:
        """Cancels the requests that the search did not wait for."""
        await self._calls.close()
        await self._scores.close()


def _key(path: Path, role: str) -> str:
    """Returns the identity of a node and a role for seeds: each role has its own samples."""
    key = f"{path.question.id}\0{path.key}"
    return key if role == "policy" else f"{key}\0{role}"


def _check_range(n: int, *firsts: int) -> None:
    if n < 1:
        raise AtomThinkError(f"`n={n}` must be at least 1")
    for first in firsts:
        if first < 0:
            raise AtomThinkError(f"`first={first}` must be at least 0")


def _sampling(run: Sampling, limits: Limits) -> Sampling:
    """Returns the run's sampling with the question's own parameters."""
    own = {name: value for name in ("temperature", "top_p", "top_k") if (value := getattr(limits, name)) is not None}
    return replace(run, **own)
