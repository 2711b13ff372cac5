"""The search tree of one question: samples, checks, merges and scores steps, and pays for them."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from atomthink_plugin.api import (
    FURTHER_ROOT,
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
    Proposal,
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
from atomthink_plugin.exits import no_exit
from atomthink_plugin.formats.steps import stepwise
from atomthink_plugin.formats.task_form import in_task_form
from atomthink_plugin.runtime.budget import Budget
from atomthink_plugin.runtime.nodes import NodeTable
from atomthink_plugin.runtime.settings import RETRY_HEAT, Settings
from atomthink_plugin.runtime.step_scores import StepScores


@dataclass(frozen=True, slots=True)
class Grant:
    """One prompt that the budget pays for.

    Attributes:
        path: What is extended.
        prompt: What is asked.
        unit: What one sample is.
        role: The policy that is asked.
        n: Samples.
        sampling: How they are drawn, with the tokens that were granted.
        budget: What pays for them.
        bound: Why a sample is cut at its last token: "length" or "budget" for what the chain or the question may
            still spend, None for the limit of one step.
    """

    path: Path
    prompt: Prompt
    unit: Unit
    role: str
    n: int
    sampling: Sampling
    budget: Budget
    bound: Stopped | None = None

    def cut_short(self, steps: Sequence[Step]) -> Stopped | None:
        """Why drawing again would not help: no sample had the tokens that one step may take."""
        if any(step.finish != "length" for step in steps):
            return None
        if all(0 < len(step.token_ids) < self.sampling.max_tokens for step in steps):
            return "length"  # the policy's context is full
        return self.bound


@dataclass(frozen=True, slots=True)
class _Expansion:
    """How paths are expanded."""

    format: Format
    role: str
    sampling: Sampling
    budget: Budget


@dataclass
class QuestionTree:
    """Thinks about one question; implements `atomthink_plugin.api.SearchTree`.

    Whatever runs at the same time, in this question or in others, the tree is the same: samples carry
    their own seeds, and budgets are granted in the order of the search, never in the order of arrival.

    Attributes:
        question: The question.
        policies: By role; `policy` is the run's.
        scorer: Scores steps; None for searches that do without.
        format: How the policies are asked.
        settings: Limits and sampling.
        usage: What the policies have cost so far.
        clock: Tells the time, in seconds.
        on_node: Called with each node that is entered, and again when it is scored.
    """

    question: Question
    policies: Mapping[str, Policy]
    scorer: Scorer | None
    format: Format
    settings: Settings
    clock: Callable[[], float] = time.monotonic
    on_node: Callable[[Node], None] | None = None
    _sampled: Usage = field(default_factory=Usage, init=False)

    def __post_init__(self) -> None:
        """Starts the clock."""
        self._joints: dict[str, str] = {}
        self.root = self._start(Path(self.question))
        self._sampling = _sampling(self.settings.sampling, self.question.limits)
        self._started = self.clock()
        seconds = self.settings.budget_seconds
        self._budget = Budget(
            self.settings.budget_calls,
            self.settings.budget_tokens,
            None if seconds is None else self._started + seconds,
            clock=self.clock,
        )
        self._nodes = NodeTable(self.on_node)
        self._scores = StepScores(self.scorer, self._nodes, self.root.depth)
        self._why: dict[str, Stopped] = {}
        self._rollouts: list[Rollout] = []

    @property
    def usage(self) -> Usage:
        """What the question has cost so far."""
        return self._sampled + self._scores.usage

    # --- growing -------------------------------------------------------------------------------

    async def expand(
        self,
        paths: Sequence[Path],
        n: int,
        *,
        first: int = 0,
        format: Format | None = None,
        role: str = "policy",
    ) -> list[list[Path]]:
        """Returns each path's valid, distinct children from its samples `first` to `first + n - 1`."""
        _check_range(n, first)
        sampling = replace(self._sampling, first=first)
        return await self._expand(paths, n, _Expansion(format or self.format, role, sampling, self._budget))

    async def rollouts(self, n: int, *, start: Path | None = None, first: int = 0) -> list[Path]:
        """Returns `n` QuickThink paths, at the same time as many as the budget surely pays for."""
        _check_range(n, first)
        root = start or self.root
        paths: list[Path] = []
        while len(paths) < n:
            wave = self._budget.affordable(n - len(paths), self.settings.max_steps, self._chain_limit)
            budgets = self._budget.split(wave)
            indices = range(first + len(paths), first + len(paths) + wave)
            done = await asyncio.gather(*(self._rollout(root, *each) for each in zip(indices, budgets, strict=True)))
            paths += [path for path, _ in done]
            if start is None:
                self._rollouts += [record for _, record in done]
            self._budget.join(budgets)
        return paths

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
        """Returns the valid replies to `prompt` as children of `at`; none where the budget is spent."""
        _check_range(n, first)
        if not use:
            raise AtomThinkError("`use` is empty: name the purpose, such as `judge`")
        if temperature is not None and temperature < 0:
            raise AtomThinkError(f"`temperature={temperature}` has to be 0 or more")
        granted, tokens = self._budget.grant(n, unit.tokens or self._chain_limit)
        if granted == 0:
            return []
        asked = self._prompt(at, prompt, role, "the search")
        sampling = replace(self._sampling, first=first, max_tokens=tokens, key=_key(at), use=f"{use}#{_digest(prompt)}")
        if temperature is not None:
            sampling = replace(sampling, temperature=temperature, rise=0.0)
        # Asks that are made at the same time are all granted before one of them gives back what it did not use.
        await asyncio.sleep(0)
        grant = Grant(at, asked, unit, role, granted, sampling, self._budget)
        steps = [_shaped(step, grant) for step in (await self._propose(grant)).steps]
        return self._enter(at, steps, unit, read)

    def write(self, path: Path, text: str, unit: Unit = WHOLE, answer: str | None = None) -> Path:
        """Returns the child of `path` with a text that nobody sampled."""
        child = path.extend(Step(text, logprob=0.0, unit=unit.name, role=""), answer)
        self._joints[child.key] = unit.joint
        self._nodes.enter(child, None)
        return child

    def begin(self, question: Question) -> Path:
        """Returns a further root."""
        if question.key == self.question.key:
            return self.root
        digest = hashlib.blake2b(question.key.encode(), digest_size=8).hexdigest()
        return self._start(Path(question, name=FURTHER_ROOT + digest))

    async def _rollout(self, path: Path, index: int, budget: Budget) -> tuple[Path, Rollout]:
        # The rollout's index is its sample index at every node: two rollouts that meet part ways again.
        way = _Expansion(self.format, "policy", replace(self._sampling, rise=0.0, first=index), budget)
        while not path.final:
            children = (await self._expand([path], 1, way))[0]
            if not children:
                break
            path = children[0]
        known = path.logprob if math.isfinite(path.logprob) else None
        return path, Rollout(path.key, known, budget.generated, self.clock() - self._started)

    async def _expand(self, paths: Sequence[Path], n: int, way: _Expansion) -> list[list[Path]]:
        children: list[list[Path]] = [[] for _ in paths]
        open_slots = list(range(len(paths)))
        for _ in range(self.settings.retries + 1):
            parts = way.budget.split(len(open_slots))
            granted = [self._grant(paths[s], n, replace(way, budget=p)) for s, p in zip(open_slots, parts, strict=True)]
            grants = {slot: grant for slot, grant in zip(open_slots, granted, strict=True) if grant is not None}
            proposals = await asyncio.gather(*(self._propose(grant) for grant in grants.values()))
            way.budget.join(parts)
            open_slots = []
            for (slot, grant), proposal in zip(grants.items(), proposals, strict=True):
                children[slot] = self._grow(grant, proposal.steps, way.format)
                if not children[slot] and not self._ended(grant, proposal.steps):
                    open_slots.append(slot)
            if not open_slots:
                break
            way = replace(way, sampling=way.sampling.hotter(RETRY_HEAT))
        for slot in open_slots:
            self._why[paths[slot].key] = "invalid"
        return children

    def _ended(self, grant: Grant, steps: Sequence[Step]) -> bool:
        """Notes why a path without a valid child cannot go on, unless another draw may help."""
        why = grant.cut_short(steps) if steps else "length"  # without a step the policy's context is full
        if why is not None:
            self._why[grant.path.key] = why
        return why is not None

    @property
    def _chain_limit(self) -> int:
        return self.question.limits.max_new_tokens or self.settings.max_new_tokens

    def _grant(self, path: Path, n: int, way: _Expansion) -> Grant | None:
        """Grants an expansion, or notes why the path cannot go on."""
        left = self._chain_limit - sum(len(step.token_ids) for step in path.steps)
        if path.depth >= self.settings.max_steps:
            self._why[path.key] = "depth"
            return None
        if left <= 0:
            self._why[path.key] = "length"
            return None
        unit = way.format.unit(path)
        limit = left if unit is None else unit.tokens or way.sampling.max_tokens
        wanted = min(left, limit)
        granted, tokens = way.budget.grant(n, wanted)
        if granted == 0:
            self._why[path.key] = "budget"
            return None
        bound: Stopped | None = "budget" if tokens < wanted else "length" if left < limit else None
        prompt = self._prompt(path, way.format.render(path), way.role, f"the format {type(way.format).__name__}")
        sampling = replace(way.sampling, max_tokens=tokens, key=_key(path))
        return Grant(path, prompt, unit or WHOLE, way.role, granted, sampling, way.budget, bound)

    def _prompt(self, path: Path, prompt: Prompt, role: str, author: str) -> Prompt:
        """Returns what `role` is asked; the token ids of another model's steps mean nothing to it."""
        if not isinstance(prompt, Prompt) or not prompt.messages:
            raise QuestionError(f"{author} gave no prompt: it has to be a `Prompt` with at least one message")
        own = self._policy(role).identity
        begun = tuple(
            piece.text if isinstance(piece, Step) and self._identity(piece.role) != own else piece
            for piece in prompt.begun
        )
        return replace(prompt, begun=begun, session=path.question.id, depth=path.depth)

    def _policy(self, role: str) -> Policy:
        if role not in self.policies:
            raise AtomThinkError(
                f"the search asks the role {role!r} and its SearchKind declares {', '.join(self.policies)}: add it to "
                "`roles` or `optional_roles`"
            )
        return self.policies[role]

    def _identity(self, role: str) -> str | None:
        return self.policies[role].identity if role in self.policies else None

    async def _propose(self, grant: Grant) -> Proposal:
        with no_exit(f"the policy {grant.role!r}" if grant.role != "policy" else "the policy"):
            proposal = await self._policy(grant.role).propose(grant.prompt, grant.n, grant.sampling)
        self._sampled += proposal.usage
        grant.budget.settle(grant.n, grant.sampling.max_tokens, proposal.usage)
        return proposal.redacted()

    def _grow(self, grant: Grant, steps: Sequence[Step], format: Format) -> list[Path]:
        """Cuts, merges identical steps, and enters all of them; returns the valid ones."""
        merged: dict[str, Step] = {}
        for step in (_shaped(step, grant) for step in steps):
            twin = merged.get(step.text)
            merged[step.text] = replace(twin, multiplicity=twin.multiplicity + step.multiplicity) if twin else step
        return self._enter(grant.path, list(merged.values()), grant.unit, format.answer)

    def _enter(self, path: Path, steps: Sequence[Step], unit: Unit, read: Callable[[str], str | None]) -> list[Path]:
        history = [step.text for step in path.steps]
        children = []
        for step in steps:
            cut = step.finish == "length" and not unit.partial
            rejected = "cut at the token limit" if cut else unit.check(step.text, history)
            child = path.extend(step, read(step.text))
            self._joints[child.key] = unit.joint
            self._nodes.enter(child, rejected)
            if rejected is None:
                children.append(child)
        return children

    def why(self, path: Path) -> Stopped:
        """Returns why `path` ends where it does; "depth" for a path nobody tried to extend."""
        return "final" if path.final else self._why.get(path.key, "depth")

    # --- scoring -------------------------------------------------------------------------------

    async def score(self, path: Path) -> float:
        """Returns the score of the last step; concurrent calls for one node share one request."""
        return await self._scores.score(path)

    async def value(self, path: Path, aggregate: Aggregate) -> float:
        """Returns the aggregate of all step scores of `path`; 0.0 for the root."""
        return await self._scores.value(path, aggregate)

    # --- the end -------------------------------------------------------------------------------

    def outcome(self, choice: Choice) -> Outcome:
        """Returns what the search decided, with the whole tree and its cost."""
        path, scores = choice.path, self._scores.known()
        answer = path.answer if choice.answer is None else choice.answer
        return Outcome(
            text=self._reply(path, answer),
            answer=answer,
            steps=tuple(step.text for step in path.steps),
            scores=tuple(scores.get(node.key) for node in path.lineage),
            value=choice.value,
            stopped=choice.stopped,
            usage=replace(self.usage, seconds=self.clock() - self._started),
            nodes=self._nodes.finished(scores),
            rollouts=tuple(self._rollouts),
        )

    def _reply(self, path: Path, answer: str | None) -> str:
        """Returns the chain in the form that the task asks for; a reply to the task's own prompt stays as it is."""
        if not stepwise(self.format):
            return self._text(path)
        asked = (part for turn in self.question.messages for part in turn.parts if isinstance(part, str))
        return in_task_form(self._text(path), answer, "\n".join(asked))

    def _text(self, path: Path) -> str:
        """Returns the chain as one text, each unit followed by its joint, the last one by nothing."""
        joints = (self._joints[node.key] for node in path.lineage[:-1])
        pieces = [text for step, joint in zip(path.steps, joints, strict=False) for text in (step.text, joint)]
        return "".join([*pieces, path.step.text]) if path.step is not None else ""

    def _start(self, path: Path) -> Path:
        """Returns the path of the steps that the question gives; the last of them may conclude."""
        for text in path.question.history:
            unit = self.format.unit(path)
            path = path.extend(Step(text), None if unit is None else self.format.answer(text))
            self._joints[path.key] = (unit or WHOLE).joint
        return path


