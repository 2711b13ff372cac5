"""The nouns of slow thinking: plain frozen data and the protocols that connect them.

Everything imports this file and it imports nothing of ours but `redaction`: no torch, no I/O. Searches, policies,
scorers and the runtime meet only here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, Protocol, runtime_checkable

from annotated_types import Ge

from atomthink_plugin.redaction import printable, redact

if TYPE_CHECKING:
    from PIL.Image import Image

Count = Annotated[int, Ge(1)]
"""A whole number from 1, for arguments of searches. Other values are refused before the run."""

FinishReason = Literal["stop", "eos", "length"]
"""Why a step ended: a stop string, the model's end of sequence, or the token limit."""

ROOT: Final = "root"
"""Key of the question's own root."""

FURTHER_ROOT: Final = "root-"
"""Beginning of the keys of further roots, see `SearchTree.begin`."""


class AtomThinkError(Exception):
    """An error that the user can act on. Its text names the argument, the value and what to do.

    The text is safe to show: secrets and control characters, which a quoted server or file may contain, are taken out.

    Attributes:
        exit_status: Exit status of a command that ends with this error.
    """

    exit_status: ClassVar[int] = 2

    def __str__(self) -> str:
        """Returns the text without secrets and control characters."""
        return printable(super().__str__())


class QuestionError(AtomThinkError):
    """One question cannot be asked (broken image, empty text, too long); other questions are not affected."""


class ServerError(QuestionError):
    """A server failed independently of the request: it cannot be reached, gives no reply in time or refuses the key."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost. The sum `a + b` is the cost of both.

    Attributes:
        policy_calls: Candidate steps sampled from the policy.
        score_calls: Steps scored by a model.
        generated: Tokens that the policy sampled, including those after a cut.
        prefilled: Prompt tokens processed by the policy or the scorer.
        cached: Prompt tokens that were taken from a cache instead.
        images: Images encoded.
        judged: Tokens that a generative scorer sampled.
        seconds: Wall-clock seconds from the question's first call to its outcome.
    """

    policy_calls: int = 0
    score_calls: int = 0
    generated: int = 0
    prefilled: int = 0
    cached: int = 0
    images: int = 0
    judged: int = 0
    seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.policy_calls + other.policy_calls,
            self.score_calls + other.score_calls,
            self.generated + other.generated,
            self.prefilled + other.prefilled,
            self.cached + other.cached,
            self.images + other.images,
            self.judged + other.judged,
            self.seconds + other.seconds,
        )

    @property
    def tokens(self) -> int:
        """All sampled tokens: those of the policies and those of a generative scorer."""
        return self.generated + self.judged

    def as_judged(self) -> Usage:
        """Returns the cost of a policy's call as the cost of a scorer: its sampled tokens are judged tokens."""
        return replace(self, policy_calls=0, generated=0, judged=self.judged + self.generated)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, as the task sent it.

    Attributes:
        role: Who speaks.
        parts: Texts and PIL images, in reading order.
    """

    role: Literal["system", "user", "assistant"]
    parts: tuple[str | Image, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """Generation limits of one question.

    Attributes:
        max_new_tokens: Limit of the whole chain in tokens, at least 1; None for the run's.
        until: Stop strings of the task. They end a direct answer and never cut a chain of steps.
        temperature: Sampling temperature, 0 or higher; None for the run's.
        top_p: Share of the probability that is kept, in (0, 1]; None for the run's.
        top_k: Likeliest tokens that are kept, 0 for all; None for the run's.
    """

    max_new_tokens: int | None = None
    until: tuple[str, ...] = ()
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None


@dataclass(frozen=True)
class Question:
    """One question of a task.

    Attributes:
        id: Unique in a run, e.g. `task/split/doc_id/repeat`.
        messages: The task's own turns, complete.
        choices: The texts of the options in order; empty for free-form questions.
        limits: Generation limits that the task asks for.
        history: Given steps. The search starts after them.
        direct: Whether the task wants one reply to its own prompt, without thinking, in every mode.
    """

    id: str
    messages: tuple[Message, ...]
    choices: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    history: tuple[str, ...] = ()
    direct: bool = False

    @property
    def text(self) -> str:
        """All text of the user's turns, without images."""
        parts = (part for turn in self.messages if turn.role == "user" for part in turn.parts)
        return "\n".join(part for part in parts if isinstance(part, str))

    @property
    def images(self) -> tuple[Image, ...]:
        """All images, in reading order."""
        return tuple(part for turn in self.messages for part in turn.parts if not isinstance(part, str))

    @cached_property
    def key(self) -> str:
        """The id with a digest of all that is asked: turns, image pixels, choices, limits, given steps."""
        digest = hashlib.blake2b(digest_size=8)
        for turn in self.messages:
            digest.update(turn.role.encode())
            for part in turn.parts:
                if isinstance(part, str):
                    digest.update(b"\0text" + part.encode("utf-8", "surrogatepass"))
                elif part is not None:
                    digest.update(f"\0image{part.mode}{part.size}".encode() + part.tobytes())
        digest.update(repr((self.choices, self.limits)).encode())
        for step in self.history:
            digest.update(b"\0step" + step.encode("utf-8", "surrogatepass"))
        if self.direct:
            digest.update(b"\0direct")
        return f"{self.id}#{digest.hexdigest()}"


