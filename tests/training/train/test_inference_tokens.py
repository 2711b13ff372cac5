"""What is trained is what inference reads: rows of chains, of pairs and of labelled chains, for any steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atomthink_plugin.api import Format, Path, Step
from atomthink_plugin.formats.atomic import Atomic
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.inference.checkpoints import load_multimodal
from atomthink_plugin.inference.encoding import Encoder, Encoding
from atomthink_plugin.scorers.prm_head import Conversation
from atomthink_plugin.scorers.prm_token import ChatLayout, Layout, TextLayout, TokenPrm
from atomthink_plugin.training.records import Chain, Pair, engine_question
from atomthink_plugin.training.train.row_encoder import RowEncoder
from atomthink_plugin.training.train.tokens import ChainRows, LabelledRows, PairRows, TrainingRow, closing_id
from tests import tiny_models
from tests.training.train.demo_data import MODEL

CHECKPOINT = load_multimodal(MODEL, device="cpu")
ENCODER = Encoder(CHECKPOINT)
TAG, GOOD, BAD = (CHECKPOINT.tokenizer.encode(text, add_special_tokens=False)[0] for text in ("<|system|>", "+", "-"))
FORMATS: dict[str, Format] = {"continue": Continue(), "atomic": Atomic()}
LAYOUTS: dict[str, Layout] = {
    **{name: ChatLayout(ENCODER, form, TAG) for name, form in FORMATS.items()},
    "text": TextLayout(CHECKPOINT.tokenizer, "<|system|>", TAG),
    "conversation": Conversation(CHECKPOINT.tokenizer, TAG),
}

texts = st.text("ab é0123456789 +=.,:<|", max_size=24).map(lambda text: f"Step: {text.strip()}.")
chains = st.lists(texts, min_size=1, max_size=5).map(tuple)


def ids_of(encoding: Encoding) -> list[int]:
    ids: list[int] = encoding.tokens["input_ids"][0].tolist()
    return ids


def paths(steps: tuple[str, ...]) -> list[Path]:
    """The root and the path that ends with each step."""
    found = [Path(engine_question("q", "How many?", [Image.new("RGB", (56, 56))]))]
    for step in steps:
        found.append(found[-1].extend(Step(step)))
    return found


def check_reply(row: TrainingRow, form: Format, before: Path, after: Path | None) -> None:
    """The tokens before the first label are the prompt; with the labels they begin the next prompt, if it has them."""
    ids = ids_of(row.encoding)
    first = min(row.labels)
    assert ids[:first] == ids_of(ENCODER.encode(form.render(before)))
    assert row.labels == dict(enumerate(ids[first:], first))
    if isinstance(form, Continue) and after is not None:
        assert ids == ids_of(ENCODER.encode(form.render(after)))
    else:
        assert ids[-1] == closing_id(CHECKPOINT)


@given(steps=chains, name=st.sampled_from(sorted(FORMATS)))
def test_a_policy_learns_the_tokens_that_it_reads_later(steps: tuple[str, ...], name: str) -> None:
    rows = ChainRows(RowEncoder(CHECKPOINT), closing_id(CHECKPOINT))
    root, *nodes = paths(steps)
    chain = Chain(id="q", question="How many?", steps=steps)
    parts = list(rows.parts(chain, name, root.question))
    assert len(parts) == len(steps)
    for at, ((row,), before, after) in enumerate(zip(parts, [root, *nodes], nodes, strict=False)):
        check_reply(row, FORMATS[name], before, after)
        ((again,),) = rows.parts(chain, name, root.question, only=at)
        assert again.labels == row.labels


@given(history=st.lists(texts, max_size=3).map(tuple), sides=st.lists(texts, min_size=2, max_size=2, unique=True))
def test_a_pair_continues_the_prompt_of_its_history(history: tuple[str, ...], sides: list[str]) -> None:
    rows = PairRows(RowEncoder(CHECKPOINT), closing_id(CHECKPOINT))
    pair = Pair(id="q", question="How many?", history=history, chosen=(sides[0],), rejected=(sides[1],))
    before = paths(history)[-1]
    ((chosen, rejected),) = rows.parts(pair, "continue", before.question)
    for row, side in ((chosen, sides[0]), (rejected, sides[1])):
        check_reply(row, Continue(), before, before.extend(Step(side)))


@given(data=st.data(), steps=chains, name=st.sampled_from(sorted(LAYOUTS)))
def test_a_prm_learns_where_its_scorer_reads(data: st.DataObject, steps: tuple[str, ...], name: str) -> None:
    labels = data.draw(st.lists(st.sampled_from([None, 0.0, 0.25, 1.0]), min_size=len(steps), max_size=len(steps)))
    labels[-1] = 1.0
    scorer = TokenPrm(CHECKPOINT, LAYOUTS[name], GOOD, BAD)
    root, *nodes = paths(steps)
    chain = Chain(id="q", question="How many?", steps=steps, labels=tuple(labels))
    rows = LabelledRows(LAYOUTS[name], RowEncoder(CHECKPOINT), TAG)
    (part,) = rows.parts(chain, "continue", root.question)
    trained = [(ids_of(row.encoding)[: at + 1], label) for row in part for at, label in row.step_labels.items()]
    readings = [(scorer.encode(node), label) for node, label in zip(nodes, labels, strict=True) if label is not None]
    assert trained == [(ids_of(reading.encoding)[: reading.last + 1], label) for reading, label in readings]


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_measured_row_is_as_long_as_the_row_with_its_image(name: str) -> None:
    checkpoint = tiny_models.loaded(tiny_models.qwen)  # its images have as many tokens as their size asks for
    rows = ChainRows(RowEncoder(checkpoint), closing_id(checkpoint))
    chain = Chain(id="q", question="How many?", steps=("Step: a.", "Step: b."))
    for size in ((28, 28), (112, 56), (28, 28)):
        shown = engine_question("q", "How many?", [tiny_models.picture(1, size)])
        with rows.encoder.measuring():
            blank = engine_question("q", "How many?", [Image.new("RGB", size)])
            measured = [row.encoding.length for (row,) in rows.parts(chain, name, blank)]
        made = [row.encoding for (row,) in rows.parts(chain, name, shown)]
        assert measured == [encoding.length for encoding in made]
        assert all(encoding.media for encoding in made)
