"""Rows judge each step where, and as, the scorer reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import accumulate

import pytest
import torch

from atomthink_plugin.api import Format, Message, Path, Question, QuestionError, Step
from atomthink_plugin.formats.atomic import Atomic
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.stages import Stages
from atomthink_plugin.inference.checkpoints import load_multimodal
from atomthink_plugin.inference.encoding import Encoder
from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.scorers.prm_token import ChatLayout, Layout, TextLayout, TokenPrm
from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import held_out
from atomthink_plugin.training.records import Chain
from atomthink_plugin.training.train.collate import collate
from atomthink_plugin.training.train.prm import class_logits
from atomthink_plugin.training.train.tokens import LabelledRows, TrainingRow
from tests.other_formats import LLAVA_COT, STAGES, Lines, Numbered, Tagged

TAG, BAD, GOOD = "<|system|>", "-", "+"
CHECKPOINT = load_multimodal(str(WEIGHTS / "policy"), device="cpu")
IDS = {text: CHECKPOINT.tokenizer.encode(text, add_special_tokens=False)[0] for text in (TAG, BAD, GOOD)}
DEMO = held_out(1, seed=3)[0]
LINES = ("a is 1.", "b is 2.", "so 3.")


def nodes(*texts: str) -> list[Path]:
    root = Path(Question("q", (Message("user", (draw(DEMO), DEMO.text)),)))
    return list(accumulate(texts, lambda at, text: at.extend(Step(text)), initial=root))[1:]


def rows(
    layout: Layout, texts: Sequence[str], labels: list[float | None], corrections: list[str | None] | None = None
) -> list[TrainingRow]:
    chain = Chain(id="q", question=DEMO.text, steps=tuple(texts), labels=labels, corrections=corrections)
    tag_id = layout.tag_id if isinstance(layout, ChatLayout) else layout._tag_id  # type: ignore[attr-defined]
    (part,) = LabelledRows(layout, None, tag_id).parts(chain, "continue", nodes(*texts)[0].question)
    return part


def layout(form: Format) -> ChatLayout:
    return ChatLayout(Encoder(CHECKPOINT), form, IDS[TAG])


def logits_of(row: TrainingRow) -> torch.Tensor:
    inputs = {**row.encoding.tokens, **row.encoding.media}
    with torch.inference_mode():
        return CHECKPOINT.model(**inputs).logits


def probabilities(row: TrainingRow, shift: int = 0) -> list[float]:
    """The probability of a right step where a row has labels, or `shift` positions further."""
    labels = collate([row], CHECKPOINT.pad_id, label_names=["step_labels"])["step_labels"].roll(shift, dims=1)
    pairs, _ = class_logits(logits_of(row), labels, (IDS[BAD], IDS[GOOD]))
    return pairs.softmax(-1)[:, 1].tolist()


def scored(form: Format, path: Path) -> float:
    scorer = TokenPrm(CHECKPOINT, layout(form), IDS[GOOD], IDS[BAD])
    return asyncio.run(scorer.score(path)).value


@pytest.mark.parametrize(("form", "count"), [(Continue(), 1), (Atomic(), len(DEMO.steps))])
def test_the_position_trained_is_the_position_read(form: Format, count: int) -> None:
    """One position further, in either direction, the model says something else."""
    steps = list(DEMO.steps)
    made = rows(layout(form), steps, [1.0] * len(steps))
    assert len(made) == count
    trained, shifted = [], []
    for row in made:
        trained += probabilities(row)
        shifted += probabilities(row, shift=-1)
    read = [scored(form, path) for path in nodes(*steps)]
    assert trained == pytest.approx(read, abs=1e-5)
    assert shifted != pytest.approx(read, abs=1e-3)


@pytest.mark.parametrize("form", [Continue(), Atomic()])
def test_a_step_that_holds_what_ends_one_is_refused(form: Format) -> None:
    """Laid out, it would be two steps with one label, or teach a wrong step's words as right ones."""
    two, one = "Step 1: Read red = 9.\n\nStep 2: It is 8.", "Step 3: So it is 8."
    for steps in ([two, one], [one, two]):
        with pytest.raises(QuestionError):
            rows(layout(form), steps, [0.0, 1.0])
    (row,) = rows(layout(form), [one], [0.0], [two])
    assert row.labels == row.token_labels == {}