@dataclass(frozen=True, slots=True)
class Step:
    """One unit of a chain: a step, a stage, a whole reply, or a reply to something asked beside the chain.

    Attributes:
        text: The text, with its label (`Step 3: ...`) or tags if it has any. A policy gives it as it was sampled; in a
            path it has no blanks around it, unless its unit has no joint.
        token_ids: The ids that were sampled up to the step's end; empty for policies without ids.
        logprob: Sum of the log-probabilities of those ids under the unmodified policy (natural log); None where
            the policy gives none.
        finish: Why generation ended.
        multiplicity: Number of identical sampled siblings that this step represents.
        tops: For each of `token_ids`, its log-probability and those of the likeliest tokens, descending; empty
            unless `Sampling.tops` asked for them.
        unit: Name of the unit it is, see `Unit`.
        role: Which policy sampled it; empty for a text that the search wrote.
        use: What it was asked for, see `SearchTree.ask`, and a digest of the prompt: `judge#5f3a...`; empty for steps
            of a chain.
        watched: Log-probabilities, at the first position, of the first tokens of the texts in `Sampling.watch`, in
            their order. Where only the likeliest tokens are known, one that is not among them counts as the least
            likely of those. Empty if none is among them, or the policy gives no log-probabilities.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprob: float | None = None
    finish: FinishReason = "stop"
    multiplicity: int = 1
    tops: tuple[tuple[float, ...], ...] = ()
    unit: str = "step"
    role: str = "policy"
    use: str = ""
    watched: tuple[float, ...] = ()


@dataclass(frozen=True)
class Path:
    """A chain of steps, linked to its parent. Immutable: extending makes a child.

    Two paths from one root with the same step texts, asked for the same use, have the same `key`: they are one node.

    Attributes:
        question: The question, as the path's root asks it.
        parent: The path without its last step, None for a root.
        step: The last step, None for a root.
        answer: The final answer that the last step states, None if it states none.
        name: The key of a root; `SearchTree.begin` gives further roots names of their own.
    """

    question: Question
    parent: Path | None = None
    step: Step | None = None
    answer: str | None = None
    name: str = ROOT

    def extend(self, step: Step, answer: str | None = None) -> Path:
        """Returns the path with one more step.

        Args:
            step: The step.
            answer: The final answer that the step states, None if it states none.
        """
        return Path(self.question, self, step, answer, self.name)

    @cached_property
    def lineage(self) -> tuple[Path, ...]:
        """The paths that end at each step, from the first step to the last; the root is not among them."""
        return () if self.parent is None else (*self.parent.lineage, self)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """All steps from the first to this one."""
        return tuple(node.step for node in self.lineage if node.step is not None)

    @property
    def depth(self) -> int:
        """Number of steps."""
        return len(self.steps)

    @property
    def final(self) -> bool:
        """Whether the last step states the final answer."""
        return self.answer is not None

    @cached_property
    def key(self) -> str:
        """Identity of this path among all paths of its question: a digest of its step texts and their uses."""
        if self.parent is None or self.step is None:
            return self.name
        identity = f"{self.parent.key}\0{self.step.text}"
        if self.step.use:
            identity += f"\0{self.step.use}"
        return hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    @property
    def logprob(self) -> float:
        """Mean log-probability per token of the whole chain; 0.0 for the root, -inf where the policy gives none."""
        tokens = sum(max(len(step.token_ids), 1) for step in self.steps)
        total = sum(-math.inf if step.logprob is None else step.logprob for step in self.steps)
        return total / tokens if tokens else 0.0


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the samples of one prompt are drawn.

    Each sample has its own temperature and its own seed. It is the same token sequence in every batch, in every order
    of requests and in every process.

    Attributes:
        temperature: Temperature of sample 0; 0 is greedy.
        rise: Added to the temperature for each further sample, up to 1.
        top_p: Share of the probability that is kept, in (0, 1].
        top_k: Likeliest tokens that are kept, 0 for all.
        max_tokens: Token limit of one sample.
        seed: The run's seed.
        first: Index of the first sample at this node, from 0.
        attempt: How often this sample was already drawn and rejected.
        key: Identity of the node that the samples extend, among all nodes of the run.
        use: What they are for, see `SearchTree.ask`; empty for steps of a chain.
        tops: How many of the likeliest tokens to report at each position; 0 for none.
        watch: Texts whose first tokens to look for as the first token of a sample, see `Step.watched`.
    """

    temperature: float = 0.0
    rise: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 256
    seed: int = 0
    first: int = 0
    attempt: int = 0
    key: str = ""
    use: str = ""
    tops: int = 0
    watch: tuple[str, ...] = ()

    def temperature_of(self, index: int) -> float:
        """Returns the temperature of sample `first + index`."""
        return max(self.temperature, min(self.temperature + self.rise * (self.first + index), 1.0))

    def seed_of(self, index: int) -> int:
        """Returns the 63-bit seed of sample `first + index`."""
        identity = f"{self.seed}\0{self.key}\0{self.first + index}\0{self.attempt}"
        if self.use:
            identity += f"\0{self.use}"
        return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest(), "big") >> 1

    def hotter(self, delta: float) -> Sampling:
        """Returns the sampling of the next attempt, at a temperature higher by `delta`, but not raised above 1."""
        warmer = max(self.temperature, min(self.temperature + delta, 1.0))
        return replace(self, temperature=warmer, attempt=self.attempt + 1)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a policy is asked.

    Attributes:
        messages: The turns, with images in their places. The last turn is the user's.
        begun: Beginning of the reply, which generation continues. Each piece is tokenized by itself, so that the
            tokens of a chain are a prefix of the tokens of every extension of it. A step with token ids is rendered
            as these ids, any other step as its text. Give a step itself only if its unit is used as it was sampled,
            without a cut, an opening or a closing text.
        stops: Strings that end a sample. They are looked for after its first visible character.
        session: Prompts of one session have the same beginning. A policy may send them to the same server.
        depth: Steps so far. Deeper prompts are served first. A deeper prompt that leaves no room in the context ends
            its chain; a prompt of depth 0 fails the question.
    """

    messages: tuple[Message, ...]
    begun: tuple[str | Step, ...] = ()
    stops: tuple[str, ...] = ()
    session: str = ""
    depth: int = 0

    @property
    def prefix(self) -> str:
        """The beginning of the reply as text."""
        return "".join(piece if isinstance(piece, str) else piece.text for piece in self.begun)

    @property
    def images(self) -> tuple[Image, ...]:
        """All images, in reading order."""
        return tuple(part for turn in self.messages for part in turn.parts if not isinstance(part, str))


def no_cut(text: str) -> str:
    """Returns the text: all of a sample is one unit."""
    return text


def no_fault(text: str, history: Sequence[str]) -> str | None:
    """Returns None: every text is valid."""
    return None


@dataclass(frozen=True, slots=True)
class Unit:
    """What one sample is. A format defines it for each step, a search for its other requests.

    Attributes:
        name: Kind of unit, such as `step`, `SUMMARY` or `verdict`. The nodes of the journal have it.
        tokens: Limit in tokens, at least 1; None for the run's limit of one step.
        partial: Whether a sample that reached its token limit is valid.
        opening: Text that is put before a sample, such as a stage's start tag, with which the prompt's `begun` ends.
        closing: Text that is put after a sample that a stop string ended, such as the end tag of a stage. It is put
            there before the sample is cut.
        joint: Text between this unit and the next one of the chain. If empty, a sample keeps the blanks around it.
        cut: Returns the part of a sample's text that is one unit; empty text for an empty unit.
        check: Returns why a text is not valid after the earlier texts, None if it is valid.
    """

    name: str = "step"
    tokens: int | None = None
    partial: bool = False
    opening: str = ""
    closing: str = ""
    joint: str = "\n\n"
    cut: Callable[[str], str] = no_cut
    check: Callable[[str, Sequence[str]], str | None] = no_fault

    def __post_init__(self) -> None:
        if self.tokens is not None and self.tokens < 1:
            raise AtomThinkError(f"the unit {self.name!r} has `tokens={self.tokens}`: at least 1, or None")


WHOLE = Unit("reply", partial=True)
"""A whole reply, taken as it is."""


class Format(Protocol):
    """How a policy is asked for a chain, and what one reply is."""

    def render(self, path: Path) -> Prompt:
        """Returns the prompt that asks for the unit after `path`."""
        ...

    def unit(self, path: Path) -> Unit | None:
        """Returns the unit after `path`; None for one whole reply without a limit of its own."""
        ...

    def answer(self, text: str) -> str | None:
        """Returns the final answer that `text`, a unit or a whole reply, states; None if it states none."""
        ...


@runtime_checkable
class ChainFormat(Format, Protocol):
    """A format that reads the answer of a whole chain, because one unit may hold only a part of it."""

    def answer_at(self, path: Path) -> str | None:
        """Returns the final answer if the chain ends with the last step of `path`, else None.

        It is called instead of `answer` for the units of a chain.
        """
        ...


class QuestionFormat(Format, Protocol):
    """A format that asks each question in another way, and needs the question or the policy to prepare that.

    A format without these methods is used for all questions as it is.
    """

    def check_policy(self, policy: Policy) -> None:
        """Raises AtomThinkError if the format cannot be used with this policy. Called before the first question."""
        ...

    async def for_question(self, question: Question, policy: Policy) -> Format:
        """Returns the format for one question and its variants. Called once, before the search."""
        ...


@dataclass(frozen=True, slots=True)
class Example:
    """A solved question, to be shown before another one.

    Attributes:
        question: The text of the question, with its options.
        steps: The units of the reply, such as steps or stages; the last one states the answer.
        answer: The final answer.
        options: The texts of the options in order; empty for free-form questions.
        images: The images, which stand before the text.
    """

    question: str
    steps: tuple[str, ...]
    answer: str
    options: tuple[str, ...] = ()
    images: Sequence[Image] = ()


class Examples(Protocol):
    """A way of choosing solved examples for a question.

    It may have the method `check_policy` of `QuestionFormat` if it needs more of the policy than `propose`.
    """

    async def nearest(self, question: Question, k: int, policy: Policy) -> Sequence[Example]:
        """Chooses solved questions.

        Args:
            question: The question that is asked.
            k: Number of examples, at least 1.
            policy: The run's policy, for ways of choosing that ask a model.

        Returns:
            Up to `k` examples, the most similar one last. The question itself, compared without case and spaces, is
            never among them.
        """
        ...


@dataclass(frozen=True, slots=True)
class Proposal:
    """Candidate steps and what they cost.

    Attributes:
        steps: At most one step per requested sample, in the order of the samples.
        usage: What they cost.
    """

    steps: tuple[Step, ...]
    usage: Usage = field(default_factory=Usage)

    def redacted(self) -> Proposal:
        """Returns the proposal without secrets in its texts, such as a server's key that a reply repeats."""
        texts = [redact(step.text) for step in self.steps]
        if all(text == step.text for text, step in zip(texts, self.steps, strict=True)):
            return self
        steps = (replace(step, text=text) for text, step in zip(texts, self.steps, strict=True))
        return replace(self, steps=tuple(steps))


