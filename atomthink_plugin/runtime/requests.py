"""One request to a policy: what it may cost, and what its samples become."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from atomthink_plugin.api import AtomThinkError, Path, Prompt, Sampling, Step, Stopped, Unit
from atomthink_plugin.runtime.budget import Budget
from atomthink_plugin.runtime.plugin_errors import named

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """What a policy is asked.

    Attributes:
        path: The node that the samples are children of.
        prompt: What is asked.
        unit: What one sample is.
        role: The policy that is asked.
        n: Samples.
        sampling: How they are drawn, with the token limit of one sample.
        bound: Why a sample that reaches the token limit ends there: "length" or "budget" for what the chain or the
            question may still spend, None for the limit of one unit.
    """

    path: Path
    prompt: Prompt
    unit: Unit
    role: str
    n: int
    sampling: Sampling
    bound: Stopped | None = None

    def paid(self, budget: Budget) -> Request | None:
        """Returns the part of it that `budget` pays for, None where the budget is spent."""
        wanted = self.sampling.max_tokens
        n, tokens = budget.grant(self.n, wanted)
        if n == 0:
            return None
        if (n, tokens) == (self.n, wanted):
            return self
        bound: Stopped | None = "budget" if tokens < wanted else self.bound
        return replace(self, n=n, sampling=replace(self.sampling, max_tokens=tokens), bound=bound)

    def ended(self, steps: Sequence[Step]) -> Stopped | None:
        """Returns why drawing again would not help, None where it may: no sample had the tokens of a whole unit."""
        if not steps:
            return "length"  # the policy's context is full
        if any(step.finish != "length" for step in steps):
            return None
        if all(0 < len(step.token_ids) < self.sampling.max_tokens for step in steps):
            return "length"  # the policy's context is full
        return self.bound

    def shaped(self, step: Step) -> Step:
        """Returns a sample as the unit that it is; its ids and likelihood stay those of all that was sampled."""
        unit = self.unit
        said = step.text.strip() if unit.joint else step.text  # without a joint, the blanks are part of the chain
        text = self._of_unit(lambda: unit.cut(said))
        if not isinstance(text, str):
            raise AtomThinkError(f"the unit {unit.name!r} cut {text!r} out of a sample: `cut` returns a text")
        finish = step.finish if text == said else "stop"  # the part before a cut is whole
        if unit.closing and finish == "stop":
            text += unit.closing
        text = unit.opening + text
        ids, known = step.token_ids, step.logprob
        return Step(text, ids, known, finish, step.multiplicity, step.tops, unit.name, self.role, self.sampling.use)

    def rejected(self, step: Step) -> str | None:
        """Returns why a shaped sample is not valid, None if it is."""
        if step.finish == "length" and not self.unit.partial:
            return "cut at the token limit"
        return self._of_unit(lambda: self.unit.check(step.text, [earlier.text for earlier in self.path.steps]))

    def _of_unit(self, call: Callable[[], T]) -> T:
        with named(f"the unit {self.unit.name!r}"):
            return call()


def merged(steps: Sequence[Step]) -> list[Step]:
    """Returns the steps with those of the same text as one."""
    found: dict[str, Step] = {}
    for step in steps:
        twin = found.get(step.text)
        found[step.text] = replace(twin, multiplicity=twin.multiplicity + step.multiplicity) if twin else step
    return list(found.values())


def prompt_digest(prompt: Prompt, known: Sequence[Image]) -> str:
    """Returns what distinguishes the prompts that are asked at one node.

    Args:
        prompt: The prompt.
        known: Images of the question: their place stands for them, since digests of pixels take time.
    """
    places = {id(image): place for place, image in enumerate(known)}
    digest = hashlib.blake2b(digest_size=8)
    for turn in prompt.messages:
        digest.update(f"\0turn{turn.role}".encode())
        for part in turn.parts:
            if isinstance(part, str):
                digest.update(b"\0text" + part.encode("utf-8", "surrogatepass"))
            elif id(part) in places:
                digest.update(f"\0image{places[id(part)]}".encode())
            else:
                digest.update(f"\0image{part.mode}{part.size}".encode() + part.tobytes())
    ids = [piece.token_ids for piece in prompt.begun if isinstance(piece, Step)]
    digest.update(f"\0begun{prompt.prefix}\0ids{ids}\0stops{prompt.stops}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
