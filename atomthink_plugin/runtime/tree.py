"""The one object a search works with: it samples, checks, merges, scores and keeps the books."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from atomthink_plugin.api import (
    Aggregate,
    AtomThinkError,
    Choice,
    Limits,
    Node,
    Outcome,
    Path,
    Policy,
    Proposal,
    Question,
    QuestionError,
    Rollout,
    Sampling,
    Scorer,
    ServerError,
    Step,
    Stopped,
    Usage,
)
from atomthink_plugin.exits import no_exit
from atomthink_plugin.formats.base import SEPARATOR, Format
from atomthink_plugin.formats.steps import check, first_step
from atomthink_plugin.runtime.budget import Budget
from atomthink_plugin.runtime.settings import RETRY_HEAT, Settings
from atomthink_plugin.searches.aggregates import AGGREGATES


@dataclass(frozen=True, slots=True)
class Ask:
    """One granted expansion: how many samples of a path, drawn how.

    Attributes:
        path: What is extended.
        n: Samples.
        sampling: How they are drawn, with the tokens that were granted.
        budget: What pays for them.
        bound: Why a sample is cut at its last token: "length" or "budget" for what the chain or the question may
            still spend, None for the limit of one step.
    """

    path: Path
    n: int
    sampling: Sampling
    budget: Budget
    bound: Stopped | None

    def cut_short(self, steps: Sequence[Step]) -> Stopped | None:
        """Why drawing again would not help: no sample had the tokens that one step may take."""
        if any(step.finish != "length" for step in steps):
            return None
        if all(0 < len(step.token_ids) < self.sampling.max_tokens for step in steps):
            return "length"  # the policy's context is full
        return self.bound


@dataclass
class QuestionMind:
    """Thinks about one question; implements `atomthink_plugin.api.Mind`.

    Whatever runs at the same time, in this question or in others, the tree is the same: samples carry
    their own seeds, and budgets are granted in the order of the search, never in the order of arrival.
    """

    question: Question
    policy: Policy
    scorer: Scorer | None
    format: Format
    settings: Settings
    usage: Usage = field(default_factory=Usage)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        """Starts the clock and the books."""
        self.root = _start(self.question, self.format)
        self._sampling = _sampling(self.settings.sampling, self.question.limits)
        self._started = self.clock()
        seconds = self.settings.budget_seconds
        self._budget = Budget(
            self.settings.budget_calls,
            self.settings.budget_tokens,
            None if seconds is None else self._started + seconds,
            clock=self.clock,
        )
        self._nodes: dict[str, Node] = {}
        self._scores: dict[str, asyncio.Future[float]] = {}
        self._why: dict[str, Stopped] = {}
        self._rollouts: list[Rollout] = []

    # --- growing -------------------------------------------------------------------------------

    async def expand(self, paths: Sequence[Path], n: int) -> list[list[Path]]:
        """Returns each path's valid, distinct children from `n` samples of it."""
        return await self._expand(paths, n, self._sampling, self._budget)

    async def rollouts(self, n: int) -> list[Path]:
        """Returns `n` QuickThink paths, at the same time as many as the budget surely pays for."""
        limit = self._chain_limit
        paths: list[Path] = []
        while len(paths) < n:
            wave = self._budget.affordable(n - len(paths), self.settings.max_steps, limit)
            budgets = self._budget.split(wave)
            done = await asyncio.gather(*(self._rollout(len(paths) + i, part) for i, part in enumerate(budgets)))
            paths += [path for path, _ in done]
            self._rollouts += [record for _, record in done]
            self._budget.join(budgets)
        return paths

    async def _rollout(self, index: int, budget: Budget) -> tuple[Path, Rollout]:
        # The rollout's index is its sample index at every node: two rollouts that meet part ways again.
        sampling = replace(self._sampling, rise=0.0, first=index)
        path = self.root
        while not path.final:
            children = (await self._expand([path], 1, sampling, budget))[0]
            if not children:
                break
            path = children[0]
        known = path.logprob if math.isfinite(path.logprob) else None
        return path, Rollout(path.key, known, budget.generated, self.clock() - self._started)

    async def _expand(self, paths: Sequence[Path], n: int, sampling: Sampling, budget: Budget) -> list[list[Path]]:
        children: list[list[Path]] = [[] for _ in paths]
        open_slots = list(range(len(paths)))
        for _ in range(self.settings.retries + 1):
            parts = budget.split(len(open_slots))
            granted = [self._ask(paths[s], n, sampling, part) for s, part in zip(open_slots, parts, strict=True)]
            asks = {slot: ask for slot, ask in zip(open_slots, granted, strict=True) if ask is not None}
            proposals = await asyncio.gather(*(self._propose(ask) for ask in asks.values()))
            budget.join(parts)
            open_slots = []
            for (slot, ask), proposal in zip(asks.items(), proposals, strict=True):
                children[slot] = self._grow(ask.path, proposal.steps)
                if not children[slot] and not self._ended(ask, proposal.steps):
                    open_slots.append(slot)
            if not open_slots:
                break
            sampling = sampling.hotter(RETRY_HEAT)
        for slot in open_slots:
            self._why[paths[slot].key] = "invalid"
        return children

    def _ended(self, ask: Ask, steps: Sequence[Step]) -> bool:
        """Notes why a path without a valid child cannot go on, unless another draw may help."""
        why = ask.cut_short(steps) if steps else "length"  # without a step the policy's context is full
        if why is not None:
            self._why[ask.path.key] = why
        return why is not None

    @property
    def _chain_limit(self) -> int:
        return self.question.limits.max_new_tokens or self.settings.max_new_tokens

    def _ask(self, path: Path, n: int, sampling: Sampling, budget: Budget) -> Ask | None:
        """Grants an expansion, or notes why the path cannot go on."""
        left = self._chain_limit - sum(len(step.token_ids) for step in path.steps)
        if path.depth >= self.settings.max_steps:
            self._why[path.key] = "depth"
            return None
        if left <= 0:
            self._why[path.key] = "length"
            return None
        step_limit = sampling.max_tokens if self.format.stepwise else left
        wanted = min(left, step_limit)
        granted, tokens = budget.grant(n, wanted)
        if granted == 0:
            self._why[path.key] = "budget"
            return None
        bound: Stopped | None = "budget" if tokens < wanted else "length" if left < step_limit else None
        return Ask(path, granted, replace(sampling, max_tokens=tokens), budget, bound)

    async def _propose(self, ask: Ask) -> Proposal:
        with no_exit("the policy"):
            proposal = await self.policy.propose(ask.path, ask.n, ask.sampling)
        self.usage += proposal.usage
        ask.budget.settle(ask.n, ask.sampling.max_tokens, proposal.usage)
        return proposal.redacted()

    def _grow(self, path: Path, steps: Sequence[Step]) -> list[Path]:
        """Cuts, drops invalid steps, merges identical ones, and enters all of them in the tree."""
        steps = [_alone(step) for step in steps] if self.format.stepwise else steps
        history = [step.text for step in path.steps]
        merged: dict[str, Step] = {}
        for step in steps:
            twin = merged.get(step.text)
            merged[step.text] = replace(twin, multiplicity=twin.multiplicity + step.multiplicity) if twin else step
        children = []
        for step in merged.values():
            rejected = self._fault(step, history)
            child = path.extend(step, self.format.answer(step.text))
            self._enter(child, rejected)
            if rejected is None:
                children.append(child)
        return children

    def _fault(self, step: Step, history: Sequence[str]) -> str | None:
        """Why a step is invalid; whole replies are taken as they are."""
        if not self.format.stepwise:
            return None
        return "cut at the token limit" if step.finish == "length" else check(step.text, history)

    def _enter(self, path: Path, rejected: str | None) -> None:
        """Adds a node, or what is new about it: rollouts may reach one node by different token ids."""
        assert path.parent is not None
        assert path.step is not None
        step = path.step
        node = Node(
            id=path.key,
            parent=path.parent.key,
            text=step.text,
            score=None,
            logprob=step.logprob,
            tokens=len(step.token_ids),
            multiplicity=step.multiplicity,
            answer=path.answer,
            rejected=rejected,
        )
        if (twin := self._nodes.get(node.id)) is not None:
            likelier = max(node, twin, key=_preference)
            node = replace(likelier, multiplicity=node.multiplicity + twin.multiplicity)
        self._nodes[node.id] = node

    def why(self, path: Path) -> Stopped:
        """Returns why `path` ends where it does; "depth" for a path nobody tried to extend."""
        return "final" if path.final else self._why.get(path.key, "depth")

    # --- scoring -------------------------------------------------------------------------------

    async def score(self, path: Path) -> float:
        """Returns the score of the last step; concurrent calls for one node share one request."""
        return await self._verdict(path)

    def _verdict(self, path: Path) -> asyncio.Future[float]:
        if path.key not in self._scores:
            self._scores[path.key] = asyncio.ensure_future(self._ask_scorer(path))
        return self._scores[path.key]

    async def _ask_scorer(self, path: Path) -> float:
        if self.scorer is None:
            raise AtomThinkError("this search scores steps and the run has no scorer: pass `prm=` or `scorer=`")
        try:
            with no_exit("the scorer"):
                score = await self.scorer.score(path)
        except QuestionError as error:
            if isinstance(error, ServerError) or path.depth <= self.root.depth + 1:
                raise
            # One candidate that the scorer cannot read must not cost the question; the journal says why it lost.
            self._nodes[path.key] = replace(self._nodes[path.key], rejected=f"cannot be scored: {error}")
            return 0.0
        self.usage += score.usage
        if not 0.0 <= score.value <= 1.0:
            raise AtomThinkError(f"the scorer gave {score.value!r} for a step; scores must be in [0, 1]")
        return score.value

    async def value(self, path: Path, aggregate: Aggregate) -> float:
        """Returns the aggregate of all step scores of `path`; 0.0 for the root."""
        if aggregate == "last":
            return await self.score(path) if path.step else 0.0
        verdicts = [self._verdict(node) for node in path.lineage]
        await asyncio.gather(*(verdict for verdict in verdicts if not verdict.done()))
        return AGGREGATES[aggregate]([verdict.result() for verdict in verdicts]) if verdicts else 0.0

    # --- the end -------------------------------------------------------------------------------

    def outcome(self, choice: Choice) -> Outcome:
        """Returns what the search decided, with the whole tree and its cost."""
        return Outcome(
            text=SEPARATOR.join(step.text for step in choice.path.steps),
            answer=choice.path.answer,
            steps=tuple(step.text for step in choice.path.steps),
            scores=tuple(self._score_of(path.key) for path in choice.path.lineage),
            value=choice.value,
            stopped=choice.stopped,
            usage=replace(self.usage, seconds=self.clock() - self._started),
            nodes=self._tree(),
            rollouts=tuple(self._rollouts),
        )

    def _tree(self) -> tuple[Node, ...]:
        """All nodes, siblings together, in an order that does not depend on who arrived first."""
        nodes = sorted(self._nodes.values(), key=lambda node: (node.parent, node.id))
        return tuple(replace(node, score=self._score_of(node.id)) for node in nodes)

    def _score_of(self, key: str) -> float | None:
        future = self._scores.get(key)
        if future is None or not future.done() or future.cancelled() or future.exception() is not None:
            return None
        return future.result()


def _start(question: Question, format: Format) -> Path:
    """The path of the steps that the question gives; the last of them may conclude."""
    path = Path(question)
    for text in question.history:
        path = path.extend(Step(text), format.answer(text) if format.stepwise else None)
    return path


def _preference(node: Node) -> tuple[bool, float, int]:
    """Which of two entries of one node stays: a valid one, then the likelier, then the shorter."""
    return node.rejected is None, -math.inf if node.logprob is None else node.logprob, -node.tokens


def _alone(step: Step) -> Step:
    """The first of several steps an untuned model wrote at once; it is whole even if the last was cut.

    Its ids and likelihood stay those of all that was sampled.
    """
    first = first_step(step.text)
    return step if first == step.text else replace(step, text=first, finish="stop")


def _sampling(run: Sampling, limits: Limits) -> Sampling:
    """The run's sampling with what the question itself asks for."""
    own = {name: value for name in ("temperature", "top_p", "top_k") if (value := getattr(limits, name)) is not None}
    return replace(run, **own)