@dataclass(frozen=True, slots=True)
class Score:
    """A scorer's verdict on the last step of a path.

    Attributes:
        value: The score, in [0, 1]; higher is better.
        usage: What it cost.
        reason: The critique of a generative scorer; empty for all others.
    """

    value: float
    usage: Usage = field(default_factory=Usage)
    reason: str = ""


class Policy(Protocol):
    """A multimodal model that answers prompts. It knows no format, no path and no question.

    Attributes:
        identity: Distinguishes its results from those of other models: name, revision, digest of the weights.
    """

    identity: str

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        """Samples `n` replies to a prompt.

        Args:
            prompt: What is asked.
            n: Number of samples, at least 1.
            sampling: How they are drawn.

        Returns:
            The samples in order. No steps if the context has no room for a step after a prompt of depth > 0.

        Raises:
            QuestionError: The prompt cannot be answered: it is too long, or an image in it is broken.
        """
        ...


class EmbeddingPolicy(Policy, Protocol):
    """A policy that can also embed texts. Other policies do not have the method."""

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Returns one vector for each text. Similar texts have vectors of a similar direction."""
        ...


class Scorer(Protocol):
    """A process reward model: it says how likely the last step of a path is right, given the steps before it.

    Attributes:
        identity: Distinguishes its scores from those of other models.
    """

    identity: str

    async def score(self, path: Path) -> Score:
        """Scores the last step of `path`. Earlier steps keep their scores."""
        ...


@runtime_checkable
class ChainScorer(Scorer, Protocol):
    """A scorer that reads a finished chain once and scores all of its steps."""

    async def score_chain(self, path: Path) -> Sequence[Score]:
        """Returns one score per step of `path`, in order. The cost of the whole chain is in the first one's usage."""
        ...