def _shaped(step: Step, grant: Grant) -> Step:
    """Returns a sample as the unit that it is; its ids and likelihood stay those of all that was sampled."""
    unit = grant.unit
    text = unit.cut(step.text)
    finish = step.finish if text == step.text else "stop"  # what was cut out is whole even if the rest was cut off
    if unit.closing and finish == "stop":
        text += unit.closing
    return replace(step, text=unit.opening + text, finish=finish, unit=unit.name, role=grant.role, use=grant.sampling.use)


def _key(path: Path) -> str:
    return f"{path.question.id}\0{path.key}"


def _digest(prompt: Prompt) -> str:
    """Returns what tells prompts about one node apart."""
    said = [
        (turn.role, [part if isinstance(part, str) else "image" for part in turn.parts]) for turn in prompt.messages
    ]
    identity = repr((said, prompt.prefix, prompt.stops)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(identity, digest_size=8).hexdigest()


def _check_range(n: int, first: int) -> None:
    if n < 1:
        raise AtomThinkError(f"`n={n}` has to be at least 1")
    if first < 0:
        raise AtomThinkError(f"`first={first}` has to be 0 or more")


def _sampling(run: Sampling, limits: Limits) -> Sampling:
    """The run's sampling with what the question itself asks for."""
    own = {name: value for name in ("temperature", "top_p", "top_k") if (value := getattr(limits, name)) is not None}
    return replace(run, **own)
