"""Turns chains, pairs and labelled chains into token ids and the positions that have a loss.

The ids are those that inference reads: inference's encoder makes a policy's rows, and the layout of the scorer makes a
process reward model's rows.

Where the next prompt continues the reply (`continue`), the tokens of a step are those that the next prompt adds,
including the text that the format writes between steps. Where the reply ends (a step that concludes, a step of
`atomic`, a whole reply), the end-of-sequence token follows. A whole reply is tokenised in one piece, blank lines
included, because no prompt begins with a part of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from atomthink_plugin.api import (
    WHOLE,
    AtomThinkError,
    Format,
    Message,
    Path,
    Prompt,
    Question,
    QuestionError,
    Step,
    Unit,
)
from atomthink_plugin.formats.cot import Cot
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.formats.parts import begun_opening
from atomthink_plugin.formats.steps import stepwise
from atomthink_plugin.inference.checkpoints import Checkpoint, end_ids
from atomthink_plugin.inference.encoding import Encoding
from atomthink_plugin.inference.prefix_cache.tree import common
from atomthink_plugin.plugins.arguments import bind, parameters, reject_unknown
from atomthink_plugin.plugins.hookspecs import FormatFactory
from atomthink_plugin.plugins.registry import registry
from atomthink_plugin.scorers.prm_token import ChatLayout, Layout
from atomthink_plugin.training.records import Chain, Pair, QuestionRecord, engine_question
from atomthink_plugin.training.train.row_encoder import RowEncoder, blank_image, load_image

WHOLE_REPLIES: Final[Mapping[str, FormatFactory]] = {"direct": Direct, "cot": Cot}

R = TypeVar("R", bound=QuestionRecord)


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One sequence and its labels. A position that a mapping does not name has no loss.

    Attributes:
        encoding: The model's input.
        labels: Token to predict for a position, from the position before it.
        step_labels: Probability that a step is right, at the position where the scorer reads it.
        token_labels: 1 for a token up to which its step is right, 0 for one from which on it is wrong.
        chain_labels: Whether the answer of the chain is right, 1 or 0, at the position of each of its steps.
    """

    encoding: Encoding
    labels: dict[int, int]
    step_labels: dict[int, float] = field(default_factory=dict)
    token_labels: dict[int, float] = field(default_factory=dict)
    chain_labels: dict[int, float] = field(default_factory=dict)


def packable(form: Format) -> bool:
    """Returns whether a format's question stays the same over all steps, so that one sequence holds a whole chain."""
    root = Path(Question("", (Message("user", ("Why?",)),)))
    unit = form.unit(root)
    if unit is None:
        return False
    step = f"{unit.opening}So.{unit.closing}"
    before, after = form.render(root), form.render(root.extend(Step(step)))
    continued = before.prefix + _completion_text(before, unit, step)
    return before.messages == after.messages and after.prefix.startswith(continued)


def _made_format(name: str, arguments: Mapping[str, Any]) -> Format:
    known = {**registry().formats, **WHOLE_REPLIES}
    if name not in known:
        raise AtomThinkError(f"`format: {name}` is unknown: use {', '.join(sorted(known))}")
    names = parameters(known[name])
    reject_unknown(arguments, names, {})
    return known[name](**bind(known[name], arguments, names, f"`format: {name}`"))


def closing_id(checkpoint: Checkpoint) -> int:
    """Returns the id that ends a reply: the tokenizer's own if generation stops at it, else the first stop id.

    Raises:
        AtomThinkError: The checkpoint has no such id.
    """
    ends = end_ids(checkpoint)
    if not ends:
        raise AtomThinkError(f"{checkpoint.identity} has no end-of-sequence token: set one in its tokenizer")
    own = checkpoint.tokenizer.eos_token_id
    return own if isinstance(own, int) and own in ends else ends[0]