@runtime_checkable
class CriticScorer(Scorer, Protocol):
    """A generative scorer: it asks a policy for critiques.

    Its requests are part of the question's budget of tokens, and they are logged, so that a resumed run does not repeat
    them. A run therefore uses the scorer that `for_question` returns.

    Attributes:
        critic: The policy that it asks.
    """

    critic: Policy

    def for_question(self, critic: Policy) -> Scorer:
        """Returns the scorer of one question, which asks `critic` and remembers replies until the question ends."""
        ...

    def summary(self) -> str:
        """Returns one line about unreadable verdicts so far, or an empty text if there were none."""
        ...


Aggregate = Literal["last", "min", "mean", "prod", "log_odds"]
"""How step scores become the score of a path: the last one, the smallest, their average, their product, or the average
of their log odds, as a probability.

Source: AtomThink (arXiv 2411.11930), section 5: last action, worst action, average. `log_odds`: DreamPRM (arXiv
2505.20241).
"""

Stopped = Literal["final", "depth", "length", "budget", "invalid"]
"""Why a path ends.

`final`: it concluded. `depth`: it has as many steps as allowed. `length`: it has as many tokens as allowed. `budget`:
the budget of the question is spent. `invalid`: no valid next step was found.
"""


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the finished search tree, as the journal keeps it.

    Attributes:
        id: The path's key.
        parent: The parent's key.
        text: The step's text.
        score: The scorer's verdict on this step, None if it was not scored.
        logprob: Sum of the log-probabilities of the step's tokens (natural log), None if the policy gives none.
        tokens: Tokens of the step.
        multiplicity: Number of identical sampled siblings that this node represents.
        answer: The final answer that the step states, None if it states none.
        rejected: Why the check of steps rejected it, None if it was kept.
        unit: Name of the unit it is, see `Unit`.
        role: Which policy sampled it; empty for a text that the search wrote.
        use: Purpose of a reply that is not part of a chain, such as `judge` or `critic`; empty for steps of a chain.
        note: What the search recorded about the node, see `SearchTree.note`.
        reason: The critique of a generative scorer, see `Score.reason`.
    """

    id: str
    parent: str
    text: str
    score: float | None
    logprob: float | None
    tokens: int
    multiplicity: int
    answer: str | None
    rejected: str | None = None
    unit: str = "step"
    role: str = "policy"
    use: str = ""
    note: str = ""
    reason: str = ""

    @property
    def is_step(self) -> bool:
        """Whether a policy sampled it as part of a chain. A judge's reply or a text of the search's own is no step."""
        return not self.use and self.role != ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One candidate of a search over whole chains.

    Attributes:
        end: The key of the node it ends at; the tree has its steps.
        logprob: Mean log-probability per token of its own steps (natural log), None if the policy gives none.
        tokens: Tokens sampled for it, including those of rejected steps.
        seconds: Wall-clock seconds from the question's first call to its end.
    """

    end: str
    logprob: float | None
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of thinking about one question.

    Attributes:
        text: The reply that the harness gets: the chosen chain, in the form that the task asks for.
        answer: The final answer alone, None if no path concluded.
        steps: Texts of the steps of the chosen path.
        scores: Scores of these steps in [0, 1]; None for a step that was not scored.
        value: The number by which the path was chosen: its aggregate, its share of the votes, or 0.
        stopped: Why the search ended.
        usage: What it cost.
        nodes: The whole tree, including rejected candidates. Empty in the outcomes of `Runner.run`; the journal has it.
        rollouts: The candidates of a search over whole chains, in the order of their samples. Empty in the outcomes of
            `Runner.run`; the journal has them.
    """

    text: str
    answer: str | None
    steps: tuple[str, ...]
    scores: tuple[float | None, ...]
    value: float
    stopped: Stopped
    usage: Usage
    nodes: tuple[Node, ...] = ()
    rollouts: tuple[Rollout, ...] = ()

    def chains(self) -> dict[str, tuple[str, ...]]:
        """Returns the texts of the chain that ends at each step of the question's own tree, by the step's id.

        Left out are steps after a rejected one and the trees of further roots, which answer another prompt than the
        question's. What was asked or written beside a chain is no step; it is in the chains of the steps after it.
        """
        kept = {node.id: node for node in self.nodes if node.rejected is None}
        rejected = {node.id for node in self.nodes} - kept.keys()
        found: dict[str, tuple[str, ...]] = {}
        for start in kept.values():  # nodes come in no order
            line: list[Node] = []
            node: Node | None = start
            while node is not None and node.id not in found:
                line.append(node)
                node = kept.get(node.parent)
            root = line[-1].parent if line else ""
            if node is None and (root in rejected or root.startswith(FURTHER_ROOT)):
                continue
            before = () if node is None else found[node.id]
            for one in reversed(line):
                before = found[one.id] = (*before, one.text)
        return {key: texts for key, texts in found.items() if kept[key].is_step}


@dataclass(frozen=True, slots=True)
class Choice:
    """What a search decides.

    Attributes:
        path: The chosen path.
        value: The number by which it was chosen, such as its aggregate or its share of the votes; 0 if there is none.
        stopped: Why the search ended.
        answer: The final answer if it is not that of the path, such as an option under its original letter; else None.
    """

    path: Path
    value: float
    stopped: Stopped
    answer: str | None = None


class SearchTree(Protocol):
    """The search tree of one question: everything that a search may call.

    All requests of a search to models go through it. They count in the budget and in the usage, they are kept in the
    journal, and they are not sent again when a killed run is resumed.
    """

    @property
    def question(self) -> Question:
        """The question, as the task asks it."""
        ...

    @property
    def format(self) -> Format:
        """The run's format, for prompts that extend its own."""
        ...

    @property
    def root(self) -> Path:
        """Where the search starts: the path without steps, or with the steps that the question gives."""
        ...

    @property
    def scored(self) -> bool:
        """Whether the run has a scorer. Without one, `score` and `value` cannot be called."""
        ...

    async def expand(
        self,
        paths: Sequence[Path],
        n: int,
        *,
        first: int | Sequence[int] = 0,
        format: Format | None = None,
        role: str = "policy",
    ) -> list[list[Path]]:
        """Samples next steps of each path.

        Args:
            paths: The paths to extend. Copies of one path need different indices to become different paths.
            n: Samples of each path, at least 1.
            first: Index of the first sample, one for all paths or one for each. Samples with other indices are other
                draws.
            format: How the policy is asked; the run's format if None.
            role: The policy that is asked.

        Returns:
            For each path its valid, distinct children from the samples `first` to `first + n - 1`. The list of a path
            is empty if the path cannot be extended; `why` returns the reason.

        Raises:
            AtomThinkError: An argument has a value that it cannot have, or the search declares no such role.
            QuestionError: The model cannot be asked this.
        """
        ...

    async def rollouts(self, n: int, *, start: Path | None = None, first: int = 0) -> list[Path]:
        """Samples whole chains, each step by step to its end.

        Path `i` is the same for every `n`, unless a budget is spent.

        Args:
            n: Number of chains, at least 1.
            start: Where they start; the root if None.
            first: Index of the first chain; chains with other indices are other draws.

        Returns:
            The `n` paths in the order of their indices. A path without a final answer ended for the reason that `why`
            returns.
        """
        ...

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
        """Asks a policy anything: for a verdict, a review, a summary.

        A reply is a step of a chain only if the search extends it.

        Args:
            at: The node that the replies are children of.
            prompt: What is asked.
            n: Samples, at least 1.
            use: The purpose (`judge`). The draws are seeded by it, and it marks the nodes, so that a reply is never the
                same node as a step with the same text.
            role: The policy that is asked.
            unit: What one reply is.
            read: Returns the final answer that a reply states, None if it states none.
            temperature: Of the draws; the run's if None.
            first: Index of the first sample.

        Returns:
            The valid replies in the order of their samples, equal ones included. The list is empty if the budget is
            spent or the context has no room.

        Raises:
            AtomThinkError: An argument has a value that it cannot have, or the search declares no such role.
            QuestionError: The model cannot be asked this.
        """
        ...

    def write(self, path: Path, text: str, unit: Unit = WHOLE, answer: str | None = None) -> Path:
        """Adds a step that was not sampled, such as a reflection or a hint.

        Args:
            path: The path to extend.
            text: The text of the step.
            unit: What kind of unit it is.
            answer: The final answer that it states, None if it states none.

        Returns:
            The path with the step.
        """
        ...

    def begin(self, question: Question) -> Path:
        """Starts another tree for a changed question, such as one with its options in another order.

        Args:
            question: The changed question.

        Returns:
            The root of that tree.
        """
        ...

    async def score(self, path: Path) -> float:
        """Returns the scorer's verdict on the last step, in [0, 1]. The scorer is asked at most once per step."""
        ...

    async def value(self, path: Path, aggregate: Aggregate) -> float:
        """Returns the score of a whole path, in [0, 1]: the aggregate of its step scores."""
        ...

    def why(self, path: Path) -> Stopped:
        """Returns why `path` ends where it does, see `Stopped`."""
        ...

    def note(self, path: Path, text: str) -> None:
        """Records what the search computed about a node: `visits 9, value 0.71`. Reports show it; no model sees it.

        Args:
            path: A path that ends at a node of the tree, so not a root.
            text: The note. It replaces an earlier one.
        """
        ...