def test_every_label_is_at_the_end_of_its_own_step() -> None:
    steps = list(DEMO.steps)[:4]
    (row,) = rows(layout(Continue()), steps, [1.0, None, 0.0, 0.25])
    ids = row.encoding.tokens["input_ids"][0].tolist()
    tags = [at for at, token in enumerate(ids) if token == IDS[TAG]]
    assert row.step_labels == {tags[0]: 1.0, tags[2]: 0.0, tags[3]: 0.25}
    assert tags[-1] == len(ids) - 1


def test_a_wrong_step_is_wrong_from_the_token_on_that_its_correction_has_in_another_way() -> None:
    """And that token is the one to be said; of a right step all tokens are."""
    texts = ["Step 1: Read red = 4.", "Step 2: Compute 4 + 4 = 19."]
    right = "Step 2: Compute 4 + 4 = 18."
    (row,) = rows(layout(Continue()), texts, [1.0, 0.0], [None, right])
    ids = row.encoding.tokens["input_ids"][0].tolist()
    words = CHECKPOINT.tokenizer
    first, second = row.step_labels
    predicted = [(at, words.decode([token])) for at, token in row.labels.items()]
    assert "".join(text for at, text in predicted if at < first).startswith("Step 1: Read red = 4.")
    assert "".join(text for at, text in predicted if at > first) == "Step 2: Compute 4 + 4 = 18"
    *same, different = row.labels.items()
    assert all(ids[at] == token for at, token in same)
    assert ids[different[0]] != different[1]
    wrong = [at for at, label in row.token_labels.items() if label == 0]
    assert "".join(words.decode([ids[at]]) for at in wrong) == "9.\n\n"
    assert set(wrong) < set(range(first + 1, second))


def test_a_wrong_step_without_a_correction_has_no_language_model_loss() -> None:
    texts = ["Step 1: Read red = 4.", "Step 2: Compute 4 + 4 = 19."]
    (row,) = rows(layout(Continue()), texts, [0.0, 0.5])
    assert row.labels == row.token_labels == {}


def test_a_tag_in_a_step_is_refused_in_training_as_in_reading() -> None:
    spaced = TextLayout(CHECKPOINT.tokenizer, "Step ", CHECKPOINT.tokenizer.encode("Step ")[0])
    chat = ChatLayout(Encoder(CHECKPOINT), Continue(), CHECKPOINT.tokenizer.encode(": ")[0])
    assert rows(spaced, ["Step 1: Read red = 4."], [1.0])
    with pytest.raises(QuestionError):
        rows(chat, ["Step 1: Read red = 4."], [1.0])


@pytest.mark.parametrize(
    ("form", "steps"), [(Lines(), LINES), (Tagged(), STAGES), (Numbered(), LINES), (Stages(), LLAVA_COT[:3])]
)
def test_units_of_other_formats_are_judged_where_they_are_read(form: Format, steps: tuple[str, ...]) -> None:
    """Also those of several paragraphs, and those with text between them: one label, at the tag after each."""
    (row,) = rows(layout(form), steps, [1.0, 0.0, 1.0])
    read = [scored(form, path) for path in nodes(*steps)]
    assert probabilities(row) == pytest.approx(read, abs=1e-5)
    assert probabilities(row, shift=-1) != pytest.approx(read, abs=1e-3)


def test_a_correction_that_is_no_single_unit_teaches_nothing() -> None:
    (row,) = rows(layout(Lines()), ["a is 1."], [0.0], ["a is 2.\nb is 3."])
    assert row.labels == row.token_labels == {}
    (row,) = rows(layout(Lines()), ["a is 1."], [0.0], ["a is 2."])
    assert row.labels
