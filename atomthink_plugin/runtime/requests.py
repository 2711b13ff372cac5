"""A request to a policy: its grant, and how its samples become steps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

from atomthink_plugin.api import AtomThinkError, Path, Prompt, Sampling, Step, Stopped, Unit
from atomthink_plugin.image_memo import PerImage
from atomthink_plugin.runtime.budget import Budget
from atomthink_plugin.runtime.plugin_errors import named

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")


def _pixel_digest(image: Image) -> str:
    content = f"{image.mode}{image.size}".encode() + image.tobytes()
    return hashlib.blake2b(content, digest_size=8).hexdigest()


_pixels: Final = PerImage(_pixel_digest)


@dataclass(frozen=True, slots=True)
class Request:
    """A request for samples.

    Attributes:
        path: The parent of the samples.
        prompt: The prompt.
        unit: The unit of one sample.
        role: The role of the policy.
        n: Number of samples.
        sampling: Sampling parameters, with the token limit of one sample.
        bound: What sets the token limit: "length" for the chain's limit, "budget" for the question's budget, None for
            the unit's limit.
    """

    path: Path
    prompt: Prompt
    unit: Unit
    role: str
    n: int
    sampling: Sampling
    bound: Stopped | None = None

    def paid(self, budget: Budget) -> Request | None:
        """Returns the part of the request that `budget` pays for, None if the budget is spent."""
        wanted = self.sampling.max_tokens
        n, tokens = budget.grant(self.n, wanted)
        if n == 0:
            return None
        if (n, tokens) == (self.n, wanted):
            return self
        bound: Stopped | None = "budget" if tokens < wanted else self.bound
        return replace(self, n=n, sampling=replace(self.sampling, max_tokens=tokens), bound=bound)

    def ended(self, steps: Sequence[Step]) -> Stopped | None:
        """Returns why a retry cannot help: no sample had the tokens of a whole unit. None if a retry may help."""
        if not steps:
            return "length"  # the policy's context is full
        if any(step.finish != "length" for step in steps):
            return None
        if all(0 < len(step.token_ids) < self.sampling.max_tokens for step in steps):
            return "length"  # the policy's context is full
        return self.bound

    def shaped(self, step: Step) -> Step:
        """Returns a sample cut to its unit. Token ids and log-probability remain those of the whole sample."""
        unit = self.unit
        sampled = step.text.strip() if unit.joint else step.text  # without a joint, blanks are part of the chain
        if step.finish == "stop":
            sampled += unit.closing
        text = self._of_unit(lambda: unit.cut(sampled))
        if not isinstance(text, str):
            raise AtomThinkError(f"the unit {unit.name!r} cut a sample to {text!r}. `cut` must return a text")
        finish = step.finish if text == sampled else "stop"  # the part before a cut is complete
        text = unit.opening + text
        ids, known = step.token_ids, step.logprob
        return Step(text, ids, known, finish, step.multiplicity, step.tops, unit.name, self.role, self.sampling.use)

    def rejected(self, step: Step) -> str | None:
        """Returns why a shaped sample is invalid, None if it is valid."""
        if step.finish == "length" and not self.unit.partial:
            return "cut at the token limit"
        return self._of_unit(lambda: self.unit.check(step.text, [earlier.text for earlier in self.path.steps]))

    def _of_unit(self, call: Callable[[], T]) -> T:
        with named(f"the unit {self.unit.name!r}"):
            return call()


def merged(steps: Sequence[Step]) -> list[Step]:
    """Returns the steps, with those of the same text merged."""
    found: dict[str, Step] = {}
    for step in steps:
        twin = found.get(step.text)
        found[step.text] = replace(twin, multiplicity=twin.multiplicity + step.multiplicity) if twin else step
    return list(found.values())


def prompt_digest(prompt: Prompt, known: Sequence[Image]) -> str:
    """Returns a digest that distinguishes the prompts asked at one node.

    Args:
        prompt: The prompt.
        known: Images of the question. Their index is digested instead of their pixels, which would be slow.
            The pixels of other images, such as those of examples, are digested once while the image lives.
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
                digest.update(f"\0image{_pixels(part)}".encode())
    ids = [piece.token_ids for piece in prompt.begun if isinstance(piece, Step)]
    digest.update(f"\0begun{prompt.prefix}\0ids{ids}\0stops{prompt.stops}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