class RowBuilder(ABC, Generic[R]):
    """Makes the training rows of one kind of record.

    The rows of a record come in parts. A part is what a batch takes as one item: the row of one step, of a whole chain,
    or the two rows of a pair.

    Args:
        encoder: Encodes prompts with images; None for a model that reads text only.
        max_pixels: Larger images are scaled down; None for any size.
        format_arguments: Arguments of prompt formats, by the name of the format; the others have their defaults.

    Raises:
        AtomThinkError: A format of `format_arguments` is unknown, or an argument of one is not valid.
    """

    record_type: type[R]
    label_names: tuple[str, ...] = ("labels",)

    def __init__(
        self,
        encoder: RowEncoder | None,
        max_pixels: int | None = None,
        format_arguments: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> None:
        self.encoder = encoder
        self.max_pixels = max_pixels
        self._formats = {name: _made_format(name, arguments) for name, arguments in format_arguments.items()}

    def check_format(self, name: str) -> Format:
        """Returns the prompt format of that name: a registered one, or one of whole replies.

        Raises:
            AtomThinkError: It is unknown, or does not go with the recipe.
        """
        if name not in self._formats:
            self._formats[name] = _made_format(name, {})
        return self._formats[name]

    def question(self, record: R, folder: FilePath, blank: bool = False) -> Question:
        """Returns a record's question with its images, or with blank images of the same sizes."""
        if self.encoder is None:
            return engine_question(record.id, record.question, ())
        load = blank_image if blank else load_image
        images = [load(folder / image, self.max_pixels) for image in record.images]
        return engine_question(record.id, record.question, images)

    def prepare(self, record: R) -> R:
        """Returns a record as it is trained on; called once for each record that is read."""
        return record

    @abstractmethod
    def parts(self, record: R, form: str, question: Question, only: int | None = None) -> Iterator[list[TrainingRow]]:
        """Yields the rows of each part.

        Args:
            record: The record.
            form: Name of its prompt format.
            question: Its question, as `question` returns it.
            only: Index of the one part that is needed; None for all.

        Raises:
            AtomThinkError: The record cannot be used.
        """


class ReplyRows(RowBuilder[R]):
    """Makes rows on which a policy learns to write steps; `end` is the id that ends a reply."""

    encoder: RowEncoder

    def __init__(
        self,
        encoder: RowEncoder,
        end: int,
        max_pixels: int | None = None,
        format_arguments: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> None:
        super().__init__(encoder, max_pixels, format_arguments)
        self._end = end

    def step_rows(
        self, form: Format, question: Question, steps: Sequence[str], only: int | None = None
    ) -> Iterator[TrainingRow]:
        """Yields one row per step: the prompt that asks for it, and its tokens.

        Raises:
            QuestionError: The processor refuses the images, or a policy could not write a step as it is.
        """
        for at, (prompt, completion) in enumerate(self._turns(form, question, steps)):
            if only in (None, at):
                yield self._row(prompt, completion)

    def chain_row(self, form: Format, question: Question, steps: Sequence[str], first: int = 0) -> TrainingRow:
        """Returns one row with the tokens of all steps from `first` on, for a format that is `packable`.

        Raises:
            QuestionError: As for `step_rows`.
        """
        turns = list(self._turns(form, question, steps))[first:]
        return self._row(turns[0][0], [token for _, completion in turns for token in completion])

    def _row(self, prompt: Prompt, completion: Sequence[int]) -> TrainingRow:
        before = self.encoder.encode(prompt)
        return TrainingRow(before.extend(completion), dict(enumerate(completion, before.length)))

    def _turns(self, form: Format, question: Question, steps: Sequence[str]) -> Iterator[tuple[Prompt, list[int]]]:
        """Yields for each step the prompt that asks for it and the tokens of its completion.

        Only the last step can conclude, whatever the others say.
        """
        path = Path(question)
        prompt = form.render(path)
        for at, step in enumerate(steps, start=1):
            unit = form.unit(path)
            path = path.extend(Step(step), form.answer(step) if at == len(steps) else None)
            # Nothing follows a conclusion, and a format need not render a prompt after one.
            following = prompt if path.final else form.render(path)
            ends = path.final or unit is None
            yield prompt, self._completion(prompt, unit or WHOLE, path, None if ends else following)
            prompt = following

    def _completion(self, prompt: Prompt, unit: Unit, path: Path, following: Prompt | None) -> list[int]:
        """Returns the tokens of a path's last step and of what ends it; `following` asks for the next step."""
        step = path.steps[-1].text
        if stop := _early_stop(prompt, unit, step):
            raise QuestionError(f"step {path.depth} contains {stop!r}, where generation stops: split it into two steps")
        if not step.endswith(unit.closing.strip()):
            raise QuestionError(f"step {path.depth} is a {unit.name} that does not end with {unit.closing!r}")
        text = _completion_text(prompt, unit, step)
        continues = following is not None and following.prefix.startswith(prompt.prefix + text)
        before = self.encoder.pieces(prompt.begun)
        whole = self.encoder.pieces(following.begun if following is not None and continues else (*prompt.begun, text))
        if whole[: len(before)] != before:
            raise QuestionError(f"step {path.depth} changes the tokens of the steps before it")
        return whole[len(before) :] if continues else [*whole[len(before) :], self._end]


class ChainRows(ReplyRows[Chain]):
    """Makes rows of chains for supervised fine-tuning: one per step or, with `one_row_per_chain`, one per chain."""

    record_type = Chain

    def __init__(
        self,
        encoder: RowEncoder,
        end: int,
        max_pixels: int | None = None,
        format_arguments: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
        one_row_per_chain: bool = False,
    ) -> None:
        super().__init__(encoder, end, max_pixels, format_arguments)
        self._one_row_per_chain = one_row_per_chain

    def check_format(self, name: str) -> Format:
        """Returns the format of that name; refuses one whose chains do not fit in one row."""
        form = super().check_format(name)
        if self._one_row_per_chain and stepwise(form) and not packable(form):
            raise AtomThinkError(
                f"`one_row_per_chain: true` does not work with `format: {name}`, whose question changes with every "
                "step, so that a chain is not one sequence: leave it out, or use `format: continue`"
            )
        return form

    def parts(
        self, record: Chain, form: str, question: Question, only: int | None = None
    ) -> Iterator[list[TrainingRow]]:
        """Yields the row of each step, or the one row of the chain."""
        known = self.check_format(form)
        wrong = None if record.labels is None else record.first_error()
        if wrong is not None:
            raise QuestionError(f"step {wrong + 1} is labelled wrong: a policy learns from right steps only")
        if not stepwise(known) and len(record.steps) != 1:
            raise QuestionError(
                f"{len(record.steps)} steps in a format of whole replies: join them, or use another one"
            )
        if self._one_row_per_chain:
            yield [self.chain_row(known, question, record.steps)]
        else:
            yield from ([row] for row in self.step_rows(known, question, record.steps, only))


class PairRows(ReplyRows[Pair]):
    """Makes rows of pairs for preference tuning: the chosen row and the rejected one."""

    record_type = Pair

    def parts(
        self, record: Pair, form: str, question: Question, only: int | None = None
    ) -> Iterator[list[TrainingRow]]:
        """Yields the pair's two rows."""
        known = self.check_format(form)
        if not packable(known) and len(record.chosen) + len(record.rejected) != 2:
            raise QuestionError(
                "several steps on one side, in a format that renders a new question for every step: use one step, or "
                "`format: continue`"
            )
        if not stepwise(known) and record.history:
            raise QuestionError("`history` does not go with a format of whole replies: leave it out")
        chosen, rejected = (
            self.chain_row(known, question, (*record.history, *side), len(record.history))
            for side in (record.chosen, record.rejected)
        )
        if [*chosen.labels.values()] == [*rejected.labels.values()]:
            raise QuestionError("chosen and rejected have the same tokens")
        yield [chosen, rejected]


class LabelledRows(RowBuilder[Chain]):
    """Makes rows of labelled chains for a process reward model.

    Args:
        layout: The scorer's.
        encoder: As for `RowBuilder`.
        tag_id: Id of the token after every step, where the scorer reads.
        max_pixels: As for `RowBuilder`.
        label_threshold: Labels above it become 1, all others 0; None to keep them.
        judge_chains: Whether rows also say whether the answer of the chain is right. They then have all its steps.

    Raises:
        AtomThinkError: With `judge_chains`, a chain is not one row in this layout.
    """

    record_type = Chain
    label_names = ("labels", "step_labels", "token_labels", "chain_labels")

    def __init__(
        self,
        layout: Layout,
        encoder: RowEncoder | None,
        tag_id: int,
        max_pixels: int | None = None,
        label_threshold: float | None = None,
        judge_chains: bool = False,
    ) -> None:
        super().__init__(encoder, max_pixels)
        self.layout = layout
        self._tag_id = tag_id
        self._label_threshold = label_threshold
        self._judge_chains = judge_chains
        if judge_chains and isinstance(layout, ChatLayout) and not packable(layout.format):
            raise AtomThinkError(
                "`chain_loss_weight` does not work with a `format` whose question changes with every step, so that a "
                "chain is not one sequence: leave it out, or use `format: continue`"
            )

    def prepare(self, record: Chain) -> Chain:
        """Returns the chain with hard labels if there is a threshold, and with a verdict if chains are judged."""
        if self._label_threshold is not None and record.labels is not None:
            record = record.with_hard_labels(self._label_threshold)
        return record.model_copy(update={"correct": record.is_correct()}) if self._judge_chains else record

    def parts(
        self, record: Chain, form: str, question: Question, only: int | None = None
    ) -> Iterator[list[TrainingRow]]:
        """Yields the rows of the chain: one, or one per labelled step if the question changes with every step."""
        labels = record.labels or ()
        labelled = [at for at, label in enumerate(labels) if label is not None]
        if not labelled:
            raise QuestionError("no step has a label: make labels with `atomthink label`")
        judged = self._judge_chains and record.correct is not None
        steps = record.steps if judged else record.steps[: labelled[-1] + 1]
        nodes = list(accumulate(steps, lambda path, step: path.extend(Step(step)), initial=Path(question)))[1:]
        for node in nodes:
            self._require_one_unit(node)
        whole = self.layout.encode(nodes[-1])
        if len(nodes) == 1 or self.layout.encode(nodes[0]).question == whole.question:
            yield [self._row(whole, record, nodes)]
        else:
            yield [self._row(self.layout.encode(nodes[at]), record, nodes[at : at + 1]) for at in labelled]

    def _row(self, encoding: Encoding, chain: Chain, nodes: Sequence[Path]) -> TrainingRow:
        """Returns the row of an encoding whose reply has the steps of `nodes`, a tag after each."""
        ids = encoding.ids
        tags = [at for at, token in enumerate(ids) if at >= encoding.question and token == self._tag_id]
        if len(tags) != len(nodes):
            raise QuestionError(f"{len(tags)} tags for {len(nodes)} steps: take the PRM's tag out of the steps")
        row = TrainingRow(encoding, {})
        for node, start, tag in zip(nodes, [encoding.question, *(tag + 1 for tag in tags)], tags, strict=False):
            if self._judge_chains and chain.correct is not None:
                row.chain_labels[tag] = float(chain.correct)
            label = chain.labels[node.depth - 1] if chain.labels else None
            if label is not None:
                row.step_labels[tag] = label
                self._label_tokens(row, label, ids[start:tag], start, self._correction(chain, node, start))
        return row

    def _label_tokens(
        self, row: TrainingRow, label: float, tokens: Sequence[int], start: int, correction: Sequence[int] | None
    ) -> None:
        """Labels the tokens of a step that is right, or that is wrong and has a correction."""
        if label == 1:
            row.labels.update(enumerate(tokens, start))
            row.token_labels.update((at, 1.0) for at in range(start, start + len(tokens)))
        elif label < 0.5 and correction is not None:
            same = common(tokens, correction)
            # The first token that differs is the last one known to be right.
            row.labels.update(enumerate(correction[: min(same + 1, len(tokens))], start))
            row.token_labels.update((start + index, float(index < same)) for index in range(len(tokens)))

    def _correction(self, chain: Chain, node: Path, start: int) -> tuple[int, ...] | None:
        """Returns the ids of a step's correction; None if there is none, or if it is not one step."""
        correction = chain.corrections[node.depth - 1] if chain.corrections else None
        if correction is None or node.parent is None:
            return None
        try:
            corrected = node.parent.extend(Step(correction))
            self._require_one_unit(corrected)
            ids = self.layout.encode(corrected).ids[start:-1]
        except QuestionError:
            return None
        return None if self._tag_id in ids else ids

    def _require_one_unit(self, node: Path) -> None:
        """Refuses a step at which a policy would have stopped earlier: its label would be that of several steps."""
        if not isinstance(self.layout, ChatLayout) or node.parent is None or node.step is None:
            return
        form = self.layout.format
        prompt, unit = form.render(node.parent), form.unit(node.parent) or WHOLE
        if stop := _early_stop(prompt, unit, node.step.text):
            raise QuestionError(
                f"step {node.depth} contains {stop!r}, where generation stops: split it into two steps and label both"
            )


def _completion_text(prompt: Prompt, unit: Unit, step: str) -> str:
    """Returns what a policy has to write of a step: the prompt may already contain its start tag.

    Raises:
        QuestionError: The step lacks the start tag.
    """
    opening = begun_opening(prompt.prefix, unit)
    if not step.startswith(opening):
        raise QuestionError(f"a {unit.name} begins with {opening!r}, but this one does not: {step[:40]!r}")
    return step.removeprefix(opening)


def _early_stop(prompt: Prompt, unit: Unit, step: str) -> str | None:
    """Returns the stop string that a step contains before its end; None if there is none."""
    inside = step.removesuffix(unit.closing.strip())
    return next((stop for stop in prompt.stops if stop in inside), None)