Search = Callable[[SearchTree], Awaitable[Choice]]
"""A search over one question: an async function of its tree that returns a choice."""


@dataclass(frozen=True, slots=True)
class SearchKind:
    """A registered search.

    Attributes:
        factory: Makes the search. Its keyword arguments are the search's own, and its annotations are the types that
            users' texts are converted to.
        scored: Whether it uses a scorer.
        rise: Added to the temperature for each further sample of a step, up to 1 (the paper's code has 0.5).
        temperature: Default temperature of the first sample.
        format: Name of the format that is used if the user names none; None for the model's own.
        roles: Further policies that it asks. The user has to give each by arguments with the role's name as prefix:
            `judge_pretrained=`.
        optional_roles: Further policies that the user may leave out. The run's policy is then asked instead.
        tops: How many of the likeliest tokens it needs at each position, see `Step.tops`. If the scorer is optional,
            they are asked for only in runs without one.
        scorer_optional: Whether a search that uses a scorer also works without one, see `SearchTree.scored`.
        check_format: Raises AtomThinkError for a format that the search cannot be used with. Called before a model is
            loaded. None if the search works with all formats.
        chains: Whether it scores finished chains, so that a scorer that reads whole chains can be used, see
            `ChainScorer`. Other searches that score compare unfinished steps.
    """

    factory: Callable[..., Search]
    scored: bool
    rise: float = 0.0
    temperature: float = 1.0
    format: str | None = None
    roles: tuple[str, ...] = ()
    optional_roles: tuple[str, ...] = ()
    tops: int = 0
    scorer_optional: bool = False
    check_format: Callable[[Format], None] | None = None
    chains: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """A question that could not be answered.

    Attributes:
        reason: What went wrong, as text for a person.
        usage: What was spent before it failed.
    """

    reason: str
    usage: Usage = field(default_factory=Usage)


Result = Outcome | Failure
"""The result of one question."""
